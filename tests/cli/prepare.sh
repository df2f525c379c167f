# stagecoach prepare: text to token file, and what it refuses.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
cd "$work" || exit 1
printf 'In the beginning\n' >a.txt
printf 'God created\n' >b.txt

check two_texts_become_one_token_file "$STAGECOACH" prepare --tokenizer byte --output data/text.h5 a.txt b.txt
"$STAGECOACH" prepare --output text.h5 a.txt b.txt >out 2>err
check the_result_is_on_stdout_and_nothing_on_stderr test "$(cat out):$(wc -c <err)" = \
    "text.h5: 29 tokens of 2 documents, tokenizer byte, vocabulary 256, 16 bits each:0"
"$STAGECOACH" prepare - --output piped.h5 --tokenizer=byte <a.txt >out 2>&1
check standard_input_is_a_text grep -q "17 tokens of 1 document," out
cat a.txt | "$STAGECOACH" prepare -o piped.h5 - b.txt >out 2>&1
check a_pipe_is_a_text grep -q "29 tokens of 2 documents" out
check help_names_the_tokenizers bash -c '"$0" prepare --help | grep -q "byte (256 symbols)"' "$STAGECOACH"

if command -v h5dump >/dev/null; then
    h5dump -d /tokens -y -w 0 text.h5 >dump
    check h5dump_shows_the_bytes_of_the_text grep -q '73, 110, 32, 116' dump
    h5dump -p -d /documents -y -w 0 text.h5 >dump
    check h5dump_shows_where_documents_begin grep -q '0, 17, 29' dump
    check the_datasets_are_contiguous grep -q 'CONTIGUOUS' dump
    h5dump -A text.h5 >dump
    check attributes_tell_tokenizer_vocabulary_and_hash test "$(grep -cE 'ATTRIBUTE "(tokenizer|vocab_size|source_hash|format_version|created|stagecoach_version)"' dump)" -eq 6
else
    skip h5dump_shows_the_bytes_of_the_text "no h5dump (Debian: hdf5-tools)"
fi

error='^stagecoach: error: '
: >empty.txt
mkdir dir
refuses empty_text 1 "${error}empty.txt is empty" "$STAGECOACH" prepare --output x.h5 a.txt empty.txt
refuses missing_text 1 "${error}.*nowhere.txt.*No such file" "$STAGECOACH" prepare --output x.h5 nowhere.txt
refuses directory_as_text 1 "${error}dir is a directory" "$STAGECOACH" prepare --output x.h5 dir
refuses directory_as_output 1 "${error}.*dir is a directory" "$STAGECOACH" prepare --output dir a.txt
refuses token_file_as_text 1 "${error}text.h5 is an HDF5 file" "$STAGECOACH" prepare --output x.h5 text.h5
refuses text_as_output 1 "${error}a.txt is both text and output" "$STAGECOACH" prepare --output a.txt a.txt
refuses other_file_as_output 1 "${error}b.txt .*no token file" "$STAGECOACH" prepare --output b.txt a.txt
refuses output_below_a_file 1 "${error}.*a.txt" "$STAGECOACH" prepare --output a.txt/x.h5 b.txt
refuses output_where_nothing_can_be_written 1 "${error}.*/proc/x.h5" "$STAGECOACH" prepare --output /proc/x.h5 a.txt
refuses standard_input_twice 2 "${error}standard input" "$STAGECOACH" prepare --output x.h5 - -
refuses no_output 2 "${error}prepare needs --output" "$STAGECOACH" prepare a.txt
refuses no_text 2 "${error}prepare needs the names" "$STAGECOACH" prepare --output x.h5
refuses unknown_tokenizer 2 "${error}unknown tokenizer 'word'; there is: byte" "$STAGECOACH" prepare --tokenizer word --output x.h5 a.txt
refuses misspelt_option 2 "${error}prepare has no option --tokeniser; did you mean --tokenizer" "$STAGECOACH" prepare --tokeniser byte --output x.h5 a.txt
refuses unknown_letter 2 "${error}prepare has no option -z" "$STAGECOACH" prepare -z --output x.h5 a.txt
refuses option_without_value 2 "${error}--output needs a value" "$STAGECOACH" prepare a.txt --output
# A limit of 64 KiB on files acts as a full disk: first the ids do not fit, then only the token file does not.
printf 'ulimit -f 64; trap "" XFSZ; exec "$@"\n' >limited
head -c 100000 /dev/zero | tr '\0' x >big.txt
head -c 32768 big.txt >medium.txt
refuses a_disk_full_while_reading_text 1 "${error}.*x.h5.*File too large" bash limited "$STAGECOACH" prepare --output x.h5 big.txt
refuses a_disk_full_while_writing_the_file 1 "${error}.*x.h5.*File too large" bash limited "$STAGECOACH" prepare --output x.h5 medium.txt
check refusals_leave_no_file_behind bash -c '! ls -A | grep -E "^x\.h5|tmp|ids"'
finish

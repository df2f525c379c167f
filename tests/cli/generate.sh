#!/usr/bin/env bash
# Text from a checkpoint: where the prompt comes from, which token is taken, what happens at the end of the context.
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
ranks 2 "$STAGECOACH" train --data.train_file "$work/text.txt" --data.block_size 48 --model.n_positions 48 --model.n_embd 32 --model.n_layer 2 \
    --model.n_head 2 --output_dir "$work/run" --max_steps 60 --learning_rate 1e-2 --log_level error --zero.stage 2 >"$work/train.log" 2>&1 ||
    { bad "a model to ask" "$(tail -n 5 "$work/train.log")"; finish; }
model=$work/run/checkpoint-60
prompt="static sgc_status check_the_next_one(" # longer than the 32 tokens that are read together

generate() { timeout 60 "$STAGECOACH" generate "$model" "$@" 2>"$work/err"; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
differs() { [ "$1" != "$2" ] || { echo "both '$1'"; return 1; }; }

text=$(generate --prompt "$prompt" --max_new_tokens 40 --seed 1; echo .)
check "a text begins with its prompt" is "${text:0:${#prompt}}" "$prompt"
check "it is as long as wanted, and ends its line" is "${#text}" $((${#prompt} + 40 + 2))
check "nothing else is said" test ! -s "$work/err"
check "the same seed gives the same text" is "$(generate --prompt "$prompt" --max_new_tokens 40 --seed 1; echo .)" "$text"
check "another seed gives another" differs "$(generate --prompt "$prompt" --max_new_tokens 40 --seed 2; echo .)" "$text"
check "several ranks give it once" is "$(ranks 3 "$STAGECOACH" generate "$model" --prompt "$prompt" --max_new_tokens 40 --seed 1; echo .)" "$text"
check "standard input is a prompt" is "$(printf '%s\n' "$prompt" | generate - --max_new_tokens 40 --seed 1; echo .)" "$text"
printf '%s\n' "$prompt" >"$work/prompt.txt"
check "a file is a prompt" is "$(generate --prompt_file "$work/prompt.txt" --max_new_tokens 40 --seed 1; echo .)" "$text"
check "a moved checkpoint still speaks" is "$(mv "$model" "$work/moved" && cd / && timeout 60 "$STAGECOACH" generate "$work/moved" --prompt "$prompt" \
    --max_new_tokens 40 --seed 1; mv "$work/moved" "$model"; echo .)" "$text"

greedy=$(generate --prompt "static" --max_new_tokens 24 --temperature 0)
check "the most likely token needs no seed" is "$(generate --prompt "static" --max_new_tokens 24 --temperature 0 --seed 7)" "$greedy"
check "top_k 1 is the most likely token" is "$(generate --prompt "static" --max_new_tokens 24 --top_k 1)" "$greedy"
check "top_p 0 is the most likely token" is "$(generate --prompt "static" --max_new_tokens 24 --top_p 0)" "$greedy"
# The first part of the text as a prompt: the cache holds what was said, however it was read.
for n in 7 16 29; do
    check "a text goes on from its own first $n characters" is "$(generate --prompt "${greedy:0:$n}" --max_new_tokens $((30 - n)) --temperature 0)" "$greedy"
done
first=${greedy:6:1}
check "eos ends the text" is "$(generate --prompt "static" --max_new_tokens 24 --temperature 0 --eos_token_id "$(printf '%d' "'$first")")" "static"
check "a text may outgrow the context" is "$(generate --prompt "static" --max_new_tokens 150 --temperature 0 | wc -c | tr -d ' ')" 157

few=$work/few/checkpoint-1
ranks 1 "$STAGECOACH" train --data.train_file "$work/text.txt" --data.block_size 8 --model.n_positions 8 --model.n_embd 16 --model.n_layer 1 --model.n_head 1 \
    --output_dir "$work/few" --max_steps 1 --log_level error >"$work/train.log" 2>&1
check "a context shorter than what is read together" is "$(timeout 60 "$STAGECOACH" generate "$few" --prompt "static" --max_new_tokens 20 | wc -c | tr -d ' ')" 27

refuses "a prompt beyond the context is refused with its limit" 2 "the prompt has 60 tokens, more than the 48 positions" \
    "$STAGECOACH" generate "$model" --prompt "$(printf 'x%.0s' $(seq 60))"
refuses "an empty prompt is refused" 2 "the prompt is empty" "$STAGECOACH" generate "$model" --prompt ""
refuses "no prompt is refused" 2 "give the prompt by one of" "$STAGECOACH" generate "$model"
refuses "a prompt file that is not there is refused" 1 "nowhere.txt cannot be read" "$STAGECOACH" generate "$model" --prompt_file "$work/nowhere.txt"
refuses "a checkpoint that is not there is refused" 1 "checkpoint-9" "$STAGECOACH" generate "$work/run/checkpoint-9" --prompt x
refuses "a misspelt option is refused with the right one" 2 "no option --tempreature; did you mean --temperature" \
    "$STAGECOACH" generate "$model" --prompt x --tempreature 1
refuses "a number out of range is refused" 2 "--top_p 1.5: write a number from 0 to 1" "$STAGECOACH" generate "$model" --prompt x --top_p 1.5
refuses "an end that never comes is refused" 2 "--eos_token_id 256: .*write a number from 0 to 255" "$STAGECOACH" generate "$model" --prompt x --eos_token_id 256
refuses "no tokens are refused" 2 "--max_new_tokens 0: write a whole number from 1" "$STAGECOACH" generate "$model" --prompt x --max_new_tokens 0
refuses "a full disk is an error" 1 "cannot be written to standard output" bash -c "'$STAGECOACH' generate '$model' --prompt x >/dev/full"
finish

#!/bin/bash
# The commands that look into checkpoints and handle them, as on a login node: without mpirun, and where work is shared under it.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; validation_split_percentage = 20; block_size = 32; };
training = { per_device_train_batch_size = 2; per_device_eval_batch_size = 2; max_steps = 8; learning_rate = 1e-2; save_steps = 2; };
checkpoint = { block_size = 4096L; };
END
# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
ckpt() { timeout -k 5 60 "$STAGECOACH" ckpt "$@"; }
# ends STATUS COMMAND...: with its output in $work/said
ends() { local want=$1 status; shift; "$@" >"$work/said" 2>&1; status=$?; [ $status -eq "$want" ] || { echo "exit $status, expected $want"; cat "$work/said"; return 1; }; }
says() { grep -qE -- "$1" "$work/said" || { echo "no '$1' in:"; cat "$work/said"; return 1; }; }
flip() { local b; b=$(od -An -tu1 -j"$2" -N1 "$1"); printf "\\x$(printf %x $((b ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
# data_of CHECKPOINT SHARD SLOT UNIT: where its bytes begin
data_of() { awk -v f="shards/$2" -v s="$3" -v u="$4" '$1 == "file" { here = $3 == f } here && $1 == "data" && $4 == s && $5 == u { print $2 }' "$1/manifest"; }

check "a run of three ranks" train run 3 --zero.stage 3
run=$work/run one=$work/run/checkpoint-2 last=$work/run/checkpoint-8

# ls
check "ls lists the checkpoints" ends 0 ckpt ls "$run"
check "... by step, ranks, stage, type and loss" is "$(awk 'NR > 1 { print $1, $5, $6, $7, ($8 ~ /^[0-9.]+$/), $10 }' "$work/said" | paste -sd,)" \
    "2 3 3 float32 1 complete,4 3 3 float32 1 complete,6 3 3 float32 1 complete,8 3 3 float32 1 complete"
ln -s checkpoint-4 "$run/best"
check "... and the best one" ends 0 ckpt ls "$run" && check "... by its link" says '^ +4 .* best$'
check "ls --json is JSON" ends 0 ckpt ls "$run" --json
check "... with the same" is "$(grep -cE '"state": "(complete|best)"|"step": (2|4|6|8),|"world_size": 3' "$work/said")" 12

# show
check "show describes a checkpoint" ends 0 ckpt show "$last"
for what in 'step +8' 'world_size +3' 'model.n_embd = 24' 'wpe.weight +32 x 24 +float32 +3.0 KiB' 'the same in /optimizer/exp_avg_sq' 'lm_head.weight is wte.weight' '28 with 21408'; do
    check "... with $what" says "$what"
done
summary() { h5dump -d "/$1" -y -w 1 -m %.9g "$last/checkpoint.h5" | awk '/DATA \{/ { on = 1; next } /\}/ { on = 0 } on { x = $1 + 0; if (!n || x < min) min = x
    if (!n || x > max) max = x; sum += x; square += x * x; n++ } END { printf "%.5g %.5g %.5g %.5g\n", min, max, sum / n, sqrt(square) }'; }
check "show --json" ends 0 ckpt show "$last" --json
for what in '"model.type": "gpt2"' '"model.n_embd": 24' '"training.learning_rate": 0.01' '"training.bf16": false' '"training.save_total_limit": null' \
    '"checkpoint.redundancy": "none"' '"data.train_file": "'"$work"'/text.txt"'; do
    check "... with settings of their own types: $what" says "^ *$what,?\$"
done
for name in model/h.1.mlp.c_fc.weight model/wte.weight optimizer/exp_avg_sq/h.0.attn.c_attn.bias; do
    check "show of $name" ends 0 ckpt show "$last" "$name"
    check "... as h5dump has it" is "$(awk '$1 ~ /^(min|max|mean|norm)$/ { printf "%s%.5g", n++ ? " " : "", $2 } END { print "" }' "$work/said")" "$(summary $name)"
done
check "... each element in one bin" is "$(ckpt show "$last" wte.weight | awk '$1 == "from" { n += $3 } END { print n }')" $((256 * 24))
check "... and the same in JSON" is "$(ckpt show "$last" wte.weight --json | tr -d ' \n' | grep -oE '"shape":\[[0-9,]*\]|"n_nan":[0-9]+' | paste -sd' ')" '"shape":[256,24] "n_nan":0'
check "two tensors in JSON" ends 0 ckpt show "$last" wte.weight wpe.weight --json
check "... are one list" is "$(grep -cE '^[][]' "$work/said") $(grep -oE '"name": "[^"]*"' "$work/said" | paste -sd' ')" '2 "name": "model/wte.weight" "name": "model/wpe.weight"'
refuses "show of a misspelt tensor" 1 "no tensor h.1.ln_1.wieght; did you mean h.1.ln_1.weight\?" "$STAGECOACH" ckpt show "$last" h.1.ln_1.wieght
refuses "show of no checkpoint" 1 "there is no checkpoint $work/nowhere" "$STAGECOACH" ckpt show "$work/nowhere"

# verify
check "verify finds nothing wrong" ends 0 ckpt verify "$one" "$last"
check "... in every block of six files" says "^$last: whole: 6 files, [0-9]+ blocks"
cp -r "$last" "$work/hurt"
shard=shards/shard-00001-of-00003.h5
at=$(data_of "$work/hurt" shard-00001-of-00003.h5 optimizer/exp_avg h.1)
flip "$work/hurt/$shard" $((at + 4000)); flip "$work/hurt/$shard" $((at + 8100))
check "verify finds damaged blocks" ends 1 ckpt verify "$work/hurt"
check "... by file, block, rank and tensor" says "^  $shard: blocks $(((at + 4000) / 4096))-$(((at + 8100) / 4096)) \(bytes [0-9-]+\) does not fit its hash; rank 1: .*optimizer/exp_avg/h\.1\."
flip "$work/hurt/config.cfg" 100; flip "$work/hurt/checkpoint.h5" 9000
truncate -s -5 "$work/hurt/shards/shard-00002-of-00003.h5"
check "verify finds all damages of a checkpoint" ends 1 ckpt verify "$one" "$work/hurt"
check "... by unit, as the settings do not tell the tensors" says "^  $shard: blocks [0-9]+-[0-9]+ \(bytes [0-9-]+\) does not fit its hash; rank 1: optimizer/exp_avg of unit h.1"
check "... in the index" says '^  checkpoint.h5: block 2 \(bytes 8192-12287\) does not fit its hash'
check "... in the settings" says '^  config.cfg: block 0'
check "... and files of another size" says '^  shards/shard-00002-of-00003.h5 has [0-9]+ bytes instead of [0-9]+; rank 2'
check "... and nothing else" is "$(grep -c '^  ' "$work/said")" 4
cp "$work/said" "$work/alone"
check "three ranks find the same" ends 1 ranks 3 "$STAGECOACH" ckpt verify "$one" "$work/hurt"
check "... and say it once" is "$(grep -E '^  (shards|config|check)|: damaged' "$work/said")" "$(grep -v ' whole: ' "$work/alone")"
check "verify --json" ends 1 ckpt verify "$work/hurt" --json
check "... lists the same damages" is "$(grep -c '"problem"' "$work/said")" 4
rm "$work/hurt/config.cfg"
check "verify of a missing file" ends 1 ckpt verify "$work/hurt" && check "... says so" says 'config.cfg cannot be read: No such file'
flip "$work/hurt/manifest" 200
check "verify of a damaged manifest" ends 1 ckpt verify "$work/hurt" && check "... says so" says 'manifest is damaged: it does not fit its own hash'
check "verify of nothing" ends 1 ckpt verify "$work/nowhere" && check "... says so" is "$(cat "$work/said")" "$work/nowhere: there is no such checkpoint"
check "verify of an output_dir" ends 1 ckpt verify "$run" && check "... points to ls" says "^$run: is no checkpoint; .*ckpt ls"
refuses "generate from an output_dir" 1 "$run is no complete checkpoint: it has no manifest; stagecoach ckpt ls $run lists what is in it" \
    "$STAGECOACH" generate "$run" --prompt a

refuses "verify of an empty path" 2 "ckpt verify: path 2 is empty" "$STAGECOACH" ckpt verify "$last" ""
for file in manifest config.cfg checkpoint.h5 shards/shard-00001-of-00003.h5 nodes; do # nobody writes into the pipe
    rm -rf "$work/piped" && cp -r "$last" "$work/piped" && rm -f "$work/piped/$file" && mkfifo "$work/piped/$file"
    check "verify of a checkpoint whose $file is a pipe" ends 1 ckpt verify "$work/piped" && check "... says so" says "^  $file:? .*is no file"
    [ $file = nodes ] || check "... show too ends" ends 1 ckpt show "$work/piped" wte.weight
done
mkdir "$work/pipes" && mv "$work/piped" "$work/pipes/checkpoint-8"
check "ls too ends" ends 0 ckpt ls "$work/pipes"

# diff
check "a checkpoint and its copy do not differ" bash -c "cp -r '$last' '$work/copy' && exec '$STAGECOACH' ckpt diff '$last' '$work/copy/'"
check "two steps differ" ends 1 ckpt diff "$one" "$last"
check "... in values" says '^  model/wte.weight +values +[0-9]+ differ, by at most [0-9.e-]+, relative'
check "... and in state" says '^  step +2 +8$'
check "another world size and stage" train other 1 --zero.stage 0 --resume_from_checkpoint "$one" --max_steps 2
check "... is no difference of tensors" bash -c "'$STAGECOACH' ckpt convert '$one' '$work/one-shard' --shards 1 && '$STAGECOACH' ckpt diff --tensors_only '$one' '$work/one-shard'"
check "another width" train wide 1 --model.n_embd 26 --max_steps 2 && check "... is a difference" ends 1 ckpt diff "$one" "$work/wide/checkpoint-2"
check "... of shapes" says 'model/wte.weight +shape +256 x 24 and 256 x 26'
check "... and of settings" says 'model.n_embd +24 +26'

# convert
check "convert to five shards" ends 0 ckpt convert "$last" "$work/five" --shards 5
check "... is whole" ends 0 ckpt verify "$work/five"
check "... and differs in nothing" ends 0 ckpt diff "$last" "$work/five"
check "... nor for HDF5" h5diff "$last/checkpoint.h5" "$work/five/checkpoint.h5" /optimizer
check "... nor when three ranks make it" bash -c "mpirun -n 3 '$STAGECOACH' ckpt convert '$last' '$work/five-by-three' --shards 5 && cd '$work' &&
    sed '/^id\|^hash\|^end/d' five/manifest | cmp - <(sed '/^id\|^hash\|^end/d' five-by-three/manifest) && '$STAGECOACH' ckpt diff five five-by-three"
check "a run goes on from it" train five-on 2 --max_steps 10 --resume_from_checkpoint "$work/five" --gradient_accumulation_steps 1
check "... as from the original" train six-on 2 --max_steps 10 --resume_from_checkpoint "$last" --gradient_accumulation_steps 1
check "... to the same bits" ends 0 ckpt diff --tensors_only "$work/five-on/checkpoint-10" "$work/six-on/checkpoint-10"

check "convert to weights" ends 0 ckpt convert "$last" "$work/weights" --weights_only --shards 2
check "... says so" says 'weights: 2 shards of float32, weights only'
check "... which diff shows" ends 1 ckpt diff "$last" "$work/weights" && check "... tensor by tensor" is "$(grep -c 'optimizer/.* only in A' "$work/said")/$(grep -c values "$work/said")" 56/0
refuses "... and which cannot be resumed" 1 "weights holds weights only.*start a new run from it with --model.init_from $work/weights" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/no" --resume_from_checkpoint "$work/weights"
text_of() { "$STAGECOACH" generate "$1" --prompt "static int" --max_new_tokens 20 --temperature 0; }
loss_of() { "$STAGECOACH" eval "$work/tiny.cfg" --resume_from_checkpoint "$1" 2>/dev/null | awk '$1 == "eval_loss" { print $3 }'; }
check "... but generates the same text" is "$(text_of "$work/weights")" "$(text_of "$last")"
check "... and begins a run" train begun 2 --model.init_from "$work/weights" --max_steps 1

for type in bf16:bfloat16:0.00390625 fp16:float16:0.00048829; do
    IFS=: read -r option name most <<<"$type"
    check "convert to $option" ends 0 ckpt convert "$last" "$work/$option" --weights_only --dtype "$option" --shards 3
    check "... is whole" ends 0 ckpt verify "$work/$option"
    check "... of half the size" is "$(ckpt show "$work/$option" | grep -cE "wpe.weight .* $name +1.5 KiB")" 1
    ckpt diff "$work/weights" "$work/$option" --tensors_only >"$work/said"
    # numbers that are subnormal in fp16 may be further off
    check "... and is rounded" awk -v most="$most" '$2 == "values" { n++; if ($9 + 0 > 4e-6 && $NF + 0 > (most < 0.001 ? 0.1 : most)) exit 1 } END { exit !(n > 20) }' "$work/said"
    check "... back to fp32 and again is the same" bash -c "'$STAGECOACH' ckpt convert '$work/$option' '$work/$option-32' --dtype fp32 --shards 1 &&
        '$STAGECOACH' ckpt convert '$work/$option-32' '$work/$option-again' --dtype $option && '$STAGECOACH' ckpt diff '$work/$option' '$work/$option-again'"
    check "... and evaluates alike" awk -v a="$(loss_of "$work/$option")" -v b="$(loss_of "$last")" 'BEGIN { exit !(a > 0 && (a - b) * (a - b) < 1e-4) }'
    check "... and generates" bash -c "'$STAGECOACH' generate '$work/$option' --prompt 'static int' --max_new_tokens 5"
    check "h5dump reads it" is "$(h5dump -d /model/ln_f.weight -y -w 1 "$work/$option/checkpoint.h5" | grep -cE '^ +[0-9.]+,?$')" 24
done
python=${PYTHON:-python3}
if "$python" -c 'import h5py' 2>/dev/null; then
    check "h5py reads bf16 and fp16" "$python" - "$work" <<'PYTHON'
import h5py, numpy as np, sys
w = h5py.File(sys.argv[1] + "/weights/checkpoint.h5")["model/wte.weight"][...]
for name, bits in ("bf16", 8), ("fp16", 11):
    x = h5py.File(sys.argv[1] + "/" + name + "/checkpoint.h5")["model/wte.weight"][...].astype("f4")
    assert x.shape == w.shape and np.all(abs(x - w) <= np.maximum(abs(w) * 2.0 ** -bits, 2.0 ** -25)), name
PYTHON
    # mean and norm of every tensor, by the program of docs/ and by this one
    of_example() { "$python" "$top/docs/read_checkpoint.py" "$1" | sed -n 's/^\([^ ]*\)  .*mean \([^ ]*\)  norm \([^ ]*\)$/\1 \2 \3/p' | grep -v lm_head | sort; }
    # shellcheck disable=SC2046  # names without blanks
    of_show() { ckpt show "$1" $(of_example "$1" | cut -d' ' -f1) | awk '$1 ~ /\// { name = $1 } $1 == "mean" { mean = $2 }
        $1 == "norm" { printf "%s %.6g %.6g\n", name, mean, $2 }' | sort; }
    is_close() { paste -d' ' "$1" "$2" | awk '{ n++; if ($1 != $4 || ($2 - $5) ^ 2 > 1e-10 * $3 ^ 2 || ($3 - $6) ^ 2 > 1e-10 * $6 ^ 2) { print; bad = 1 } } END { exit bad || n < 28 }'; }
    for which in run/checkpoint-8 five fp16; do
        of_example "$work/$which" >"$work/example"; of_show "$work/$which" >"$work/shown"
        check "the example in Python reads $which" is_close "$work/example" "$work/shown"
    done
    check "... with its state" is "$("$python" "$top/docs/read_checkpoint.py" "$last" ln_f.bias | head -n 1)" "step 8, written by 3 ranks at ZeRO stage 3"
    cp -r "$last" "$work/short" && rm "$work/short/shards/shard-00002-of-00003.h5"
    refuses "... and misses what is missing" 1 "shards/shard-00002-of-00003.h5 is missing" "$python" "$top/docs/read_checkpoint.py" "$work/short"
else
    skip "h5py reads bf16 and fp16, and the example in Python" "python3 has no h5py"
fi
if "$python" -c 'import numpy' 2>/dev/null; then
    check "ranks that share files" train shared 3 --zero.stage 3 --checkpoint.writers_per_node 1
    sed -n '/# Tensors of a checkpoint without HDF5/,/^    print/s/^    //p' "$top/docs/file-formats.md" | sed 's/(256, 32)/(256, 24)/; s/(64, 32)/(32, 24)/; s/\[0, :4\]/.tobytes().hex()/' >"$work/reader.py"
    check "the reader without HDF5 reads one file per rank" bash -c "'$python' '$work/reader.py' '$last' >'$work/apart' && test -s '$work/apart'"
    check "... and shared files" bash -c "'$python' '$work/reader.py' '$work/shared/checkpoint-8' | cmp - '$work/apart'"
    check "... of which there is one" is "$(ls "$work/shared/checkpoint-8/shards" | wc -l)" 1
else
    skip "the reader without HDF5" "python3 has no numpy"
fi
refuses "convert of states to bf16" 2 "float32 tensors; for bfloat16 add --weights_only" "$STAGECOACH" ckpt convert "$last" "$work/no" --dtype bf16
refuses "convert to what is there" 2 "$work/five is already there" "$STAGECOACH" ckpt convert "$last" "$work/five"
refuses "convert to an unknown type" 2 "--dtype fp8: write fp32, bf16 or fp16" "$STAGECOACH" ckpt convert "$last" "$work/no" --dtype fp8
cp -r "$last" "$work/marred" && flip "$work/marred/$shard" $((at + 40))
refuses "convert of damaged bytes" 1 "$shard is damaged" mpirun -n 2 "$STAGECOACH" ckpt convert "$work/marred" "$work/into/new"
check "... leaves nothing" is "$(ls -A "$work/into" 2>/dev/null)" ""

mkdir "$work/into/small"
# shellcheck disable=SC2016
small=(unshare -m bash -c 'mount -t tmpfs -o size="$1"k none "$0" && exec "${@:2}"' "$work/into/small")
if "${small[@]}" 64 true 2>/dev/null; then
    n_shards=$(cat "$last"/shards/* | wc -c)
    for room in 64 $((n_shards / 4096 * 4 + 8)); do # KiB: too few for its tensors; for them, but not for checkpoint.h5 beside them
        refuses "convert to where there are only $room KiB" 1 "a checkpoint needs [0-9.]+ KiB, but only [0-9.]+ KiB are free in $work/into/small/.*; nothing was written" \
            "${small[@]}" $room "$STAGECOACH" ckpt convert "$last" "$work/into/small/new"
    done
else
    skip "convert to where there is no room" "no right to mount"
fi
rmdir "$work/into/small"
for inside in x shards/x "a/b"; do
    refuses "convert into the checkpoint: $inside" 2 "would lie inside the checkpoint $last; choose a place outside" "$STAGECOACH" ckpt convert "$last" "$last/$inside"
done
check "convert from inside of it to elsewhere" ends 0 bash -c 'cd "$1" && "$2" ckpt convert . "$3" --weights_only && "$2" ckpt rm "$3" --yes' - "$last" "$STAGECOACH" "$work/outside"
check "... leaves it as it was" is "$(ls -A "$last")" "$(ls -A "$one")"
check "convert beyond the size that files may have" ends 1 bash -c 'ulimit -f 8; exec "$@"' limited "$STAGECOACH" ckpt convert "$last" "$work/into/large"
check "... is an error of the write" says 'error: .*File too large' && check "... and leaves nothing" is "$(ls -A "$work/into")" ""

# paths that are not UTF-8, as JSON
odd=$work/$'caf\xe9' shown=$'caf\xef\xbf\xbd'
check "convert to a path that is not UTF-8" ends 0 ckpt convert "$last" "$odd" --json && check "... is JSON" says "\"checkpoint\": \".*/$shown\""
check "verify of it" ends 0 ckpt verify "$odd" --json && check "... is JSON" says "\"checkpoint\": \".*/$shown\""
check "show of it" ends 0 ckpt show "$odd" --json && check "... is JSON" says "\"checkpoint\": \".*/$shown\""
check "rm of it" ends 0 ckpt rm "$odd" --yes --json && check "... is JSON" says "^ *\"$shown\"\$" && check "... and done" test ! -e "$odd"
check "prune below it" bash -c "mkdir -p '$odd/.checkpoint-9.tmp-0123456789abcdef' && '$STAGECOACH' ckpt prune '$odd' --yes --json >'$work/said'"
check "... is JSON" says "\"directory\": \".*/$shown\"" && rm -r "$odd"

# a format from the future, of which no more is known
cp -r "$run" "$work/ahead" && printf 'stagecoach checkpoint manifest\nversion 2\nend 9d1e228e151b0626\n' >"$work/ahead/checkpoint-8/manifest"
check "ls of a newer format" ends 0 ckpt ls "$work/ahead" && check "... says so" says '^ +8 .* newer format: .*checkpoint-8/manifest has format version 2, this program reads version 1'
check "... in JSON too" ends 0 ckpt ls "$work/ahead" --json && check "... as its state" says '"state": "newer format"'
check "verify of it" ends 1 ckpt verify "$work/ahead/checkpoint-8" && check "... calls nothing damaged" is "$(head -n 1 "$work/said")" "$work/ahead/checkpoint-8: of a newer format, not checked"
check "rm of it" ends 0 ckpt rm "$work/ahead/checkpoint-8" && check "... knows what it is" says 'checkpoint-8 is a checkpoint of a newer format: .*version 2'
refuses "resume_strict refuses it" 1 "checkpoint-8 is of a newer version of stagecoach: .*version 2.*use a newer stagecoach; or allow an older one" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/ahead" --resume_from_checkpoint latest --checkpoint.resume_strict
check "latest goes on from the one before" train ahead 3 --zero.stage 3 --resume_from_checkpoint latest
check "... and names it" grep -q 'checkpoint-8 is passed over: .*version 2' "$work/ahead.log"
check "... and says where it is, and how to go on from it" grep -qE "WARNING .*checkpoint-8, of a newer version of stagecoach, is set aside as .*checkpoint-8.old-[0-9a-f]{16}: to go on from it" "$work/ahead.log"

# rm, prune
left() { (cd "$1" && ls -Ad checkpoint-* .checkpoint-* 2>/dev/null | paste -sd' '); }
check "rm says what it would delete" ends 0 ckpt rm "$run/checkpoint-6/" && check "... and how to" says 'would delete .*checkpoint-6 \('
check "... and deletes nothing" is "$(left "$run")" "checkpoint-2 checkpoint-4 checkpoint-6 checkpoint-8"
refuses "rm keeps the last" 2 "checkpoint-8 is the last whole checkpoint of its run; add --force" "$STAGECOACH" ckpt rm "$last" --yes
refuses "rm keeps the best" 2 "checkpoint-4 is the best checkpoint of its run; add --force" "$STAGECOACH" ckpt rm "$run/checkpoint-4" --yes
flip "$last/$shard" $((at + 40))
refuses "rm keeps the last whose blocks are whole" 1 "checkpoint-6 is the last whole checkpoint of its run, as checkpoint-8 is damaged: $shard: does not fit its hash; add --force" \
    "$STAGECOACH" ckpt rm "$run/checkpoint-6" --yes
cp -r "$run" "$work/two" && flip "$work/two/checkpoint-6/$shard" $((at + 40))
check "... but not one that is damaged too" ends 0 ckpt rm "$work/two/checkpoint-6" --yes
check "... and needs no newest if another is whole" bash -c "cp -r '$run/checkpoint-6' '$work/two' && '$STAGECOACH' ckpt rm '$work/two/checkpoint-2' --yes && test ! -e '$work/two/checkpoint-2'"
flip "$last/$shard" $((at + 40))
refuses "rm of what is none" 1 "$work/tiny.cfg is no checkpoint" "$STAGECOACH" ckpt rm "$work/tiny.cfg" --yes
mkdir -p "$work/website" "$work/dated/checkpoint-7" && echo '{"name": "site"}' | tee "$work/website/manifest" >"$work/dated/checkpoint-7/manifest"
refuses "rm of a directory with another program's manifest" 1 "$work/website is no checkpoint" "$STAGECOACH" ckpt rm "$work/website" --yes --force
refuses "... also under the name of a checkpoint" 1 "checkpoint-7 is no checkpoint" "$STAGECOACH" ckpt rm "$work/dated/checkpoint-7" --yes --force
check "... leaves it" is "$(cat "$work/website/manifest" "$work/dated/checkpoint-7/manifest" | wc -l)" 2
refuses "ls of such a directory" 1 "no checkpoints in $work/website" "$STAGECOACH" ckpt ls "$work/website"
cp -r "$last" "$work/cracked" && flip "$work/cracked/manifest" 200
check "rm of a damaged checkpoint" ends 0 ckpt rm "$work/cracked" --yes && check "... says that it is one" says 'cracked is a damaged checkpoint: .*manifest is damaged'
check "... and deletes it" test ! -e "$work/cracked"
mkdir "$work/dated/checkpoint-7/shards"
check "rm of a checkpoint by its name and shards" ends 0 ckpt rm "$work/dated/checkpoint-7" --yes && check "... says so" says 'checkpoint-7 is taken for a damaged checkpoint, by its name'
printf 'job 4711\nrestart 0\nhost %s\npid %d\nstart 0\n' "$(hostname -s)" $$ >"$run/run.lock"
refuses "rm while a job runs there" 2 "another job runs in $run" "$STAGECOACH" ckpt rm "$run/checkpoint-6" --yes
rm "$run/run.lock"
refuses "rm of the link to the best" 2 "$run/best is a link to checkpoint-4; give the checkpoint itself" "$STAGECOACH" ckpt rm "$run/best" --yes --force
if strace -o /dev/null true 2>/dev/null; then
    check "rm --yes deletes" ends 0 strace -f -y -e trace=rename,fsync,unlink,unlinkat,rmdir -o "$work/trace" "$STAGECOACH" ckpt rm "$run/checkpoint-6" --yes
    check "... under another name, which is synced before the first file goes" awk -v run="$run" \
        '/rename\(.*checkpoint-6/ { named = NR } /fsync/ && named && index($0, "<" run ">") && !synced { synced = NR } /unlink.*checkpoint-6/ && !gone { gone = NR }
        END { exit !(named && named < synced && synced < gone) }' "$work/trace"
else
    check "rm --yes deletes" ends 0 ckpt rm "$run/checkpoint-6" --yes
fi
check "... that one" is "$(left "$run")" "checkpoint-2 checkpoint-4 checkpoint-8"
check "rm of a converted one" bash -c "'$STAGECOACH' ckpt rm '$work/five' --yes && test ! -e '$work/five'"
mkdir "$work/long"
for length in 233 234 255; do
    name=$(printf "%${length}s" "" | tr ' ' x) && cp -r "$last" "$work/long/$name"
    check "rm of a name of $length bytes" ends 0 ckpt rm "$work/long/$name" --yes && check "... deletes it" is "$(ls -A "$work/long")" ""
done
check "prune without a limit" ends 0 ckpt prune "$run"
check "... finds nothing too much" says "^nothing to delete in $run" && check "... and says why" says 'without save_total_limit.*unless --save_total_limit N'
mkdir -p "$run/.checkpoint-9.tmp-0123456789abcdef"
check "prune without a limit finds what was not finished" is "$(ckpt prune "$run" 2>/dev/null | grep -oE 'would delete [^ ]*' | sed 's/.*\///')" ".checkpoint-9.tmp-0123456789abcdef"
check "prune says what is too much" ends 0 ckpt prune "$run" --save_total_limit 1
check "... which is the oldest and what was not finished" is "$(grep -oE 'would delete [^ ]*' "$work/said" | sed 's/.*\///' | paste -sd' ')" "checkpoint-2 .checkpoint-9.tmp-0123456789abcdef"
check "... but not milestones" is "$(ckpt prune "$run" --save_total_limit 1 --keep_every 2 | grep -c 'checkpoint-2')" 0
check "... and deletes nothing" is "$(left "$run")" ".checkpoint-9.tmp-0123456789abcdef checkpoint-2 checkpoint-4 checkpoint-8"
check "a run of others" train foreign 1 --max_steps 10 --save_steps 10
cp -r "$work/foreign/checkpoint-10" "$run"
check "prune goes by the run of the directory, whatever else was copied there" ends 0 ckpt prune "$run" --save_total_limit 1
check "... and leaves that alone" is "$(grep -oE 'would delete [^ ]*' "$work/said" | sed 's/.*\///' | paste -sd' ')" "checkpoint-2 .checkpoint-9.tmp-0123456789abcdef"
rm -r "$run/checkpoint-10"
flip "$last/$shard" $((at + 40))
refuses "prune keeps older ones while the newest is damaged" 1 "nothing is deleted: $last, the newest that would stay, is damaged: $shard: does not fit its hash" \
    "$STAGECOACH" ckpt prune "$run" --save_total_limit 1 --yes
check "... all of them" is "$(left "$run")" ".checkpoint-9.tmp-0123456789abcdef checkpoint-2 checkpoint-4 checkpoint-8"
flip "$last/$shard" $((at + 40))
check "prune --yes deletes them" ends 0 ckpt prune "$run" --save_total_limit 1 --yes
check "... and keeps the best and the last" is "$(left "$run")" "checkpoint-4 checkpoint-8"
check "... and no lock" test ! -e "$run/run.lock"
check "rm --force of the best" ends 0 ckpt rm "$run/checkpoint-4" --yes --force
check "... takes the link along" is "$(left "$run")/$(ls -A "$run" | grep -c best)" "checkpoint-8/0"

# commands that are killed
store=$work/checkpoint-store
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
if [ -e "$fault" ]; then
    # killed CALL K COMMAND...: SIGKILL at the K-th such call below the store
    killed() { local call=$1 k=$2; shift 2; env LD_PRELOAD="$fault" FAULT_ROOT="$store" FAULT_RANKS="" FAULT_CALL="$call" FAULT_AT="$k" FAULT_KIND=KILL "$@"; }
    mkdir "$store"
    check "convert that is killed" ends 137 killed pwrite 3 "$STAGECOACH" ckpt convert "$last" "$store/weights" --weights_only
    check "... leaves no checkpoint of that name" test ! -e "$store/weights"
    check "... but something that ls shows" ends 0 ckpt ls "$store" && check "... as partial" says ' partial: .weights.tmp-[0-9a-f]{16}$'
    check "the next one" ends 0 ckpt convert "$last" "$store/weights" --weights_only
    check "... names it" says "$store/.weights.tmp-[0-9a-f]{16} is left of a command that did not end"
    check "rm that is killed" ends 137 killed unlink 2 "$STAGECOACH" ckpt rm "$store/weights" --yes
    check "... leaves nothing of that name either" test ! -e "$store/weights"
    refuses "convert that runs out of room at the index" 1 "error: .*cannot write $store/.new.tmp-[0-9a-f]+/checkpoint.h5 \([0-9.]+ KiB needed, [0-9.]+ [KMGT]iB free\): No space left" \
        env LD_PRELOAD="$fault" FAULT_ROOT="$store" FAULT_RANKS="" FAULT_CALL=fallocate FAULT_AT=4 FAULT_KIND=ENOSPC "$STAGECOACH" ckpt convert "$last" "$store/new"
    check "prune deletes both" ends 0 ckpt prune "$store" --yes && check "... all of them" is "$(ls -A "$store")" ""
    full=$work/checkpoint-full # faults count from the first path that says checkpoint-
    for call in pwrite:ENOSPC fsync:EDQUOT; do
        mkdir "$full" && cp -r "$last" "$full/some"
        full_disk() { env LD_PRELOAD="$fault" FAULT_ROOT="$full/run.lock" FAULT_RANKS="" FAULT_CALL="${call%:*}" FAULT_AT=1 FAULT_KIND="${call#*:}" "$@"; }
        check "rm where the lock's ${call%:*} finds no room" ends 0 full_disk "$STAGECOACH" ckpt rm "$full/some" --yes
        check "... deletes, and gives the lock back" is "$(ls -A "$full")" ""
        cp -r "$last" "$full/some"
        check "... and is killed" ends 137 full_disk env FAULT_THEN=rmdir "$STAGECOACH" ckpt rm "$full/some" --yes
        check "... leaves a link that names it" is "$(readlink "$full/run.lock" | grep -cE "^- 0 $(hostname -s) [0-9]+ [0-9]+\$")" 1
        check "... which the next takes over" ends 0 ckpt prune "$full" --yes && check "... by itself" says 'run.lock is stale: its job .* is dead; taken over'
        check "... and ends what was begun" is "$(ls -A "$full")" ""
        rmdir "$full"
    done
    mkdir "$full"
    refuses "a run where the lock finds no room" 1 "cannot write .*run.lock: No space left" env LD_PRELOAD="$fault" FAULT_ROOT="$full/run.lock" FAULT_RANKS="" FAULT_CALL=pwrite \
        FAULT_AT=1 FAULT_KIND=ENOSPC "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$full"
    check "... leaves no lock" test ! -e "$full/run.lock"
    mkdir "$run/.weights.tmp-0123456789abcdef"
    check "a run in whose directory such a thing lies" train run 3 --zero.stage 3 --resume_from_checkpoint latest
    check "... says so" grep -q "$run/.weights.tmp-0123456789abcdef is left of a ckpt command" "$work/run.log"
    check "... and leaves it alone" test -d "$run/.weights.tmp-0123456789abcdef"
else
    skip "commands that are killed" "$fault was not built"
fi

refuses "an unknown command" 2 "ckpt has no command verfy; did you mean verify\?" "$STAGECOACH" ckpt verfy
refuses "an option of another command" 2 "ckpt ls has no option --shards" "$STAGECOACH" ckpt ls "$run" --shards 3
refuses "a value for an option that takes none" 2 "ckpt ls: --json takes no value" "$STAGECOACH" ckpt ls "$run" --json=1
refuses "ls of a checkpoint, in JSON too" 1 "$last is itself a checkpoint; give the directory that holds it" "$STAGECOACH" ckpt ls "$last" --json
refuses "a misspelt option" 2 "ckpt convert has no option --weight_only; did you mean --weights_only\?" "$STAGECOACH" ckpt convert a b --weight_only
refuses "too few paths" 2 "write: stagecoach ckpt diff A B" "$STAGECOACH" ckpt diff "$run"
for command in ls show verify diff convert rm prune; do
    check "$command --help" bash -c "'$STAGECOACH' ckpt $command --help | grep -q '^Usage: stagecoach ckpt $command '"
done
finish

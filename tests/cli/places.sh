#!/bin/bash
# Checkpoints wherever they are: copied while training goes on, moved, on a file system that cannot be written to, under odd names.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; validation_split_percentage = 20; block_size = 32; };
training = { per_device_train_batch_size = 2; per_device_eval_batch_size = 2; max_steps = 4; save_steps = 2; };
checkpoint = { block_size = 4096L; };
END
train() { local n=$1; shift; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" "$@" >"$work/train.log" 2>&1 || { tail -n 5 "$work/train.log"; return 1; }; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
same() { "$STAGECOACH" ckpt diff --tensors_only "$1" "$2"; }

# a copy now and then, of whatever is there at that moment
mkdir "$work/copies"
train 2 --output_dir "$work/live" --max_steps 60 --save_steps 1 --zero.stage 3 & training=$!
for ((n = 0; n < 1000; n++)); do
    kill -0 $training 2>/dev/null || break
    [ ! -d "$work/live/checkpoint-1" ] || cp -r "$work/live" "$work/copies/$n" 2>/dev/null
    sleep 0.1
done
wait $training; check "a run that is copied while it goes on" is $? 0
shopt -s nullglob
copied=("$work"/copies/*/checkpoint-*)
last_copy=${copied[-1]-}
check "its checkpoints are copied" [ ${#copied[@]} -gt 20 ]
check "... and are all whole" "$STAGECOACH" ckpt verify "${copied[@]}"
check "... and go on" train 1 --output_dir "$(dirname "$last_copy")" --resume_from_checkpoint latest --max_steps 62 --save_steps 100
rm -rf "$work/copies"

# names
odd="$work/zwölf Boxkämpfer/ 走る 'q' \$x"
check "a run under a name with blanks, quotes and other letters" train 3 --output_dir "$odd" --zero.stage 2
check "... is whole" "$STAGECOACH" ckpt verify "$odd/checkpoint-2" "$odd/checkpoint-4"
check "... is listed" is "$("$STAGECOACH" ckpt ls "$odd" | grep -c ' complete$')" 2
check "... is read by h5dump" is "$(cd / && h5dump -d /model/ln_f.bias -y -w 1 "$odd/checkpoint-4/checkpoint.h5" | grep -cE '^ +[-0-9.e]+,?$')" 24
check "... goes on through .." train 2 --output_dir "$odd/../other/../ 走る 'q' \$x" --resume_from_checkpoint "$odd/../ 走る 'q' \$x/checkpoint-4//" --max_steps 6 --gradient_accumulation_steps 1
check "... is converted there" "$STAGECOACH" ckpt convert "$odd/checkpoint-6" "$odd/gewichte ½" --weights_only --dtype bf16
check "... and generates from there" "$STAGECOACH" generate "$odd/gewichte ½/." --prompt x --max_new_tokens 2
check "by a relative path" bash -c 'cd "$1" && cd checkpoint-4 && "$2" ckpt verify . ../checkpoint-2 && "$2" ckpt show . >/dev/null && mpirun -n 2 "$2" eval "$3" --resume_from_checkpoint ../checkpoint-4' - "$odd" "$STAGECOACH" "$work/tiny.cfg"
mv "$odd" "$work/moved"
check "a run that was moved goes on" train 2 --output_dir "$work/moved" --resume_from_checkpoint latest --max_steps 8 --gradient_accumulation_steps 1
check "... and is evaluated with its settings" bash -c "mpirun -n 2 '$STAGECOACH' eval '$work/moved/checkpoint-4/config.cfg' --resume_from_checkpoint '$work/moved/checkpoint-4' 2>'$work/eval.err'"
check "... which say where it was" grep -q 'the output_dir of the settings, .*, is not there' "$work/eval.err"
check "... and nothing is made there" test ! -e "$work/zwölf Boxkämpfer/ 走る 'q' \$x"
ln -s moved/checkpoint-4 "$work/link"
check "so does one through a link" train 1 --output_dir "$work/by-link" --resume_from_checkpoint "$work/link" --max_steps 8
cp -r "$work/moved/checkpoint-6" "$work/renamed"
check "... and one under another name" train 2 --output_dir "$work/by-name" --resume_from_checkpoint "$work/renamed" --max_steps 8 --gradient_accumulation_steps 1
check "... to the same bits" same "$work/by-name/checkpoint-8" "$work/moved/checkpoint-8"

# read-only
# shellcheck disable=SC2016
read_only=(unshare -m bash -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"' "$work/moved")
if "${read_only[@]}" bash -c "! touch '$work/moved/x'" 2>/dev/null; then
    check "a checkpoint that cannot be written to is verified" "${read_only[@]}" "$STAGECOACH" ckpt verify "$work/moved/checkpoint-6"
    check "... listed and shown" "${read_only[@]}" bash -c "'$STAGECOACH' ckpt ls '$work/moved' && '$STAGECOACH' ckpt show '$work/moved/checkpoint-6' wte.weight"
    check "... read by h5dump" "${read_only[@]}" h5dump -d /model/ln_f.bias "$work/moved/checkpoint-6/checkpoint.h5"
    check "... evaluated" "${read_only[@]}" timeout 60 mpirun -n 2 "$STAGECOACH" eval "$work/tiny.cfg" --resume_from_checkpoint "$work/moved/checkpoint-6"
    check "... with its own settings, whose output_dir cannot be written to either" "${read_only[@]}" bash -c "timeout 60 mpirun -n 2 '$STAGECOACH' eval '$work/moved/checkpoint-8/config.cfg' \
        --resume_from_checkpoint '$work/moved/checkpoint-8' >'$work/eval.out' 2>'$work/eval.err'"
    check "... which is said" grep -q 'moved/eval_results.json.tmp: Read-only file system: the results are on standard output only' "$work/eval.err"
    check "... with the results" grep -q 'eval_perplexity  *= [0-9]' "$work/eval.out"
    check "... converted to elsewhere" "${read_only[@]}" "$STAGECOACH" ckpt convert "$work/moved/checkpoint-6" "$work/elsewhere" --shards 1
    check "... resumed elsewhere" "${read_only[@]}" timeout 60 mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/from-ro" \
        --resume_from_checkpoint "$work/moved/checkpoint-6" --max_steps 8 --gradient_accumulation_steps 1
    check "... to the same bits" same "$work/from-ro/checkpoint-8" "$work/moved/checkpoint-8"
    refuses "... but not deleted" 1 "Read-only file system" "${read_only[@]}" "$STAGECOACH" ckpt rm "$work/moved/checkpoint-2" --yes --force
else
    skip "a checkpoint that cannot be written to" "no right to mount"
fi
finish

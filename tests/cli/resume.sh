#!/bin/bash
# Which checkpoint a run goes on from when some of them are damaged.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; validation_split_percentage = 20; block_size = 32; };
training = { per_device_train_batch_size = 2; per_device_eval_batch_size = 2; max_steps = 8; learning_rate = 1e-2; lr_scheduler_type = "constant"; save_steps = 2; };
checkpoint = { block_size = 4096L; };
END
# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
# flip FILE OFFSET: another value in one byte
flip() { local b; b=$(od -An -tu1 -j"$2" -N1 "$1"); printf "\\x$(printf %x $((b ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
# data_of CHECKPOINT SHARD SLOT UNIT: where its bytes begin
data_of() { awk -v f="shards/$2" -v s="$3" -v u="$4" '$1 == "file" { here = $3 == f } here && $1 == "data" && $4 == s && $5 == u { print $2 }' "$1/manifest"; }
copy() { rm -rf "${work:?}/$1" && cp -r "$work/run" "$work/$1" && rm -rf "$work/$1/checkpoint-8"; }

check "a run of two ranks" train run 2 --zero.stage 2
last=shard-00001-of-00002.h5
refuses "a misspelt path" 1 "there is no checkpoint $work/rum/checkpoint-6; stagecoach ckpt ls $work/rum lists" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint "$work/rum/checkpoint-6"

# one byte of the last rank's second moments in the newest; metadata and sizes fit
copy one
flip "$work/one/checkpoint-6/shards/$last" "$(($(data_of "$work/one/checkpoint-6" $last optimizer/exp_avg_sq h.1) + 40))"
check "metadata and sizes do not show the damage" grep -qE '^ *6 .* complete' <("$STAGECOACH" ckpt ls "$work/one")
cp -r "$work/one" "$work/strict"
check "the next older checkpoint is used when bytes of the newest are damaged" train one 2 --zero.stage 2 --resume_from_checkpoint latest
check "... which is said once, with file and tensor" is \
    "$(grep -cE "checkpoint-6 is passed over: rank 1 on .*$last is damaged.* optimizer/exp_avg_sq of unit h.1" "$work/one.log")" 1
check "... and the step from which it went on" grep -q 'resuming .*checkpoint-4 at update 4' "$work/one.log"
check "... and ends in the same bits" h5diff "$work/one/checkpoint-8/checkpoint.h5" "$work/run/checkpoint-8/checkpoint.h5" /model
check "... and the damaged one is set aside" bash -c "ls -d '$work'/one/checkpoint-6.old-*"
refuses "resume_strict takes no older one" 1 "$last is damaged" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/strict" \
    --resume_from_checkpoint latest --checkpoint.resume_strict
rm "$work/strict/checkpoint-6/shards/$last"
refuses "... nor when a file is missing" 1 "checkpoint-6 is damaged: .*$last.*; remove it, or allow an older one" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/strict" --resume_from_checkpoint auto --checkpoint.resume_strict

# the end of the last shard file, in which there is no tensor
copy end
flip "$work/end/checkpoint-6/shards/$last" $(($(stat -c %s "$work/end/checkpoint-6/shards/$last") - 1))
check "a block without tensors is damaged" grep -q "no tensor: padding or metadata of HDF5" <("$STAGECOACH" ckpt verify "$work/end/checkpoint-6")
check "... which is found by latest too" train end 3 --zero.stage 2 --resume_from_checkpoint latest --gradient_accumulation_steps 1
check "... and said" is "$(grep -cE "checkpoint-6 is passed over: rank 1 on .*$last is damaged.* padding or metadata of HDF5" "$work/end.log")" 1

# weights only are no damage, and cannot be resumed
copy weights
check "the newest is made weights only" bash -c "cd '$work/weights' && '$STAGECOACH' ckpt convert checkpoint-6 w --weights_only && rm -r checkpoint-6 && mv w checkpoint-6"
check "... and is passed over" train weights 2 --zero.stage 2 --resume_from_checkpoint auto --checkpoint.resume_strict
check "... by name, with what it is good for" grep -q 'checkpoint-6 is passed over: it holds weights only.*--model.init_from' "$work/weights.log"
check "... for the one before" grep -q 'resuming .*checkpoint-4 at update 4' "$work/weights.log"
check "... to the same bits" h5diff "$work/weights/checkpoint-8/checkpoint.h5" "$work/run/checkpoint-8/checkpoint.h5" /model

mkdir "$work/only" && "$STAGECOACH" ckpt convert "$work/run/checkpoint-6" "$work/only/checkpoint-6" --weights_only >"$work/log"
refuses "where only weights are, they are no run to go on" 2 "already holds 1 checkpoint, none of them to be resumed .--model.init_from .*of weights only.: start a new run" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/only" --resume_from_checkpoint auto

# three kinds of damage, the oldest is whole
copy three
flip "$work/three/checkpoint-6/checkpoint.h5" 2000
flip "$work/three/checkpoint-4/shards/$last" "$(($(data_of "$work/three/checkpoint-4" $last model embedding) + 8))"
check "more than one is passed over" train three 3 --zero.stage 3 --resume_from_checkpoint latest --gradient_accumulation_steps 1
check "... each with its damage" is "$(grep -oE "checkpoint-[0-9] is passed over: .*(checkpoint.h5|$last) is damaged" "$work/three.log" |
    sed 's/is passed.*\///' | paste -sd,)" "checkpoint-6 checkpoint.h5 is damaged,checkpoint-4 $last is damaged"

copy none
for step in 2 4 6; do flip "$work/none/checkpoint-$step/shards/$last" "$(data_of "$work/none/checkpoint-$step" $last model h.0)"; done
refuses "when none can be read the run ends" 1 "error: .*checkpoint-2/shards/$last is damaged.*no older checkpoint in $work/none can take its place" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --resume_from_checkpoint latest
check "... and leaves them where they are" is "$(cd "$work/none" && ls -d checkpoint-* | paste -sd' ')" "checkpoint-2 checkpoint-4 checkpoint-6"

# another global batch before: what depends on it is made anew
rm -rf "$work/batch" && check "a run whose batch grows" train batch 2 --max_steps 2
check "... on the way" train batch 2 --max_steps 4 --resume_from_checkpoint latest --gradient_accumulation_steps 3
flip "$work/batch/checkpoint-4/shards/$last" "$(data_of "$work/batch/checkpoint-4" $last model h.0)"
check "the older checkpoint brings its own batch" train batch 1 --max_steps 4 --resume_from_checkpoint latest
check "... of 4 samples and not 12" grep -q 'gradient_accumulation_steps is 2, to keep the checkpoint.s global batch of 4 samples' "$work/batch.log"
check "... and its last weights are those of the uninterrupted run" h5diff --delta=1e-3 "$work/batch/checkpoint-4/checkpoint.h5" "$work/run/checkpoint-4/checkpoint.h5" /model

# what was set aside is gone on from after all
copy fork
sleep 1 # dates are whole seconds
check "a run goes back and on with other settings" train fork 2 --zero.stage 2 --resume_from_checkpoint "$work/fork/checkpoint-4" --max_steps 6 --save_steps 1 --learning_rate 5e-2
old=$(echo "$work"/fork/checkpoint-6.old-*)
check "what it had set aside is resumed, and the job ends before it saves" train fork 2 --zero.stage 2 --resume_from_checkpoint "$old" --max_steps 6
check "... it has its name again, and what the other settings made is set aside" is "$(cd "$work/fork" && ls -d checkpoint-* | sed 's/old-.*/old/' | paste -sd' ')" \
    "checkpoint-2 checkpoint-4 checkpoint-5.old checkpoint-6 checkpoint-6.old"
check "latest goes on from it" train fork 2 --zero.stage 2 --resume_from_checkpoint latest
check "... to the same bits" h5diff "$work/fork/checkpoint-8/checkpoint.h5" "$work/run/checkpoint-8/checkpoint.h5" /model

# a checkpoint that lies elsewhere, with a link in its place
copy linked
mkdir "$work/archive" && mv "$work/linked/checkpoint-6" "$work/archive" && ln -s "$work/archive/checkpoint-6" "$work/linked"
for how in latest "$work/linked/checkpoint-6/"; do
    check "a link to a checkpoint that was moved is resumed: ${how##*linked/}" train linked 2 --zero.stage 2 --resume_from_checkpoint "$how"
    check "... as the run's own" bash -c "grep -q 'resuming .*checkpoint-6 at update 6' '$work/linked.log' && ! grep -q 'what goes on from it' '$work/linked.log'"
    rm -rf "$work/linked/checkpoint-8"
done

# another run's beside its own, which are damaged
copy foreign
check "another run" train other 2 --max_steps 7 --save_steps 7 --seed 1
cp -r "$work/other/checkpoint-7" "$work/foreign"
rm "$work"/foreign/checkpoint-[246]/shards/$last
for how in latest auto; do
    refuses "$how takes no other run's when its own are damaged" 1 "checkpoint-7 is of run [0-9a-f]{16}, checkpoint-6 is damaged, checkpoint-4 is damaged, checkpoint-2 is damaged; to go on" \
        mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/foreign" --resume_from_checkpoint $how
done
check "... and all stay" is "$(cd "$work/foreign" && ls -d checkpoint-* | paste -sd' ')" "checkpoint-2 checkpoint-4 checkpoint-6 checkpoint-7"

copy path
cp -r "$work/other/checkpoint-7" "$work/path"
run_of() { sed -nE 's/.*"run_id": "([0-9a-f]+)".*/\1/p' "$work/$1/run.json"; }
check "another run's is resumed by its path" train path 2 --resume_from_checkpoint "$work/path/checkpoint-7"
check "... from there" grep -q 'resuming .*checkpoint-7 at update 7' "$work/path.log"
check "... as the run of the directory" is "$(run_of path)" "$(run_of run)"
check "... and from another directory" train away 2 --resume_from_checkpoint "$work/run/checkpoint-6"
check "... as a new run" bash -c "[ '$(run_of away)' ] && [ '$(run_of away)' != '$(run_of run)' ]"

# eval
copy eval
flip "$work/eval/checkpoint-6/shards/$last" "$(data_of "$work/eval/checkpoint-6" $last model h.0)"
check "eval of the latest falls back too" bash -c "mpirun -n 2 '$STAGECOACH' eval '$work/tiny.cfg' --output_dir '$work/eval' --resume_from_checkpoint latest >'$work/eval.out'"
check "... and says which one it took" grep -q 'checkpoint  *= .*checkpoint-4$' "$work/eval.out"
finish

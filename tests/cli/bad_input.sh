#!/usr/bin/env bash
# What goes wrong: each a clear message, once, an exit status, no rank left behind, nothing unfinished under a final name.
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { output_dir = "$work/run"; per_device_train_batch_size = 2; max_steps = 4; save_steps = 2; log_level = "error"; };
END

# case NAME STATUS PATTERN [OPTION...]: train on two ranks
refused() { local name=$1 want=$2 pattern=$3; shift 3; refuses "$name" "$want" "$pattern" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" "$@"; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }

refused "a misspelt setting" 2 "--lerning_rate 1: .*learning_rate" --lerning_rate 1
refused "a value of the wrong type" 2 "--max_steps many" --max_steps many
refused "a value out of range" 2 "--zero.stage 4" --zero.stage 4
refuses "a configuration file that is not there" 2 "nowhere.cfg" mpirun -n 2 "$STAGECOACH" train "$work/nowhere.cfg"
refused "a text that is not there" 1 "nowhere.txt" --data.train_file "$work/nowhere.txt"
: >"$work/empty.txt"
refused "an empty text" 1 "empty.txt" --data.train_file "$work/empty.txt"
head -c 20 "$work/text.txt" >"$work/short.txt"
refused "a text shorter than a sample" 1 "short.txt has 20 tokens, fewer than the 32" --data.train_file "$work/short.txt"
refused "nothing to evaluate on" 1 "make no sample of 32 tokens" --evaluation_strategy steps --eval_steps 2 --data.validation_split_percentage 1 \
    --data.train_file "$work/tiny.cfg"
refused "heads that do not divide the width" 2 "n_head" --model.n_head 5
refused "a vocabulary that the tokens exceed" 2 "model.vocab_size is 100, but .* has token ids up to 255" --model.vocab_size 100
refused "no output_dir" 2 "error: training.output_dir: is not set; name the directory" --output_dir none
refused "... and no text either, and a setting that is wrong" 2 "error: 3 errors in the settings:" --output_dir none --data.train_file none --zero.stage 4
check "... each on its line" is "$(grep -cE '^  (training.output_dir: is not set|data.train_file: is not set|--zero.stage 4: )' "$work/err")" 3
refused "full_determinism with micro-batches that make no tree" 2 "--gradient_accumulation_steps 3: conflicts with --full_determinism true; write a power of two" \
    --full_determinism --gradient_accumulation_steps 3
check "--print_config and eval do without them" bash -c "'$STAGECOACH' train --print_config | grep -q 'output_dir = \"none\"' && ! '$STAGECOACH' eval 2>&1 | grep -q output_dir"
refuses "full_determinism on three ranks" 2 "full_determinism needs a power-of-two number of ranks" \
    mpirun -n 3 "$STAGECOACH" train "$work/tiny.cfg" --full_determinism
refuses "an unknown command" 2 "there is no command trian; did you mean train" "$STAGECOACH" trian
refuses "eval without weights" 2 "--resume_from_checkpoint" "$STAGECOACH" eval "$work/tiny.cfg"
refused "a checkpoint to resume that is not there" 1 "checkpoint-7" --resume_from_checkpoint "$work/run/checkpoint-7"
echo "not a directory" >"$work/file"
refused "an output_dir that is a file" 1 "$work/file" --output_dir "$work/file"
if [ "$(id -u)" -ne 0 ]; then
    mkdir "$work/closed" && chmod 555 "$work/closed"
    refused "an output_dir without permission" 1 "closed" --output_dir "$work/closed"
else
    refused "an output_dir that cannot be made" 1 "/proc/" --output_dir /proc/stagecoach
fi
check "a refused run leaves nothing behind" test ! -e "$work/run/checkpoint-2" -a ! -e "$work/run/run.lock"

check "a run to damage" ranks 2 "$STAGECOACH" train "$work/tiny.cfg"
resume() { local name=$1 status=$2 pattern=$3; shift 3; refused "$name" "$status" "$pattern" --max_steps 6 --resume_from_checkpoint "$work/run/checkpoint-2" "$@"; }
resume "another model" 1 "is of another model: .*model.n_layer is 3, there 2" --model.n_layer 3
resume "... with all that differs" 1 "model.n_embd is 48, there 24.*model.n_layer is 3, there 2|model.n_layer is 3, there 2.*model.n_embd is 48, there 24" \
    --model.n_layer 3 --model.n_embd 48
shard=$work/run/checkpoint-2/shards/shard-00001-of-00002.h5
cp "$shard" "$work/good.h5"
restore() { cp "$work/good.h5" "$shard"; }
head -c 4000 "$work/good.h5" >"$shard"; resume "a truncated shard" 1 "shard-00001-of-00002.h5"; restore
rm "$shard"; resume "a missing shard" 1 "shard-00001-of-00002.h5"; restore
cp "$work/run/checkpoint-4/shards/shard-00001-of-00002.h5" "$shard"; resume "a shard of another checkpoint" 1 "shard-00001-of-00002.h5"; restore
size=$(stat -c %s "$shard")
printf '\377\376\375\374' | dd of="$shard" bs=1 seek=$((size - 2048)) conv=notrunc 2>/dev/null
resume "a damaged shard" 1 "shard-00001-of-00002.h5"; restore
index=$work/run/checkpoint-2/checkpoint.h5
cp "$index" "$work/index.h5"
printf '\377' | dd of="$index" bs=1 seek=100 conv=notrunc 2>/dev/null
resume "a damaged index" 1 "checkpoint.h5"; cp "$work/index.h5" "$index"
check "the restored checkpoint is good again" ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --max_steps 6 --resume_from_checkpoint "$work/run/checkpoint-2"

check "the checkpoints before a refused run are untouched" is "$(cd "$work/run" && ls -d checkpoint-? | paste -sd' ')" "checkpoint-2 checkpoint-4 checkpoint-6"
refused "a loss that is not finite" 1 "update [0-9]+: .*gradient of [a-z0-9._]+\.(weight|bias).*nonfinite continue" --output_dir "$work/diverged" \
    --learning_rate 1e9 --max_steps 50 --save_steps 1000
check "... saves nothing" is "$(ls "$work/diverged" | grep -c checkpoint)" 0
check "nonfinite continue goes on" ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/diverged" --learning_rate 1e9 --max_steps 50 \
    --save_steps 1000 --nonfinite continue --logging_steps 10
check "... without what is not finite in the logged means" is "$(grep '"loss":null' "$work/diverged/metrics.jsonl")" ""
check "logging_nan_inf_filter false" ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/diverged" --overwrite_output_dir --learning_rate 1e9 \
    --max_steps 50 --save_strategy no --nonfinite continue --logging_steps 10 --logging_nan_inf_filter false
check "... leaves it in the logged means" grep -q '"loss":null' "$work/diverged/metrics.jsonl"

# A second job on the same output_dir, while the first one is at work.
mpirun --timeout 60 -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/busy" --max_steps 1000000 --logging_steps 1 --save_strategy no >"$work/busy.log" 2>&1 &
first=$!
for _ in $(seq 300); do [ -s "$work/busy/metrics.jsonl" ] && break; sleep 0.1; done
refused "a second job on the same output_dir" 2 "run.lock|pid [0-9]+" --output_dir "$work/busy"
kill -USR1 $first; wait $first
check "the first one is not disturbed" test $? -eq 75
"$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/killed" --max_steps 1000000 --save_steps 3 --logging_steps 1 >"$work/killed.log" 2>&1 &
first=$!
for _ in $(seq 300); do ls -d "$work"/killed/checkpoint-* >/dev/null 2>&1 && break; sleep 0.1; done
kill -KILL $first; wait $first 2>/dev/null
check "the lock of a killed job is left" test -s "$work/killed/run.lock"
take_over() { timeout 60 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/killed" --resume_from_checkpoint auto --max_steps 4 --log_level warning 2>"$work/log"; }
check "it is taken over" take_over
check "... which is said" grep -q "run.lock" "$work/log"

# One rank of two sees another file system: rank 1 finds output_dir read-only, or no text.
cat >"$work/rank1" <<END
#!/bin/bash
[ "\$OMPI_COMM_WORLD_RANK" = 1 ] && exec unshare -m bash -c "\$BREAK && exec \\"\\\$@\\"" bash "\$@"
exec "\$@"
END
chmod +x "$work/rank1"
if unshare -m true 2>/dev/null; then
    mkdir "$work/ro" "$work/nothing"
    refuses "a rank whose output_dir is read-only is named" 1 "rank 1 on .*$work/ro" \
        env BREAK="mount --bind -o ro $work/ro $work/ro" mpirun -x BREAK -n 2 "$work/rank1" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/ro"
    refuses "a rank without the token file is named" 1 "rank 1 on .*text.txt.byte.h5" \
        env BREAK="mount --bind /dev/null $work/text.txt.byte.h5" mpirun -x BREAK -n 2 "$work/rank1" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/ro"
    refuses "a rank that cannot read its shard is named" 1 "rank 1 on .*shard-0000" \
        env BREAK="mount --bind /dev/null $work/run/checkpoint-6/shards/shard-00001-of-00002.h5" mpirun -x BREAK -n 2 "$work/rank1" \
        "$STAGECOACH" train "$work/tiny.cfg" --resume_from_checkpoint latest --max_steps 8 --checkpoint.resume_strict true
    check "no checkpoint is left by those" is "$(ls "$work/ro" | grep -c checkpoint)" 0
else
    skip "a rank that fails alone is named" "no mount namespaces here"
fi
# A token beyond the vocabulary is met in the middle of an epoch, by one rank.
cp "$work/text.txt.byte.h5" "$work/damaged.h5"
printf '\377\377\377\377' | dd of="$work/damaged.h5" bs=1 seek=$(($(stat -c %s "$work/damaged.h5") / 2)) conv=notrunc 2>/dev/null
refused "a damaged token in an update ends all ranks" 1 "CRITICAL .*rank [01] on .*, update [0-9]+: .*damaged.h5" --output_dir "$work/tokens" \
    --data.train_file "$work/damaged.h5" --max_steps 400 --save_strategy no
# A file may grow to 16 KiB on rank 1, its shard does not fit. Open MPI's shared memory would not, either.
cat >"$work/small" <<END
#!/bin/bash
if [ "\$OMPI_COMM_WORLD_RANK" = 1 ]; then trap '' XFSZ; ulimit -f 16; fi
exec "\$@"
END
chmod +x "$work/small"
OMPI_MCA_btl=self,tcp refuses "a rank that cannot write its shard is named" 1 "rank 1 on .*shard-00001-of-00002.h5.*: File too large" \
    mpirun -n 2 "$work/small" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/full" --checkpoint.on_error stop
check "no checkpoint is left of such a save" is "$(ls -A "$work/full" | grep -v -e '^metrics.jsonl$' -e '^run.json$')" ""
finish

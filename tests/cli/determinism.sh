#!/usr/bin/env bash
# Which runs end with the same bits: h5diff between the last checkpoints, with dropout on. STAGECOACH_TEST_ALL=1 runs the full product.
. "$(dirname "$0")/../lib.sh"

cat "$top"/tests/cli/*.sh "$top"/src/graph/*.c | head -c 60000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<EOF
model = { type = "gpt2"; n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 6; learning_rate = 1e-2; warmup_steps = 2; weight_decay = 0.1;
             save_steps = 3; logging_steps = 2; log_level = "warning"; };
EOF

# train NAME RANKS STAGE ACCUMULATION [OPTION...]
train() {
    local name=$1 n=$2 stage=$3 accumulation=$4; shift 4
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --zero.stage "$stage" \
        --gradient_accumulation_steps "$accumulation" "$@" >"$work/$name.log" 2>&1 || { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}

# same A B [STEP]: the model, the optimizer and the state of two runs at a step
same() {
    local step=${3:-6} group
    for group in /model /optimizer /state; do
        h5diff "$work/$1/checkpoint-$step/checkpoint.h5" "$work/$2/checkpoint-$step/checkpoint.h5" "$group" || return 1
    done
}
differs() { ! same "$@"; }
train_and_compare() { local reference=$1; shift; train "$@" && same "$reference" "$1"; }

# Default mode: at one world size, stages that add in the same order.
worlds="2 3"; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && worlds="1 2 3 4"
for n in $worlds; do
    check "stage 0 on $n ranks trains" train "w$n-s0" "$n" 0 1
    for stage in 1 2 3; do
        check "stage $stage on $n ranks ends with the bits of stage 0" train_and_compare "w$n-s0" "w$n-s$stage" "$n" "$stage" 1
    done
    check "stage 0 on $n ranks trains with accumulation" train "w$n-a0" "$n" 0 2
    check "stage 1 on $n ranks with accumulation ends with the bits of stage 0" train_and_compare "w$n-a0" "w$n-a1" "$n" 1 2
    check "stage 2 on $n ranks trains with accumulation" train "w$n-a2" "$n" 2 2
    check "stage 3 on $n ranks with accumulation ends with the bits of stage 2" train_and_compare "w$n-a2" "w$n-a3" "$n" 3 2
done
check "a run repeats its bits" train_and_compare w3-s0 again 3 0 1
check "another seed gives other bits" train other-seed 3 0 1 --seed 7
check "h5diff sees the difference" differs w3-s0 other-seed
check "recomputation changes no bit" train_and_compare w2-s0 recomputed 2 3 1 --gradient_checkpointing

# full_determinism: 8 micro-batches of 2 samples, however they are dealt to ranks and accumulation.
full() { train "$1" "$2" "$3" "$4" --full_determinism true; }
full_and_compare() { full "$@" && same full "$1"; }
check "full_determinism trains on one rank" full full 1 0 8
if [ "${STAGECOACH_TEST_ALL:-0}" = 1 ]; then
    cases=$(for n in 1 2 4 8; do for stage in 0 1 2 3; do echo "$n,$stage"; done; done)
else
    cases="2,1 4,2 8,3 1,3 4,0"
fi
for c in $cases; do
    n=${c%,*} stage=${c#*,}
    check "full_determinism on $n ranks at stage $stage ends with the bits of one rank" full_and_compare "full-$n-$stage" "$n" "$stage" $((8 / n))
done
OMP_NUM_THREADS=2 check "full_determinism with 2 threads ends with the bits of one" full_and_compare full-threads 2 2 4

# Stops and resumes: from step 3 on, at other world sizes and stages (full_determinism), or the same (default mode).
resume() { # FROM NAME RANKS STAGE [OPTION...]
    local from=$1 name=$2 n=$3 stage=$4; shift 4
    mkdir -p "$work/$name" && cp -a "$work/$from/checkpoint-3" "$work/$name/" || return 1
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --zero.stage "$stage" --resume_from_checkpoint latest "$@" \
        >"$work/$name.log" 2>&1 || { tail -n 20 "$work/$name.log"; return 1; }
    same "$from" "$name"
}
cases="4,3 2,1"; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && cases="1,2 2,0 2,1 4,3 8,1 8,2"
for c in $cases; do
    n=${c%,*} stage=${c#*,}
    check "a stop and a resume on $n ranks at stage $stage repeat the bits of one rank that went on" \
        resume full "resumed-$n-$stage" "$n" "$stage" --full_determinism true
done
check "a stop and a resume at the same world size repeat the bits in default mode" resume w3-s0 resumed-default 3 2
finish

#!/usr/bin/env bash
# The work of an update recorded as CUDA graphs, on emulated GPUs: the same bits as call by call, by few calls. The first update is done call by call, the
# second recorded, the others are launched as graphs. STAGECOACH_TEST_ALL=1 runs the full product.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated
export EMULATED_GPUS=2 EMULATED_GUARD=0 # the host is kept off the GPU's memory by other tests

cat "$top"/src/graph/*.c | head -c 30000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 16; n_embd = 32; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 16; max_eval_samples = 14; };
training = { per_device_train_batch_size = 2; per_device_eval_batch_size = 2; max_steps = 5; learning_rate = 1e-2; warmup_steps = 2; weight_decay = 0.1;
             save_steps = 5; logging_steps = 1; log_level = "info"; };
END

# train NAME RANKS OPTION...
train() {
    local name=$1 n=$2; shift 2
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1 ||
        { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}
# Every loss, of training and of evaluation, and every norm.
numbers() { tr ',{' '\n\n' <"$work/$1/metrics.jsonl" | grep -E '"(loss|eval_loss|grad_norm)"'; }
same() {
    local group
    diff <(numbers "$1") <(numbers "$2") || return 1
    for group in /model /optimizer /state; do
        h5diff "$work/$1/checkpoint-5/checkpoint.h5" "$work/$2/checkpoint-5/checkpoint.h5" "$group" || return 1
    done
}
is_recorded() { ! grep -q "call by call" "$work/$1.log"; }
# both NAME RANKS OPTION...: with graphs and without
both() {
    local name=$1 n=$2; shift 2
    train "$name" "$n" "$@" && train "$name-direct" "$n" --device.graphs false "$@" && same "$name" "$name-direct" && is_recorded "$name"
}
# check_both TEXT NAME RANKS OPTION...
check_both() { local text=$1; shift; check "$text" both "$@"; }

evaluated=(--evaluation_strategy steps --eval_steps 1)
check_both "one GPU, two micro-batches, evaluations in between" one 1 --gradient_accumulation_steps 2 "${evaluated[@]}"
check_both "two GPUs at stage 1" stage1 2 --zero.stage 1
EMULATED_LAZY=3 check_both "stage 3, three micro-batches, evaluations in between, streams at random times" stage3 2 --zero.stage 3 --gradient_accumulation_steps 3 "${evaluated[@]}"
check_both "stage 2 by way of MPI, in bf16, with recomputation" stage2 2 --zero.stage 2 --comm.backend mpi --bf16 true --gradient_checkpointing true
check_both "full_determinism" full 2 --full_determinism true --gradient_accumulation_steps 4 --max_steps 5
check_both "fp16 with a loss scale that is too large at first" fp16 1 --fp16 true --model.initializer_range 1
check "... which skips updates" grep -q "update 1 is skipped" "$work/fp16.log"
if [ "${STAGECOACH_TEST_ALL:-0}" = 1 ]; then
    for stage in 0 1 2 3; do
        for n_micro in 1 3; do
            for type in "" "--bf16 true" "--fp16 true"; do
                # shellcheck disable=SC2086
                check_both "stage $stage, $n_micro micro-batches, ${type:-fp32}" "all-$stage-$n_micro-${type//[^0-9a-z]/}" 2 --zero.stage $stage \
                    --gradient_accumulation_steps $n_micro "${evaluated[@]}" $type
            done
        done
    done
fi
check "a profile, whose updates are done call by call" train profile 1 --gradient_accumulation_steps 2 "${evaluated[@]}" --profile 2
check "... changes no bit" same profile one

refused() { EMULATED_FAIL_CAPTURE=3 train refused 1 --gradient_accumulation_steps 2 "${evaluated[@]}" && same refused one; }
check "what CUDA does not record is done call by call" refused
check "... which is said once" eval "[ \"\$(grep -c 'WARNING.*cannot be recorded as CUDA graphs and is launched call by call.*StreamCaptureInvalidated' $work/refused.log)\" = 1 ]"

# Calls that ask the GPU for something, per update: between two runs that differ by four.
requests() {
    local name=$1 n before=0; shift
    for n in 4 8; do
        rm -f "$work/requests"
        EMULATED_REQUESTS=$work/requests train "$name-$n" 1 --max_steps $n --save_strategy no "$@" || return 1
        echo $((($(cat "$work/requests") - before) / 4)) >"$work/$name.requests"
        before=$(cat "$work/requests")
    done
}
few() {
    requests recorded && requests direct --device.graphs false || return 1
    local recorded direct
    recorded=$(cat "$work/recorded.requests") direct=$(cat "$work/direct.requests")
    echo "$recorded calls, $direct without graphs"
    [ "$recorded" -le 60 ] && [ $((2 * recorded)) -le "$direct" ] # four units
}
check "an update is asked for by at most 15 calls per unit, half of those it takes without" few
finish

#!/usr/bin/env bash
# Training on emulated GPUs: the losses are those of the CPU, the bits the same at every stage, however late or early the work of a stream is
# done. STAGECOACH_TEST_ALL=1 runs the full product.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated
export EMULATED_GPUS=4

cat "$top"/src/graph/*.c | head -c 60000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 16; n_embd = 32; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 16; };
training = { per_device_train_batch_size = 2; max_steps = 4; learning_rate = 1e-2; warmup_steps = 1; weight_decay = 0.1; save_steps = 2;
             logging_steps = 1; log_level = "warning"; };
END

# train NAME RANKS STAGE [OPTION...]
train() {
    local name=$1 n=$2 stage=$3; shift 3
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --zero.stage "$stage" "$@" >"$work/$name.log" 2>&1 ||
        { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}
losses() { tr ',{' '\n\n' <"$work/$1/metrics.jsonl" | sed -n 's/^ *"loss": *//p'; }
# near A B TOLERANCE: the losses of two runs
near() {
    paste <(losses "$1") <(losses "$2") | awk -v t="$3" '
        { n++; d = $1 - $2; if (NF != 2 || d > t || d < -t) { print "update", n, $0; bad = 1 } }
        END { if (n != 4) print n, "losses"; exit n != 4 || bad }'
}
same() {
    local group
    for group in /model /optimizer /state; do
        h5diff "$work/$1/checkpoint-4/checkpoint.h5" "$work/$2/checkpoint-4/checkpoint.h5" "$group" || return 1
    done
}
train_near() { local reference=$1 tolerance=$2; shift 2; train "$@" && near "$reference" "$1" "$tolerance"; }
train_same() { local reference=$1; shift; train "$@" && same "$reference" "$1"; }
on_gpu() { grep -q 'Emulated GPU' "$work/$1/run.json"; }

stages="1 2 3"
for n in 1 2 4; do
    check "$n CPU ranks" train "cpu-$n" "$n" 0 --use_cpu true
    check "$n GPUs have the losses of CPUs" train_near "cpu-$n" 2e-5 "gpu-$n" "$n" 0
    check "... and were used" on_gpu "gpu-$n"
    [ "$n" != 1 ] || continue
    for stage in $stages; do
        check "stage $stage on $n GPUs ends with the bits of stage 0" train_same "gpu-$n" "gpu-$n-$stage" "$n" "$stage"
    done
    [ "$n" = 2 ] || [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] || continue
    for lazy in 1 2; do
        EMULATED_LAZY=$lazy check "... with the work of streams done at other times ($lazy)" train_same "gpu-$n" "gpu-$n-lazy-$lazy" "$n" 3
    done
    check "... by way of MPI" train_same "gpu-$n" "gpu-$n-mpi" "$n" 2 --comm.backend mpi
    EMULATED_LAZY=1 check "... by way of MPI, late" train_same "gpu-$n" "gpu-$n-mpi-late" "$n" 3 --comm.backend mpi
    EMULATED_ORDER=5 check "... with threads in another order" train_same "gpu-$n" "gpu-$n-order" "$n" 2
done
n=2
for type in bf16 fp16; do
    check "$type on a GPU" train "$type-1" 1 0 "--$type" true
    check "$type has nearly the losses of fp32" near gpu-1 "$type-1" 0.02
    check "$type on $n GPUs" train "$type-$n" "$n" 0 "--$type" true
    check "$type at stage 3 ends with the bits of stage 0" train_same "$type-$n" "$type-$n-3" "$n" 3 "--$type" true
done
check "full_determinism on one GPU" train full-1 1 0 --full_determinism true --gradient_accumulation_steps 2
check "full_determinism on 2 GPUs ends with the bits of one" train_same full-1 full-2 2 3 --full_determinism true
check "recomputation changes no bit" train_same gpu-2 gpu-2-recomputed 2 3 --gradient_checkpointing true
check "... nor in bf16" train_same bf16-2 bf16-2-recomputed 2 3 --bf16 true --gradient_checkpointing true
EMULATED_LT=plain check "a library that makes products only has the losses of CPUs" train_near cpu-1 2e-5 plain-1 1 0
EMULATED_MEMORY=150000000 check "the probe of products makes do with the memory that is left" train_same gpu-1 probed 1 0 --device.gemm_probe true
probed() { grep -q '"gemm_flops_per_second": *[1-9]' "$work/$1/run.json"; }
check "... and tells a rate" probed probed
resumed() {
    local name=$1; shift
    cp -r "$work/gpu-2" "$work/$name" && rm -r "$work/$name/checkpoint-4" && train "$name" "$@" --resume_from_checkpoint true
}
resumed_same() { resumed "$@" && same gpu-2 "$1"; }
resumed_near() { resumed "$@" && near gpu-2 "$1" 2e-5; }
check "a run on 2 GPUs goes on from its checkpoint with the bits of one that was not stopped" resumed_same resumed 2 3
check "... on 2 CPU ranks with their losses" resumed_near resumed-cpu 2 1 --use_cpu true

# Less than the copies of the shards take, of which a rank of two has 200 kB; but there is room for a block.
pinned() { EMULATED_PINNED=131072 "$@" --checkpoint.block_size 4096; }
check "a host that has no page-locked memory for copies of the shards saves without" pinned train_same gpu-1 pinned-1 1 0
warned() { grep -q 'there is no memory for copies of the shards' "$work/$1.log"; }
check "... and tells so" warned pinned-1
check "... two ranks in one file, too" pinned train_same gpu-2 pinned-2 2 1 --checkpoint.writers_per_node 1
check "... and while training stands still in any case" pinned train_same gpu-2 pinned-still 2 0 --checkpoint.async false
check "... and goes on" pinned resumed_same pinned-resumed 2 3
finish

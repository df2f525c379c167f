#!/usr/bin/env bash
# What goes wrong with GPUs, on the emulated ones: each a clear message, once, that names node and device; no rank left behind; the last
# checkpoint as it was.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END_OF_FILE
model = { n_positions = 16; n_embd = 16; n_layer = 1; n_head = 1; };
data = { train_file = "$work/text.txt"; block_size = 16; };
training = { output_dir = "$work/run"; per_device_train_batch_size = 2; max_steps = 2; lr_scheduler_type = "constant";
             save_strategy = "no"; log_level = "error"; };
END_OF_FILE

# What is in ON_RANK_1 is in the environment of rank 1 only.
cat >"$work/each" <<'END_OF_FILE'
#!/bin/bash
# shellcheck disable=SC2086,SC2163
[ "$OMPI_COMM_WORLD_RANK" = 1 ] && [ -n "$ON_RANK_1" ] && export $ON_RANK_1
exec "$@"
END_OF_FILE
chmod +x "$work/each"

# trains SETTING... -- OPTION...: on two ranks, in an environment with the settings
trains() {
    local settings=()
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    shift
    env "${settings[@]}" timeout -k 5 300 mpirun -n 2 "$work/each" "$STAGECOACH" train "$work/tiny.cfg" --overwrite_output_dir "$@"
}
# refused NAME STATUS PATTERN SETTING... -- OPTION...
refused() {
    local name=$1 want=$2 pattern=$3; shift 3
    local settings=()
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    shift
    refuses "$name" "$want" "$pattern" env "${settings[@]}" mpirun -n 2 "$work/each" "$STAGECOACH" train "$work/tiny.cfg" --overwrite_output_dir "$@"
}
# device FIELD: of the run, as run.json tells
device() { grep -o '"device": *"[^"]*"' "$work/run/run.json"; }
on_gpu() { trains "$@" && device | grep -q 'Emulated GPU'; }
on_cpu() { trains "$@" && device | grep -q 'CPUs with'; }

check "two ranks take the two GPUs of a node" on_gpu EMULATED_GPUS=2 --
check "each rank may be shown a GPU of its own" on_gpu EMULATED_GPUS=2 CUDA_VISIBLE_DEVICES=0 ON_RANK_1=CUDA_VISIBLE_DEVICES=1 --
check "one GPU may be shared by --device.share" on_gpu EMULATED_GPUS=1 -- --device.share true
check "exclusive GPUs serve one rank each" on_gpu EMULATED_GPUS=2 EMULATED_COMPUTE_MODE=3 -- --device.share true
check "a node without a driver computes on its CPUs" on_cpu EMULATED_NO_DRIVER=1 --
check "an empty CUDA_VISIBLE_DEVICES means CPU" on_cpu EMULATED_GPUS=2 CUDA_VISIBLE_DEVICES= --
check "--use_cpu means CPU" on_cpu EMULATED_GPUS=2 -- --use_cpu
check "--no_cuda means CPU" on_cpu EMULATED_GPUS=2 -- --no_cuda true

refused "heads larger than kernels take are refused before anything is computed" 2 "heads of 320 numbers .*are more than the 256" EMULATED_GPUS=2 -- --model.n_embd 320
refused "more ranks than GPUs" 1 "rank 0 on .*: 2 ranks of node .* see 1 GPU: start at most 1 rank per node .*--device.share true" EMULATED_GPUS=1 --
refused "ranks that were shown the same GPU" 1 "two ranks of node .* would take the same GPU" EMULATED_GPUS=2 CUDA_VISIBLE_DEVICES=0,1 \
    ON_RANK_1=CUDA_VISIBLE_DEVICES=0 --
refused "no driver" 1 "rank 0 on .*node .* has no GPU for this job: it has no NVIDIA driver" EMULATED_NO_DRIVER=1 -- --device.type cuda
refused "no visible GPU" 1 "node .* has no GPU for this job: CUDA_VISIBLE_DEVICES is ''" CUDA_VISIBLE_DEVICES= -- --device.type cuda
refused "a driver older than the program" 1 "rank 0 on .*driver of node .* is too old: it is for CUDA 11.4, this stagecoach was built with CUDA" EMULATED_GPUS=2 \
    EMULATED_DRIVER=11040 --
refused "... on one node" 1 "rank 1 on .*: the NVIDIA driver of node .* is too old" EMULATED_GPUS=2 ON_RANK_1=EMULATED_DRIVER=11040 --
refused "nodes with and without GPUs" 1 "rank 1 on .*: node .* has no GPU for this job .it has no NVIDIA driver., but rank 0 on node .* has" EMULATED_GPUS=2 \
    ON_RANK_1=EMULATED_NO_DRIVER=1 --
refused "a busy GPU" 1 "rank 0 on .*: GPU 0 .Emulated GPU. of node .* is busy or held by another process" EMULATED_GPUS=2 EMULATED_BUSY=1 --
refused "... of one rank" 1 "rank 1 on .*: GPU 1 .Emulated GPU. of node .* is busy or held by another process" EMULATED_GPUS=2 ON_RANK_1=EMULATED_BUSY=1 --
refused "a GPU that nobody may use" 1 "rank 0 on .*: GPU 0 .* of node .* compute mode 'prohibited'" EMULATED_GPUS=2 EMULATED_COMPUTE_MODE=2 --
refused "... of one rank" 1 "rank 1 on .*: GPU 1 .* of node .* compute mode 'prohibited'" EMULATED_GPUS=2 ON_RANK_1=EMULATED_COMPUTE_MODE=2 --
refused "a shared GPU in exclusive mode" 1 "rank 0 on .*device.share true: GPU 0 .* exclusive compute mode" EMULATED_GPUS=1 EMULATED_COMPUTE_MODE=3 -- --device.share true
for option in "--bf16 true" "--tf32 true" ""; do
    # shellcheck disable=SC2086
    refused "a GPU without bf16 and TF32, ${option:-fp32}" 1 "rank 0 on .*: GPU 0 .Emulated GPU. of node .* capability 7.5; .*bf16 and TF32 need 8.0" EMULATED_GPUS=2 \
        EMULATED_CAPABILITY=7.5 -- $option
done
refused "... of one rank" 1 "rank 1 on .*: GPU 1 .Emulated GPU. of node .* capability 7.5; .*bf16 and TF32 need 8.0" EMULATED_GPUS=2 \
    ON_RANK_1=EMULATED_CAPABILITY=7.5 -- --bf16 true
refused "full_determinism on unlike GPUs" 1 "rank 1 on .*full_determinism needs the same bits from all ranks: node .* on Emulated GPU .sm_80" EMULATED_GPUS=2 \
    ON_RANK_1=EMULATED_CAPABILITY=8.0 -- --full_determinism
warned() { trains EMULATED_GPUS=2 ON_RANK_1=EMULATED_CAPABILITY=8.0 -- --log_level warning 2>&1 | grep -c "sm_80.* losses may differ in their last digits" | grep -qx 1; }
check "... without it a warning" warned
refused "no cuBLASLt" 1 "cuBLASLt, which cannot be opened: .*libcublasLt.so.*LD_LIBRARY_PATH" EMULATED_GPUS=2 EMULATED_WITHOUT=cublasLt --

big=(--per_device_train_batch_size 1024 --gradient_checkpointing false)
refused "a run larger than the GPU" 1 "smallest change that fits: .*--per_device_train_batch_size [0-9]+ --gradient_accumulation_steps [0-9]+" EMULATED_GPUS=2 \
    EMULATED_MEMORY=40000000 -- "${big[@]}"
refused "... than that of one rank" 1 "rank 1 on .*: the run does not fit into the memory of its device" EMULATED_GPUS=2 ON_RANK_1=EMULATED_MEMORY=40000000 -- \
    "${big[@]}"
advice=$(grep -o 'smallest change that fits: .*' "$work/err" | cut -d: -f2)
# shellcheck disable=SC2086
check "... and the advice is good" on_gpu EMULATED_GPUS=2 EMULATED_MEMORY=40000000 -- $advice --max_steps 1 --data.max_train_samples 2048
refused "ranks that fit singly into the GPU that they share" 1 "the run does not fit into the memory of its device" EMULATED_GPUS=1 EMULATED_MEMORY=40000000 -- \
    --per_device_train_batch_size 128 --gradient_checkpointing false --device.share true
# Between a GPU that is told to be too small and one on which the run ends there is none on which it begins and fails: 16 KiB apart at last, less than
# scratch memory takes.
exact() {
    EMULATED_MEMORY=$1 ranks 1 "$STAGECOACH" train "$work/tiny.cfg" --overwrite_output_dir --per_device_train_batch_size 128 --max_steps 1 >"$work/exact.log" 2>&1
}
smallest() {
    local least=33554432 most=67108864 middle
    while [ $((most - least)) -gt 16384 ]; do
        middle=$(((least + most) / 2))
        if exact "$middle"; then
            most=$middle
        elif grep -q 'does not fit into the memory of its device' "$work/exact.log"; then
            least=$middle
        else
            tail -n 5 "$work/exact.log"
            return 1
        fi
    done
}
check "what fits by the table fits" smallest
refused "not even the workspace fits" 1 "no memory for activations of the GPU: 32.0 MiB wanted" EMULATED_GPUS=2 EMULATED_MEMORY=1000000 --

# failing NAME PATTERN SETTING... -- OPTION...: GPU 1 fails for good after some updates; every update is saved. The run goes on from the last one
# with the bits of one that never failed.
saves=(--save_strategy steps --save_steps 1)
last() { ls -d "$work/run"/checkpoint-* | sort -V | tail -n 1 | sed 's/.*-//'; }
goes_on() {
    local next=$(($(last) + 1)) group
    EMULATED_GPUS=2 ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --resume_from_checkpoint latest --max_steps "$next" "${saves[@]}" || return 1
    [ -d "$work/whole/checkpoint-$next" ] || EMULATED_GPUS=2 ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --overwrite_output_dir --max_steps "$next" \
        "${saves[@]}" --output_dir "$work/whole" || return 1
    for group in /model /optimizer /state; do
        h5diff "$work/run/checkpoint-$next/checkpoint.h5" "$work/whole/checkpoint-$next/checkpoint.h5" "$group" || return 1
    done
}
failing() {
    local name=$1 pattern=$2 settings=(); shift 2
    while [ "$1" != -- ]; do settings+=("$1"); shift; done
    shift
    rm -rf "$work/run"
    refused "$name" any "CRITICAL .*rank 1 on .*, update [0-9]+: .*GPU 1 .*of node .*$pattern" EMULATED_GPUS=2 "${settings[@]}" -- --max_steps 1000 "${saves[@]}" "$@"
    check "... the last checkpoint is intact" "$STAGECOACH" ckpt verify "$work/run/checkpoint-$(last)"
    check "... and the run goes on from it as if nothing had been" goes_on
}
failing "a kernel that reads what is not its own" "failed in .* illegal memory access .*CUDA_LAUNCH_BLOCKING=1" ON_RANK_1=EMULATED_FAIL_LAUNCH=400 -- --checkpoint.async false
failing "memory that does not hold its bits" "failed in .*ECC error.*the GPU is faulty" "ON_RANK_1=EMULATED_FAIL_LAUNCH=300 EMULATED_FAIL_WITH=214" -- --checkpoint.async false
failing "... while a checkpoint is written" "failed in .*ECC error.*the GPU is faulty" "ON_RANK_1=EMULATED_FAIL_LAUNCH=350 EMULATED_FAIL_WITH=214" -- --checkpoint.async true
failing "NCCL that loses its peer" "remote process exited" ON_RANK_1=EMULATED_NCCL_FAILS=1:22 -- --checkpoint.async false
finish

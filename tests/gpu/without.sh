#!/usr/bin/env bash
# A program with CUDA that was built without NCCL and cuDNN, on emulated GPUs: MPI and own kernels do their work, with the same bits.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
export EMULATED_GPUS=2 EMULATED_GUARD=0 # the host is kept off the GPU's memory by other tests
whole=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated
bare=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-bare

cat "$top"/src/train/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END_OF_FILE
model = { n_positions = 16; n_embd = 64; n_layer = 2; n_head = 1; attn_pdrop = 0.0; };
data = { train_file = "$work/text.txt"; block_size = 16; };
training = { per_device_train_batch_size = 2; max_steps = 2; learning_rate = 1e-2; save_steps = 2; logging_steps = 1; bf16 = true; };
END_OF_FILE
# trains NAME PROGRAM OPTION...
trains() {
    local name=$1 program=$2; shift 2
    ranks 2 "$program" train "$work/tiny.cfg" --zero.stage 3 --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1 || { tail -n 20 "$work/$name.log"; return 1; }
}
same() { "$whole" ckpt diff --tensors_only "$work/$1/checkpoint-2" "$work/$2/checkpoint-2"; }

check "the whole program takes both" trains both "$whole"
check "... cuDNN" grep -q 'attention: cuDNN' "$work/both.log"
check "... and NCCL" grep -q '"messages": *"nccl"' "$work/both/run.json"
check "without them two GPUs train" trains bare "$bare"
check "... with messages by MPI" grep -q '"messages": *"mpi"' "$work/bare/run.json"
check "... on GPUs" grep -q 'Emulated GPU' "$work/bare/run.json"
check "the whole program, told to do without" trains told "$whole" --device.attention own --comm.backend mpi
check "... ends with the same bits" same bare told
refuses "NCCL cannot be asked for" 1 "built without NCCL: build it with ./configure --with-nccl, or write --comm.backend mpi" \
    mpirun -n 2 "$bare" train "$work/tiny.cfg" --output_dir "$work/bad" --log_level error --comm.backend nccl
refuses "... nor cuDNN" 1 "built without cuDNN: build it with ./configure --with-cudnn, or write --device.attention own" \
    mpirun -n 2 "$bare" train "$work/tiny.cfg" --output_dir "$work/bad" --log_level error --device.attention cudnn
finish

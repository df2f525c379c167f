#!/usr/bin/env bash
# What follows a training on GPUs: eval and generate, there and on machines without, and going on elsewhere.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated

cat "$top"/src/train/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END_OF_FILE
model = { n_positions = 16; n_embd = 32; n_layer = 1; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 16; max_eval_samples = 16; };
training = { output_dir = "$work/run"; per_device_train_batch_size = 8; learning_rate = 1e-2; max_steps = 6; save_steps = 6; log_level = "warning"; };
device = { type = "cuda"; };
END_OF_FILE
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
evaluate() { timeout 100 "$STAGECOACH" eval "$work/tiny.cfg" --resume_from_checkpoint latest "$@" | sed -n 's/.*eval_loss *= //p'; }
# As bytes: a model that knows so little says what is no text.
say() { timeout 100 "$@" "$STAGECOACH" generate "$work/run/checkpoint-6" --prompt "static sgc_st" --max_new_tokens 12 --temperature 0 | od -An -tx1; }

export EMULATED_GPUS=2
check "a run on two GPUs" ranks 2 "$STAGECOACH" train "$work/tiny.cfg"
loss=$(evaluate)
check "eval gives a loss" test -n "$loss"
check "eval on CPUs gives the same to four digits" is "$(evaluate --device.type auto --use_cpu true)" "$loss"
sixteen() { evaluate "--$1" true | awk -v loss="$loss" '{ d = $1 - loss; exit !(d < 0.02 && d > -0.02) }'; }
check "eval in bf16 is near" sixteen bf16
check "eval in fp16 is near" sixteen fp16
text=$(EMULATED_GPUS=1 say env)
check "generate speaks" test "$(wc -w <<<"$text")" -gt 20
check "ranks that generate share a GPU" is "$(EMULATED_GPUS=1 say mpirun -n 2)" "$text"
check "a machine without GPUs says the same with a checkpoint of GPUs" is "$(say env EMULATED_NO_DRIVER=1)" "$text"
check "the checkpoint knows the GPU" grep -qE 'isa +sm_90, 8 SMs' <("$STAGECOACH" ckpt show "$work/run/checkpoint-6")
refuses "going on where there is no GPU is refused while the settings say cuda" 1 "node .* has no GPU for this job" \
    env EMULATED_NO_DRIVER=1 mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --max_steps 8 --resume_from_checkpoint latest
elsewhere() { ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --max_steps 8 --resume_from_checkpoint latest --device.type auto --use_cpu true 2>"$work/log"; }
check "a run goes on with CPUs" elsewhere
check "... which is said" grep -q "computed on sm_90, 8 SMs, this run is on .*: results may differ in the last bits" "$work/log"
finish

#!/usr/bin/env bash
# --device.attention: training with cuDNN's attention has the losses of the own kernels and of CPUs, auto takes it where its rule says so, and what
# cannot be had is said. All on emulated GPUs, with an emulated cuDNN.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated
export EMULATED_GPUS=2

cat "$top"/src/graph/*.c | head -c 30000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END_OF_FILE
model = { n_positions = 16; n_embd = 128; n_layer = 2; n_head = 2; attn_pdrop = 0.0; };
data = { train_file = "$work/text.txt"; block_size = 16; max_eval_samples = 4; };
training = { per_device_train_batch_size = 2; max_steps = 4; learning_rate = 1e-2; warmup_steps = 1; save_steps = 4; logging_steps = 1; bf16 = true; };
END_OF_FILE

# train NAME RANKS [OPTION...]
train() {
    local name=$1 n=$2; shift 2
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1 ||
        { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}
says() { grep -E "attention: " "$work/$1.log" | grep -qE "attention: $2" || { grep attention "$work/$1.log"; return 1; }; }
silent() { ! grep -E "attention: " "$work/$1.log"; }
losses() { tr ',{' '\n\n' <"$work/$1/metrics.jsonl" | sed -n 's/^ *"loss": *//p'; }
near() {
    paste <(losses "$1") <(losses "$2") | awk -v t="$3" '{ n++; d = $1 - $2; if (NF != 2 || d > t || d < -t) { print "update", n, $0; bad = 1 } } END { exit n != 4 || bad }'
}
same() {
    local group
    for group in /model /optimizer /state; do
        h5diff "$work/$1/checkpoint-4/checkpoint.h5" "$work/$2/checkpoint-4/checkpoint.h5" "$group" || return 1
    done
}
differ() { ! h5diff -q "$work/$1/checkpoint-4/checkpoint.h5" "$work/$2/checkpoint-4/checkpoint.h5" /model >/dev/null; }
train_same() { local reference=$1; shift; train "$@" && same "$reference" "$1"; }

check "CPUs" train cpu 1 --use_cpu true
check "own kernels" train own 1 --device.attention own
check "... of which nothing is said" silent own
check "cuDNN" train cudnn 1 --device.attention cudnn
check "... which the log says" says cudnn 'cuDNN 9\.19\.0$'
check "... with other bits" differ own cudnn
check "... and the losses of the own kernels" near own cudnn 5e-3
check "... and of CPUs" near cpu cudnn 1e-2
check "auto takes it" train_same cudnn auto 1
check "... which the log says" says auto 'cuDNN 9\.19\.0$'
check "a run repeats itself, with other memory and late work" env EMULATED_LAZY=1 bash -c "$(declare -f train train_same same ranks); work=$work STAGECOACH=$STAGECOACH; train_same cudnn again 1 --device.attention cudnn"
check "recomputation changes no bit" train_same cudnn recomputed 1 --device.attention cudnn --gradient_checkpointing true
# sliced NAME BYTES SLICES: the gradient in so many, within so many bytes
sliced() { EMULATED_CUDNN_SLICE=$2 train_same cudnn "$1" 1 --device.attention auto && says "$1" "cuDNN 9\.19\.0, its gradient in $3 slices\$"; }
check "the gradient sample by sample has the same bits" sliced samples 40000 2
check "... and head by head" sliced heads 20000 4
check "two GPUs" train cudnn-2 2 --device.attention cudnn
check "... at stage 3 have the bits of stage 0" train_same cudnn-2 cudnn-2-3 2 --device.attention cudnn --zero.stage 3
check "fp16" train fp16 1 --bf16 false --fp16 true --device.attention cudnn
check "... with own kernels" train fp16-own 1 --bf16 false --fp16 true --device.attention own
check "... has nearly the same losses" near fp16-own fp16 2e-3
evaluate() { timeout 100 "$STAGECOACH" eval "$work/tiny.cfg" --output_dir "$work/cudnn" --resume_from_checkpoint latest "$@" 2>"$work/eval.log" | sed -n 's/.*eval_loss *= //p'; }
near_values() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(a != "" && b != "" && d < 5e-3 && d > -5e-3) }'; }
check "eval with it is near that with own kernels" near_values "$(evaluate --device.attention cudnn)" "$(evaluate --device.attention own)"

generates() { timeout 100 "$@" "$STAGECOACH" generate "$work/cudnn/checkpoint-4" --prompt "static " --max_new_tokens 4 --temperature 0 >"$work/said" && test -s "$work/said"; }
check "generate speaks after a training with it" generates env
check "... and where there is no GPU" generates env EMULATED_NO_DRIVER=1

# where auto leaves it
own() { local name=$1 words=$2; shift 2; env "$@" bash -c "$(declare -f train ranks); work=$work STAGECOACH=$STAGECOACH; train $name 1" && says "$name" "$words" && same own "$name"; }
check "without the library auto computes with own kernels" own absent 'own kernels: cuDNN cannot be opened: libcudnn.so.9' EMULATED_WITHOUT=cudnn
check "... with one that is too old" own old 'own kernels: this libcudnn.so.9 is of version 9\.5\.1' EMULATED_CUDNN_VERSION=90501
check "... with one that is known to be wrong" own wrong 'own kernels: this libcudnn.so.9 is of version 9\.10\.1' EMULATED_CUDNN_VERSION=91001
check "... with one whose engines do not repeat themselves" own wild 'own kernels .*do not give the same bits' EMULATED_CUDNN_WILD=1
check "... with one that does not start" own stuck 'own kernels: GPU 0 .*cudnnCreate: CUDNN_STATUS_NOT_INITIALIZED' EMULATED_CUDNN_STUCK=1
ampere() { # whose products differ, too
    EMULATED_CAPABILITY=8.0 train ampere 1 && says ampere 'own kernels .*not known to be faster here' && EMULATED_CAPABILITY=8.0 train_same ampere ampere-own 1 --device.attention own
}
check "... on a GPU that is not known to be faster with it" ampere
small() { EMULATED_CUDNN_SLICE=100 train small 1 && says small 'cuDNN 9\.19\.0, its gradient by own kernels .*the smallest slice of it would need more' && near cudnn small 5e-3; }
check "... its gradient, where no slice is small enough" small
check "dropout of the weights is drawn by own kernels" train dropping 1 --model.attn_pdrop 0.1 --device.attention auto
check "... which the log says" says dropping 'own kernels, because model.attn_pdrop is above 0'
check "... and nothing else changes it" train_same dropping dropping-own 1 --model.attn_pdrop 0.1 --device.attention own
check "full_determinism computes with own kernels" train full 1 --full_determinism true
check "... of which nothing is said" silent full
# shellcheck disable=SC2016
printf '#!/bin/bash\n[ "$OMPI_COMM_WORLD_RANK" = 1 ] && export EMULATED_WITHOUT=cudnn\nexec "$@"\n' >"$work/one" && chmod +x "$work/one"
one_rank() { ranks 2 "$work/one" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/mixed" >"$work/mixed.log" 2>&1 && says mixed 'own kernels: cuDNN cannot be opened'; }
check "all ranks use it, or none" one_rank

# refused NAME STATUS PATTERN [SETTING=...] [-- OPTION...]
refused() {
    local name=$1 want=$2 pattern=$3 settings=(); shift 3
    while [ $# -gt 0 ] && [ "$1" != -- ]; do settings+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    refuses "$name" "$want" "$pattern" env "${settings[@]}" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/refused" --device.attention cudnn "$@"
}
refused "cudnn on CPUs" 2 "conflicts with --use_cpu true; cuDNN is a library of GPUs: write device.attention auto" -- --use_cpu true
refused "cudnn where there is no GPU" 2 "device.attention cudnn: node .* has no GPU for this job" EMULATED_NO_DRIVER=1
refused "cudnn in fp32" 2 "cuDNN has attention of 16-bit numbers only: write bf16 true" -- --bf16 false
refused "cudnn with full_determinism" 2 "which engine of cuDNN computes depends on the micro-batch: write device.attention own" -- --full_determinism true
refused "cudnn with dropout of the weights" 2 "cuDNN draws dropout masks of its own, .*write --model.attn_pdrop 0, or --device.attention auto" -- --model.attn_pdrop 0.1
refused "cudnn with heads that it does not take" 2 "does not have attention of 2 samples of 16 tokens with 2 heads of 10 numbers .*write --device.attention auto" -- --model.n_embd 20
refused "cudnn without the library" 1 "cuDNN cannot be opened: libcudnn.so.9.*LD_LIBRARY_PATH, or write --device.attention own" EMULATED_WITHOUT=cudnn
refused "cudnn that is too old" 1 "is of version 9.5.1, which attention cannot use: load cuDNN 9.6 or newer" EMULATED_CUDNN_VERSION=90501
finish

#!/usr/bin/env bash
# Mixed precision: --bf16 and comm.reduce_dtype as a user meets them. STAGECOACH_TEST_ALL=1 compares all 200 updates with fp32.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/*/*.c | head -c 300000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 32; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 6; learning_rate = 1e-2; warmup_steps = 2; weight_decay = 0.1; bf16 = true;
             save_steps = 3; logging_steps = 2; };
END
# As conf/quickstart.cfg, but small.
cat >"$work/curve.cfg" <<END
model = { n_positions = 64; n_embd = 64; n_layer = 2; n_head = 4; initializer_range = 0.05; resid_pdrop = 0.0; embd_pdrop = 0.0; attn_pdrop = 0.0; };
data = { train_file = "$work/text.txt"; block_size = 64; };
training = { per_device_train_batch_size = 4; gradient_accumulation_steps = 2; learning_rate = 4e-3; lr_scheduler_type = "cosine"; warmup_steps = 20;
             weight_decay = 0.1; adam_beta2 = 0.99; logging_steps = 20; save_strategy = "no"; };
zero = { stage = 2; };
END

# train NAME RANKS STAGE ACCUMULATION [OPTION...]
train() {
    local name=$1 n=$2 stage=$3 accumulation=$4; shift 4
    ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --zero.stage "$stage" \
        --gradient_accumulation_steps "$accumulation" "$@" >"$work/$name.log" 2>&1 || { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}
same() {
    local group
    for group in /model /optimizer /state; do
        h5diff "$work/$1/checkpoint-6/checkpoint.h5" "$work/$2/checkpoint-6/checkpoint.h5" "$group" || return 1
    done
}
differs() { ! same "$@"; }
train_and_compare() { local reference=$1; shift; train "$@" && same "$reference" "$1"; }
says() { [ "$(grep -cE -- "$2" "$work/$1.log")" -eq 1 ] || { grep -cE -- "$2" "$work/$1.log"; tail -n 12 "$work/$1.log"; return 1; }; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
of() { tr -d ' \n' <"$1" | sed -n "s/.*\"$2\":{\([^{}]*\)}.*/\1/p" | tr ',' '\n' | sed -n "s/^\"$3\"://p"; }

# The mean loss of the last 20 updates is within 1 % of that of fp32.
n_updates=60; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && n_updates=200
for precision in fp32 bf16; do
    check "$n_updates updates in $precision" ranks 2 "$STAGECOACH" train "$work/curve.cfg" --output_dir "$work/$precision" --max_steps "$n_updates" \
        --bf16 "$([ $precision = bf16 ] && echo true || echo false)"
done
loss() { grep '"loss":' "$work/$1/metrics.jsonl" | tail -n 1 | sed 's/.*"loss":\([0-9.]*\).*/\1/'; }
check "bf16 ends within 1 % of the loss of fp32" awk -v a="$(loss fp32)" -v b="$(loss bf16)" 'BEGIN { print a, b; exit !(a > 0 && b > 0.99 * a && b < 1.01 * a && a != b) }'

# The same with the quickstart itself.
if [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && command -v bible >/dev/null && bible -f gen1:1-rev22:21 >"$work/kjv.txt"; then
    for precision in fp32 bf16; do
        check "200 updates of the quickstart in $precision" ranks 2 "$STAGECOACH" train "$top/conf/quickstart.cfg" --data.train_file "$work/kjv.txt" \
            --output_dir "$work/quickstart-$precision" --max_steps 200 --evaluation_strategy no --save_strategy no --bf16 "$([ $precision = bf16 ] && echo true || echo false)"
    done
    check "in bf16 it ends within 1 % of the loss of fp32" awk -v a="$(loss quickstart-fp32)" -v b="$(loss quickstart-bf16)" \
        'BEGIN { print a, b; exit !(a > 0 && b > 0.99 * a && b < 1.01 * a && a != b) }'
elif [ "${STAGECOACH_TEST_ALL:-0}" = 1 ]; then
    skip "bf16 in the quickstart" "the program bible is not installed"
fi

# Default mode: at one world size, stages that add in the same order.
worlds=3; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && worlds="1 2 3 4"
for n in $worlds; do
    check "stage 0 on $n ranks trains in bf16" train "w$n-s0" "$n" 0 1
    for stage in 1 2 3; do
        check "stage $stage on $n ranks ends with the bits of stage 0" train_and_compare "w$n-s0" "w$n-s$stage" "$n" "$stage" 1
    done
    check "stage 1 on $n ranks trains with accumulation" train "w$n-a1" "$n" 1 2
    check "stage 0 on $n ranks with accumulation ends with the same bits" train_and_compare "w$n-a1" "w$n-a0" "$n" 0 2
    check "gradients that travel as bf16 repeat their bits" eval "train w$n-r1 $n 1 1 --comm.reduce_dtype bf16 && train_and_compare w$n-r1 w$n-r2 $n 1 1 --comm.reduce_dtype bf16"
    [ "$n" = 1 ] || check "... which are others" differs "w$n-r1" "w$n-s1" # one rank sends none
done
check "the table says what is used" says w3-s2 "Precision +bf16, fp32 master weights; gradients travel as fp32"
check "... and the formula of one micro-batch" says w3-s2 "by the formula 2 P \+ 14 P/N = "
check "... that of several" says w3-a1 "by the formula 6 P \+ 12 P/N = "
for run in w3-s0 w3-s1 w3-s2 w3-s3 w3-a0 w3-a1; do
    json=$work/$run/run.json
    check "$run holds the bytes of the formula" is "$(of "$json" model_states max)" "$(of "$json" model_states expected)"
done
check "run.json says bf16" grep -q '"bf16": true' "$work/w3-s0/run.json"
check "the checkpoint says so" is "$(h5dump -a /bf16 "$work/w3-s0/checkpoint-6/checkpoint.h5" | sed -n 's/.*(0): //p')" 1
check "... and holds fp32 master weights" grep -q H5T_IEEE_F32LE <(h5dump -H -d /model/wte.weight "$work/w3-s0/checkpoint-6/checkpoint.h5")
sent() { of "$work/$1/run.json" reduce_scatter bytes; }
check "bf16 gradients are half the bytes" is "$(sent w3-r1)" $(($(sent w3-s1) / 2))
of_parameters() { of "$work/$1/run.json" all_gather bytes; }
check "and bf16 parameters, beside fp32" eval 'train fp32-s1 3 1 1 --bf16 false --max_steps 2 --save_strategy no; is $((2 * $(of_parameters w3-s1))) "$(of_parameters fp32-s1)"'

# full_determinism: four micro-batches, however they are dealt.
full() { train "$1" "$2" "$3" "$4" --full_determinism true; }
full_and_compare() { full "$@" && same full "$1"; }
check "full_determinism in bf16 trains on one rank" full full 1 0 4
cases="2,1 4,3"; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && cases="1,1 1,3 2,0 2,1 2,2 2,3 4,0 4,1 4,2 4,3"
for c in $cases; do
    check "... and on ${c%,*} ranks at stage ${c#*,} ends with its bits" full_and_compare "full-$c" "${c%,*}" "${c#*,}" $((4 / ${c%,*}))
done

OMP_NUM_THREADS=2 check "... as do 2 threads" full_and_compare full-threads 2 2 2

mkdir "$work/resumed" && cp -a "$work/w3-s0/checkpoint-3" "$work/w3-s0/metrics.jsonl" "$work/resumed/"
check "a stop and a resume repeat the bits" train_and_compare w3-s0 resumed 3 2 1 --resume_from_checkpoint latest
mkdir "$work/switched" && cp -a "$work/w3-s0/checkpoint-3" "$work/w3-s0/metrics.jsonl" "$work/switched/"
check "a checkpoint of bf16 goes on in fp32" train switched 2 0 3 --bf16 false --resume_from_checkpoint latest --gradient_accumulation_steps 1
check "... which is said" says switched "changed since the checkpoint: training.bf16 = false, was true"

evaluate() { ranks 2 "$STAGECOACH" eval "$work/tiny.cfg" --output_dir "$work/w3-s0" --resume_from_checkpoint latest "$@" 2>/dev/null | sed -n 's/.*eval_loss *= //p'; }
half=$(evaluate --bf16 true) whole=$(evaluate --bf16 false)
check "eval takes --bf16, near fp32" awk -v a="$half" -v b="$whole" 'BEGIN { print a, b; exit !(a > 0.99 * b && a < 1.01 * b && b > 0) }'
check "generate takes the master weights" ranks 1 "$STAGECOACH" generate "$work/w3-s0/checkpoint-6" --prompt "static" --max_new_tokens 5

# Emulated where the machine has no bf16: slower, said once, within rounding of the other way.
emulated() { STAGECOACH_ISA=portable train portable 2 1 1 --max_steps 3; }
check "bf16 without the instructions for it works" emulated
check "... and says once that it is slow" says portable "WARNING .*portable: no instructions for bf16"

refuses "gradients as bf16 without bf16" 2 "comm.reduce_dtype bf16: conflicts with .*bf16.*; write bf16 true" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --bf16 false --comm.reduce_dtype bf16
refuses "gradients as bf16 with full_determinism" 2 "full_determinism.*write comm.reduce_dtype fp32" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --full_determinism --comm.reduce_dtype bf16
refuses "bf16 on the reference kernels" 2 "the reference kernels compute in fp32" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --device.type reference
refuses "fp16 without a GPU" 2 "--fp16 true: node .* has no GPU for this job .*write --bf16 true" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --bf16 false --fp16 true
refuses "fp16 on CPUs" 2 "--fp16 true: conflicts with --use_cpu true; .*write bf16 true" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --bf16 false --fp16 true --use_cpu
refuses "fp16 and bf16" 2 "--fp16 true: conflicts with .*bf16.*; write one of them" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --fp16 true
refuses "TF32 without a GPU" 2 "--tf32 true: node .* has no GPU for this job .*write --tf32 false" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --tf32 true
refuses "TF32 on CPUs" 2 "--tf32 true: conflicts with --device.type cpu" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --tf32 true --device.type cpu
refuses "a GPU that is not there" 1 "--device.type cuda: node .* has no GPU for this job" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --device.type cuda
refuses "a GPU and none" 2 "--device.type cuda: conflicts with --no_cuda true" \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --device.type cuda --no_cuda
refuses "bf16_full_eval" 2 "bf16_full_eval true: not offered" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --bf16_full_eval true
finish

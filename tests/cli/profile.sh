#!/usr/bin/env bash
# Where the time goes: --profile, device.gemm_probe; and how many threads a rank has.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 6; logging_steps = 2; save_strategy = "no"; };
END

# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
says() { [ "$(grep -cE -- "$2" "$work/$1.log")" -eq 1 ] || { grep -cE -- "$2" "$work/$1.log"; tail -n 12 "$work/$1.log"; return 1; }; }
silent() { ! grep -E -- "$2" "$work/$1.log"; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
curve() { grep -o '"step":[0-9]*,"epoch":[^,]*,"loss":[^,]*' "$work/$1/metrics.jsonl"; }

check "a run with --profile 3" train profiled 2 --profile 3 --zero.stage 3
check "the table is of three updates after the first" says profiled "Profile: updates 2 to 4 on rank 0, [0-9.]+ ms each"
check "a product has a rate" says profiled " linear +h +8\.0 .* GFLOP/s"
check "another op has the bytes it moves" says profiled " residual_norm +h +3\.0 .* GB/s"
check "waiting is told apart" says profiled " all_gather, waited "
shares() { sed -n 's/.* ms  *\([0-9.-]*\) %.*/\1/p' "$work/profiled.log"; }
check "all shares together are the whole" awk '$1 < 0 { exit 1 } { sum += $1; n++ } END { print sum, n; exit !(n > 10 && sum > 99 && sum < 101) }' <(shares)
check "communication is exposed or hidden" says profiled "communication of an update: [0-9.]+ ms exposed, [0-9.]+ ms hidden"
trace=$work/profiled/trace.json
check "trace.json has a lane for each rank" is "$(grep -o '"name":"rank [0-9]*' "$trace" | paste -sd' ')" '"name":"rank 0 "name":"rank 1'
check "... with every call of a unit" is "$(grep -c '"name":"attention","cat":"work","ph":"X","pid":1' "$trace")" 6
check "... begun and ended messages in pairs" is "$(grep -c '"ph":"b"' "$trace")" "$(grep -c '"ph":"e"' "$trace")"
if command -v python3 >/dev/null; then
    check "... and is JSON" python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$trace"
fi
check "a run without it" train plain 2 --zero.stage 3
check "... writes no trace" test ! -e "$work/plain/trace.json"
check "... and has the same losses" is "$(curve plain)" "$(curve profiled)"
check "a run that ends before the profile does" train short 1 --profile 100 --max_steps 3
check "... shows what there is" says short "Profile: updates 2 to 3 on rank 0"
check "a single update" train single 1 --profile 5 --max_steps 1
check "... is shown, too" says single "Profile: updates 1 to 1 on rank 0"
mkdir -p "$work/blocked/trace.json" "$work/stopped/trace.json"
check "a trace that cannot be written" train blocked 2 --profile 1 --max_steps 3
check "... is an error on the log" says blocked "ERROR .*/blocked/trace.json.* Training goes on"
check "... and no end of the training" says blocked "Completed after update 3 of 3"
refuses "... unless errors are to stop it" 1 "/stopped/trace.json" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/stopped" --profile 1 --checkpoint.on_error stop
check "recomputed calls are told apart" train repeated 1 --profile 1 --gradient_checkpointing --max_steps 2
check "... in the table" says repeated " linear, again +h "

check "a run with the probe" train probed 2 --device.gemm_probe
check "... says how fast the machine is" says probed "Matrix products +[0-9.]+ GFLOP/s by all ranks"
check "... logs the utilization" grep -q '"model_flops_utilization":0\.[0-9]' "$work/probed/metrics.jsonl"
check "... and writes it into run.json" grep -qE '"model_flops_utilization": [0-9.e-]+,' "$work/probed/run.json"
# 6 for each parameter but the 32 x 24 of the positions, and 6 x 2 layers x 32 positions x 24 for attention
check "... which is that of the tokens per second" awk '{ gsub(/[",:]/, ""); of[$1] = $2 } END { u = of["tokens_per_second"] * (6 * (of["n_parameters"] - 32 * 24) + 6 * 2 * 32 * 24) / \
    of["gemm_flops_per_second"]; print u, of["model_flops_utilization"]; exit !(u > 0 && of["model_flops_utilization"] > 0.999 * u && of["model_flops_utilization"] < 1.001 * u) }' \
    "$work/probed/run.json"
check "without the probe there is none" grep -q '"model_flops_utilization": null' "$work/plain/run.json"
check "the probe changes no loss" is "$(train probed3 2 --device.gemm_probe --zero.stage 3 && curve probed3)" "$(curve plain)"

n_cores=$(lscpu -p=core 2>/dev/null | grep -v '^#' | sort -u | wc -l)
if [ "$n_cores" -ge 2 ] && [ "$(env -u OMP_NUM_THREADS nproc)" -ge "$n_cores" ]; then
    # Without OMP_NUM_THREADS, and without a binding by mpirun (one-node.sh).
    unset_ranks() { local n=$1; shift; env -u OMP_NUM_THREADS timeout -k 5 120 mpirun -n "$n" "$STAGECOACH" train "$work/tiny.cfg" --max_steps 1 "$@" 2>&1; }
    check "one rank has a thread for each core" is "$(unset_ranks 1 --output_dir "$work/t1" | grep -oE '[0-9]+ threads? each')" "$n_cores threads each"
    check "two ranks share the cores" is "$(unset_ranks 2 --output_dir "$work/t2" | grep -oE '[0-9]+ threads? each' | cut -d' ' -f1)" $((n_cores / 2))
    check "... as run.json says" grep -q "\"threads_per_rank\": $((n_cores / 2))," "$work/t2/run.json"
    check "a rank bound to one core has one thread" is "$(env -u OMP_NUM_THREADS taskset -c 0 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/t3" \
        --max_steps 1 2>&1 | grep -oE '[0-9]+ threads? each on [0-9]+ core')" "1 thread each on 1 core"
    # shellcheck disable=SC2030,SC2031
    (export OMP_NUM_THREADS=$n_cores; train crowded 2 --max_steps 1)
    check "more threads than cores is a warning, once" says crowded "WARNING .*2 ranks with $((2 * n_cores)) threads in all share $n_cores cores of the node"
    # shellcheck disable=SC2030,SC2031
    (export OMP_NUM_THREADS=2 OMPI_MCA_hwloc_base_binding_policy=core; train bound 2 --max_steps 1)
    check "a binding that leaves too few cores is a warning of that rank" grep -qE "WARNING .*the 2 threads of a rank share the 1 core that it is bound to" "$work/bound.log"
    check "as many threads as cores is none" silent profiled "the [0-9]+ threads of a rank"
else
    skip "threads by the cores" "this machine has not two whole cores"
fi
refuses "OMP_NUM_THREADS=0" 2 "OMP_NUM_THREADS is '0': write the number of threads" env OMP_NUM_THREADS=0 mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none"
refuses "OMP_NUM_THREADS that is no number" 2 "OMP_NUM_THREADS is 'many'" env OMP_NUM_THREADS=many "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none"
finish

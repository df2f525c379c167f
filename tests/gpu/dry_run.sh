#!/usr/bin/env bash
# tests/gpu/run.sh, which is for machines with a GPU, does what it should on an emulated one; only its figures mean nothing.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
build=$(dirname "$STAGECOACH")
script=$(cd "$(dirname "$0")" && pwd)/run.sh
cd "$work" || exit 1
mkdir -p tests/bench && cp "$build/tests/bench/tokens" tests/bench/
program=$build/tests/gpu/stagecoach-emulated
dry() { env DRY=1 STAGECOACH="$program" DEVICE_KERNELS="${kernels:-true}" DEVICE_ATTENTION=/bin/true DEVICE_BENCH="$build/tests/gpu/bench_emulated" "$@" bash "$script"; }

check "all steps pass" timeout 280 env DRY=1 STAGECOACH="$build/tests/gpu/stagecoach-emulated" DEVICE_KERNELS=true DEVICE_ATTENTION=/bin/true DEVICE_BENCH="$build/tests/gpu/bench_emulated" bash "$script"
has() { grep -qE "$1" gpu-results.json || { cat gpu-results.json; return 1; }; }
check "... the results hold rates of kernels" has '"metric": "attention forward", "side": "ours", "unit": "GFLOP/s", "median": [0-9.e+]+'
check "... of cuDNN's beside them" has '"metric": "attention backward", "side": "cuDNN", "unit": "GFLOP/s", "median": [0-9.e+]+'
check "... rates of training" has '"gpt2-124m": \{"batch": 2, "tokens_per_second": [0-9.e+]+'
check "... times of updates with and without graphs" has '"graphs": \{"batch 1": \{"graphs_ms": [0-9.e+]+, "direct_ms": [0-9.e+]+\}'
check "... and how each check went" has '"two ranks through NCCL at stage 3 agree with one": "passed"'
if command -v python3 >/dev/null; then
    check "... and are JSON" python3 -m json.tool gpu-results.json
else
    skip "... and are JSON" "no python3"
fi
check "a profile is kept" grep -q "GPU" gpu-profile.txt
late() { dry GPU_STEPS="profile training" GPU_SECONDS=0 && grep -q '"training": "left out: no time"' gpu-results.json; }
check "what has no time left is left out" late
no_gpu() { dry EMULATED_NO_DRIVER=1 GPU_STEPS=kernels; [ $? -eq 77 ]; }
kernels=$build/tests/gpu/test_kernels
check "without a GPU the exit status is 77" no_gpu
wrong() { dry EMULATED_FAIL_LAUNCH=30 GPU_STEPS=training; [ $? -eq 1 ]; }
check "a failed check is told by the exit status" wrong
check "... and in the results" has '"training in fp32 agrees with the CPU": "failed"'
check "... with what it said" grep -q "failed in .*illegal memory access" gpu-failures.txt
alone() { dry GPU_STEPS=nccl EMULATED_NCCL_REFUSES=1; [ $? -eq 1 ] && has 'at stage 0 agree with one": "failed"' && ! grep -q "at stage 1" gpu-results.json; }
check "NCCL that does not let ranks share a GPU is tried once" alone
# A GPU that learns nothing, in 16 bits only.
cat >lazy <<END_OF_FILE
#!/bin/bash
case "\$*" in *cuda*16\ true*) set -- "\$@" --learning_rate 0 ;; esac
exec "$program" "\$@"
END_OF_FILE
chmod +x lazy
program=$work/lazy
learns_nothing() { dry GPU_STEPS=training; [ $? -eq 1 ]; }
check "a GPU that learns nothing in 16 bits is found" learns_nothing
for type in 'bf16 agrees with the CPU' 'fp16 agrees with fp32'; do check "... $type" has "\"training in $type\": \"failed\""; done
check "... and in 32 bits it is none" has '"training in fp32 agrees with the CPU": "passed"'
program=$build/tests/gpu/stagecoach-emulated
# A GPU that computes something else without graphs, and after it read a checkpoint.
cat >other <<END_OF_FILE
#!/bin/bash
case "\$*" in */saved-direct\ * | */resumed\ *) set -- "\$@" --weight_decay 0.5 ;; esac
exec "$program" "\$@"
END_OF_FILE
chmod +x other
program=$work/other
goes_astray() { dry GPU_STEPS=saves; [ $? -eq 1 ]; }
check "a GPU that goes on with other numbers is found" goes_astray
check "... without graphs" has '"CUDA graphs change no bit in bf16": "failed"'
check "... and from a checkpoint" has '"a run goes on from a checkpoint with the same bits": "failed"'
program=$build/tests/gpu/stagecoach-emulated
# Beside a peer, on a GPU whose memory is seen to grow with every look; the program waits until it was looked at.
mkdir tools
cat >tools/nvidia-smi <<END_OF_FILE
#!/bin/bash
[[ \$* == *memory.used* ]] || { echo "NVIDIA H200, 143771 MiB, 580.65.06"; exit; }
echo >>"$work/looks"
echo \$((1000 + \$(wc -l <"$work/looks")))
END_OF_FILE
cat >watched <<END_OF_FILE
#!/bin/bash
looks() { wc -l <"$work/looks"; }
if [ "\$1" = train ]; then
    n=\$(looks)
    until [ "\$(looks)" -gt \$((n + 1)) ]; do sleep 0.05; done
fi
exec "$program" "\$@"
END_OF_FILE
cat >python <<'END_OF_FILE'
#!/bin/bash
case $* in
*peer_attention.py*) for rate in 3 1 2; do printf 'kernels-bf16\tattention backward\tPyTorch flash\tGFLOP/s\t%s\n' $rate; done ;;
*peer_model.py*--largest*) echo 3 ;;
*peer_model.py*) read -r n && for ((i = 0; i < n; i++)); do echo -n "100 "; done && echo 4096 ;;
esac
END_OF_FILE
chmod +x tools/nvidia-smi watched python
program=$work/watched
beside_a_peer() { dry PATH="$work/tools:$PATH" PEER_PYTHON="$work/python" GPU_BATCH=largest GPU_STEPS="bench small"; }
check "beside a peer all steps pass" beside_a_peer
check "... the batch is what fits the peer" has '"gpt2-124m": \{"batch": 3, '
check "... our memory is what the driver saw" has '"held_bytes": [1-9][0-9]*, "peer_tokens_per_second": 100, "peer_held_bytes": (null|[0-9]+), "peer_peak_bytes": 4096'
check "... the rate is a part of the GPU's" has '"flops_of_peak": [0-9.e-]+,'
check "... the peer's attention stands beside ours" has '"attention backward", "side": "PyTorch flash", "unit": "GFLOP/s", "median": 2, "least": 1, "most": 3'
program=$build/tests/gpu/stagecoach-emulated

# A bundle brings all but the C library and the shell, from wherever it is put.
bundle() {
    STAGECOACH=$build/tests/gpu/stagecoach-emulated DEVICE_KERNELS=$build/tests/gpu/test_kernels DEVICE_BENCH=$build/tests/gpu/bench_emulated \
        LIBRARIES=$work/nvidia bash "$script" --bundle "$work/bundle" && mkdir elsewhere && mv bundle elsewhere/
}
bundled() { env -i PATH=/usr/bin:/bin DRY=1 EMULATED_GPUS=2 GPU_STEPS="nccl profile" "$@" bash "$work/elsewhere/bundle/run.sh"; }
mkdir nvidia && touch nvidia/lib{cublasLt.so.13,cublasLt.so.13.0.2,cublasLt.so,cublas.so.13,nccl.so.2,cudnn_graph.so.9,nvrtc-builtins.so.13.0}
check "a bundle can be made" bundle
brings() { [ "$(cd elsewhere/bundle/lib && echo lib{cublas,nccl,cudnn,nv}*)" = "libcublasLt.so.13 libnccl.so.2 libcudnn_graph.so.9 libnvrtc-builtins.so.13.0" ]; }
check "... with the libraries of GPUs that it is shown" brings
if command -v strace >/dev/null; then
    check "it works elsewhere" bundled strace -f -qq --seccomp-bpf -e trace=openat,execve -e status=successful -o opened
    stray() { sed -n 's/.*"\(\/[^"]*\)".*/\1/p' opened | sort -u | grep -vF "$work/elsewhere/" | grep -E '/lib(mpi|open-|hdf5|sz|dnnl|config|jansson|xxhash|hwloc|event|pmix)[^/]*\.so|/mca_|/bin/(mpirun|orted)$'; }
    check "... with no library from where it was made" eval '! stray'
    check "... but its own" grep -q "$work/elsewhere/bundle/.*/mca_.*so" opened
else
    check "it works elsewhere" bundled
    skip "... with no library from where it was made" "no strace"
fi
finish

#!/bin/bash
# Checks stagecoach on the GPU of this machine, then measures; less than 8 minutes. The results are gpu-results.json in the current directory,
# written anew after every step.
#   tests/gpu/run.sh                 in the build directory of a program with CUDA, after make && make test-programs
#   tests/gpu/run.sh --bundle DIR    there, too: puts all that is needed into DIR, for a machine without compilers; then there: DIR/run.sh
#                                    With LIBRARIES, cuBLASLt, NCCL and cuDNN from there as well: for a machine that has no more than a driver
#   PEER_PYTHON=python3              a Python with torch and transformers: measured beside ours
#   LIBRARIES=DIR:DIR                where cuBLASLt and NCCL are, if the loader and PEER_PYTHON do not know
#   GPU_BATCH=32 GPU_BATCH_XL=8      samples of a micro-batch, with GPT-2 of 124 million and of 1.5 billion parameters; `largest`: the most that fit PyTorch
#   GPU_STEPS="kernels ..."          only these of: kernels attention training saves nccl bench small xl graphs profile
#   GPU_SECONDS=470                  what would begin later is left out, what still runs then is ended
# Exit status: 0 all checks passed; 1 one failed; 77 there is no GPU.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
started=$(date +%s)
die() { echo "run.sh: $1" >&2; exit 1; }

# ---- a bundle: programs, the libraries they load but those of the system, and MPI's plugins
stagecoach=${STAGECOACH:-$PWD/stagecoach} kernels=${DEVICE_KERNELS:-$PWD/tests/gpu/device_kernels}
bench=${DEVICE_BENCH:-$PWD/tests/bench/kernels} tokens=$PWD/tests/bench/tokens
attention=${DEVICE_ATTENTION:-$PWD/tests/gpu/device_attention} # without cuDNN there is none
copy_libraries() { ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | grep -vE '/(libc|libm|ld-linux[^/]*|libpthread|libdl|librt)\.so' | sort -u; }
bundle() {
    local to=$1 path prefix name libraries
    mkdir -p "$to/bin" "$to/lib" "$to/mpi" || exit 1
    for name in stagecoach kernels bench tokens $([ ! -x "$attention" ] || echo attention); do
        [ -x "${!name}" ] || die "there is no ${!name}: make && make test-programs, in the build directory"
        cp "${!name}" "$to/bin/$name" && strip --strip-debug "$to/bin/$name" || exit 1
    done
    cp "$here/run.sh" "$here"/../bench/peer_{attention,model}.py "$to/" || exit 1
    prefix=$(ompi_info --path prefix | awk '{ print $2 }')
    for path in libdir pkglibdir pkgdatadir; do
        path=$(ompi_info --path $path | awk '{ print $2 }')
        mkdir -p "$to/mpi/${path#"$prefix"}" && cp -RL "$path/." "$to/mpi/${path#"$prefix"}/" || exit 1
    done
    # of networks, which one machine has no use for
    find "$to/mpi" -name '*.so*' | grep -E '_(ofi|ucx|usnic|openib|verbs|psm|psm2|portals4|oshmem)\.so|/liboshmem|/mca_(spml|scoll|sshmem|memheap|atomic)_' | xargs -r rm -f
    mkdir -p "$to/mpi/bin"
    for name in mpirun orted; do cp -L "$(command -v "$name")" "$to/mpi/bin/$name" || exit 1; done
    path=$(ldconfig -p | awk '/libpmix\.so\.2 / { print $NF; exit }')
    [ -n "$path" ] && path=$(readlink -f "$path") && cp -RL "${path%/*}/pmix" "$to/lib/" 2>/dev/null
    # shellcheck disable=SC2046
    cp -L $(copy_libraries "$to"/bin/* "$to"/mpi/bin/* $(find "$to/mpi" "$to/lib" -name 'mca_*.so')) "$to/lib/" || exit 1
    libraries=${LIBRARIES:-}
    for path in ${libraries//:/ }; do
        find "$path" -maxdepth 1 -regextype posix-extended -regex '.*/lib((cublasLt|nccl|cudnn[a-z_]*|nvrtc)\.so\.[0-9]+|nvrtc-builtins\.so\.[0-9.]+)' -exec cp -Lt "$to/lib" {} + || exit 1
    done
    chmod +x "$to/run.sh"
    du -sh "$to"
}
if [ "${1:-}" = --bundle ]; then [ -n "${2:-}" ] || die "--bundle DIR"; bundle "$2"; exit 0; fi
[ $# -eq 0 ] || die "there is no argument $1"

work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
LIBRARIES=${LIBRARIES:-}
PEER_PYTHON=${PEER_PYTHON:-}
# Ours have the libraries of the bundle, other programs do not: what fits Debian's may not fit this machine's.
ours=(env)
own_libraries=
peers=$here/../bench
if [ -d "$here/bin" ]; then # a bundle
    stagecoach=$here/bin/stagecoach kernels=$here/bin/kernels bench=$here/bin/bench tokens=$here/bin/tokens attention=$here/bin/attention peers=$here
    own_libraries=$here/lib
    ours+=("PATH=$here/mpi/bin:$PATH" "OPAL_PREFIX=$here/mpi")
    [ -d "$here/lib/pmix" ] && ours+=("PMIX_MCA_mca_base_component_path=$here/lib/pmix")
fi
# PyTorch brings libraries of its own.
if [ -n "$PEER_PYTHON" ]; then
    site=$("$PEER_PYTHON" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
    [ -z "$site" ] || for directory in "$site"/*/lib; do [ -d "$directory" ] && LIBRARIES=${LIBRARIES:+$LIBRARIES:}$directory; done
fi
search=$own_libraries:${LD_LIBRARY_PATH:-}:$LIBRARIES
ours+=("LD_LIBRARY_PATH=$(tr -s : <<<"$search" | sed 's/^://; s/:$//')")
# More ranks than cores, root, one machine.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_vader_single_copy_mechanism=none
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error

# ---- results: one object, a member per step
members=()
n_bad=0
put() { members+=("\"$1\": $2"); }
write_results() {
    local i
    { printf '{'; for i in "${!members[@]}"; do printf '%s\n  %s' "$([ "$i" -gt 0 ] && echo ,)" "${members[$i]}"; done; printf '\n}\n'; } >gpu-results.json
}
now_s() { echo $(($(date +%s) - started)); }
# passed NAME STATUS: says and keeps how a check went
passed() {
    local status=passed
    [ "$2" -eq 0 ] || { status=failed; n_bad=$((n_bad + 1)); { echo "== $1"; cat "$work/log"; } >>gpu-failures.txt; tail -n 25 "$work/log" >&2; }
    [ "$2" -ne 124 ] || status="no end in time"
    echo "$(now_s) s: $1 $status"
    put "$1" "\"$status\""
    write_results
}
# seconds MOST: or as many as are left
seconds() { local left=$((${GPU_SECONDS:-470} - $(now_s))); echo $((left < 1 ? 1 : left < $1 ? left : $1)); }
# limited SECONDS COMMAND...: of ours
limited() { local most=$1; shift; timeout -k 5 "$(seconds "$most")" "${ours[@]}" "$@" >"$work/out" 2>"$work/log"; }

# ---- checks
small_model=(--model.n_positions 64 --model.n_embd 128 --model.n_layer 3 --model.n_head 2 --data.block_size 64 --per_device_train_batch_size 8)
[ "${DRY:-0}" = 0 ] || small_model=(--model.n_positions 16 --model.n_embd 32 --model.n_layer 1 --model.n_head 2 --data.block_size 16 --per_device_train_batch_size 4)
n_updates=20 learning_rate=1e-3
[ "${DRY:-0}" = 0 ] || n_updates=4 learning_rate=1e-2
# train NAME OPTION...: a run in $work/NAME; RANKS="mpirun -n 2" before it
train() {
    local name=$1; shift
    # shellcheck disable=SC2086
    limited 200 ${RANKS:-} "$stagecoach" train --data.train_file "$work/small.h5" "${small_model[@]}" --output_dir "$work/$name" --max_steps $n_updates \
        --logging_steps 1 --save_strategy no --data.validation_split_percentage 0 --learning_rate $learning_rate "$@"
}
# Loss and norm of the gradients, a line for each update
figures() { sed -n 's/.*"loss":\([0-9.e+-]*\),"grad_norm":\([0-9.e+-]*\),.*/\1 \2/p' "$work/$1/metrics.jsonl"; }
# agree A B TOLERANCE: every update, losses relative to B's, norms to five times as much. B must have learned more than losses may differ by: of
# losses that stay where they were, wrong gradients would be no less right.
agree() {
    paste -d ' ' <(figures "$1") <(figures "$2") | awk -v tolerance="$3" -v n="$n_updates" 'function off(a, b) { return a > b ? a - b : b - a }
        { if (NF != 4 || off($1, $3) > tolerance * $3 || off($2, $4) > 5 * tolerance * $4) { bad = 1; print "update", NR, $0 } }
        NR == 1 { first = $3 }
        END { if (NR != n) print NR, "of", n, "updates"; fall = first - $3; if (fall < 3 * tolerance * first) print "nothing was learned:", first, $3
              exit bad || NR != n || fall < 3 * tolerance * first }' >>"$work/log"
}
# equal A B: to the last digit
equal() { [ "$(figures "$1" | wc -l)" = $n_updates ] && cmp <(figures "$1") <(figures "$2") >>"$work/log"; }

check_kernels() {
    limited 240 "$kernels"; local status=$? # each test is a process of its own: a GPU that failed for good in one is as new in the next
    [ $status -ne 77 ] || { echo "no GPU: $(tail -n 1 "$work/log")"; exit 77; }
    cat "$work/out" >>"$work/log"
    passed kernels $status
}
# Attention by cuDNN, where it was built in and the machine has it.
check_attention() {
    [ -x "$attention" ] || { put "attention by cuDNN" '"not built in"'; return; }
    limited 240 "$attention"; local status=$?
    if [ $status -eq 77 ]; then put "attention by cuDNN" '"not there"'; return; fi
    cat "$work/out" >>"$work/log"
    passed "attention by cuDNN" $status
    local options=(--device.type cuda --bf16 true --model.attn_pdrop 0 --device.attention)
    train own "${options[@]}" own && train cudnn "${options[@]}" cudnn && agree cudnn own 3e-3; passed "training with cuDNN's attention agrees with own kernels" $?
    train cudnn-again "${options[@]}" cudnn && equal cudnn cudnn-again; passed "training with cuDNN's attention repeats itself" $?
}
check_training() {
    train cpu --use_cpu true && train gpu --device.type cuda && agree gpu cpu 1e-4; passed "training in fp32 agrees with the CPU" $?
    train again --device.type cuda && equal gpu again; passed "a run repeats itself" $?
    train cpu16 --use_cpu true --bf16 true && train gpu16 --device.type cuda --bf16 true && agree gpu16 cpu16 3e-3; passed "training in bf16 agrees with the CPU" $?
    train direct --device.type cuda --device.graphs false && equal gpu direct; passed "CUDA graphs change no bit" $?
    train gpu16f --device.type cuda --fp16 true && agree gpu16f cpu 3e-3; passed "training in fp16 agrees with fp32" $?
}
# goes_on NAME OPTION...: the run `saved` from its first checkpoint on, in a directory NAME
goes_on() {
    local name=$1; shift
    cp -r "$work/saved" "$work/$name" && rm -r "$work/$name/checkpoint-$n_updates" && train "$name" --resume_from_checkpoint true "$@"
}
# same A B: the weights and moments that both ended with
same() { limited 60 "$stagecoach" ckpt diff --tensors_only "$work/$1/checkpoint-$n_updates" "$work/$2/checkpoint-$n_updates"; local status=$?; cat "$work/out" >>"$work/log"; return $status; }
# In 16 bits and without dropout of attention, that is by cuDNN where `auto` takes it.
check_saves() {
    local options=(--bf16 true --model.attn_pdrop 0 --save_strategy steps --save_steps $((n_updates / 2)))
    train saved --device.type cuda "${options[@]}" && train saved-direct --device.type cuda --device.graphs false "${options[@]}" && equal saved saved-direct && same saved saved-direct
    passed "CUDA graphs change no bit in bf16" $?
    goes_on resumed --device.type cuda --checkpoint.async false "${options[@]}" && equal resumed saved && same resumed saved; passed "a run goes on from a checkpoint with the same bits" $?
    goes_on resumed-cpu --use_cpu true "${options[@]}" && agree resumed-cpu saved 3e-3; passed "a run goes on on the CPU" $?
}
# Two ranks on one GPU, each with a host of its own as far as NCCL can tell.
check_nccl() {
    # shellcheck disable=SC2016
    printf '#!/bin/bash\nexport NCCL_HOSTID=host$OMPI_COMM_WORLD_RANK NCCL_MULTI_RANK_GPU_ENABLE=1\nexec "$@"\n' >"$work/each"
    chmod +x "$work/each"
    train one --device.type cuda --gradient_accumulation_steps 2; passed "one rank, two micro-batches" $?
    local stage status
    for stage in 0 1 2 3; do
        RANKS="mpirun -n 2 $work/each" train "nccl$stage" --device.type cuda --device.share true --comm.backend nccl --comm.timeout_s 40 --zero.stage $stage; status=$?
        if [ $status -ne 0 ]; then # NCCL does not promise that ranks can share a GPU: the others would take as long to fail
            passed "two ranks through NCCL at stage $stage agree with one" $status
            return
        fi
        agree "nccl$stage" one 1e-4; passed "two ranks through NCCL at stage $stage agree with one" $?
    done
}

# ---- measurements
# Lines "row TAB metric TAB side TAB unit TAB value" to an array of medians
as_json() {
    awk -F '\t' '{ k = $1 FS $2 FS $3; if (!(k in n)) { order[++m] = k; unit[k] = $4 } v[k, ++n[k]] = $5 + 0 }
        END { printf "["; for (j = 1; j <= m; j++) { k = order[j]; split(k, p, FS)
            for (a = 2; a <= n[k]; a++) { x = v[k, a]; for (b = a - 1; b >= 1 && v[k, b] > x; b--) v[k, b + 1] = v[k, b]; v[k, b + 1] = x }
            printf "%s\n    {\"row\": \"%s\", \"metric\": \"%s\", \"side\": \"%s\", \"unit\": \"%s\", \"median\": %.6g, \"least\": %.6g, \"most\": %.6g}", (j > 1 ? "," : ""), p[1], p[2], p[3], unit[k], v[k, int((n[k] + 1) / 2)], v[k, 1], v[k, n[k]] }
            printf "\n  ]" }' "$1"
}
measure_bench() {
    local sizes="16 1024 0.02"
    [ "${DRY:-0}" = 0 ] || sizes="1 8 0.0001"
    # shellcheck disable=SC2086
    limited 150 "$bench" cuda_bf16 $sizes; local status=$?
    if [ $status -eq 0 ]; then
        # shellcheck disable=SC2086
        [ -z "$PEER_PYTHON" ] || timeout -k 5 "$(seconds 60)" "$PEER_PYTHON" "$peers/peer_attention.py" $sizes >>"$work/out" 2>"$work/peer.log" || tail -n 5 "$work/peer.log" >&2
        put "bench" "$(as_json "$work/out")"
    fi
    passed "bench of kernels" $status
}
number() { sed -n "s/.*\"$2\": *\([0-9.e+-]*\).*/\1/p" "$1" | tail -n 1; }
length=1024 updates=30 data=large
[ "${DRY:-0}" = 0 ] || length=16 updates=10 data=small
# watched COMMAND...: runs it; `held` is the most that the driver saw the GPU hold meanwhile, in bytes: contexts, libraries and recordings, too
used_mib() { nvidia-smi -i "${device%%,*}" --query-gpu=memory.used --format=csv,noheader,nounits 2>/dev/null | grep -x '[0-9][0-9]*'; }
watched() {
    local before status watcher
    held=null
    before=$(used_mib) || { "$@"; return; }
    (while used_mib; do sleep 0.5; done) >"$work/used" &
    watcher=$!
    "$@"; status=$?
    kill $watcher; wait $watcher 2>/dev/null
    held=$(sort -n "$work/used" | awk -v before="$before" '{ most = $1 } END { if (NR) printf "%.0f", (most - before) * 1048576; else printf "null" }')
    return $status
}
# rate NAME BATCH OPTION...: sets `last`, the tokens/s of the last ten updates
rate() {
    local name=$1 batch=$2 status; shift 2
    rm -rf "$work/$name"
    last=""
    limited 150 "$stagecoach" train --data.train_file "$work/$data.h5" --data.block_size $length --per_device_train_batch_size "$batch" --output_dir "$work/$name" \
        --max_steps $updates --logging_steps 10 --save_strategy no --data.validation_split_percentage 0 --bf16 true --device.type cuda --learning_rate 1e-5 \
        --model.resid_pdrop 0 --model.embd_pdrop 0 --model.attn_pdrop 0 "$@"; status=$?
    [ $status -ne 0 ] || last=$(number "$work/$name/metrics.jsonl" tokens_per_second)
    return $status
}
ask_peer() { timeout -k 5 "$(seconds 150)" "$PEER_PYTHON" "$peers/peer_model.py" --device cuda --compile --bf16 --length $length "$@" 2>"$work/peer.log"; }
time_peer() { echo 25 | ask_peer "$@" >"$work/peer"; }
# batch_of BATCH PEER_SIZE DEFAULT: samples; the default where the peer cannot say what is the largest
batch_of() {
    local batch=$1
    [ "$1" != largest ] || batch=$([ -z "$PEER_PYTHON" ] || ask_peer --size "$2" --batch $(($3 / 2)) --largest)
    echo "${batch:-$3}"
}
# of_peak NAME LAYERS WIDTH: which part of the GPU's dense bf16 rate the products of the model are, at `last` tokens/s: 6 operations for each weight that multiplies, and for
# each channel and token that attention looks back at
of_peak() {
    awk -v n="$(number "$work/$1/run.json" n_parameters)" -v l="$2" -v c="$3" -v t=$length -v rate="$last" -v peak="$peak_flops" \
        'BEGIN { if (peak > 0) printf "%.4g", rate * 6 * (n - t * c + l * t * c) / peak; else printf "null" }'
}
# gpt2 NAME BATCH PEER_SIZE LAYERS WIDTH OPTION...: our rate and the bytes that the GPU held, beside PyTorch's
gpt2() {
    local name=$1 batch=$2 size=$3 layers=$4 width=$5 peer=null peer_peak=null status our_bytes part=null; shift 5
    watched rate "$name" "$batch" "$@"; status=$?
    our_bytes=$held held=null
    [ -z "$last" ] || { part=$(of_peak "$name" "$layers" "$width"); cp "$work/$name/run.json" "gpu-$name.json"; }
    if [ -n "$PEER_PYTHON" ] && [ -n "$last" ]; then
        watched time_peer --batch "$batch" --size "$size" &&
            peer=$(awk '{ n = 0; for (i = NF - 10; i < NF; i++) { s += $i; n++ } printf "%.6g", s / n }' "$work/peer") && peer_peak=$(awk '{ print $NF }' "$work/peer") ||
            tail -n 5 "$work/peer.log" >&2
    fi
    put "$name" "{\"batch\": $batch, \"tokens_per_second\": ${last:-null}, \"flops_of_peak\": $part, \"held_bytes\": $our_bytes, \"peer_tokens_per_second\": $peer, \"peer_held_bytes\": $held, \"peer_peak_bytes\": $peer_peak}"
    passed "$name trains" $status
}
gpt2_124m=(--model.vocab_size 50257) shape_124m=(12 768) batch_124m=${GPU_BATCH:-32}
[ "${DRY:-0}" = 0 ] || gpt2_124m=(--model.n_positions 16 --model.n_embd 16 --model.n_layer 1 --model.n_head 1) shape_124m=(1 16) batch_124m=${GPU_BATCH:-2}
measure_small() {
    batch_124m=$(batch_of "$batch_124m" gpt2 32)
    gpt2 gpt2-124m "$batch_124m" gpt2 "${shape_124m[@]}" "${gpt2_124m[@]}"
    # what device.attention auto is worth; its rule may be wrong for this GPU
    [ "${DRY:-0}" = 1 ] || PEER_PYTHON='' gpt2 gpt2-124m-own-attention "$batch_124m" gpt2 "${shape_124m[@]}" "${gpt2_124m[@]}" --device.attention own
}
# Milliseconds of an update recorded as CUDA graphs and call by call: with so little to compute that calls take long, and with much.
measure_graphs() {
    local batch graphs status=0 results=""
    batch_124m=$(batch_of "$batch_124m" gpt2 32)
    for batch in 1 "$batch_124m"; do
        results="$results${results:+, }\"batch $batch\": {"
        for graphs in true false; do
            rate graphs "$batch" "${gpt2_124m[@]}" --device.graphs $graphs || status=1
            results="$results$([ $graphs = true ] && echo '"graphs_ms": ' || echo ', "direct_ms": ')$(awk -v rate="${last:-0}" -v n=$((batch * length)) 'BEGIN { if (rate > 0) printf "%.6g", 1000 * n / rate; else printf "null" }')"
        done
        results="$results}"
    done
    put graphs "{$results}"
    passed "updates with and without CUDA graphs" $status
}
measure_xl() {
    [ "${DRY:-0}" = 0 ] || return 0
    gpt2 gpt2-1.5b "$(batch_of "${GPU_BATCH_XL:-8}" gpt2-xl 8)" gpt2-xl 48 1600 --model.vocab_size 50257 --model.n_embd 1600 --model.n_layer 48 --model.n_head 25
}
measure_profile() {
    train profile --device.type cuda --bf16 true --profile 2; local status=$?
    cp "$work/log" gpu-profile.txt
    passed "a profile" $status
}

rm -f gpu-failures.txt
put date "\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\""
device=${CUDA_VISIBLE_DEVICES:-0}
gpu=$(nvidia-smi -i "${device%%,*}" --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | head -n 1)
case $gpu in # operations per second of dense bf16 products, as the maker tells
*PCIe* | *NVL*) peak_flops=0 ;;
*H100* | *H200* | *GH200*) peak_flops=989.4e12 ;;
*A100*) peak_flops=312e12 ;;
*) peak_flops=0 ;;
esac
put gpu "\"$gpu\""
put program "\"$("${ours[@]}" "$stagecoach" --version | head -n 1)\""
# Checks learn from a text, measurements read the whole vocabulary.
head -c 1000000 /dev/urandom >"$work/random.txt"
"${ours[@]}" "$tokens" "$work/small.h5" 256 "$here/run.sh" && "${ours[@]}" "$tokens" "$work/large.h5" 50257 "$work/random.txt" || die "no token file"
for step in ${GPU_STEPS:-kernels attention training saves nccl bench small xl graphs profile}; do
    if [ "$(now_s)" -ge "${GPU_SECONDS:-470}" ]; then put "$step" '"left out: no time"'; continue; fi
    case $step in
    kernels | attention | training | saves | nccl) "check_$step" ;;
    bench | small | graphs | xl | profile) "measure_$step" ;;
    *) die "there is no step '$step'" ;;
    esac
done
put seconds "$(now_s)"
write_results
echo "$n_bad failed; results are in gpu-results.json"
exit $((n_bad > 0))

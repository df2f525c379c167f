#!/bin/bash
# How fast everything is: `make bench`, in a build directory, about 20 minutes on 2 cores that nobody else uses.
# Prints a table, and writes bench.json. No test: nothing passes or fails.
# What was measured before a row failed, or before it was interrupted, is shown all the same.
#   PEER_PYTHON=/path/to/python   a Python with torch, transformers and accelerate: the peers are measured in the same run, in turns with
#                                 ours, so that noise meets both. Without it their lines are missing.
#   BENCH_ROWS="small startup"    only these rows of: ceilings kernels gpt2-fp32 gpt2-bf16 ranks overlap small startup checkpointing
#   BENCH_REPETITIONS=3           rounds of each row
#   BENCH_UPDATES=3               counted updates of a round, with GPT-2 124M
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../jobscripts/one-node.sh
. "$here/../../jobscripts/one-node.sh"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
PEER_PYTHON=${PEER_PYTHON:-}
all_rows="ceilings kernels gpt2-fp32 gpt2-bf16 ranks overlap small startup checkpointing"
rows=${BENCH_ROWS:-$all_rows}
repetitions=${BENCH_REPETITIONS:-3}
updates=${BENCH_UPDATES:-3}
stagecoach=$PWD/stagecoach
work=$(mktemp -d "$PWD/bench.XXXXXX")
results=$work/results about=$work/about
: >"$results"

tell() { printf '%s\t%s\n' "$1" "$2" >>"$about"; }
report() { [ ! -s "$results" ] || awk -v json=bench.json -f "$here/report.awk" "$about" "$results"; }
trap 'end_peers; report; rm -rf "$work"' EXIT
die() { echo "bench: $1" >&2; [ -z "${2:-}" ] || tail -n 20 "$2" >&2; tell "ended early" "$1"; exit 1; }

# say ROW METRIC SIDE UNIT VALUE...: one line per value
say() {
    local value row=$1 metric=$2 side=$3 unit=$4; shift 4
    for value in "$@"; do printf '%s\t%s\t%s\t%s\t%s\n' "$row" "$metric" "$side" "$unit" "$value" >>"$results"; done
}

gigabytes() { awk -v bytes="$1" 'BEGIN { printf "%.4g", bytes / 1e9 }'; }
per() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.6g", a / b }'; }

# launch RANKS THREADS COMMAND...: under mpirun when there is more than one rank. What each took goes to $work/timed, its output to $work/log.
launch() {
    local ranks=$1 threads=$2; shift 2
    rm -f "$work/timed"
    if [ "$ranks" -gt 1 ]; then set -- mpirun -n "$ranks" tests/bench/timed "$work/timed" "$@"; else set -- tests/bench/timed "$work/timed" "$@"; fi
    OMP_NUM_THREADS=$threads timeout -k 5 900 "$@" >"$work/out" 2>"$work/log" || die "exit status $? of: $*" "$work/log"
}
peak() { sort -g -k 2 "$work/timed" | awk 'END { print $2 }'; } # of the largest rank
seconds() { awk 'NR == 1 { print $1 }' "$work/timed"; }

# field KEY: the first number of that name in run.json; below OBJECT if given
field() { awk -v key="\"$1\":" -v below="\"${2:-}\":" 'below == "\"\":" || $1 == below { on = 1 } on && $1 == key { sub(",", "", $2); print $2; exit }' "$work/run/run.json"; }

# train RANKS THREADS OPTION...: a run of ours
train() {
    local ranks=$1 threads=$2; shift 2
    rm -rf "$work/run"
    launch "$ranks" "$threads" "$stagecoach" train --output_dir "$work/run" --save_strategy no --disable_tqdm true --data.validation_split_percentage 0 \
        --model.resid_pdrop 0 --model.embd_pdrop 0 --model.attn_pdrop 0 --max_grad_norm none --learning_rate 1e-5 "$@"
}
# The rate of every update but the first
rates() { sed -n 's/^{"step":\([0-9]*\),.*"tokens_per_second":\([0-9.e+-]*\).*/\1 \2/p' "$work/run/metrics.jsonl" | awk '$1 > 1 { print $2 }'; }

text=$work/random.txt
head -c 1000000 /dev/urandom >"$text"

# gpt2 RANKS THREADS BATCH LENGTH OPTION...: GPT-2 124M
gpt2() {
    local ranks=$1 threads=$2 batch=$3 length=$4; shift 4
    [ -f "$work/large.h5" ] || tests/bench/tokens "$work/large.h5" 50257 "$text" || die "no token file"
    train "$ranks" "$threads" --data.train_file "$work/large.h5" --data.block_size "$length" --per_device_train_batch_size "$batch" \
        --max_steps $((updates + 1)) --logging_steps 1 "$@"
}

# The small model
small() {
    local ranks=$1 threads=$2; shift 2
    [ -f "$work/small.h5" ] || tests/bench/tokens "$work/small.h5" 256 "$text" || die "no token file"
    train "$ranks" "$threads" --data.train_file "$work/small.h5" --data.block_size 64 --model.n_positions 64 --model.n_embd 128 --model.n_layer 4 \
        --model.n_head 4 --per_device_train_batch_size 12 "$@"
}

# Peers that stay between repetitions: they read a number of updates and answer with one line.
declare -A peer_pid peer_in peer_out
peer_start() {
    local name=$1 in out; shift
    mkfifo "$work/$name.in" "$work/$name.out"
    OMP_NUM_THREADS=2 "$PEER_PYTHON" "$@" <"$work/$name.in" >"$work/$name.out" 2>"$work/$name.log" &
    peer_pid[$name]=$!
    exec {in}>"$work/$name.in" {out}<"$work/$name.out"
    peer_in[$name]=$in peer_out[$name]=$out
}
peer_ask() { # NAME UPDATES: the answer is in $answer, its last word in $last
    echo "$2" >&"${peer_in[$1]}"
    read -r -t 900 answer <&"${peer_out[$1]}" || die "the peer $1 ended" "$work/$1.log"
    last=${answer##* } answer=${answer% *}
}
end_peers() {
    local name in out
    for name in "${!peer_pid[@]}"; do
        in=${peer_in[$name]} out=${peer_out[$name]}
        exec {in}>&- {out}<&-
        kill "${peer_pid[$name]}" 2>/dev/null
        wait "${peer_pid[$name]}" 2>/dev/null
        rm -f "$work/$name.in" "$work/$name.out"
    done
    peer_pid=() peer_in=() peer_out=()
}

row_ceilings() { OMP_NUM_THREADS=2 tests/bench/ceilings "$work" >>"$results" || die "ceilings failed"; }

row_kernels() {
    local device
    for device in cpu cpu_bf16; do OMP_NUM_THREADS=2 tests/bench/kernels $device >>"$results" || die "kernels failed"; done
}

# GPT-2 124M, B = 4, T = 256, 1 rank x 2 threads
row_gpt2() {
    local row=gpt2-$1 ours=() peer=() name i; shift
    [ "$row" = gpt2-fp32 ] || { ours=(--bf16 true); peer=(--bf16); }
    if [ -n "$PEER_PYTHON" ]; then
        peer_start "torch eager" "$here/peer_model.py" "${peer[@]}"
        peer_start "torch compile" "$here/peer_model.py" "${peer[@]}" --compile
        for name in "${!peer_pid[@]}"; do peer_ask "$name" 2; done
    fi
    for ((i = 0; i < repetitions; i++)); do
        gpt2 1 2 4 256 "${ours[@]}"
        # shellcheck disable=SC2046  # a list of numbers
        say "$row" speed ours tokens/s $(rates)
        say "$row" "peak memory" ours GB "$(gigabytes "$(peak)")"
        for name in "${!peer_pid[@]}"; do
            peer_ask "$name" "$updates"
            # shellcheck disable=SC2086
            say "$row" speed "$name" tokens/s $answer
            say "$row" "peak memory" "$name" GB "$(gigabytes "$last")"
        done
    done
    end_peers
}

# GPT-2 124M, B = 2 on each of 2 ranks x 1 thread
ranks_ours() {
    gpt2 2 1 2 256 --zero.stage "$1"
    # shellcheck disable=SC2046
    say ranks speed "stage $1" tokens/s $(rates)
    say ranks "peak memory per rank" "stage $1" GB "$(gigabytes "$(peak)")"
}
ranks_peer() {
    [ -n "$PEER_PYTHON" ] || return 0
    rm -f "$work/rendezvous"
    launch 2 1 "$PEER_PYTHON" "$here/peer_ranks.py" "$1" "$work/rendezvous" $((updates + 1))
    # shellcheck disable=SC2046
    say ranks speed "$1" tokens/s $(cat "$work/out")
    say ranks "peak memory per rank" "$1" GB "$(gigabytes "$(peak)")"
}
row_ranks() {
    local i
    for ((i = 0; i < repetitions; i++)); do
        ranks_ours 0; ranks_peer ddp; ranks_ours 1; ranks_peer zero; ranks_ours 2; ranks_ours 3; ranks_peer fsdp2
    done
}

# The same updates profiled: what rank 0 waits for messages, and how long others are under way beside its work
row_overlap() {
    local i stage
    for ((i = 0; i < repetitions; i++)); do
        for stage in 0 1 2 3; do
            gpt2 2 1 2 256 --zero.stage $stage --profile "$updates"
            say overlap "messages, exposed" "stage $stage" ms "$(sed -n 's/.*communication of an update: \([0-9.]*\) ms exposed.*/\1/p' "$work/log")"
            say overlap "messages, hidden" "stage $stage" ms "$(sed -n 's/.* ms exposed, \([0-9.]*\) ms hidden.*/\1/p' "$work/log")"
        done
    done
}

# 4 layers, 4 heads, 128 wide, T = 64, B = 12, vocabulary 256: the loop by itself, and 100 updates with two saves
row_small() {
    local i
    for ((i = 0; i < repetitions; i++)); do
        small 1 2 --max_steps 400 --logging_steps 200
        say small "speed of the loop" ours updates/s "$(per "$(rates | tail -n 1)" 768)"
        small 1 2 --max_steps 100 --save_strategy steps --save_steps 50
        say small "whole command" ours s "$(seconds)"
        say small "peak memory" ours GB "$(gigabytes "$(peak)")"
        [ -n "$PEER_PYTHON" ] || continue
        launch 1 2 "$PEER_PYTHON" "$here/peer_trainer.py" "$work/trainer" 100 0
        say small "speed of the loop" Trainer updates/s "$(head -n 1 "$work/out")"
        rm -rf "$work/trainer"
        launch 1 2 "$PEER_PYTHON" "$here/peer_trainer.py" "$work/trainer" 100 50
        say small "whole command" Trainer s "$(seconds)"
        say small "peak memory" Trainer GB "$(gigabytes "$(peak)")"
    done
}

row_startup() {
    local i ranks
    for ((i = 0; i < repetitions; i++)); do
        for ranks in 2 16; do
            small $ranks 1 --max_steps 1
            say startup "start to end of update 1" "$ranks ranks" s "$(field startup_s)"
        done
    done
}

# GPT-2 124M, B = 1, T = 1024, 1 rank x 2 threads
checkpointing() { # SIDE true|false KEY: KEY is the planned size in run.json
    local rate
    gpt2 1 2 1 1024 --gradient_checkpointing "$2"
    for rate in $(rates); do say checkpointing "time of an update" "$1" s "$(per 1024 "$rate")"; done
    say checkpointing "activations planned" "$1" GB "$(gigabytes "$(field "$3")")"
    say checkpointing "activations counted" "$1" GB "$(gigabytes "$(field peak activations)")"
}
row_checkpointing() {
    local i
    for ((i = 0; i < repetitions; i++)); do
        checkpointing "without" false activations_planned
        checkpointing "with" true activations_with_gradient_checkpointing
    done
}

# What is wrong is said now, and not when its row's turn comes.
for row in $rows; do [[ " $all_rows " = *" $row "* ]] || die "BENCH_ROWS: there is no row '$row'; write some of: $all_rows"; done
[[ $repetitions =~ ^[1-9][0-9]*$ ]] || die "BENCH_REPETITIONS is '$repetitions': write a number from 1 on"
[[ $updates =~ ^[1-9][0-9]*$ ]] || die "BENCH_UPDATES is '$updates': write a number from 1 on"
if [ -n "$PEER_PYTHON" ]; then
    versions='import torch, transformers, accelerate; print("torch", torch.__version__, "transformers", transformers.__version__, "accelerate", accelerate.__version__)'
    peers=$("$PEER_PYTHON" -c "$versions" 2>"$work/log") || die "PEER_PYTHON is '$PEER_PYTHON', and that is no Python with torch, transformers and accelerate" "$work/log"
fi

tell date "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
tell cpu "$(awk -F ': *' '/^model name/ { name = $2 } /^cpu family/ { family = $2 } /^model\t/ { model = $2 } END { print name ", family " family ", model " model }' /proc/cpuinfo)"
tell cores "$(nproc)"
tell kernel "$(uname -r)"
tell stagecoach "$("$stagecoach" --version | awk 'NF { $1 = $1; printf "%s%s", n++ ? "; " : "", $0 }')"
[ -z "$PEER_PYTHON" ] || tell peers "$peers"
tell "load at the start" "$(cut -d ' ' -f 1-3 /proc/loadavg)"

for row in $rows; do
    echo "bench: $row" >&2
    case "$row" in
    gpt2-fp32 | gpt2-bf16) row_gpt2 "${row#gpt2-}" ;;
    *) "row_$row" ;;
    esac
done
tell "load at the end" "$(cut -d ' ' -f 1-3 /proc/loadavg)"

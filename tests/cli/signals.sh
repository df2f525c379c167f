#!/usr/bin/env bash
# Signals: on one rank or on all, the update is finished, the run saved and left with status 75, and it goes on as if nothing had been.
. "$(dirname "$0")/../lib.sh"
[ -r /proc/self/stat ] || { skip "signals" "no /proc"; finish; }

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; gradient_accumulation_steps = 2; max_steps = 1000000; learning_rate = 1e-3; lr_scheduler_type = "constant";
             logging_steps = 5; save_strategy = "no"; };
END
launcher=

# begin NAME RANKS [OPTION...]: in the background, until it has logged.
begin() {
    local name=$1 n=$2; shift 2
    mpirun --timeout 120 -n "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1 &
    launcher=$!
    for _ in $(seq 600); do
        [ -s "$work/$name/metrics.jsonl" ] && return
        sleep 0.1
    done
    echo "no update within a minute"; tail -n 5 "$work/$name.log"; return 1
}
# pids: the ranks' processes, children of mpirun
pids() {
    local stat pid name parent
    for stat in /proc/[0-9]*/stat; do
        read -r pid name _ parent _ <"$stat" && [ "$parent" = "$launcher" ] && [ "$name" = "(stagecoach)" ] && echo "$pid"
    done 2>/dev/null # some end meanwhile
}
# ends STATUS NAME
ends() {
    wait "$launcher"; local status=$?
    [ $status -eq "$1" ] || { echo "exit status $status"; tail -n 8 "$work/$2.log"; return 1; }
}
last_step() { sed -n 's/.*"step": \([0-9]*\),/\1/p' "$work/$1/run.json"; }
# saved NAME: exactly one checkpoint, of the last update
saved() { [ "$(ls -d "$work/$1"/checkpoint-*)" = "$work/$1/checkpoint-$(last_step "$1")" ] && grep -q '"outcome": "interrupted"' "$work/$1/run.json"; }

for signal in USR1 TERM INT; do
    check "a run begins" begin $signal 3
    kill -$signal "$(pids | tail -n 1)"
    check "SIG$signal on one rank of three ends it with 75" ends 75 $signal
    check "... saved" saved $signal
    check "... and the rank that got it says so" grep -qE 'stopping after update [0-9]+' "$work/$signal.log"
done

check "a run begins" begin all 2
for p in $(pids); do kill -USR1 "$p"; kill -TERM "$p"; kill -USR1 "$p"; done 2>/dev/null
check "repeated signals on all ranks end it with 75" ends 75 all
check "... saved once" saved all

check "a run begins" begin forwarded 2 --full_determinism
kill -USR1 "$launcher" # what job scripts do
check "mpirun passes SIGUSR1 on, and 75 back" ends 75 forwarded
check "... saved" saved forwarded

# The interrupted run goes on for five updates, elsewhere; another one does the same in one go.
n=$(($(last_step forwarded) + 5))
check "it goes on at another number of ranks and another stage" ranks 4 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/forwarded" \
    --full_determinism --resume_from_checkpoint auto --zero.stage 3 --max_steps $n --save_strategy steps --log_level error
check "... and its like without a stop" ranks 1 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/straight" \
    --full_determinism --gradient_accumulation_steps 4 --max_steps $n --save_strategy steps --log_level error
for group in /model /optimizer /state; do
    check "... ends with the same bits in $group" h5diff "$work/forwarded/checkpoint-$n/checkpoint.h5" "$work/straight/checkpoint-$n/checkpoint.h5" $group
done

fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
if [ -e "$fault" ]; then
    program=$STAGECOACH STAGECOACH=$work/faulty
    printf '#!/bin/sh\nexec env LD_PRELOAD="%s" FAULT_ROOT="%s" FAULT_RANKS=0 FAULT_CALL=pwrite FAULT_AT=1 FAULT_KIND=ENOSPC "%s" "$@"\n' \
        "$fault" "$work/full/.checkpoint-" "$program" >"$STAGECOACH"
    chmod +x "$STAGECOACH"
    check "a run begins" begin full 2
    STAGECOACH=$program
    kill -USR1 "$launcher"
    check "a save that fails after a signal ends it with 1" ends 1 full
    check "... and it is not said that training goes on" \
        grep -qE 'ERROR .*checkpoint-[0-9]+ could not be saved: .*No space left on device\. Training stops, as it was told to; earlier' "$work/full.log"
else
    skip "a save that fails after a signal" "$fault was not built"
fi

check "a run begins" begin saving 2
kill -USR2 "$(pids | head -n 1)"
for _ in $(seq 100); do ls -d "$work"/saving/checkpoint-* >"$work/saves" 2>/dev/null && break; sleep 0.1; done
check "SIGUSR2 saves" test -s "$work/saves"
check "... and the run goes on" kill -0 "$launcher"
kill -USR1 "$(pids | head -n 1)"
check "... until it is stopped" ends 75 saving

# An update of many seconds, so that the first signal can't have ended the run when the second one comes.
mpirun --timeout 120 -n 1 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/twice" --model.n_embd 512 --model.n_layer 4 \
    --gradient_accumulation_steps 10000 >"$work/twice.log" 2>&1 &
launcher=$!
# interrupts NAME: the process's mask of signals that are caught (SigCgt) or wait to be (ShdPnd) has SIGINT
interrupts() { local mask; mask=$(sed -n "s/^$1:\t//p" "/proc/$p/status") && [ $((0x${mask:-0} & 2)) -ne 0 ]; }
p=
for _ in $(seq 600); do p=$(pids); [ -n "$p" ] && interrupts SigCgt && break; sleep 0.1; done
check "a run listens to SIGINT" interrupts SigCgt
kill -INT "$p"
for _ in $(seq 100); do interrupts ShdPnd || break; sleep 0.1; done
kill -INT "$p"
wait "$launcher"; status=$?
check "a second SIGINT ends at once" test $status -eq 130
finish

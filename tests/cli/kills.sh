#!/usr/bin/env bash
# Jobs that are killed at any time, again and again, end with the weights of one that was not. STAGECOACH_TEST_ALL=1: 50 times.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../fault/saves.sh
. "$top/tests/fault/saves.sh"
RANDOM=20231
n_kills=5 n_steps=1200
[ "$all" = 0 ] || n_kills=50 n_steps=9000
long=(--max_steps "$n_steps" --save_steps 20 --logging_steps 100 --save_total_limit 4)
ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/straight" "${long[@]}" --save_steps "$n_steps" >"$work/log" 2>&1 || bad "an uninterrupted run" "$(tail -n 5 "$work/log")"
killed=0 attempts=0 finished=0
while [ $finished = 0 ] && [ $attempts -lt 200 ]; do
    attempts=$((attempts + 1))
    # slow saves while there are kills to come, so that no machine is done before them
    slow=(env)
    [ $killed -ge $n_kills ] || slow=(env LD_PRELOAD="$fault" FAULT_ROOT="$work/killed" FAULT_RANKS=all FAULT_AT=1 FAULT_KIND=SLEEP FAULT_MS=3)
    mpirun -n 2 "${slow[@]}" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/killed" "${long[@]}" --resume_from_checkpoint auto >"$work/log" 2>&1 &
    job=$!
    if [ $killed -lt $n_kills ]; then
        sleep "0.$((25 + RANDOM % 50))"
        # ranks first: an mpirun that is gone cannot end them more gently
        for process in $(cat /proc/$job/task/*/children 2>/dev/null) $job; do kill -9 "$process" 2>/dev/null; done
        wait $job 2>/dev/null
        status=$?
        gone "$work/killed"
        [ $status -eq 137 ] && killed=$((killed + 1))
    else
        timeout 120 tail --pid=$job -f /dev/null
        wait $job
        status=$?
    fi
    [ $status -eq 0 ] && finished=1
    [ $status -eq 0 ] || [ $status -eq 137 ] || { bad "a job after a kill goes on" "status $status" "$(tail -n 5 "$work/log")"; break; }
done
check "a job is killed $n_kills times and ends at last" test "$finished/$killed" = "1/$n_kills"
check "... with the weights of the uninterrupted one" same_state "$work/straight/checkpoint-$n_steps" "$work/killed/checkpoint-$n_steps"
check "... and no leftovers" test -z "$(cd "$work/killed" && ls -A | grep -E '^\.checkpoint|tmp')"
finish

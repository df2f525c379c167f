#!/usr/bin/env bash
# A fault at every call on files that a save makes, on one rank of three and on all; and jobs that are killed at any time. After
# each: what was saved before is intact, latest goes on to the same bits, nobody hangs, nothing is left. STAGECOACH_TEST_ALL=1: every call.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
all=${STAGECOACH_TEST_ALL:-0}
[ -e "$fault" ] || { skip "faults at calls of a save" "$fault was not built"; finish; }

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 1; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 4; learning_rate = 1e-2; save_steps = 2; };
checkpoint = { block_size = 65536L; };
END
same_state() { for group in /model /optimizer /state; do h5diff "$1/checkpoint.h5" "$2/checkpoint.h5" $group || return 1; done; }
kept() { (cd "$work/$1" && ls -A | grep checkpoint | sort -V | paste -sd' '); }

ranks 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/whole" >"$work/log" 2>&1 || bad "a run without faults" "$(tail -n 5 "$work/log")"
mkdir "$work/half" && cp -r "$work/whole/checkpoint-2" "$work/half"

# gone DIRECTORY: wait for what is left of a killed job; its lock names rank 0
gone() {
    local pid i
    for ((i = 0; i < 50; i++)); do
        pid=$(sed -n 's/^pid //p' "$1/run.lock" 2>/dev/null)
        { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; } || return
        sleep 0.1
    done
}

# faulty KIND RANKS K FILES: the save of update 4, resumed from update 2, meets the fault. Says what is wrong.
faulty() {
    local kind=$1 who=$2 k=$3 files=$4 status
    rm -rf "$work/run" && cp -r "$work/half" "$work/run"
    timeout -k 5 60 mpirun -n 3 env LD_PRELOAD="$fault" FAULT_ROOT="$work/run" FAULT_RANKS="$who" FAULT_AT="$k" \
        FAULT_KIND="$kind" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint latest \
        --checkpoint.writers_per_node "$files" >"$work/log" 2>&1
    status=$?
    [ $status -ne 124 ] && { [ "$kind" = KILL ] || [ $status -ne 137 ]; } || { echo "hangs"; return; }
    same_state "$work/whole/checkpoint-2" "$work/run/checkpoint-2" >/dev/null || { echo "what was saved before has changed"; return; }
    if [ "$kind" != KILL ]; then
        case "$status/$(kept run)" in
        "1/checkpoint-2") grep -q 'could not be saved' "$work/log" || { echo "no word of it"; return; } ;;
        "1/checkpoint-2 checkpoint-4") grep -qE 'error: .*(Input/output|No space|quota)' "$work/log" || { echo "a failure without a word"; return; } ;;
        "0/checkpoint-2 checkpoint-4") ;; # after the checkpoint was published, or in a summary of the run
        *) echo "status $status, left: $(kept run)"; return ;;
        esac
    fi
    gone "$work/run"
    ranks 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint latest >"$work/log" 2>&1 || { echo "does not go on"; return; }
    [ "$(kept run)" = "checkpoint-2 checkpoint-4" ] || { echo "left: $(kept run)"; return; }
    same_state "$work/whole/checkpoint-4" "$work/run/checkpoint-4" >/dev/null || echo "goes on to other bits"
}

# n_calls RANK FILES: calls of that rank in such a save
n_calls() {
    rm -rf "$work/run" "$work"/calls.* && cp -r "$work/half" "$work/run"
    ranks 3 env LD_PRELOAD="$fault" FAULT_ROOT="$work/run" FAULT_AT=0 FAULT_COUNT="$work/calls" "$STAGECOACH" train "$work/tiny.cfg" \
        --output_dir "$work/run" --resume_from_checkpoint latest --checkpoint.writers_per_node "$2" >"$work/log" 2>&1
    wc -l <"$work/calls.$1"
}

RANDOM=20231
n=0 n_wrong=0
for files in 0 1; do
    for who in 0 1 all; do
        calls=$(n_calls "${who/all/0}" $files)
        [ "$calls" -gt 3 ] || bad "calls of a save are counted" "$calls of rank $who"
        for kind in EIO ENOSPC EDQUOT SHORT KILL; do
            for ((k = 1; k <= calls; k++)); do
                # by default about one call of each kind; of shared files only those of all ranks
                [ "$all" = 1 ] || { [ $((RANDOM % calls)) -lt 1 ] && { [ $files = 0 ] || [ $who = all ]; }; } || continue
                wrong=$(faulty $kind $who $k $files)
                n=$((n + 1))
                [ -z "$wrong" ] && continue
                n_wrong=$((n_wrong + 1))
                bad "$kind at call $k of rank $who, writers_per_node $files" "$wrong" "$(sed -n "${k}p" "$work/calls.${who/all/0}")" "$(tail -n 5 "$work/log")"
            done
        done
    done
done
[ $n -gt 0 ] && [ $n_wrong = 0 ] && ok "each of $n faults at calls of a save leaves the run as it was"

# a save in the middle that fails: the run goes on, and its later checkpoints are whole
for k in 5 20; do
    rm -rf "$work/run"
    check "a fault in the middle of a run, at call $k" ranks 3 env LD_PRELOAD="$fault" FAULT_ROOT="$work/run" FAULT_RANKS=0 FAULT_AT=$k FAULT_KIND=ENOSPC \
        "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run"
    check "... leaves that checkpoint out" test "$(kept run)" = checkpoint-4
    check "... and the next is whole" same_state "$work/whole/checkpoint-4" "$work/run/checkpoint-4"
done

# a checkpoint too many that cannot be deleted: under its name, or half deleted under the hidden one
for fails in rename:checkpoint-2 unlink:.checkpoint-2 rmdir:.checkpoint-2; do
    IFS=: read -r call name <<<"$fails"
    rm -rf "$work/run"
    check "a failing $call of the oldest checkpoint does not stop the run" bash -c "mpirun -n 3 env LD_PRELOAD='$fault' FAULT_ROOT='$work/run/$name' FAULT_RANKS=0 \
        FAULT_CALL=$call FAULT_AT=1 FAULT_KIND=EIO '$STAGECOACH' train '$work/tiny.cfg' --output_dir '$work/run' --save_total_limit 1 >'$work/log' 2>&1"
    check "... is said" grep -qE "ERROR .*cannot (rename|remove) .*/$name.*Input/output error" "$work/log"
    check "... leaves the newest" same_state "$work/whole/checkpoint-4" "$work/run/checkpoint-4"
    check "... and the rest goes later" bash -c "mpirun -n 3 '$STAGECOACH' train '$work/tiny.cfg' --output_dir '$work/run' --save_total_limit 1 --resume_from_checkpoint latest --max_steps 6"
    check "... all of it" test "$(kept run)" = checkpoint-6
done

# the whole job killed at random times
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

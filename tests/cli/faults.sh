#!/usr/bin/env bash
# A fault at every call on files that a save makes, on one rank of three and on all. After each: what was saved before is intact, latest goes on to
# the same bits, nobody hangs, nothing is left. STAGECOACH_TEST_ALL=1: every call. Files that ranks share are in faults_shared.sh.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../fault/saves.sh
. "$top/tests/fault/saves.sh"
start_of_faults
all_faults 0 0 1 all

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
finish

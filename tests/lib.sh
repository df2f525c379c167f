# shellcheck shell=bash
# Helpers of the shell tests. Every case ends in one line: "ok - NAME", "not ok - NAME" or "skip - NAME # why".
# A test script sources this file, runs its cases and ends with `finish`.
# In: STAGECOACH (the executable), TMPDIR. Out: $work, a fresh directory that is removed at the end.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/.." && pwd)
# shellcheck source=../jobscripts/one-node.sh
. "$top/jobscripts/one-node.sh"
export CUDA_VISIBLE_DEVICES= # CPUs, whatever the machine has; tests/gpu has the tests of GPUs
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
STAGECOACH=${STAGECOACH:-$top/build/stagecoach}
work=$(mktemp -d "${TMPDIR:-/tmp}/stagecoach-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
n_bad=0

ok() { echo "ok - $1"; }
bad() { echo "not ok - $1"; n_bad=$((n_bad + 1)); shift; [ $# -eq 0 ] || printf '#   %s\n' "$@"; }
skip() { echo "skip - $1 # $2"; }

# check NAME COMMAND...: passes when the command succeeds; its output is shown when it does not.
check() {
    local name=$1; shift
    if "$@" >"$work/check.log" 2>&1; then ok "$name"; else bad "$name" "exit $? of: $*"; tail -n 20 "$work/check.log" | sed 's/^/#   /'; fi
}

# ranks N COMMAND...: under mpirun, at most 5 minutes, so that a hang is a failure and not the end of the run.
ranks() { local n=$1; shift; timeout -k 5 300 mpirun -n "$n" "$@"; }

# refuses NAME STATUS PATTERN COMMAND...: the command must end with STATUS (any: not 0), its stderr match PATTERN, exactly one line of it.
refuses() {
    local name=$1 want=$2 pattern=$3 status; shift 3
    timeout -k 5 120 "$@" >"$work/out" 2>"$work/err"; status=$?
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then bad "$name" "did not end" "$(tail -n 5 "$work/err")"; return; fi
    if [ "$want" = any ] && [ "$status" -eq 0 ] || [ "$want" != any ] && [ "$status" -ne "$want" ]; then
        bad "$name" "exit status $status, expected $want" "$(tail -n 5 "$work/err")"; return
    fi
    local n; n=$(grep -cE -- "$pattern" "$work/err")
    if [ "$n" -eq 1 ]; then ok "$name"; else bad "$name" "'$pattern' on $n lines of:" "$(tail -n 8 "$work/err")"; fi
}

# gone DIRECTORY: wait for what is left of a killed job; its lock names rank 0
gone() {
    local pid i
    for ((i = 0; i < 50; i++)); do
        pid=$(sed -n 's/^pid //p' "$1/run.lock" 2>/dev/null)
        { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && ! grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; } || return
        sleep 0.1
    done
}

finish() { exit $((n_bad > 0)); }

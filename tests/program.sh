#!/bin/bash
# Runs one Check program: those of tests/mpi on 1, 2, 3 and 4 ranks (or STAGECOACH_TEST_RANKS), others once. A run that crashes or exceeds its time
# is a failure of its own ("not ok"), since it prints no summary. Used by `make check` and by tests/run.sh.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../jobscripts/one-node.sh
. "$here/../jobscripts/one-node.sh"
program=$1
name=$(basename "$(dirname "$program")")/$(basename "$program")
limit_s=${STAGECOACH_TEST_LIMIT_S:-300}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
n_bad=0

# run WHERE COMMAND...
run() {
    local where=$1 status; shift
    timeout -k 10 "$limit_s" "$@" >"$log" 2>&1 </dev/null
    status=$?
    cat "$log"
    [ "$status" -ne 77 ] || exit 77 # what it is for is not here
    [ "$status" -eq 0 ] && grep -q '^[0-9]*%: Checks: ' "$log" && return
    n_bad=$((n_bad + 1))
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        echo "not ok - $name $where: no end after $limit_s s"
    elif ! grep -qE '^[0-9]+%: Checks: .*(Failures: [1-9]|Errors: [1-9])' "$log"; then
        echo "not ok - $name $where: ended with status $status without counting a failure"
    fi
}

case $program in
*/mpi/*)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    for n in ${STAGECOACH_TEST_RANKS:-1 2 3 4}; do
        echo "# $name on $n ranks"
        run "on $n ranks" mpirun -n "$n" "$program"
    done ;;
*)
    run alone "$program" ;;
esac
exit $((n_bad > 0))

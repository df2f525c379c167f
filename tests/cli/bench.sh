#!/usr/bin/env bash
# The bench as a program: what it refuses before it measures anything, and its smallest row. No figure is judged.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

build=$(cd "$(dirname "$STAGECOACH")" && pwd)
mkdir "$work/run" && ln -s "$STAGECOACH" "$work/run/stagecoach" && ln -s "$build/tests" "$work/run/tests"
printf '#!/bin/sh\ncd "%s" && exec bash "%s"\n' "$work/run" "$top/tests/bench/bench.sh" >"$work/bench"
chmod +x "$work/bench"
unset PEER_PYTHON BENCH_ROWS BENCH_UPDATES
export BENCH_REPETITIONS=1
left() { find "$work/run" -mindepth 1 ! -name stagecoach ! -name tests; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }

refuses "a row that is not there" 1 "BENCH_ROWS: there is no row 'smal'; write some of: ceilings .* checkpointing$" env BENCH_ROWS="ceilings smal" "$work/bench"
refuses "no number of rounds" 1 "BENCH_REPETITIONS is 'few': write a number from 1 on" env BENCH_REPETITIONS=few "$work/bench"
refuses "a PEER_PYTHON that is none" 1 "PEER_PYTHON is '/nowhere/python', and that is no Python with torch" env PEER_PYTHON=/nowhere/python "$work/bench"
check "nothing is left of them" is "$(left)" ""

if [ -x "$build/tests/bench/timed" ] && [ -x "$build/tests/bench/tokens" ]; then
    check "a row is measured" timeout -k 5 200 env BENCH_ROWS=startup "$work/bench"
    cp "$work/check.log" "$work/table"
    check "... shown" grep -qE '^\| startup +\| start to end of update 1 +\| 2 ranks ' "$work/table"
    check "... beside its aim" grep -qE '^\| start to end of update 1, 16 ranks \(s\) .* (not )?reached ' "$work/table"
    if command -v python3 >/dev/null; then
        check "... and written as JSON" python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert len(d["results"]) == 2 and len(d["ratios"]) == 2' \
            "$work/run/bench.json"
    fi
    rm -f "$work/run/bench.json"
    # Its second run of the program is one too many for it.
    printf '#!/bin/sh\n[ "$1" != train ] || [ "$OMPI_COMM_WORLD_SIZE" != 16 ] || { echo "no more" >&2; exit 3; }\nexec "%s" "$@"\n' "$STAGECOACH" >"$work/program"
    chmod +x "$work/program" && ln -sf "$work/program" "$work/run/stagecoach"
    refuses "a row that fails" 1 "^bench: exit status 3 of: mpirun -n 16 " env BENCH_ROWS=startup "$work/bench"
    check "... shows what was measured before" grep -qE '^\| startup +\| start to end of update 1 +\| 2 ranks ' "$work/out"
    check "... and why there is no more" grep -q '^ended early: exit status 3 of: mpirun' "$work/out"
else
    skip "a row" "the programs of the bench are not built"
fi
finish

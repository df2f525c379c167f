#!/bin/bash
# Builds stagecoach and passes every test, on a bare Debian 12 and a fresh clone too.
#   tests/run.sh [--all] [NAME...]
# --all   also the full products of cases and the slow checks of the build (sets STAGECOACH_TEST_ALL=1)
# NAME    only tests whose name contains it: unit/test_flat, mpi/, cli/resume.sh, sanitizers/ ...
# The last line is "N passed, N failed, N skipped"; the exit status is 1 if any failed.
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1
build=$top/build
build_san=$top/build-san
names=()
export STAGECOACH_TEST_ALL=0
for argument in "$@"; do
    case $argument in
    --all) STAGECOACH_TEST_ALL=1 ;;
    -*) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    *) names+=("$argument") ;;
    esac
done
n_passed=0 n_failed=0 n_skipped=0
logs=$(mktemp -d "${TMPDIR:-/tmp}/stagecoach-run.XXXXXX")
trap 'rm -rf "$logs"' EXIT

end() {
    if [ ${#names[@]} -gt 0 ] && [ $((n_passed + n_failed + n_skipped)) -eq 0 ]; then
        echo "FAILED: no test has a name that contains ${names[*]}"
        n_failed=1
    fi
    echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
    exit $((n_failed > 0))
}

# step WHAT COMMAND...: something without which there is nothing to test.
step() {
    local what=$1; shift
    echo "$what"
    if ! "$@" >"$logs/step" 2>&1; then
        tail -n 60 "$logs/step"
        echo "FAILED: $what"
        n_failed=$((n_failed + 1))
        end
    fi
}

# configured DIRECTORY OPTION...
configured() {
    local directory=$1; shift
    [ -x configure ] || ./autogen.sh || return 1
    [ -f "$directory/config.status" ] && [ -f "$directory/Makefile" ] && return
    mkdir -p "$directory" && (cd "$directory" && "$top/configure" "$@")
}

wanted() {
    local name
    [ ${#names[@]} -gt 0 ] || return 0
    for name in "${names[@]}"; do
        case $1 in *"$name"*) return 0 ;; esac
    done
    return 1
}

# counted LOG: the cases of a log as "passed failed skipped": summaries of Check, and lines of shell tests.
counted() {
    awk '/^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
             gsub(",", ""); bad = $5 + $7; passed += $3 - bad; failed += bad }
         /^ok - / { passed++ } /^not ok - / { failed++ } /^skip - / { skipped++ }
         END { print passed + 0, failed + 0, skipped + 0 }' "$1"
}

# run NAME COMMAND...: one test program with all its cases.
run() {
    local name=$1 log=$logs/${1//\//_} status p f s start=$SECONDS; shift
    wanted "$name" || return 0
    timeout -k 10 $((STAGECOACH_TEST_ALL == 1 ? 3600 : 1200)) "$@" >"$log" 2>&1 </dev/null
    status=$?
    read -r p f s <<<"$(counted "$log")"
    if [ "$status" -eq 77 ] && [ $((p + f + s)) -eq 0 ]; then
        s=1
    elif [ "$f" -eq 0 ] && { [ "$status" -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then
        f=1
        echo "not ok - $name ended with status $status and counted no failure" >>"$log"
    fi
    n_passed=$((n_passed + p)) n_failed=$((n_failed + f)) n_skipped=$((n_skipped + s))
    printf '%-6s %-34s %4d passed %3d failed %3d skipped %4d s\n' "$([ "$f" -eq 0 ] && echo ok || echo FAILED)" \
        "$name" "$p" "$f" "$s" $((SECONDS - start))
    grep '^skip - ' "$log" | sed 's/^/    /'
    [ "$f" -eq 0 ] || tail -n 200 "$log" | sed 's/^/    | /'
}

packages="g++ strace valgrind python3-h5py"
[ $STAGECOACH_TEST_ALL = 0 ] || packages="$packages libopenblas-dev clang-14 libomp-14-dev"
# shellcheck disable=SC2086  # a list of words
step "Packages" jobscripts/install-deps.sh $packages
# Debian's h5py belongs to its own Python, which may not be the first in PATH.
if [ -z "${PYTHON:-}" ] && ! python3 -c 'import h5py' 2>/dev/null && [ -x /usr/bin/python3 ]; then
    export PYTHON=/usr/bin/python3
fi
# Code for each kind of GPU takes its time to compile; one kind is enough to see that it can be. Without CUDA this says nothing.
options=()
[ $STAGECOACH_TEST_ALL = 1 ] || options=(--with-cuda-arch=90)
step "Configuring in build/" configured "$build" "${options[@]}"
step "Compiling in build/" make -C "$build" -j2 all
step "Compiling the tests" make -C "$build" -j2 test-programs
tests=$(make -s --no-print-directory -C "$build" list-tests)
for test in $tests; do
    # The longest program runs once by default: with sanitizers, below.
    [ $STAGECOACH_TEST_ALL = 0 ] && [ ${#names[@]} -eq 0 ] && [ "$test" = tests/gpu/test_kernels ] && continue
    case $test in
    *.sh) STAGECOACH=$build/stagecoach run "${test#tests/}" bash "$test" ;;
    *) run "${test#tests/}" tests/program.sh "$build/$test" ;;
    esac
done

san=()
for test in $tests; do
    case $test in
    */device_* | */test_plans | *.sh) ;; # with CUDA only
    tests/unit/* | tests/gpu/* | tests/mpi/test_nccl) wanted "sanitizers/${test#tests/unit/}" && san+=("$test") ;;
    esac
done
if [ ${#san[@]} -gt 0 ]; then
    step "Configuring with sanitizers in build-san/" configured "$build_san" --enable-sanitizers --without-cuda
    step "Compiling with sanitizers in build-san/" make -C "$build_san" -j2 "${san[@]}"
    export UBSAN_OPTIONS=print_stacktrace=1 STAGECOACH_TEST_RANKS=2
    for test in "${san[@]}"; do
        # Open MPI frees little, and closes the plugins by whose names its leaks could be told from ours.
        leaks=()
        case $test in tests/mpi/*) leaks=(env ASAN_OPTIONS=detect_leaks=0) ;; esac
        run "sanitizers/${test#tests/unit/}" "${leaks[@]}" tests/program.sh "$build_san/$test"
    done
fi
end

#!/bin/bash
# Fuzzes the readers of manifests, nodes, checkpoint.h5, shards and token files with libFuzzer and sanitizers; `make fuzz` runs it.
#   tests/fuzz/run.sh [TARGET...]         manifest, nodes, index, shard, tokens
#   FUZZ_SECONDS   in all (600)           CLANG     compiler with libFuzzer (clang-14, else clang)
#   FUZZ_BUILD     where to build (fuzz-build)
# What crashes is left in FUZZ_BUILD/crashes/TARGET. The exit status is 1 if anything crashed in code of ours: a crash counts as
# HDF5's when the stack, from the top down to the first frame of ours, has a frame of libhdf5.
set -u
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FUZZ_BUILD:-fuzz-build}
clang=${CLANG:-$(command -v clang-14 || command -v clang)}
seconds=${FUZZ_SECONDS:-600}
targets=("$@"); [ $# -gt 0 ] || targets=(manifest nodes index shard tokens)
[ -n "$clang" ] || { echo "fuzzing needs clang with libFuzzer (Debian: clang-14)" >&2; exit 1; }

mkdir -p "$build" && build=$(cd "$build" && pwd) && cd "$build" || exit 1
[ -f Makefile ] || CC=$clang "$top/configure" -q --enable-sanitizers CFLAGS="-g -O1 -fsanitize=fuzzer-no-link" || exit 1
make -j"$(nproc)" tests/fuzz/seeds "${targets[@]/#/tests/fuzz/fuzz_}" >make.log 2>&1 || { tail -n 30 make.log; exit 1; }
tests/fuzz/seeds seeds || exit 1

# is_ours FILE: runs one crash again and looks at its stack.
is_ours() {
    local target=$1 file=$2
    ASAN_OPTIONS=allocator_may_return_null=1 timeout 60 "tests/fuzz/fuzz_$target" -timeout=10 "$file" >"$file.txt" 2>&1 && return 1 # only in that process
    awk '/^ *#[0-9]+ / { if (/libhdf5/) { hdf5 = 1; exit } if (/ in sgc_| in fuzz_/) exit } END { exit hdf5 }' "$file.txt"
}

n_ours=0
for target in "${targets[@]}"; do
    words=(); [ ! -e "$top/tests/fuzz/$target.dict" ] || words=(-dict="$top/tests/fuzz/$target.dict")
    corpus=corpus/$target crashes=crashes/$target
    rm -rf "$crashes"; mkdir -p "$corpus" "$crashes"
    echo "fuzzing $target for $((seconds / ${#targets[@]})) s"
    # leaks: HDF5 keeps memory after damaged files; those of ours are looked for in the unit test of the corpus
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 "tests/fuzz/fuzz_$target" -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1000000000 \
        -max_len=65536 -max_total_time=$((seconds / ${#targets[@]})) -artifact_prefix="$crashes/" "${words[@]}" "$corpus" "$top/tests/fuzz/corpus/$target" "seeds/$target" \
        >"$target.log" 2>&1
    n_hdf5=0 n_here=0
    for file in "$crashes"/*; do
        case $file in *.txt) continue ;; esac
        [ -e "$file" ] || continue
        if is_ours "$target" "$file"; then n_here=$((n_here + 1)); echo "  OURS: $build/$file"; grep -m1 -E 'ERROR|runtime error' "$file.txt" | sed 's/^/    /'; else n_hdf5=$((n_hdf5 + 1)); fi
    done
    echo "  $(grep -oE 'cov: [0-9]+' "$target.log" | tail -n 1), $(find "$corpus" -type f | wc -l) inputs, $n_here crashes of ours, $n_hdf5 inside HDF5"
    n_ours=$((n_ours + n_here))
done
exit $((n_ours > 0))

#!/bin/bash
# The build itself: what configure refuses, what install puts where. With STAGECOACH_TEST_ALL=1 also other compilers, the
# fallback of oneDNN, a build inside the source tree, and distcheck.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
build=$(cd "$(dirname "$STAGECOACH")" && pwd)
all=${STAGECOACH_TEST_ALL:-0}

# A build that has neither library for matrix products: headers of these names come first and do not compile.
no_matrix_library_is_refused() {
    mkdir "$work/none" "$work/hidden"
    echo '#error hidden' | tee "$work/hidden/dnnl.h" >"$work/hidden/cblas.h"
    refuses configure_without_onednn_and_cblas_names_the_packages_of_debian 1 'apt-get install libdnnl-dev .*libopenblas-dev' \
        env -C "$work/none" "$top/configure" CPPFLAGS="-I$work/hidden"
    check configure_without_onednn_and_cblas_names_the_packages_of_spack grep -qE 'spack install onednn .*openblas' "$work/err"
    refuses configure_says_that_the_onednn_asked_for_is_missing 1 'oneDNN, which was asked for, was not found' \
        env -C "$work/none" "$top/configure" --with-onednn=/nowhere CPPFLAGS="-I$work/hidden"
}

install_puts_everything() {
    make -s -C "$build" install DESTDIR="$work/root" prefix=/usr || return 1
    local file
    for file in bin/stagecoach share/man/man1/stagecoach.1 share/stagecoach/conf/quickstart.cfg share/stagecoach/jobscripts/train.sbatch; do
        [ -s "$work/root/usr/$file" ] || { echo "$file is not installed"; return 1; }
    done
    "$work/root/usr/bin/stagecoach" --version
}

uninstall_removes_everything() {
    make -s -C "$build" uninstall DESTDIR="$work/root" prefix=/usr || return 1
    local left
    left=$(find "$work/root" ! -type d)
    [ -z "$left" ] || { echo "left: $left"; return 1; }
}

# compiles_cleanly SOURCE DIRECTORY OPTION...: everything, tests included, without one warning.
compiles_cleanly() {
    local source=$1 directory=$2; shift 2
    mkdir -p "$directory" && cd "$directory" || return 1
    "$source/configure" "$@" || return 1
    { make -j2 all && make -j2 test-programs; } >make.log 2>&1 || { tail -n 30 make.log; return 1; }
    ! grep -A 5 'warning:' make.log
}

dist_holds_every_file() {
    make -s -C "$build" distdir distdir="$work/source" || return 1
    local file n_missing=0
    for file in $(git -C "$top" ls-files 2>/dev/null | grep -v '^\.gitignore$'); do
        [ -e "$work/source/$file" ] || [ ! -e "$top/$file" ] && continue
        echo "not in EXTRA_DIST or a list of sources: $file"
        n_missing=$((n_missing + 1))
    done
    [ "$n_missing" -eq 0 ] && [ -x "$work/source/configure" ]
}

unit_programs() { make -s --no-print-directory -C "$build" list-tests | grep '^tests/unit/' | tr '\n' ' '; }

# The same short run with both libraries; float32 sums in another order, so the last digits differ.
cblas_learns_as_onednn_does() {
    local which losses=()
    for which in "$build" "$work/cblas"; do
        rm -rf "$work/run"
        "$which/stagecoach" train "$top/conf/gpt2-tiny.cfg" --data.train_file "$top/conf/gpt2-small.cfg" --data.cache_dir "$work" \
            --output_dir "$work/run" --max_steps 5 --logging_steps 5 --evaluation_strategy no || return 1
        losses+=("$(sed -n 's/.*"loss": *\([0-9.e+-]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n 1)")
    done
    echo "losses: ${losses[*]}"
    awk -v a="${losses[0]}" -v b="${losses[1]}" 'BEGIN { d = a - b; exit !(a > 1 && d * d < 1e-8 * a * a) }'
}

no_matrix_library_is_refused
check install_puts_everything_in_its_place install_puts_everything
check uninstall_leaves_no_file uninstall_removes_everything
check dist_holds_every_file_of_the_repository dist_holds_every_file

if [ "$all" = 1 ]; then
    check gcc_compiles_inside_the_tree_without_a_warning compiles_cleanly "$work/source" "$work/source"
    (cd "$work/source" && make -s distclean) >"$work/distclean" 2>&1 || bad distclean_of_a_tree "$(cat "$work/distclean")"
    if command -v clang-14 >/dev/null; then
        check clang_compiles_without_a_warning compiles_cleanly "$work/source" "$work/clang" CC=clang-14
    else
        skip clang_compiles_without_a_warning "no clang-14"
    fi
    if compiles_cleanly "$work/source" "$work/cblas" --without-onednn >"$work/cblas.log" 2>&1; then
        ok without_onednn_it_compiles_with_cblas_and_without_a_warning
        check version_tells_the_cblas_in_use bash -c "'$work/cblas/stagecoach' --version | grep CBLAS"
        check unit_tests_pass_with_cblas make -s -C "$work/cblas" check TESTS="$(unit_programs)"
        check cblas_learns_as_onednn_does cblas_learns_as_onednn_does
    elif grep -q 'no library for matrix products' "$work/cblas.log"; then
        skip without_onednn_it_compiles_with_cblas "no CBLAS here"
    else
        bad without_onednn_it_compiles_with_cblas_and_without_a_warning "$(tail -n 20 "$work/cblas.log")"
    fi
    mkdir "$work/distcheck"
    check distcheck_passes bash -c "cd '$work/distcheck' && '$work/source/configure' && make distcheck TESTS='$(unit_programs)'"
fi
finish

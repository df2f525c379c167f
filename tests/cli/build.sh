#!/bin/bash
# The build itself: what configure refuses, what install puts where. With STAGECOACH_TEST_ALL=1 also other compilers, the
# fallback of oneDNN, CUDA without NCCL and cuDNN, a build inside the source tree, and distcheck.
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
        env -C "$work/none" "$top/configure" --with-onednn=/nowhere
}

# As the header of the oneDNN of this build, but for another kind of threads.
onednn_for_other_threads_is_refused() {
    mkdir -p "$work/tbb/include"
    printf '#include_next <dnnl.h>\n#undef DNNL_CPU_RUNTIME\n#define DNNL_CPU_RUNTIME DNNL_RUNTIME_TBB\n' >"$work/tbb/include/dnnl.h"
    if ! grep -q '^#define HAVE_ONEDNN 1' "$build/config.h"; then skip onednn_for_other_threads_is_refused "this build has no oneDNN"; return; fi
    refuses onednn_for_other_threads_is_refused 1 'oneDNN, which was asked for, has threads of another kind than OpenMP' \
        env -C "$work/none" "$top/configure" --with-onednn="$work/tbb"
}

# cuda VERSION KIND...: the bin/nvcc of a toolkit that says its version and the kinds of GPUs that it knows, and can do nothing more
cuda() {
    local version=$1 bin=$work/cuda-$1/bin; shift
    mkdir -p "$bin"
    cat >"$bin/nvcc" <<END_OF_FILE
#!/bin/sh
case \$1 in
--version) echo "Cuda compilation tools, release $version, V$version.99" ;;
--list-gpu-arch) printf 'compute_%s\n' $* ;;
*) exit 1 ;;
esac
END_OF_FILE
    chmod +x "$bin/nvcc"
}
# not_for NAME PATTERN VERSION OPTION...: configure with that toolkit
not_for() {
    local name=$1 pattern=$2 version=$3; shift 3
    refuses "$name" 1 "$pattern" env -u NVCC -C "$work/none" "$top/configure" --with-cuda="$work/cuda-$version" "$@"
}
# compiles_for LIST FLAGS: what nvcc would be told; nothing else is looked for, since the C compiler does not work
compiles_for() {
    env -u NVCC -C "$work/none" "$top/configure" --with-cuda="$work/cuda-12.8" CC=false ${1:+--with-cuda-arch="$1"}
    sed -n "s/^NVCC_ARCH='\(.*\)'/\1/p" "$work/none/config.log" >"$work/flags"
    cat "$work/flags"
    sed 's/ *-gencode arch=compute_/ /g; s/,code=/>/g' "$work/flags" | grep -qx " $2"
}

what_cuda_cannot_do_is_refused() {
    cuda 11.8 70 80 90
    cuda 12.1 70 80 90
    cuda 12.4 70 75 80 86 90 90a
    cuda 12.8 75 80 86 89 90 100 120
    cuda unknown
    not_for a_toolkit_older_than_it_must_be_is_refused 'cuda-11.8/bin/nvcc is of CUDA 11.8, and 12.2 or newer is needed.*--without-cuda' 11.8
    not_for ...by_a_minor_version_too 'is of CUDA 12.1, and 12.2 or newer' 12.1
    not_for what_tells_no_version_is_refused 'is of CUDA .it tells no version.' unknown
    not_for no_toolkit_where_it_was_said_to_be 'with-cuda=.*cuda-13.9: there is no .*cuda-13.9/bin/nvcc' 13.9
    not_for a_kind_of_gpu_that_the_toolkit_does_not_know 'CUDA 12.4 has no code for compute capability 100, it knows 70 75 80 86 90' 12.4 --with-cuda-arch=80,100
    local kind
    for kind in 70 75 7.5 sm_75 80,75; do
        not_for "gpus_that_are_too_old_$kind" "with-cuda-arch=$kind: GPUs of compute capability 7[05] lack .*80 .A100. is the least" 12.8 "--with-cuda-arch=$kind"
    done
    for kind in hopper 80,hopper 80x -80; do
        not_for "what_is_no_kind_of_gpu_$kind" "with-cuda-arch=$kind: '(hopper|80x|-80)' is no compute capability" 12.8 "--with-cuda-arch=$kind"
    done
    not_for no_kind_of_gpu 'with-cuda-arch names no compute capability' 12.8 --with-cuda-arch=
    not_for ...nor_after_the_option 'with-cuda-arch names no compute capability' 12.8 --with-cuda-arch
    check kinds_of_gpus_are_put_in_order compiles_for '9.0,sm_80' '80>sm_80 90>sm_90 90>compute_90'
    check all_that_are_asked_for_have_code compiles_for '80 86 89 90 120' '80>sm_80 86>sm_86 89>sm_89 90>sm_90 120>sm_120 120>compute_120'
    check newer_gpus_get_code_that_they_can_translate compiles_for 80,90a '80>sm_80 90a>sm_90a 90>compute_90'
    check the_default_is_all_that_the_toolkit_serves compiles_for '' '80>sm_80 90>sm_90 100>sm_100 100>compute_100'
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

# Neither library is there to be called, and the program starts.
compiles_for_cuda_alone() {
    mkdir "$work/cuda" && cd "$work/cuda" && "$work/source/configure" NVCC="$nvcc" --with-cuda-arch=90 --without-nccl --without-cudnn || return 1
    make -j2 all >make.log 2>&1 || { tail -n 30 make.log; return 1; }
    ! grep -A 5 'warning:' make.log || return 1
    ./stagecoach --version >version || { cat version; return 1; }
    cat version
    grep -q '^  CUDA ' version && ! grep -qE '^  (NCCL|cuDNN) ' version && nm stagecoach | grep ' sgc_cuda_open$' && ! nm stagecoach | grep -E ' [TtDd] sgc_(nccl|cudnn)'
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
onednn_for_other_threads_is_refused
what_cuda_cannot_do_is_refused
check install_puts_everything_in_its_place install_puts_everything
check uninstall_leaves_no_file uninstall_removes_everything
check dist_holds_every_file_of_the_repository dist_holds_every_file

if [ "$all" = 1 ]; then
    check gcc_compiles_inside_the_tree_without_a_warning compiles_cleanly "$work/source" "$work/source" --without-cuda
    (cd "$work/source" && make -s distclean) >"$work/distclean" 2>&1 || bad distclean_of_a_tree "$(cat "$work/distclean")"
    if command -v clang-14 >/dev/null; then
        check clang_compiles_without_a_warning compiles_cleanly "$work/source" "$work/clang" CC=clang-14 CXX=clang++-14 --with-cuda-arch=90
    else
        skip clang_compiles_without_a_warning "no clang-14"
    fi
    if compiles_cleanly "$work/source" "$work/cblas" --without-onednn --without-cuda >"$work/cblas.log" 2>&1; then
        ok without_onednn_it_compiles_with_cblas_and_without_a_warning
        check version_tells_the_cblas_in_use bash -c "'$work/cblas/stagecoach' --version | grep CBLAS"
        check unit_tests_pass_with_cblas make -s -C "$work/cblas" check TESTS="$(unit_programs)"
        check cblas_learns_as_onednn_does cblas_learns_as_onednn_does
    elif grep -q 'no library for matrix products' "$work/cblas.log"; then
        skip without_onednn_it_compiles_with_cblas "no CBLAS here"
    else
        bad without_onednn_it_compiles_with_cblas_and_without_a_warning "$(tail -n 20 "$work/cblas.log")"
    fi
    nvcc=$(sed -n "s/^NVCC='\(.*\)'/\1/p" "$build/config.log")
    if [ -n "$nvcc" ]; then
        check cuda_is_served_without_nccl_and_cudnn compiles_for_cuda_alone
    else
        skip cuda_is_served_without_nccl_and_cudnn "this build is without CUDA"
    fi
    mkdir "$work/distcheck"
    check distcheck_passes bash -c "cd '$work/distcheck' && '$work/source/configure' --with-cuda-arch=90 &&
        make distcheck DISTCHECK_CONFIGURE_FLAGS=--with-cuda-arch=90 TESTS='$(unit_programs)'"
fi
finish

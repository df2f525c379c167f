#!/usr/bin/env bash
# What carries messages between GPUs, on emulated ones: NCCL and MPI give the same bits and counts; what goes wrong with NCCL ends the job with a
# message. STAGECOACH_TEST_ALL=1 runs all stages with both.
. "$(dirname "$0")/../lib.sh"
unset CUDA_VISIBLE_DEVICES
export EMULATED_GPUS=16 EMULATED_GUARD=0 # the host is kept off the GPU's memory by other tests
CPU=$STAGECOACH
STAGECOACH=$(dirname "$STAGECOACH")/tests/gpu/stagecoach-emulated

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END_OF_FILE
model = { n_positions = 16; n_embd = 16; n_layer = 2; n_head = 1; };
data = { train_file = "$work/text.txt"; block_size = 16; };
training = { per_device_train_batch_size = 2; max_steps = 2; learning_rate = 1e-2; save_steps = 2; logging_steps = 1; };
END_OF_FILE

# What is in ON_RANK_1 is in the environment of rank 1 only.
cat >"$work/each" <<'END_OF_FILE'
#!/bin/bash
# shellcheck disable=SC2086,SC2163
[ "$OMPI_COMM_WORLD_RANK" = 1 ] && [ -n "$ON_RANK_1" ] && export $ON_RANK_1
exec "$@"
END_OF_FILE
chmod +x "$work/each"

# trains NAME RANKS OPTION...
trains() {
    local name=$1 n=$2; shift 2
    ranks "$n" "$work/each" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --overwrite_output_dir "$@" >"$work/$name.log" 2>&1 ||
        { echo "exit $? of $name"; tail -n 20 "$work/$name.log"; return 1; }
}
field() { grep -o "\"$2\": *\"[^\"]*\"" "$work/$1/run.json"; }
carried_by() { field "$1" messages | grep -q "\"$2\"$"; }
same() {
    local group
    for group in /model /optimizer; do
        h5diff "$work/$1/checkpoint-2/checkpoint.h5" "$work/$2/checkpoint-2/checkpoint.h5" "$group" || return 1
    done
}
# What run.json tells of messages per update, without the control word.
sent() { python3 -c 'import json, sys; s = json.load(open(sys.argv[1]))["sent_per_update"]; s.pop("control", None); print(json.dumps(s, sort_keys=True))' "$work/$1/run.json"; }
same_sent() { diff <(sent "$1") <(sent "$2"); }

stages="2 3"; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && stages="0 1 2 3"
for stage in $stages; do
    check "stage $stage trains by NCCL" trains "nccl$stage" 2 --zero.stage "$stage" --comm.backend nccl
    check "... which run.json tells" carried_by "nccl$stage" nccl
    check "stage $stage trains by MPI through the host" trains "mpi$stage" 2 --zero.stage "$stage" --comm.backend mpi
    check "... which run.json tells" carried_by "mpi$stage" mpi
    check "... and ends with the same bits" same "nccl$stage" "mpi$stage"
    check "... after as many elements and bytes" same_sent "nccl$stage" "mpi$stage"
done
check "a GPU that is late changes no bit" env EMULATED_LAZY=1 bash -c "$(declare -f trains ranks); $(declare -p work STAGECOACH); trains late 2 --zero.stage 3"
check "... auto takes NCCL where it is" carried_by late nccl
check "... and ends with the same bits" same late nccl3
check "four ranks, two per node, add as four do" trains nodes 4 --zero.stage 2 --comm.ranks_per_node 2
check "... with MPI" trains flat 4 --zero.stage 2 --comm.backend mpi
check "... with the same bits" same nodes flat
check "gradients as bf16 by NCCL" trains bf16 2 --bf16 --comm.reduce_dtype bf16
check "... with MPI" trains bf16-mpi 2 --bf16 --comm.reduce_dtype bf16 --comm.backend mpi
check "... with the same bits" same bf16 bf16-mpi
# Sums of the ranks of a node are longer than what they are made of; how many are made at once depends on the number of nodes.
worlds=8; [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] && worlds="8 16"
for n in $worlds; do
    check "gradients as bf16 by NCCL, $n ranks, four per node" trains "nodes-$n" "$n" --bf16 --comm.reduce_dtype bf16 --comm.ranks_per_node 4
    check "... with MPI" trains "flat-$n" "$n" --bf16 --comm.reduce_dtype bf16 --comm.backend mpi
    check "... with the same bits" same "nodes-$n" "flat-$n"
done
check "one GPU needs no messages" trains one 1 --profile 1
check "a trace of NCCL" trains trace 2 --profile 1
check "... has the collectives on their way" grep -q '"name":"reduce_scatter","cat":"under way"' "$work/trace/trace.json"

without() { EMULATED_WITHOUT=nccl trains without 2; }
check "without NCCL on the node auto takes MPI" without
check "... says so in one line" eval "[ \"\$(grep -c 'messages between GPUs: MPI, by way of the host.s memory: NCCL cannot be opened: libnccl.so.2' $work/without.log)\" = 1 ]"
export ON_RANK_1=EMULATED_WITHOUT=nccl
check "... without it on one node, too" trains without1 2
check "... on all ranks" carried_by without1 mpi

# refused NAME PATTERN SETTING OPTION...: on two ranks; the setting is in the environment of rank 1
refused() {
    local name=$1 pattern=$2; shift 2
    export ON_RANK_1=$1; shift
    refuses "$name" 1 "$pattern" mpirun -n 2 "$work/each" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/bad" --overwrite_output_dir --log_level error "$@"
}
refused "NCCL asked for and missing" "rank 1 on .*: NCCL cannot be opened: libnccl.so.2.*LD_LIBRARY_PATH, or write --comm.backend mpi" EMULATED_WITHOUT=nccl --comm.backend nccl
refused "an old NCCL" "rank 1 on .*: this libnccl.so.2 is of version 2.17: load NCCL 2.18 or newer" EMULATED_NCCL_VERSION=21701 --comm.backend nccl
refused "two versions of NCCL" "has NCCL 2.28.9, and others of this job have another version" EMULATED_NCCL_VERSION=22700
refused "a network that refuses" "rank 1 on .*: NCCL failed on GPU 1 of node .*: unhandled system error: the emulated network refuses" EMULATED_NCCL_REFUSES=1
refused "a rank that does not answer" "NCCL has not connected GPU 0 of node .* within 1 s" EMULATED_NCCL_DEAF=1 --comm.timeout_s 1
refused "a peer that fails in an update" "rank 1 on .*, update 1: NCCL failed on GPU 1 of node .*: remote process exited" EMULATED_NCCL_FAILS=1:12
refused "a call that fails within a group of them" "rank 1 on .*, update 1: NCCL failed on GPU 1 of node .*: the emulated call is rejected .ncclRecv." \
    EMULATED_NCCL_REJECTS=1:4 --zero.stage 2
export ON_RANK_1=
refuses "NCCL for CPUs" 2 "comm.backend nccl: NCCL carries messages between GPUs, and this job computes on CPUs" \
    mpirun -n 2 "$CPU" train "$work/tiny.cfg" --output_dir "$work/bad" --log_level error --use_cpu --comm.backend nccl

hangs() {
    ON_RANK_1=EMULATED_NCCL_HANGS=1:12 EMULATED_LAZY=1 trains hangs 2 --comm.timeout_s 1 && return 1
    grep -q "update 1: the .* by NCCL on GPU . of node .* has not ended within 1 s" "$work/hangs.log"
}
check "a collective that hangs ends the job" hangs
finish

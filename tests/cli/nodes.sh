#!/usr/bin/env bash
# Directories that only one node sees: checkpoints that survive the loss of any node, and output_dirs of nodes.
# Two ranks count as a node here, and each node mounts its own directory at the same path.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
mkdir "$work/local"
# shellcheck disable=SC2016
mine='mount --bind "$0/disk-$((OMPI_COMM_WORLD_RANK / ${PER_NODE:-2}))" "$0/local" && exec "$@"'
unshare -m bash -c 'mount --bind "$0" "$0"' "$work" 2>/dev/null || { skip "directories of nodes" "no right to mount"; finish; }

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 1; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 1; max_steps = 20; learning_rate = 1e-2; save_steps = 2; lr_scheduler_type = "constant"; };
checkpoint = { block_size = 4096L; };
END
# train NAME RANKS [OPTION...]: each node with its own $work/local; the log is $work/NAME.log
train() {
    local name=$1 n=$2; shift 2
    ranks "$n" unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node "${PER_NODE:-2}" --output_dir "$work/$name" "$@" \
        >"$work/$name.log" 2>&1
}
disks() { rm -rf "$work"/disk-*; for ((i = 0; i < $1; i++)); do mkdir "$work/disk-$i"; done; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
same_state() { for group in /model /optimizer /state; do h5diff "$1/checkpoint.h5" "$2/checkpoint.h5" $group || return 1; done; }
kept() { (cd "$1" && ls -A | grep checkpoint | sort -V | paste -sd' '); }
has() { grep -qE -- "$2" "$work/$1.log" || { tail -n 30 "$work/$1.log"; return 1; }; }

disks 3
check "a run without node-local checkpoints" train straight 6

# interrupted NAME OPTION...: a run whose shared checkpoint is old and whose node-local ones are newer, killed after update 14
local_options=(--checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 4)
interrupted() {
    local name=$1; shift
    train "$name" 6 "${local_options[@]}" "$@" --max_steps 14 && rm -rf "$work/$name/checkpoint-14"
}
for how in partner xor; do
    for lost in 0 1 2; do
        # by default one loss of each kind
        [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] || [ $lost = 0 ] || [ $how = xor ] || continue
        [ $lost = 0 ] && { disks 3; check "$how: saving on nodes" interrupted "whole-$how" --checkpoint.redundancy $how; }
        [ $lost = 0 ] && { check "$how: every fourth save is shared" is "$(kept "$work/whole-$how")" "checkpoint-8";
            rm -rf "$work/kept-$how" && mkdir "$work/kept-$how" && cp -r "$work"/disk-? "$work/kept-$how"; }
        rm -rf "$work/run" "$work"/disk-? && cp -r "$work/whole-$how" "$work/run" && cp -r "$work/kept-$how"/disk-? "$work"
        rm -rf "$work/disk-$lost" && mkdir "$work/disk-$lost"
        check "$how: node $lost is lost, and the run goes on" train run 6 "${local_options[@]}" --checkpoint.redundancy $how --resume_from_checkpoint latest
        check "... from the newest that nodes had" has run 'resuming .*checkpoint-12 at update 12'
        check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"
    done
done
for lost in "0 1" "0 1 2"; do
    rm -rf "$work/run" "$work"/disk-? && cp -r "$work/whole-xor" "$work/run" && cp -r "$work/kept-xor"/disk-? "$work"
    for node in $lost; do rm -rf "$work/disk-$node" && mkdir "$work/disk-$node"; done
    check "nodes $lost are lost: the shared one is used" train run 6 "${local_options[@]}" --checkpoint.redundancy xor --resume_from_checkpoint latest
    check "... which is older" has run 'resuming .*checkpoint-8 at update 8'
    check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"
done
disks 3
check "without redundancy all nodes are needed" interrupted bare
check "... and enough" train bare 6 "${local_options[@]}" --resume_from_checkpoint latest
check "... from the newest" has bare 'resuming .*checkpoint-12 at update 12'
check "... two stay on each node" is "$(for i in 0 1 2; do kept "$work/disk-$i/ckpt" | wc -w; done | paste -sd' ')" "2 2 2"
refuses "redundancy needs a directory" 2 "redundancy.*conflicts with.*local_dir" "$STAGECOACH" train "$work/tiny.cfg" --checkpoint.redundancy xor

# an output_dir on each node
disks 2
check "save_on_each_node" train local/out 4 --save_on_each_node --save_total_limit 2
check "... every node has the last two" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20/checkpoint-18 checkpoint-20"
check "... whole" "$STAGECOACH" ckpt verify "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... the same" diff -r "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... and the run goes on from them" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 22
check "... on every node" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20 checkpoint-22/checkpoint-18 checkpoint-20 checkpoint-22"
finish

#!/usr/bin/env bash
# An output_dir on each node: every node has whole checkpoints, and is given what it lacks.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../fault/nodes.sh
. "$top/tests/fault/nodes.sh"

disks 2
check "save_on_each_node" train local/out 4 --save_on_each_node --save_total_limit 2
check "... every node has the last two" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20/checkpoint-18 checkpoint-20"
check "... whole" "$STAGECOACH" ckpt verify "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... the same" diff -r "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... and the run goes on from them" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 22
check "... on every node" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20 checkpoint-22/checkpoint-18 checkpoint-20 checkpoint-22"
mkdir "$work/kept-each" && cp -r "$work"/disk-[01] "$work/kept-each"

# kills while nodes save, and while one is given its copy
again() { check "... and goes on" train local/out 4 --save_on_each_node --resume_from_checkpoint auto --max_steps 22
    check "... on every node, to the same end" is "$(for d in 0 1; do same_state "$work/kept-each/disk-1/out/checkpoint-22" "$work/disk-$d/out/checkpoint-22" || echo differs; done)" ""
    check "... without leftovers" is "$(ls -A "$work"/disk-?/out | grep -c '\.tmp')" 0; }
to_kill=(local/out 4 --save_on_each_node --max_steps 22 --checkpoint.buffer_size 65536)
for rank in 0 2; do
    [ -e "$fault" ] || { skip "kills" "$fault was not built"; break; }
    disks 2
    for at in $(kills "$([ $rank = 0 ] && echo rename:2 || echo fallocate:2 fsync:3)" $rank "$work/local" "${to_kill[@]}"); do
        disks 2
        check "a job is killed while nodes save, at call $at of rank $rank" killed "$at" $rank "$work/local" "${to_kill[@]}"
        again
    done
done
if [ -e "$fault" ]; then
    disks 2
    LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=2 FAULT_CALL=fallocate FAULT_AT=3 FAULT_KIND=ENOSPC check "a node finds no room for what comes from the other" \
        train local/out 4 --save_on_each_node --checkpoint.buffer_size 4096 --max_steps 4
    check "... which is said once" is "$(grep -c 'ERROR .*checkpoint-2 could not be saved: rank 2 .*shards/shard-00001-of-00004.h5 .*No space left' "$work/local/out.log")" 1
    check "... leaves nothing on any node, and the next is whole, in many pieces" "$STAGECOACH" ckpt verify "$work"/disk-[01]/out/checkpoint-4
    check "... alone" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-4/checkpoint-4"
fi
new_disk() { rm -rf "$work"/disk-? && cp -r "$work/kept-each"/disk-[01] "$work" && rm -rf "$work"/disk-1/out/checkpoint-22 "$work/disk-0" && mkdir "$work/disk-0"; }
if [ -e "$fault" ]; then
    new_disk
    for at in $(kills pwrite:3 0 "$work/local/out/.checkpoint-20" "${to_kill[@]}" --resume_from_checkpoint auto); do
        new_disk
        check "a job is killed while a node is given its copy, at call $at" killed "$at" 0 "$work/local/out/.checkpoint-20" "${to_kill[@]}" --resume_from_checkpoint auto
        again
        check "... from that copy" has local/out 'resuming .*checkpoint-20 at update 20'
    done
fi
rm -rf "$work"/disk-? && cp -r "$work/kept-each"/disk-[01] "$work"

# what is damaged on a node
marr "$work/disk-1/out/checkpoint-22/shards/shard-00002-of-00004.h5"
check "the newest is damaged on one node" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 24
check "... and is given to it by the other" has local/out "$work/local/out lacked checkpoint-22: it is copied from node 0"
check "... to go on from" has local/out 'resuming .*checkpoint-22 at update 22'
check "... the same on both" diff -r "$work/disk-0/out/checkpoint-22" "$work/disk-1/out/checkpoint-22"
cp -r "$work/disk-0/out/checkpoint-24" "$work/straight-24"
check "... and nothing is thrown away" is "$(ls "$work/disk-1/out" | grep -cE '^checkpoint-22.old-[0-9a-f]{16}$')" 1
marr "$work/disk-0/out/checkpoint-24/shards/shard-00000-of-00004.h5"; marr "$work/disk-1/out/checkpoint-24/shards/shard-00003-of-00004.h5"; rm -rf "$work/disk-1/out/checkpoint-22"
check "the newest is damaged on both, and one lacks that before" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 24
check "... which it is given" has local/out 'resuming .*checkpoint-22 at update 22'
check "... to the same end as before" same_state "$work/straight-24" "$work/disk-1/out/checkpoint-24"

# what is to be copied is damaged itself
given() { rm -rf "$work"/disk-? && cp -r "$work/kept-each"/disk-[01] "$work" && rm -rf "$work/disk-0" && mkdir "$work/disk-0" && marr "$work/disk-1/out/checkpoint-22/shards/shard-00002-of-00004.h5"; }
given
refuses "resume_strict gives no damaged one to a new disk" 1 "error: .*checkpoint-22 of node 1 is damaged" \
    mpirun -n 4 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node --resume_from_checkpoint latest \
    --checkpoint.resume_strict
check "... nothing of it is left there" is "$(kept "$work/disk-0/out")" ""
check "a new disk, and the newest that the other node has is damaged" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 24
check "... by name" has local/out 'checkpoint-22 of node 1 is damaged: it is not handed out'
check "... an older one is copied" has local/out 'resuming .*checkpoint-20 at update 20'
check "... whole" "$STAGECOACH" ckpt verify "$work"/disk-[01]/out/checkpoint-2?
check "... to the same end as before" same_state "$work/straight-24" "$work/disk-0/out/checkpoint-24"
given
mkdir "$work/disk-3" && cp -r "$work/kept-each/disk-1" "$work/disk-2"
PER_NODE=1 check "... but a third node has it whole" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 24
check "... to go on from" has local/out 'resuming .*checkpoint-22 at update 22'
check "... on every node" "$STAGECOACH" ckpt verify "$work"/disk-?/out/checkpoint-22

rm -rf "$work"/disk-? && cp -r "$work/kept-each"/disk-[01] "$work"
printf 'job 11\nrestart 0\nhost elsewhere\npid 1\nstart 1\n' >"$work/disk-1/out/run.lock"
refuses "a second job in the output_dir of another node" 2 "another job runs in $work/local/out: job id 11, host elsewhere" \
    mpirun -n 4 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node --resume_from_checkpoint latest
check "... leaves no lock of its own" is "$(cat "$work"/disk-?/out/run.lock | head -n 1)" "job 11"
rm "$work/disk-1/out/run.lock"

# a new disk in the place of the first node's, and one that lacks the newest
rm -rf "$work/disk-0" && mkdir "$work/disk-0"
check "the first node lost its disk" train local/out 4 --save_on_each_node --resume_from_checkpoint auto --max_steps 24
check "... the run goes on from what the other has" has local/out 'resuming .*checkpoint-22 at update 22'
check "... which is copied" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-22 checkpoint-24/checkpoint-18 checkpoint-20 checkpoint-22 checkpoint-24"
check "... to the same bytes" diff -r "$work/disk-0/out/checkpoint-22" "$work/disk-1/out/checkpoint-22"
rm -rf "$work/disk-1/out/checkpoint-24"
check "the second node lacks the newest" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 26
check "... and is given it" has local/out 'resuming .*checkpoint-24 at update 24'
check "... and keeps what it has" is "$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20 checkpoint-22 checkpoint-24 checkpoint-26"
rm -rf "$work/disk-0" && mkdir "$work/disk-0"
refuses "a new run where another node holds one" 2 "output_dir $work/local/out of another node already holds 5 checkpoints" \
    mpirun -n 4 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node
if [ -e "$fault" ]; then
    LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=0 FAULT_CALL=fsync FAULT_AT=3 FAULT_KIND=EIO refuses "a new disk that fails while it is given its copy" 1 "error: .*cannot sync .*Input/output error" \
        mpirun -n 4 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node --resume_from_checkpoint auto
    check "... has nothing then, and the other node all" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "/checkpoint-18 checkpoint-20 checkpoint-22 checkpoint-24 checkpoint-26"
fi
mkdir -p "$work/disk-2/out"
check "another run" train other 1 --max_steps 2
cp -r "$work/other/checkpoint-2" "$work/disk-2/out"
refuses "disks of two runs beside a new one" 1 "the nodes hold checkpoints of several runs, [0-9a-f]{16} .node 1. and [0-9a-f]{16} .node 2." \
    mpirun -n 6 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node --resume_from_checkpoint auto

# the last update is nowhere else, and one node's copy of the best is damaged, in a block that another node would check if the nodes shared that
worse=(--save_on_each_node --load_best_model_at_end --evaluation_strategy steps --eval_steps 4 --save_steps 4 --learning_rate 3 --lr_scheduler_type constant_with_warmup --warmup_steps 20
    --max_grad_norm none --checkpoint.block_size 16384)
disks 2
check "a run on nodes that gets worse" train local/out 4 "${worse[@]}"
best=$(readlink "$work/disk-0/out/best")
shard=shards/shard-00001-of-00004.h5
weights=$(awk '/^file/ { is = $3 == "'$shard'" } is && /^data/ && $4 == "model" { at = $2 } END { print at }' "$work/disk-0/out/$best/manifest") # of the last unit
printf X | dd of="$work/disk-0/out/$best/$shard" bs=1 seek="$weights" conv=notrunc status=none
refuses "a best that is damaged on one node" 1 "error: .*$best/$shard is damaged.*cannot load the best checkpoint, $work/local/out/$best\. .* its last update, 22, is saved" \
    mpirun -n 4 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" "${worse[@]}" --resume_from_checkpoint latest \
    --max_steps 22 --save_strategy no
check "... which it is, on all" "$STAGECOACH" ckpt verify "$work"/disk-0/out/checkpoint-22 "$work"/disk-1/out/checkpoint-22

# What files that travel take of an evaluation is not taken from the time of training, too
disks 2
PER_NODE=1 check "evaluations while files travel" train local/out 2 --save_on_each_node --max_steps 8 --save_steps 1 --checkpoint.overlap skip --checkpoint.buffer_size 16384 \
    --evaluation_strategy steps --eval_steps 1 --data.validation_file "$work/text.txt" --data.max_eval_samples 200 --logging_steps 1 --model.n_embd 192
check "... leave a rate of training" is "$(grep -c '"tokens_per_second":-' "$work/disk-0/out/metrics.jsonl")" 0

disks 3
check "nodes of two, two and one rank that share files" train local/out 5 --save_on_each_node --checkpoint.buffer_size 16384 --checkpoint.writers_per_node 1 --zero.stage 1 --max_steps 3
for node in 1 2; do check "... node $node has all" diff -r "$work/disk-0/out/checkpoint-3" "$work/disk-$node/out/checkpoint-3"; done
finish

#!/usr/bin/env bash
# Checkpoints in directories that only one node sees: they survive the loss of any node. Output_dirs of nodes are in nodes_each.sh.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
# shellcheck source=../fault/nodes.sh
. "$top/tests/fault/nodes.sh"

disks 3
check "a run without node-local checkpoints" train straight 6

# interrupted NAME OPTION...: a run whose shared checkpoint is old and whose node-local ones are newer, killed after update 14; as $work/run, then moved to NAME
local_options=(--checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 4)
interrupted() {
    local name=$1; shift
    rm -rf "${work:?}/run" "$work/newest-$name"
    train run 6 "${local_options[@]}" "$@" --max_steps 14 && mv "$work/run/checkpoint-14" "$work/newest-$name" && mv "$work/run" "$work/$name"
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
# restored HOW: as the killed run of that redundancy left everything
restored() { rm -rf "$work/run" "$work"/disk-? && cp -r "$work/whole-$1" "$work/run" && cp -r "$work/kept-$1"/disk-? "$work"; }
goes_on() { train run 6 "${local_options[@]}" --checkpoint.redundancy "$1" --resume_from_checkpoint latest; }
for how in partner xor; do
    restored $how
    marr "$work"/disk-1/ckpt/*/checkpoint-12/shards/shard-00002-of-00006.h5
    check "$how: a damaged shard counts as lost" goes_on $how
    check "... by name" has run 'checkpoint-12/shards/shard-00002-of-00006.h5 is damaged: it counts as lost'
    check "... and is made good" has run "checkpoint-12 is recovered from node-local checkpoints; $([ $how = xor ] && echo 1 || echo 0) of 6"
    check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"
done
restored xor
rm -rf "$work/disk-0" && mkdir "$work/disk-0"
marr "$work"/disk-2/ckpt/*/checkpoint-12/shards/parity-00004
check "xor: a damaged parity is noticed before it is used" goes_on xor
check "... by name" has run 'checkpoint-12/shards/parity-00004 is damaged: it counts as lost'
check "... and the older one of the nodes is taken" has run 'resuming .*checkpoint-10 at update 10'
check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"
restored xor
marr "$work"/disk-1/ckpt/*/checkpoint-12/nodes; marr "$work"/disk-0/ckpt/*/checkpoint-12/checkpoint.h5
check "xor: two nodes whose metadata are damaged" goes_on xor
check "... count as lost" has run 'resuming .*checkpoint-10 at update 10'
restored xor
cp -r "$work/straight/checkpoint-20" "$work/run"
check "a newer checkpoint of another run in output_dir" goes_on xor
check "... does not stand for what the nodes have" has run 'resuming .*checkpoint-12 at update 12'
check "... and is not passed off as this one's" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"

restored xor
cp -r "$work/newest-whole-xor" "$work/run/checkpoint-14"
marr "$work/run/checkpoint-14/shards/shard-00001-of-00006.h5"
check "the newest shared one turns out to be damaged" goes_on xor
check "... by name" has run 'checkpoint-14 is passed over: .*shard-00001-of-00006.h5 is damaged'
check "... what nodes have is newer than the next shared one" has run 'resuming .*checkpoint-12 at update 12'
check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"

# what tools say of a node's part
restored xor
ckpt() { timeout -k 5 60 "$STAGECOACH" ckpt "$@"; }
part=$(echo "$work"/disk-1/ckpt/*)
check "ls says what a node's part is" is "$(ckpt ls "$part" | awk 'NR > 1 { $2 = $3 = $4 = $8 = ""; print }' | tr -s ' ' | paste -sd,)" \
    "10 6 0 float32 - part: node 1's of 3, redundancy xor,12 6 0 float32 - part: node 1's of 3, redundancy xor"
check "... in JSON too" is "$(ckpt ls "$part" --json | grep -cE '"state": "part"|"part": "node 1.s of 3')" 4
check "verify checks what is there" is "$(ckpt verify "$part/checkpoint-12" | sed 's/.*: whole/whole/; s/ files.*//')" "whole as what node 1 of 3 holds: 7"
marr "$part/checkpoint-12/shards/parity-00003"
refuses "show says why it cannot" 1 'is only what node 1 of 3 holds of a checkpoint; train --resume_from_checkpoint latest' "$STAGECOACH" ckpt show "$part/checkpoint-12"
check "verify finds a damaged parity" is "$(ckpt verify "$part/checkpoint-12" | paste -sd' ' | sed 's/.*: damaged/damaged/')" "damaged   shards/parity-00003: does not fit its hash"

# kills while nodes save, and while what they have is put together
local_id() { sed -n 's/.*"local_id": "\(.*\)".*/\1/p' "$work/run/run.json"; } # a job that was killed before its first save ended begins afresh, with another
to_kill=(run 6 "${local_options[@]}" --checkpoint.redundancy xor --checkpoint.buffer_size 65536)
for rank in 0 2; do
    [ -e "$fault" ] || { skip "kills" "$fault was not built"; break; }
    rm -rf "$work/run"; disks 3
    for at in $(kills "$([ $rank = 0 ] || echo fallocate:4 rename:1)" $rank "$work/local" "${to_kill[@]}"); do
        rm -rf "$work/run"; disks 3
        check "a job is killed while nodes save, at call $at of rank $rank" killed "$at" $rank "$work/local" "${to_kill[@]}"
        check "... and goes on" train "${to_kill[@]}" --resume_from_checkpoint auto
        check "... to the same end, without leftovers" is "$(same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20" && ls -A "$work/run" "$work"/disk-?/ckpt/"$(local_id)" | grep -c '\.tmp')" 0
    done
    restored xor; rm -rf "$work/disk-0" && mkdir "$work/disk-0"
    for at in $(kills "$([ $rank = 0 ] && echo rename:1 || echo fsync:1)" $rank "$work/run/.checkpoint-12" "${to_kill[@]}" --resume_from_checkpoint latest); do
        restored xor; rm -rf "$work/disk-0" && mkdir "$work/disk-0"
        check "a job is killed while what nodes have is put together, at call $at of rank $rank" killed "$at" $rank "$work/run/.checkpoint-12" "${to_kill[@]}" --resume_from_checkpoint latest
        check "... and puts it together at its next start" goes_on xor
        check "... to go on from" has run 'resuming .*checkpoint-12 at update 12'
        check "... to the same end, without leftovers" is "$(same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20" && ls -A "$work/run" | grep -c '\.tmp')" 0
    done
done

# a disk of one node that fails when files have come, or finds no room for what comes
faults="fsync:2 fsync:3 fallocate:2"
[ "${STAGECOACH_TEST_ALL:-0}" = 0 ] || faults="$(printf 'fsync:%d ' 1 2 3 4 5 6 7) fallocate:2 pwrite:40"
for how in partner xor; do
    for at in $faults; do
        [ -e "$fault" ] || { skip "faults while files travel" "$fault was not built"; break 2; }
        disks 2
        k=${at#*:}
        LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=$((k % 2 * 2)) FAULT_CALL=${at%:*} FAULT_AT=$k FAULT_KIND=EIO check "$how: a disk of a node fails at $at" \
            train "fails-$how-$at" 4 --checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 100 --checkpoint.redundancy $how --checkpoint.buffer_size 4096 --max_steps 6
        check "... which is said once" is "$(grep -c 'ERROR .*checkpoint-2 could not be saved: rank .*Input/output error' "$work/fails-$how-$at.log")" 1
        check "... leaves nothing on any node, and the next is whole" is "$(kept "$work"/disk-0/ckpt/*)/$(kept "$work"/disk-1/ckpt/*)" "checkpoint-4/checkpoint-4"
    done
done

# Training goes on while files travel to a node that writes slowly. A signal meanwhile ends it when they are there.
# goes_on_beside NAME: there are updates after they set out, and they are still on their way
goes_on_beside() {
    for ((i = 0; i < 600; i++)); do
        awk '/files of .*checkpoint-100 travel/ { t = 1 } t && /update [0-9]+\// { n++ } END { exit n < 5 }' "$work/$1.log" && break
        sleep 0.1
    done
    awk '/files of .*checkpoint-100 travel/ { t = 1 } /saved .*checkpoint-100 / { exit } t && /update [0-9]+\// { n++ } END { exit n < 5 }' "$work/$1.log"
}
for how in partner xor; do
    [ -e "$fault" ] || { skip "training beside files that travel" "$fault was not built"; break; }
    disks 2
    slowly=(--checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 100 --checkpoint.redundancy "$how" --checkpoint.buffer_size 8192)
    LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=2 FAULT_CALL=pwrite FAULT_AT=1 FAULT_KIND=SLEEP FAULT_MS=40 train "beside-$how" 4 "${slowly[@]}" \
        --max_steps 1000000 --save_steps 100 --checkpoint.overlap skip --logging_steps 1 --log_level debug &
    launcher=$!
    check "$how: training goes on beside files that travel" goes_on_beside "beside-$how"
    check "... through as much memory as was allowed" has "beside-$how" 'written in the background from copies of .* per rank, sent to other nodes through 8.0 KiB$'
    kill -USR1 "$(pgrep -f "^$STAGECOACH train $work/tiny.cfg" | head -n 1)"
    wait $launcher
    check "... a signal ends it" is $? 75
    check "... when they are there" has "beside-$how" 'saved .*/checkpoint-100 '
    check "... whole" ckpt verify "$work"/disk-?/ckpt/*/checkpoint-*
done

# synced NODE: of each file of its checkpoint there is an fsync by one of its ranks
synced() {
    local n=0 file
    while read -r file; do
        n=$((n + 1))
        cat "$work/calls.$((2 * $1))" "$work/calls.$((2 * $1 + 1))" | grep -qE "fsync .*/\.checkpoint-2\.tmp-[0-9a-f]+/$file$" || { echo "$file is not synced"; return 1; }
    done < <(cd "$work"/disk-"$1"/ckpt/*/checkpoint-2 && find . -type f -printf '%P\n')
    [ $n -ge 8 ] || { echo "$n files"; return 1; }
}
if [ -e "$fault" ]; then
    for how in partner xor; do
        disks 2
        rm -f "$work"/calls.*
        LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=all FAULT_AT=0 FAULT_COUNT=$work/calls check "$how: a save on two nodes" \
            train "synced-$how" 4 --checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 100 --checkpoint.redundancy $how --max_steps 3
        for node in 0 1; do check "... which node $node has synced, with what came from the other" synced $node; done
    done
else
    skip "what came from other nodes is synced" "$fault was not built"
fi

# whose they are
restored xor
check "a new run with the local_dir of another" train other 6 "${local_options[@]}" --checkpoint.redundancy xor --resume_from_checkpoint auto --max_steps 6
check "... begins afresh" has other 'Updates +6, of which 0 are done'
check "... says so" has other "$work/local/ckpt/[0-9a-f]{16} is of another run, and stays"
check "... and leaves that one's alone" goes_on xor
check "... which goes on from them" has run 'resuming .*checkpoint-12 at update 12'
restored xor
rm -rf "$work/copied" && cp -r "$work/run" "$work/copied"
check "a copy of an output_dir" train copied 6 "${local_options[@]}" --checkpoint.redundancy xor --resume_from_checkpoint latest
check "... goes on from what it holds itself" has copied 'resuming .*copied/checkpoint-8 at update 8'
check "... says why" has copied 'copied is not the directory that its run.json was written in: what nodes hold in .* of run [0-9a-f]{16} is of that one'
check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/copied/checkpoint-20"
rm -rf "$work/copied/checkpoint-20"
check "... and has node-local ones of its own" train copied 6 "${local_options[@]}" --checkpoint.redundancy xor --resume_from_checkpoint latest
check "... from which it goes on" has copied 'resuming .*copied/checkpoint-18 at update 18'
check "... beside those of the other" goes_on xor
check "... which goes on from its own" has run 'resuming .*run/checkpoint-12 at update 12'
restored xor
rm "$work/run/run.json"
check "a directory that does not say whose it is" goes_on xor
check "... is not taken for the one that nodes have something of" has run 'resuming .*run/checkpoint-8 at update 8'
restored xor
if [ -e "$fault" ]; then
    LD_PRELOAD=$fault FAULT_ROOT=$work/run FAULT_RANKS=2 FAULT_CALL=fallocate FAULT_AT=1 FAULT_KIND=ENOSPC refuses "no room to put together what nodes have" 1 \
        "error: rank 2 on .*cannot write $work/run/.checkpoint-12.tmp-.* needed, .* free\): No space left.*mend that, or go on without it: --resume_from_checkpoint $work/run/checkpoint-8$" \
        mpirun -n 6 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/run" "${local_options[@]}" --checkpoint.redundancy xor \
        --resume_from_checkpoint latest
    check "... leaves nothing" is "$(kept "$work/run")" "checkpoint-8"
    check "... and loses nothing" goes_on xor
    check "... of what nodes have" has run 'resuming .*checkpoint-12 at update 12'
    restored xor
fi
printf 'job 11\nrestart 0\nhost elsewhere\npid 1\nstart 1\n' >"$(echo "$work"/disk-1/ckpt/*)/run.lock"
refuses "a second job with the same node-local checkpoints" 2 "another job runs in $work/local/ckpt/[0-9a-f]{16}: job id 11, host elsewhere" \
    mpirun -n 6 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/run" "${local_options[@]}" --checkpoint.redundancy xor --resume_from_checkpoint latest
disks 3
mkdir "$work/disk-0/ckpt" && touch -d '2 hours ago' "$work/disk-0/ckpt/.node-0123456789abcdef" && touch "$work/disk-0/ckpt/.node-fedcba9876543210"
check "a run that is killed before it shared anything" train early 6 "${local_options[@]}" --max_steps 6 --checkpoint.flush_every 100
check "... clears away marks of old starts, and not those of others that start now" is "$(cd "$work/disk-0/ckpt" && ls -A | grep node-)" .node-fedcba9876543210
rm -rf "$work/early/checkpoint-6"
check "... goes on from what its nodes have" train early 6 "${local_options[@]}" --resume_from_checkpoint auto
check "... as its directory says whose they are" has early 'resuming .*checkpoint-4 at update 4'
check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/early/checkpoint-20"

disks 3
check "two forks of a checkpoint that share a local_dir" train fork-a 6 "${local_options[@]}" --resume_from_checkpoint "$work/straight/checkpoint-10" --max_steps 16 --checkpoint.flush_every 100
rm -rf "$work/fork-a/checkpoint-16"
check "... with other settings" train fork-b 6 "${local_options[@]}" --resume_from_checkpoint "$work/straight/checkpoint-10" --max_steps 18 --checkpoint.flush_every 100 --learning_rate 1e-3
check "... are runs of their own" has fork-b 'checkpoint-10 is of run [0-9a-f]{16}: what goes on from it in .*/fork-b is run [0-9a-f]{16}'
check "... of which each has its own on nodes" is "$(for d in "$work"/disk-1/ckpt/*; do kept "$d"; done | sort | paste -sd,)" "checkpoint-12 checkpoint-14,checkpoint-14 checkpoint-16"
check "... and goes on from them" train fork-a 6 "${local_options[@]}" --resume_from_checkpoint latest --max_steps 16
check "... and not from newer ones of the other" has fork-a 'resuming .*checkpoint-14 at update 14'
# What another run has under a name that this one writes too
check "a new run there" train fork-c 6 "${local_options[@]}" --max_steps 16 --checkpoint.flush_every 100
check "... moves nothing away" is "$(ls -d "$work"/disk-?/ckpt/*/*.old-* 2>/dev/null)" ""

# without redundancy
disks 3
check "without redundancy all nodes are needed" interrupted bare
rm -rf "$work/run" "$work/kept-bare" && mkdir "$work/kept-bare" && cp -r "$work"/disk-? "$work/kept-bare" && cp -r "$work/bare" "$work/run"
check "... and enough" train bare 6 "${local_options[@]}" --resume_from_checkpoint latest
check "... from the newest" has bare 'resuming .*checkpoint-12 at update 12'
check "... two stay on each node" is "$(for i in 0 1 2; do kept "$work/disk-$i"/ckpt/* | wc -w; done | paste -sd' ')" "2 2 2"
rm -rf "$work"/disk-? && cp -r "$work/kept-bare"/disk-? "$work" && rm -rf "$work/disk-0" && mkdir "$work/disk-0"
check "... if not, the shared one is used" goes_on none
check "... which is older" has run 'resuming .*checkpoint-8 at update 8'
check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/run/checkpoint-20"

# nodes of three ranks that write two files, of two shards and of one
for how in xor partner; do
    [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] || [ $how = xor ] || continue
    disks 2
    shared=(--checkpoint.writers_per_node 2 --checkpoint.redundancy $how)
    PER_NODE=3 check "$how: nodes whose ranks share files" interrupted "files-$how" "${shared[@]}"
    check "... are as many" is "$(ls "$work"/disk-1/ckpt/*/checkpoint-12/shards | grep -c "^shard.*-of-00004.h5")" $([ $how = xor ] && echo 2 || echo 4)
    rm -rf "$work/disk-1" && mkdir "$work/disk-1"
    PER_NODE=3 check "... make up for a lost one, after output_dir was moved" train "files-$how" 6 "${local_options[@]}" "${shared[@]}" --resume_from_checkpoint latest
    check "... from the newest" has "files-$how" 'resuming .*checkpoint-12 at update 12'
    check "... to the same end" same_state "$work/straight/checkpoint-20" "$work/files-$how/checkpoint-20"
done
for option in "--checkpoint.local_dir $work/common" "--save_on_each_node"; do
    # shellcheck disable=SC2086  # a list of words
    refuses "a directory that nodes share: ${option%% *}" 2 "$work/common is the same directory on several nodes" \
        mpirun -n 4 "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/common" $option
done
check "... and nothing is left there" is "$(ls -A "$work/common")" ""
refuses "a local_dir that is output_dir" 2 "checkpoint.local_dir $work/whole-xor/../whole-xor and output_dir $work/whole-xor are the same directory" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/whole-xor" --checkpoint.local_dir "$work/whole-xor/../whole-xor" --resume_from_checkpoint latest
check "... and nothing is done to it" is "$(kept "$work/whole-xor")" "checkpoint-8"
mkdir -p "$work/disk-2"
for n in 2 5; do
    refuses "redundancy among uneven nodes, or of one: $n ranks" 2 "checkpoint.redundancy .*one node|checkpoint.redundancy needs as many ranks on every node" \
        mpirun -n $n unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/uneven" "${local_options[@]}" --checkpoint.redundancy xor
done
refuses "redundancy needs a directory" 2 "redundancy.*conflicts with.*local_dir" "$STAGECOACH" train "$work/tiny.cfg" --checkpoint.redundancy xor
finish

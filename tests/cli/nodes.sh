#!/usr/bin/env bash
# Directories that only one node sees: checkpoints that survive the loss of any node, and output_dirs of nodes.
# Two ranks count as a node here, and each node mounts its own directory at the same path.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
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
# marr FILE: another value in a byte of its middle
marr() { local at b; at=$(($(stat -c %s "$1") / 2)); b=$(od -An -tu1 -j$at -N1 "$1"); printf "\\x$(printf %x $((b ^ 16)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none; }
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

# a disk of one node that fails while files travel
syncs="2 3 5"
[ "${STAGECOACH_TEST_ALL:-0}" = 0 ] || syncs="1 2 3 4 5 6 7"
for how in partner xor; do
    for k in $syncs; do
        [ -e "$fault" ] || { skip "faults while files travel" "$fault was not built"; break 2; }
        disks 2
        LD_PRELOAD=$fault FAULT_ROOT=$work/local FAULT_RANKS=$((k % 2 * 2)) FAULT_CALL=fsync FAULT_AT=$k FAULT_KIND=EIO check "$how: a disk of a node fails at sync $k" \
            train "fails-$how-$k" 4 --checkpoint.local_dir "$work/local/ckpt" --checkpoint.flush_every 100 --checkpoint.redundancy $how --max_steps 6
        check "... which is said once" is "$(grep -c 'ERROR .*checkpoint-2 could not be saved: rank .*Input/output error' "$work/fails-$how-$k.log")" 1
        check "... leaves nothing on any node, and the next is whole" is "$(kept "$work"/disk-0/ckpt/*)/$(kept "$work"/disk-1/ckpt/*)" "checkpoint-4/checkpoint-4"
    done
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

# an output_dir on each node
disks 2
check "save_on_each_node" train local/out 4 --save_on_each_node --save_total_limit 2
check "... every node has the last two" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20/checkpoint-18 checkpoint-20"
check "... whole" "$STAGECOACH" ckpt verify "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... the same" diff -r "$work/disk-0/out/checkpoint-20" "$work/disk-1/out/checkpoint-20"
check "... and the run goes on from them" train local/out 4 --save_on_each_node --resume_from_checkpoint latest --max_steps 22
check "... on every node" is "$(kept "$work/disk-0/out")/$(kept "$work/disk-1/out")" "checkpoint-18 checkpoint-20 checkpoint-22/checkpoint-18 checkpoint-20 checkpoint-22"

# what is damaged on a node
mkdir "$work/kept-each" && cp -r "$work"/disk-[01] "$work/kept-each"
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
rm -rf "$work"/disk-[01] && cp -r "$work/kept-each"/disk-[01] "$work"
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
mkdir -p "$work/disk-2/out" && cp -r "$work/straight/checkpoint-20" "$work/disk-2/out"
refuses "disks of two runs beside a new one" 1 "the nodes hold checkpoints of several runs, [0-9a-f]{16} .node 1. and [0-9a-f]{16} .node 2." \
    mpirun -n 6 unshare -m bash -c "$mine" "$work" "$STAGECOACH" train "$work/tiny.cfg" --comm.ranks_per_node 2 --output_dir "$work/local/out" --save_on_each_node --resume_from_checkpoint auto
finish

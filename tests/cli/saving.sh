#!/usr/bin/env bash
# Saving while training goes on: the same bits as standing still; what overlaps, fails, or finds no memory or room.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 12; learning_rate = 1e-2; save_steps = 4; logging_steps = 1; };
checkpoint = { block_size = 4096L; };
END
# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
# troubled "NAME=VALUE ..." NAME RANKS [OPTION...]: the same with the preloaded library
troubled() {
    local settings=$1 name=$2 n=$3; shift 3
    # shellcheck disable=SC2086  # a list of settings
    ranks "$n" env LD_PRELOAD="$fault" FAULT_ROOT="$work/$name" $settings \
        "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1
}
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
same_state() { for group in /model /optimizer /state; do h5diff "$1/checkpoint.h5" "$2/checkpoint.h5" $group || return 1; done; }
has() { grep -qE -- "$2" "$work/$1.log" || { tail -n 30 "$work/$1.log"; return 1; }; }
lacks() { ! grep -E -- "$2" "$work/$1.log"; }
kept() { (cd "$work/$1" && ls -A | grep checkpoint | sort -V | paste -sd' '); }

# the same bits, whoever writes how
check "saving while training stands still" train still 3 --checkpoint.async false
for stage in 0 3; do
    check "saving in the background at stage $stage" train "go$stage" 3 --zero.stage $stage
    has "go$stage" 'written in the background from copies of' || bad "the log says so"
    size=$(find "$work/go$stage/checkpoint-8" -type f -printf '%s\n' | awk '{ n += $1 } END { printf "%.1f KiB", n / 1024 }')
    check "... and what was saved, how fast, and what training waited for" has "go$stage" \
        "saved .*/checkpoint-8 \($size\) in [0-9.]+ s, [0-9.]+ [KMG]iB/s; training waited [0-9.]+ s of it, [0-9.]+ s for the copy of the shards; an update takes [0-9.]+ s\$"
    for step in 4 8 12; do check "... checkpoint-$step holds the same bits" same_state "$work/still/checkpoint-$step" "$work/go$stage/checkpoint-$step"; done
done
for writers in 1 2; do
    check "three ranks write $writers files" train "files$writers" 3 --checkpoint.writers_per_node $writers
    check "... which are as many" is "$(ls "$work/files$writers/checkpoint-12/shards" | wc -l)" $writers
    check "... and hold the same bits" same_state "$work/still/checkpoint-12" "$work/files$writers/checkpoint-12"
    check "... from which two ranks go on" train "files$writers" 2 --resume_from_checkpoint latest --max_steps 14 --gradient_accumulation_steps 1
done
cp -r "$work/files2/checkpoint-12" "$work/marred"
printf 'xx' | dd of="$work/marred/shards/shard-00001-of-00002.h5" bs=1 seek=9000 conv=notrunc status=none
refuses "damage in a shared file is named" 1 "shard-00001-of-00002.h5 is damaged" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" \
    --output_dir "$work/other" --resume_from_checkpoint "$work/marred" --max_steps 14 --gradient_accumulation_steps 1

# what overlaps. Every call on files takes 20 ms more, so that a save takes longer than many updates.
slow="FAULT_KIND=SLEEP FAULT_RANKS=all FAULT_AT=1 FAULT_MS=20"
if [ -e "$fault" ]; then
    check "slow disks, far apart saves" troubled "$slow" far 2 --save_steps 200 --max_steps 400
    check "... training goes on meanwhile" awk '/update 202\//{u=NR} /saved .*checkpoint-200 /{s=NR} END{exit !(u && s && u < s)}' "$work/far.log"
    check "... and nothing waits or is left out" lacks far 'is not saved|training waits'
    check "slow disks, waiting" troubled "$slow" wait 2 --save_steps 4
    check "... is said" has wait 'training waits for checkpoint-4, still being written, to save update 8'
    check "... and all are saved" is "$(kept wait)" "checkpoint-4 checkpoint-8 checkpoint-12"
    check "slow disks, leaving out" troubled "$slow" skip 2 --save_steps 4 --checkpoint.overlap skip
    check "... is said" has skip 'update 8 is not saved: checkpoint-4 is still being written'
    check "... and the last is saved in any case" is "$(kept skip)" "checkpoint-4 checkpoint-12"
    check "what waited and what did not is the same" same_state "$work/wait/checkpoint-12" "$work/skip/checkpoint-12"

    # a file system that takes long to reserve room, as one in memory does
    check "slow reservations" troubled "FAULT_CALL=fallocate FAULT_KIND=SLEEP FAULT_RANKS=0 FAULT_AT=1 FAULT_MS=2000" room 2 --save_steps 200 --max_steps 230
    check "... training goes on meanwhile" awk '/update 210\//{u=1} /saved .*checkpoint-200 /{s=u} END{exit !s}' "$work/room.log"

    # older checkpoints are deleted while training goes on, each file of them in 300 ms
    check "slow deletions" troubled "FAULT_CALL=unlink $slow FAULT_MS=300" limit 2 --save_steps 200 --max_steps 600 --save_total_limit 1
    check "... training goes on meanwhile" awk '/saved .*checkpoint-400 /{s=1} s && /update [0-9]+\//{u=1} /checkpoint-200 .*deleted/{d=u} END{exit !d}' "$work/limit.log"
    check "... and the last deletion is waited for" is "$(kept limit)" checkpoint-600
    check "... which is said" has limit 'training waited [0-9.]+ s more, until older checkpoints were deleted'

    # no memory for the copies
    printf 'MemTotal: 1000000 kB\nMemAvailable: 10 kB\n' >"$work/meminfo"
    check "a node without room for the copies" troubled "FAULT_MEMINFO=$work/meminfo" poor 3
    check "... saves standing still, and says it once" is "$(grep -c 'there is no memory for copies of the shards' "$work/poor.log")" 1
    check "... the same bits" same_state "$work/poor/checkpoint-12" "$work/still/checkpoint-12"

    # a log that finds no room, once. Faults count from the first path that says checkpoint-.
    check "a line of metrics.jsonl for which there is no room" troubled "FAULT_ROOT=$work/checkpoint-torn/metrics.jsonl FAULT_RANKS=0 FAULT_CALL=pwrite FAULT_AT=3 FAULT_KIND=SHORT" \
        checkpoint-torn 2
    check "... is said" has checkpoint-torn 'ERROR .*metrics.jsonl: No space left on device. Training goes on'
    check "... and left out, the other twelve are whole" is "$(grep -cE '^\{"step":.*\}$' "$work/checkpoint-torn/metrics.jsonl")/$(grep -cvE '^\{"step":.*\}$' "$work/checkpoint-torn/metrics.jsonl")" 12/0
else
    skip "saves that overlap, no memory, and no room for a log" "$fault was not built"
fi

# a save that fails. Files may have 40 KiB; a shard has more.
poor_rank() { # NAME UPDATES OPTION...: rank 1 of three may write small files only
    local name=$1 n_updates=$2; shift 2
    local command=("$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" --resume_from_checkpoint latest --max_steps "$n_updates" "$@")
    rm -rf "${work:?}/$name"; cp -r "$work/still" "$work/$name"
    timeout -k 5 120 mpirun -n 1 "${command[@]}" : -n 1 bash -c 'trap "" XFSZ; ulimit -f 40; exec "$@"' limited "${command[@]}" : -n 1 "${command[@]}" >"$work/$name.log" 2>&1
}
poor_rank on 16 --save_steps 2; status=$?
check "a save that fails: training goes on, and the end is an error" is "$status" 1
check "... each failure is said once" is "$(grep -cE 'ERROR .*checkpoint-(14|16) could not be saved: rank 1 on .*File too large' "$work/on.log")" 2
check "... the last update is reached" has on 'update 16/16'
check "... what there was is untouched, and nothing is left" is "$(kept on)" "checkpoint-4 checkpoint-8 checkpoint-12"
poor_rank stop 18 --save_steps 2 --checkpoint.on_error stop; status=$?
check "on_error stop: a save that fails ends the run" is "$status/$(grep -c 'update 17/18' "$work/stop.log")" 1/0
check "... which says why" has stop 'error: .*rank 1 on .*cannot write .*shard-00001-of-00003.h5 \(.* needed, .* free\): File too large'
check "... what there was is untouched, and nothing is left" is "$(kept stop)" "checkpoint-4 checkpoint-8 checkpoint-12"

# a full file system
mkdir "$work/small"
# shellcheck disable=SC2016
if unshare -m bash -c 'mount -t tmpfs -o size=1m tmpfs "$0"' "$work/small" 2>/dev/null; then
    cat >"$work/full.sh" <<'FULL'
work=$1 STAGECOACH=$2
mount -t tmpfs -o size=1m tmpfs "$work/small" || exit 9
timeout -k 5 120 mpirun -n 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/small/run" --save_steps 2
echo "status $?"
(cd "$work/small/run" && ls -A | grep checkpoint | sort -V | paste -sd' ' | sed 's/^/left: /')
cp -r "$(ls -d "$work"/small/run/checkpoint-* | sort -V | tail -n 1)" "$work/survivor"
FULL
    unshare -m bash "$work/full.sh" "$work" "$STAGECOACH" >"$work/full.log" 2>&1
    check "a full disk: what is needed, what is free and where" has full 'checkpoint-[0-9]+ could not be saved.*needs [0-9.]+ KiB, but only [0-9.]+ KiB are free in .*small/run; nothing was written'
    check "... training goes on to its end, which is an error" has full 'status 1'
    check "... what was saved before stays, and nothing half-written" has full 'left: checkpoint-2( checkpoint-[0-9]+)*$'
    check "... and goes on elsewhere" train elsewhere 3 --resume_from_checkpoint "$work/survivor" --max_steps 12
    check "... to the same end" same_state "$work/elsewhere/checkpoint-12" "$work/still/checkpoint-12"
else
    skip "a full disk" "no right to mount"
fi
finish

#!/usr/bin/env bash
# Checkpoints as a user meets them: read by h5dump, listed, damaged, of a full disk; and a trace of the system calls of a save.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { output_dir = "$work/run"; per_device_train_batch_size = 2; max_steps = 4; learning_rate = 1e-2; save_steps = 2; };
checkpoint = { block_size = 4096L; };
END
# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
# left NAME: what lies in a run's directory, hidden names too, without ids
left() { (cd "$work/$1" && ls -A | sed 's/\(old\|tmp\)-[0-9a-f]*$/\1/' | sort | paste -sd' '); }

check "three ranks save" train run 3 --zero.stage 3
saved=$work/run/checkpoint-4

# h5dump and h5py, from another directory
# a hard link is shown as "name -> other"
names() { h5dump -n "$1/checkpoint.h5" | sed -n 's/^ *dataset *\([^ ]*\).*/\1/p'; }
dump_all() {
    local name
    cd / && for name in $(names "$saved"); do h5dump -d "$name" "$saved/checkpoint.h5" >>"$work/dump" || return 1; done
}
check "h5dump reads every dataset" dump_all
check "... which are tensors, their moments, and the state" is "$(names "$saved" | grep -c '^/model/')/$(names "$saved" | grep -c '^/optimizer/')/$(
    names "$saved" | grep -c '^/state/')" "29/58/23"
check "... without a number that is none, but for losses that are not known yet" is "$(grep -ci '[ :-]nan' "$work/dump")" 2
check "h5diff finds nothing between a checkpoint and its copy" bash -c "cp -r '$saved' '$work/copy' && cd / && h5diff '$saved/checkpoint.h5' '$work/copy/checkpoint.h5'"
python=${PYTHON:-python3}
if "$python" -c 'import h5py' 2>/dev/null; then
    cat >"$work/whole.py" <<'PYTHON'
import h5py, subprocess, sys
n = 0
def look(name, tensor):
    global n
    if isinstance(tensor, h5py.Dataset):
        subprocess.run(["h5dump", "-d", "/model/" + name, "-b", "LE", "-o", sys.argv[2], sys.argv[1]], check=True, stdout=subprocess.DEVNULL)
        assert open(sys.argv[2], "rb").read() == tensor[...].tobytes(), name
        n += 1
with h5py.File(sys.argv[1], "r") as f:
    f["model"].visititems(look)
    assert f["model/lm_head.weight"] == f["model/wte.weight"]
    assert f["model/h.1.attn.c_attn.weight"].shape == (24, 72)
assert n == 28, n
PYTHON
    check "h5py reads every tensor as h5dump does" "$python" "$work/whole.py" "$saved/checkpoint.h5" "$work/tensor.bin"
else
    skip "h5py reads every tensor as h5dump does" "python3 has no h5py"
fi

# what is damaged is refused by the name of the file
resume() { "$STAGECOACH" train "$work/tiny.cfg" --resume_from_checkpoint "$@"; }
# damaged PATTERN COMMAND: in a copy of the checkpoint; refused by two ranks
damaged() {
    rm -rf "$work/copy" && cp -r "$saved" "$work/copy" && (cd "$work/copy" && bash -c "$2")
    refuses "refused: $2" 1 "$1" mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/other" --max_steps 8 \
        --resume_from_checkpoint "$work/copy" --gradient_accumulation_steps 1
}
flip() { printf "printf '\\\\377\\\\376' | dd of=%s bs=1 seek=%d conv=notrunc status=none" "$1" "$2"; }
damaged "shards/shard-00001-of-00003.h5 is damaged.*embedding" "$(flip shards/shard-00001-of-00003.h5 6000)"
damaged "shards/shard-00002-of-00003.h5 has .* bytes, the manifest says" "truncate -s -1 shards/shard-00002-of-00003.h5"
damaged "shards/shard-00000-of-00003.h5 .*No such file" "rm shards/shard-00000-of-00003.h5"
damaged "shards/shard-00001-of-00003.h5 is damaged or of another checkpoint" "cp '$work/run/checkpoint-2/shards/shard-00001-of-00003.h5' shards/"
damaged "checkpoint.h5 is damaged" "$(flip checkpoint.h5 3000)"
damaged "config.cfg is damaged" "$(flip config.cfg 30)"
damaged "manifest is damaged" "$(flip manifest 100)"
damaged "it has no manifest" "rm manifest"
check "nothing was begun for any of them" test ! -e "$work/other/checkpoint-8"
check "what is whole goes on" train other 2 --max_steps 8 --resume_from_checkpoint "$saved" --gradient_accumulation_steps 1

# ckpt ls
"$STAGECOACH" ckpt ls "$work/run" >"$work/list"
check "ckpt ls lists by step" is "$(awk 'NR > 1 { print $1, $5, $6, $7, $10 }' "$work/list" | paste -sd,)" "2 3 3 float32 complete,4 3 3 float32 complete"
check "... under titles" grep -qE '^ *step +date +size +ranks +stage +dtype +loss +eval_loss +state$' "$work/list"
rm -rf "$work/marred" && cp -r "$work/run" "$work/marred" && rm "$work/marred/checkpoint-4/shards/shard-00002-of-00003.h5"
check "ckpt ls says what is damaged" grep -qE '^ *4 .*damaged: .*shard-00002-of-00003.h5' <("$STAGECOACH" ckpt ls "$work/marred")
check "latest passes over it" grep -q 'checkpoint-4 is passed over' <(resume latest --output_dir "$work/marred" 2>&1)
refuses "ckpt ls of a directory without checkpoints" 1 "no checkpoints in $work/marred/checkpoint-2/shards" "$STAGECOACH" ckpt ls "$work/marred/checkpoint-2/shards"
refuses "ckpt ls of a checkpoint" 1 "is itself a checkpoint; give the directory that holds it" "$STAGECOACH" ckpt ls "$work/marred/checkpoint-2"
rm -rf "$work/ruined" && cp -r "$work/run" "$work/ruined" && rm "$work"/ruined/checkpoint-*/manifest
refuses "auto names no way that leads nowhere" 2 'holds 2 checkpoints, none of them usable .*: start a new run with --overwrite_output_dir' \
    "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/ruined" --resume_from_checkpoint auto --log_level error
refuses "ckpt ls of nothing" 1 "cannot list $work/nowhere: No such file" "$STAGECOACH" ckpt ls "$work/nowhere"
refuses "ckpt ls without a directory" 2 "write: stagecoach ckpt ls RUN" "$STAGECOACH" ckpt ls

# one job at a time
printf 'job 4711\nrestart 0\nhost %s\npid %d\nstart 0\n' "$(hostname -s)" $$ >"$work/run/run.lock"
refuses "a second job is refused by the name of the first" 2 "another job runs in .*job id 4711, .*pid $$ " mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg" --resume_from_checkpoint latest
sleep 0 & dead=$!; wait $dead
printf 'job 4711\nrestart 0\nhost %s\npid %d\nstart 0\n' "$(hostname -s)" $dead >"$work/run/run.lock"
: >"$work/run/metrics.jsonl.tmp" && cp "$work/run/run.lock" "$work/run/run.lock.stale-0123456789abcdef"
check "the lock of a dead job is taken over" train run 3 --resume_from_checkpoint latest --max_steps 5
check "... which is said" grep -q "run.lock is stale: its job (id 4711," "$work/run.log"
check "a lock is gone at the end, and what starts that were killed left" is "$(cd "$work/run" && ls -A | grep -E 'lock|tmp')" ""

# one rank that cannot write: all end, nothing is left, what was there stays
# fails_on_rank_1 NAME STATUS PATTERN WRAPPER...: rank 1 runs inside the wrapper
fails_on_rank_1() {
    local name=$1 status=$2 pattern=$3; shift 3
    rm -rf "$work/poor" && cp -r "$work/run" "$work/poor"
    local before; before=$(left poor)
    local command=("$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/poor" --resume_from_checkpoint latest --max_steps 6 --gradient_accumulation_steps 1)
    refuses "$name" "$status" "$pattern" mpirun -n 1 "${command[@]}" : -n 1 "$@" "${command[@]}" : -n 1 "${command[@]}"
    check "$name: no partial checkpoint is left" is "$(left poor | sed 's/ run.json//')" "$(echo "$before" | sed 's/ run.json//')"
    check "$name: the others can be read" is "$("$STAGECOACH" ckpt ls "$work/poor" | grep -c complete)" 3
}
fails_on_rank_1 "a disk that is full for one rank" 1 "error: .*rank 1 on .*: cannot write .*shard-00001-of-00003.h5 .*File too large" \
    bash -c 'trap "" XFSZ; ulimit -f 40; exec "$@"' limited
# shellcheck disable=SC2016
read_only=(unshare -m bash -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"' "$work")
if "${read_only[@]}" bash -c "! touch '$work/x'" 2>/dev/null; then
    fails_on_rank_1 "a file system that one rank cannot write to" 1 "error: .*rank 1 on .*: .*poor.* Read-only file system" "${read_only[@]}"
else
    skip "a file system that one rank cannot write to" "no right to mount"
fi

# A trace of a save: for every file and directory, and those above it that are new, an fsync after its last change and before the rename that publishes it.
# In: lines of strace -ttt -y of all ranks in order of time. Out: a line per fault, then "N published".
unsynced() {
    cat >"$work/unsynced.awk" <<'AWK'
function parent(path) { sub(/\/[^\/]*$/, "", path); return path }
function changed(path) { if (index(path, root) == 1) dirty[path] = NR }
function quoted(n,   part) { split($0, part, "\""); return part[2 * n] }
/ = -1 E/ || /resumed>/ { next }
{
    call = $3; sub(/\(.*/, "", call)
    fd = $0; sub(/^[^<]*</, "", fd); sub(/>.*/, "", fd)
}
call ~ /^(write|pwrite64|writev|pwritev|ftruncate|fallocate)$/ { changed(fd) }
call == "openat" && /O_CREAT/ { path = quoted(1); if (!(path in known)) changed(parent(path)); known[path] = 1; changed(path) }
call ~ /^mkdir/ { path = quoted(1); changed(parent(path)); changed(path) }
call ~ /^unlink|^rmdir/ { path = quoted(1); changed(parent(path)); delete dirty[path] }
call ~ /^fsync|^fdatasync/ { delete dirty[fd]; delete wanted[fd] }
call ~ /^rename/ {
    from = quoted(1); to = quoted(2)
    if (to ~ /checkpoint-[0-9]+$/) {
        n_published++
        for (path in dirty) if (index(path, from) == 1 || index(from, path "/") == 1) print "not synced before it is published: " path
    }
    if (from in dirty) { dirty[to] = dirty[from]; delete dirty[from] }
    changed(parent(from)); changed(parent(to))
    if (to ~ /checkpoint-[0-9]+$/) wanted[parent(to)] = 1
}
END { for (path in wanted) print "not synced after the rename: " path; print n_published + 0 " published" }
AWK
    awk -v root="$work/traced" -f "$work/unsynced.awk" "$1"
}
if strace -o /dev/null -y -f -ttt true 2>/dev/null; then
    # shellcheck disable=SC2016
    traced=(strace -f -y -ttt -s 4 -e 'trace=openat,creat,write,pwrite64,writev,pwritev,ftruncate,fallocate,fsync,fdatasync,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir')
    mkdir "$work/trace" "$work/traced"
    check "a traced run saves" ranks 2 bash -c '"${@:2}"' - - "${traced[@]}" -ff -o "$work/trace/rank" "$STAGECOACH" train "$work/tiny.cfg" \
        --output_dir "$work/traced/above/run" --max_steps 2 --disable_tqdm
    for file in "$work"/trace/rank.*; do sed "s/^/${file##*.} /" "$file"; done | sort -s -k2,2 >"$work/trace/all"
    grep -q '/traced/' "$work/trace/all" || bad "the trace shows the save"
    unsynced "$work/trace/all" >"$work/faults"
    check "every file and directory of a save is synced before the rename" is "$(cat "$work/faults")" "1 published"
    for what in shard-00000 shard-00001 checkpoint.h5 config.cfg manifest /shards\> 'tmp-[0-9a-f]*>' /run\> /above\> /traced\>; do
        grep -vE "fsync\([0-9]+<[^>]*$what" "$work/trace/all" >"$work/trace/without"
        check "... and without the sync of $what the trace is found wanting" grep -q '^not synced' <(unsynced "$work/trace/without")
    done
else
    skip "every file and directory of a save is synced before the rename" "strace cannot trace here"
fi
finish

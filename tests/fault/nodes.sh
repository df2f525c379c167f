# shellcheck shell=bash disable=SC2034,SC2154
# What the tests with directories that only one node sees share. Two ranks count as a node, and each node mounts its own directory at the same path.
# For scripts that have sourced lib.sh; they end here where nothing may be mounted.
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
# marr FILE: another value in a byte of its middle
marr() { local at b; at=$(($(stat -c %s "$1") / 2)); b=$(od -An -tu1 -j$at -N1 "$1"); printf "\\x$(printf %x $((b ^ 16)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none; }

# killed CALL:K RANK ROOT NAME RANKS [OPTION...]: train, in which that rank is killed at its K-th such call below ROOT. No CALL: at the K-th of all.
killed() {
    local at=$1 rank=$2 root=$3 status directory; shift 3
    LD_PRELOAD=$fault FAULT_ROOT=$root FAULT_RANKS=$rank FAULT_CALL=${at%:*} FAULT_AT=${at#*:} FAULT_KIND=KILL train "$@"
    status=$?
    for directory in "$work/$1" "$work"/disk-?/out "$work"/disk-?/ckpt/*; do gone "$directory"; done
    [ $status -eq 137 ] || { echo "status $status"; tail -n 5 "$work/$1.log"; return 1; }
}
# kills DEFAULT RANK ROOT NAME RANKS [OPTION...]: at which calls; with STAGECOACH_TEST_ALL=1 all up to the first publication, as an undisturbed job makes them
kills() {
    local default=$1 rank=$2 root=$3 n; shift 3
    [ "${STAGECOACH_TEST_ALL:-0}" = 1 ] || { echo "$default"; return; }
    rm -f "$work"/calls.*
    LD_PRELOAD=$fault FAULT_ROOT=$root FAULT_AT=0 FAULT_COUNT=$work/calls train "$@" || bad "calls are counted" "$(tail -n 5 "$work/$1.log")" >&2
    n=$(awk '$2 == "rename" && /\.checkpoint-/ { print NR; exit }' "$work/calls.$rank")
    seq -f ":%g" 1 "${n:-$(wc -l <"$work/calls.$rank")}"
}

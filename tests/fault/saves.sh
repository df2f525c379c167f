# shellcheck shell=bash disable=SC2154
# What the tests of failing saves share: a small run of three ranks, a save of it that meets a fault, and all such faults in turn. For scripts
# that have sourced lib.sh; they end here where the preloaded library was not built.
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
all=${STAGECOACH_TEST_ALL:-0}
[ -e "$fault" ] || { skip "faults at calls of a save" "$fault was not built"; finish; }

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 1; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 4; learning_rate = 1e-2; save_steps = 2; };
checkpoint = { block_size = 65536L; };
END
same_state() { for group in /model /optimizer /state; do h5diff "$1/checkpoint.h5" "$2/checkpoint.h5" $group || return 1; done; }
kept() { (cd "$work/$1" && ls -A | grep checkpoint | sort -V | paste -sd' '); }

start_of_faults() {
    ranks 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/whole" >"$work/log" 2>&1 || bad "a run without faults" "$(tail -n 5 "$work/log")"
    mkdir "$work/half" && cp -r "$work/whole/checkpoint-2" "$work/half"
}

# left: every name and size below the run's directory, without random ids. What the summaries and the lock hold, matters to no start.
left() {
    (cd "$work/run" && find . -mindepth 1 -printf '%y %s %P\n') | sed -E 's/-[0-9a-f]{16}/-ID/g; s/^d [0-9]+/d/; /(run\.json|metrics\.jsonl|run\.lock)/s/^f [0-9]+/f/' | sort
}

# goes_on: latest resumes to the same bits and leaves nothing. What is left alike is resumed once. Says what is wrong.
goes_on() {
    local what
    what=$(left | cksum)
    grep -qx "$what" "$work/resumed" 2>/dev/null && return
    ranks 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint latest >"$work/log" 2>&1 || { echo "does not go on"; return; }
    [ "$(kept run)" = "checkpoint-2 checkpoint-4" ] || { echo "left: $(kept run)"; return; }
    same_state "$work/whole/checkpoint-4" "$work/run/checkpoint-4" >/dev/null || { echo "goes on to other bits"; return; }
    echo "$what" >>"$work/resumed"
}

# faulty KIND RANKS K FILES: the save of update 4, resumed from update 2, meets the fault. Says what is wrong.
faulty() {
    local kind=$1 who=$2 k=$3 files=$4 status
    rm -rf "$work/run" && cp -r "$work/half" "$work/run"
    timeout -k 5 60 mpirun -n 3 env LD_PRELOAD="$fault" FAULT_ROOT="$work/run" FAULT_RANKS="$who" FAULT_AT="$k" \
        FAULT_KIND="$kind" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint latest \
        --checkpoint.writers_per_node "$files" >"$work/log" 2>&1
    status=$?
    [ $status -ne 124 ] && { [ "$kind" = KILL ] || [ $status -ne 137 ]; } || { echo "hangs"; return; }
    diff -r "$work/half/checkpoint-2" "$work/run/checkpoint-2" >/dev/null || { echo "what was saved before has changed"; return; }
    if [ "$kind" != KILL ]; then
        case "$status/$(kept run)" in
        "1/checkpoint-2") grep -q 'could not be saved' "$work/log" || { echo "no word of it"; return; } ;;
        "1/checkpoint-2 checkpoint-4") grep -qE 'error: .*(Input/output|No space|quota)' "$work/log" || { echo "a failure without a word"; return; } ;;
        "0/checkpoint-2 checkpoint-4") ;; # after the checkpoint was published, or in a summary of the run
        *) echo "status $status, left: $(kept run)"; return ;;
        esac
    fi
    gone "$work/run"
    if [ -e "$work/run/checkpoint-4" ]; then
        same_state "$work/whole/checkpoint-4" "$work/run/checkpoint-4" >/dev/null || { echo "other bits were published"; return; }
    fi
    goes_on
}

# n_calls RANK FILES: calls of that rank in such a save
n_calls() {
    rm -rf "$work/run" "$work"/calls.* && cp -r "$work/half" "$work/run"
    ranks 3 env LD_PRELOAD="$fault" FAULT_ROOT="$work/run" FAULT_AT=0 FAULT_COUNT="$work/calls" "$STAGECOACH" train "$work/tiny.cfg" \
        --output_dir "$work/run" --resume_from_checkpoint latest --checkpoint.writers_per_node "$2" >"$work/log" 2>&1
    wc -l <"$work/calls.$1"
}

# all_faults FILES RANKS...: every fault at every call of a save into so many files per node (0: one per rank); by default about one call of each kind
all_faults() {
    local files=$1 who calls kind k wrong n=0 n_wrong=0; shift
    RANDOM=20231
    for who in "$@"; do
        calls=$(n_calls "${who/all/0}" "$files")
        [ "$calls" -gt 3 ] || bad "calls of a save are counted" "$calls of rank $who"
        for kind in EIO ENOSPC EDQUOT SHORT KILL; do
            for ((k = 1; k <= calls; k++)); do
                [ "$all" = 1 ] || [ $((RANDOM % calls)) -lt 1 ] || continue
                wrong=$(faulty $kind "$who" $k "$files")
                n=$((n + 1))
                [ -z "$wrong" ] && continue
                n_wrong=$((n_wrong + 1))
                bad "$kind at call $k of rank $who, writers_per_node $files" "$wrong" "$(sed -n "${k}p" "$work/calls.${who/all/0}")" "$(tail -n 5 "$work/log")"
            done
        done
    done
    if [ $n -gt 0 ] && [ $n_wrong = 0 ]; then
        ok "each of $n faults at calls of a save leaves the run as it was"
        ok "... from which it goes on, out of $(wc -l <"$work/resumed") different leftovers"
    fi
}

#!/usr/bin/env bash
# Which checkpoints stay, which is the best, and how often is saved.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/ckpt/*.c | head -c 20000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 1; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { per_device_train_batch_size = 2; max_steps = 20; learning_rate = 1e-2; save_steps = 5; eval_steps = 5; evaluation_strategy = "steps"; };
END
train() { local name=$1; shift; ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }
has() { grep -qE -- "$2" "$work/$1.log" || { tail -n 30 "$work/$1.log"; return 1; }; }
kept() { (cd "$work/$1" && ls -A | grep checkpoint | sort -V | paste -sd' '); }

check "the newest two stay" train newest --save_total_limit 2
check "... and no others" is "$(kept newest)" "checkpoint-15 checkpoint-20"
check "milestones stay beside them" train miles --save_total_limit 1 --checkpoint.keep_every 10
check "... and no others" is "$(kept miles)" "checkpoint-10 checkpoint-15 checkpoint-20"

# a kill between the name of a checkpoint and the link to it
best=$(readlink "$work/newest/best") stale=checkpoint-15
[ "$best" != $stale ] || stale=checkpoint-20
ln -sfn $stale "$work/newest/best" && ln -s "$best" "$work/newest/.best.tmp-0123456789abcdef"
check "a link that a kill left behind" train newest --save_total_limit 2 --resume_from_checkpoint latest
check "... goes to the best at the next start" is "$(readlink "$work/newest/best")" "$best"
check "... and what else was left of it is gone" is "$(cd "$work/newest" && ls -A | grep tmp)" ""

# A learning rate that grows until it has ruined the model, whatever the text: the first evaluation is the best, not the last.
ruin=(--learning_rate 3 --lr_scheduler_type constant_with_warmup --warmup_steps 20 --max_grad_norm none)
check "a run that gets worse" train worse "${ruin[@]}" --save_total_limit 1 --load_best_model_at_end
# order NAME: steps from the least to the greatest loss
order() { sed -nE 's/.*update ([0-9]+)\/20  eval_loss ([0-9.]+).*/\2 \1/p' "$work/$1.log" | sort -g | cut -d' ' -f2; }
loss_of() { sed -nE "s/.*update $2\/20  eval_loss ([0-9.]+).*/\1/p" "$work/$1.log"; }
# records NAME: the checkpoints of steps that were better than all before, and the last
records() { sed -nE 's/.*update ([0-9]+)\/20  eval_loss ([0-9.]+).*/\1 \2/p' "$work/$1.log" |
    awk 'NR == 1 || $2 < best || $1 == 20 { printf "%scheckpoint-%d", n++ ? " " : "", $1 } NR == 1 || $2 < best { best = $2 } END { print "" }'; }
best=$(order worse | head -n 1)
check "... has its best before its end" test "$best" -lt 20
check "... keeps the best and the last" is "$(kept worse)" "checkpoint-$best checkpoint-20"
check "... links the best" is "$(readlink "$work/worse/best")" "checkpoint-$best"
check "... and ends with it" has worse "loaded the best model, .*checkpoint-$best: eval_loss $(loss_of worse "$best") "
check "greater_is_better turns it around" train turned "${ruin[@]}" --save_total_limit 1 --load_best_model_at_end --greater_is_better
check "... and what it calls the best is the greatest" is "$(readlink "$work/turned/best")" \
    "checkpoint-$(order turned | tail -n 1)"

check "evaluations between saves" train between "${ruin[@]}" --eval_steps 2 --save_steps 20 --load_best_model_at_end
check "... are saved when they are the best" is "$(kept between)" "$(records between)"
check "without load_best_model_at_end the best of the saved is linked" train linked "${ruin[@]}" --eval_steps 2 --save_steps 10 --metric_for_best_model perplexity
check "... and nothing more is saved" is "$(kept linked)/$(readlink "$work/linked/best")" "checkpoint-10 checkpoint-20/checkpoint-$(order linked | grep -xE '10|20' | head -n 1)"

cp -r "$work/worse" "$work/hurt"
hurt=$work/hurt/checkpoint-$best/shards/shard-00000-of-00002.h5
printf X | dd of="$hurt" bs=1 seek=$(($(stat -c %s "$hurt") / 2)) conv=notrunc status=none
for command in "eval $work/tiny.cfg --resume_from_checkpoint" "generate --prompt in"; do
    # shellcheck disable=SC2086  # words
    refuses "${command%% *} of a best that is damaged names the checkpoint, and the way to others" 1 "error: .*$hurt is damaged.*; stagecoach ckpt ls $work/hurt lists what else" \
        "$STAGECOACH" $command "$work/hurt/best/"
done
cp -r "$work/hurt" "$work/unsaved"
at_end=("$STAGECOACH" train "$work/tiny.cfg" "${ruin[@]}" --load_best_model_at_end --resume_from_checkpoint latest --max_steps 22)
for name in hurt unsaved; do
    options=(); [ $name = hurt ] || options=(--save_strategy no)
    shard=$work/$name/checkpoint-$best/shards/shard-00000-of-00002.h5
    before=$(kept $name)
    refuses "a best that is damaged at the end: ${options[*]}" 1 "error: .*$shard is damaged.*cannot load the best checkpoint, $work/$name/checkpoint-$best\. The training is complete and its last update, 22, is saved.*ckpt ls $work/$name" \
        mpirun -n 2 "${at_end[@]}" --output_dir "$work/$name" "${options[@]}"
    check "... leaves a run that is complete" grep -q '"outcome": "completed"' "$work/$name/run.json"
    check "... to the last update" "$STAGECOACH" ckpt verify "$work/$name/checkpoint-22"
    check "... and what was there" is "$(kept $name)" "$before checkpoint-22"
done
cp "$work/worse/checkpoint-$best/shards/"* "$work/hurt/checkpoint-$best/shards"
check "a whole copy in its place is loaded" bash -c '"$@" >"$0" 2>&1' "$work/hurt.log" mpirun -n 2 "${at_end[@]}" --output_dir "$work/hurt"
check "... as the best" has hurt "loaded the best model, .*checkpoint-$best: eval_loss $(loss_of worse "$best") "
mv "$work/worse" "$work/moved"
check "eval takes the link, also after a move" bash -c "cd / && '$STAGECOACH' eval '$work/tiny.cfg' --resume_from_checkpoint '$work/moved/best' --output_dir '$work/eval' | tee '$work/eval.log' >/dev/null"
check "... and finds its loss" has eval "eval_loss += $(loss_of worse "$best")"
check "generate takes the link" "$STAGECOACH" generate "$work/moved/best" --prompt "in" --max_new_tokens 4
check "a resume after the best keeps protecting it" train moved "${ruin[@]}" --save_total_limit 1 --resume_from_checkpoint latest --max_steps 25
check "... and the last" is "$(kept moved)/$(readlink "$work/moved/best")" "checkpoint-$best checkpoint-25/checkpoint-$best"
check "a resume before the best moves the link" train between "${ruin[@]}" --resume_from_checkpoint "$work/between/best" --max_steps 3
check "a new run has no best yet" train moved --overwrite_output_dir --evaluation_strategy no
check "... and no link to that of the old" test ! -e "$work/moved/best" -a ! -L "$work/moved/best"
refuses "load_best_model_at_end needs evaluations" 2 "load_best_model_at_end.*conflicts with.*evaluation_strategy" \
    "$STAGECOACH" train "$work/tiny.cfg" --load_best_model_at_end --evaluation_strategy no

# by itself
check "interval auto" train auto --checkpoint.interval auto --checkpoint.mtbf_hours 0.001 --max_steps 2000 --evaluation_strategy no --checkpoint.async false
check "... says what it chose and why" has auto 'every [0-9]+ updates are saved .*a save costs .* and takes .* with 0.001 hours between failures'
next=$((3 + $(sed -nE 's/.*every ([0-9]+) updates are saved.*/\1/p' "$work/auto.log" | head -n 1)))
[ $next -lt 2000 ] || next=2000
check "... saves after three updates, when that interval is over, and at the end" test -d "$work/auto/checkpoint-3" -a -d "$work/auto/checkpoint-$next" \
    -a -d "$work/auto/checkpoint-2000"
check "... and chooses none after the last update" is "$(sed '1,/saved .*checkpoint-2000/d' "$work/auto.log" | grep -c 'from here on')" 0
# In the background, where the first save lasts for many updates.
fault=$(dirname "$STAGECOACH")/tests/fault/fault.so
if [ -e "$fault" ]; then
    slow() {
        ranks 2 env LD_PRELOAD="$fault" FAULT_ROOT="$work/slow" FAULT_KIND=SLEEP FAULT_RANKS=all FAULT_AT=1 FAULT_MS=20 "$STAGECOACH" train "$work/tiny.cfg" \
            --output_dir "$work/slow" --checkpoint.interval auto --checkpoint.mtbf_hours 0.0001 --max_steps 2000 --evaluation_strategy no >"$work/slow.log" 2>&1
    }
    check "interval auto in the background, on slow disks" slow
    waits() { grep 'training waits' "$work/slow.log"; }
    check "... lets no save wait for another" is "$(waits)" ""
    first=$(sed -nE 's/.*every ([0-9]+) updates are saved.*/\1/p' "$work/slow.log" | head -n 1)
    second=$(kept slow | tr ' ' '\n' | sed -n '2s/checkpoint-//p')
    check "... and takes the interval from the end of the first save on" test "$second" -ge $((3 + first)) -o "$second" = 2000
else
    skip "interval auto in the background, on slow disks" "$fault was not built"
fi
refuses "interval auto needs save_strategy steps" 2 "interval.*conflicts with.*save_strategy" \
    "$STAGECOACH" train "$work/tiny.cfg" --checkpoint.interval auto --save_strategy epoch
finish

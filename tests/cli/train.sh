#!/usr/bin/env bash
# Training as a user runs it: what a run leaves behind, how it begins and goes on, what it says about memory and messages.
. "$(dirname "$0")/../lib.sh"

cat "$top"/src/train/*.c | head -c 40000 >"$work/text.txt"
cat >"$work/tiny.cfg" <<END
model = { n_positions = 32; n_embd = 24; n_layer = 2; n_head = 2; };
data = { train_file = "$work/text.txt"; block_size = 32; };
training = { output_dir = "$work/run"; per_device_train_batch_size = 2; gradient_accumulation_steps = 2; max_steps = 8; learning_rate = 1e-2;
             logging_steps = 2; save_steps = 4; evaluation_strategy = "steps"; eval_steps = 4; };
END

# train NAME RANKS [OPTION...]: into $work/NAME; its log is $work/NAME.log
train() { local name=$1 n=$2; shift 2; ranks "$n" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/$name" "$@" >"$work/$name.log" 2>&1; }
# says NAME PATTERN: exactly one line of a run's log
says() { [ "$(grep -cE -- "$2" "$work/$1.log")" -eq 1 ] || { grep -cE -- "$2" "$work/$1.log"; tail -n 12 "$work/$1.log"; return 1; }; }
# of FILE OBJECT KEY: a number of an object in run.json
of() { tr -d ' \n' <"$1" | sed -n "s/.*\"$2\":{\([^{}]*\)}.*/\1/p" | tr ',' '\n' | sed -n "s/^\"$3\"://p"; }
# steps NAME KEY: the steps of the lines of metrics.jsonl that have a key
steps() { grep "\"$2\":" "$work/$1/metrics.jsonl" | sed 's/.*"step":\([0-9]*\).*/\1/' | paste -sd' '; }
# curve NAME: metrics without what depends on the clock
curve() { sed 's/,"\(tokens_per_second\|eval_runtime\|eval_samples_per_second\)":[^,}]*//g' "$work/$1/metrics.jsonl" | grep -v train_loss; }
is() { [ "$1" = "$2" ] || { echo "'$1', expected '$2'"; return 1; }; }

check "a run on 2 ranks completes" train run 2
check "it leaves checkpoints and nothing unfinished" is "$(cd "$work/run" && ls | paste -sd' ')" "best checkpoint-4 checkpoint-8 metrics.jsonl run.json"
check "it logs at its interval" is "$(steps run loss)" "2 4 6 8"
check "it evaluates at its interval" is "$(steps run eval_loss)" "4 8"
check "metrics hold what a log line holds" grep -qE '"step":2,"epoch":[0-9.e-]+,"loss":[0-9.]+,"grad_norm":[0-9.]+,"learning_rate":[0-9.]+,"tokens_per_second":' "$work/run/metrics.jsonl"
check "the token file is made once, beside the text" test -f "$work/text.txt.byte.h5"
check "run.json says how it ended" grep -q '"outcome": "completed"' "$work/run/run.json"
check "run.json has the time to the first update" grep -qE '"startup_s": [0-9.]+' "$work/run/run.json"

refuses "an output_dir with checkpoints is refused and both ways are said" 2 "already holds 2 checkpoints: .*--resume_from_checkpoint.*--overwrite_output_dir" \
    mpirun -n 2 "$STAGECOACH" train "$work/tiny.cfg"
check "a new run may overwrite it" train run 2 --overwrite_output_dir
check "the older checkpoints are renamed" is "$(cd "$work/run" && ls -d checkpoint-4.old-* checkpoint-8.old-* | wc -l)" 2
check "the token file is used again" says run "fits .* and is used again"
check "metrics begin anew" is "$(steps run loss)" "2 4 6 8"

for stage in 0 1 2 3; do
    train "stage$stage" 2 --zero.stage $stage --save_strategy no --evaluation_strategy no --max_steps 3
    json=$work/stage$stage/run.json
    check "stage $stage holds the bytes that it should" is "$(of "$json" model_states max)" "$(of "$json" model_states expected)"
    check "stage $stage sends the elements that it should" is "$(of "$json" elements max)" "$(of "$json" elements expected)"
    # 16P; 8P + 8P/N; 4P + 12P/N; 16P/N bytes, 2P (G+1)P 3GP x (N-1)/N elements: what is beyond is padding to blocks of 512.
    check "stage $stage is near the formula" awk -v m="$(of "$json" model_states max)" -v f="$(of "$json" model_states formula)" \
        -v e="$(of "$json" elements max)" -v g="$(of "$json" elements formula)" 'BEGIN { exit !(m >= f && m < 1.2 * f && e < 1.2 * g && e > 0.7 * g) }'
done
check "no strategy saves nothing" is "$(ls "$work/stage0" | paste -sd' ')" "metrics.jsonl run.json"

check "recomputation runs" train recomputed 2 --gradient_checkpointing --evaluation_strategy no --save_strategy no --max_steps 1
check "recomputation takes fewer bytes of activations" test \
    "$(of "$work/recomputed/run.json" activations max)" -lt "$(of "$work/stage0/run.json" activations max)"

check "save_total_limit keeps the newest" train limited 1 --save_steps 1 --save_total_limit 2 --max_steps 5
check "... and only those" is "$(cd "$work/limited" && ls -d checkpoint-* | paste -sd' ')" "checkpoint-4 checkpoint-5"
check "ckpt ls lists them" is "$("$STAGECOACH" ckpt ls "$work/limited" | grep -cE "complete|best")" 2

# 1280 tokens: 40 samples, 2 of them for validation; 38 / (2 x 2) micro-batches per rank, 5 updates per epoch.
head -c 1280 "$work/text.txt" >"$work/short.txt"
check "epochs are counted as the Trainer does" train epochs 2 --data.train_file "$work/short.txt" --max_steps -1 --num_train_epochs 2.5 \
    --logging_strategy epoch --save_strategy epoch --evaluation_strategy epoch --eval_delay 1.5
check "an event of every epoch comes when it ends, and at the end" is "$(steps epochs loss)/$(cd "$work/epochs" && ls -d checkpoint-* | paste -sd' ')" \
    "5 10 13/checkpoint-10 checkpoint-13 checkpoint-5"
check "eval_delay holds evaluation back" is "$(steps epochs eval_loss)" "10 13"
check "a share of all updates is an interval" train shares 1 --logging_steps 0.25 --max_steps 8 --save_steps 0.5 --evaluation_strategy no --logging_first_step
check "... of the logs" is "$(steps shares loss)" "1 2 4 6 8"
check "an epoch shorter than the accumulation still updates" train shortened 2 --data.train_file "$work/short.txt" \
    --gradient_accumulation_steps 64 --max_steps 2 --save_strategy no
check "... and that is said" says shortened "gradient_accumulation_steps acts as 10"

# What an update makes of its options. After one update exp_avg is (1 - adam_beta1) x the gradient, clipped.
one() { local name=$1; shift; train "$name" 2 --max_steps 1 --logging_steps 1 --evaluation_strategy no --warmup_steps 0 --learning_rate 0.1 --adam_beta1 0.5 "$@"; }
exp_avg_norm() {
    h5dump -y -m %.9g -g /optimizer/exp_avg "$work/$1/checkpoint-1/checkpoint.h5" |
        awk '/DATA \{/ { on = 1; next } /\}/ { on = 0 } on { gsub(",", " "); for (i = 1; i <= NF; i++) s += $i * $i } END { print sqrt(s) }'
}
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; print a, b; exit !(b > 0 && d <= 1e-4 * b) }'; }
differ() { ! h5diff -q "$work/$1/checkpoint-1/checkpoint.h5" "$work/$2/checkpoint-1/checkpoint.h5" "$3"; }
grad_norm() { sed -n 's/.*"grad_norm":\([0-9.e+-]*\).*/\1/p' "$work/$1/metrics.jsonl"; }
check "an update that is clipped" one clipped --max_grad_norm 0.01
check "... has a gradient of max_grad_norm" near "$(exp_avg_norm clipped)" 0.005
check "... and logs its norm before that" test "$(grad_norm clipped)" = "$(one unclipped --max_grad_norm none; grad_norm unclipped)"
check "max_grad_norm none does not clip" near "$(exp_avg_norm unclipped)" "$(grad_norm unclipped | awk '{ print $1 / 2 }')"
one zero --max_grad_norm 0
check "... nor does 0" is "$(exp_avg_norm zero)" "$(exp_avg_norm unclipped)"
check "weight_decay" one decayed --max_grad_norm none --weight_decay 0.5
check "... acts on weights" differ decayed unclipped /model/h.0.mlp.c_fc.weight
for tensor in h.0.mlp.c_fc.bias h.0.ln_1.weight ln_f.bias; do
    check "... and not on $tensor" h5diff "$work/decayed/checkpoint-1/checkpoint.h5" "$work/unclipped/checkpoint-1/checkpoint.h5" "/model/$tensor"
done
check "a run with warm-up" train warm 1 --max_steps 6 --logging_steps 1 --save_strategy no --evaluation_strategy no --learning_rate 0.5 --warmup_steps 2 --warmup_ratio 1
check "... logs the rate of the update to come" is \
    "$(sed -n 's/.*"learning_rate":\([0-9.e+-]*\).*/\1/p' "$work/warm/metrics.jsonl" | paste -sd' ')" "0.25 0.5 0.375 0.25 0.125 0.0"
check "... and says which of both acts" says warm "warmup_steps acts"
check "replicas log at their own level" train replicas 2 --max_steps 2 --logging_steps 1 --save_strategy no --evaluation_strategy no --log_level error --log_level_replica debug
check "... with their rank and node, and they alone" is "$(grep -cE '(DEBUG|INFO) ' "$work/replicas.log") $(grep -cE '\[rank 1 [^]]+\] update 2: log' "$work/replicas.log")" \
    "$(grep -cE '(DEBUG|INFO) +\[rank 1 ' "$work/replicas.log") 1"

check "a run of 8 updates (full_determinism)" train straight 2 --full_determinism
mkdir "$work/resumed" && cp -a "$work/straight/checkpoint-4" "$work/straight/metrics.jsonl" "$work/resumed/"
check "resume on 4 ranks and stage 3" train resumed 4 --full_determinism --zero.stage 3 --resume_from_checkpoint latest
check "it keeps the global batch" says resumed "gradient_accumulation_steps is 1, to keep the checkpoint's global batch of 8 samples on 4 ranks"
check "it says what changed" says resumed "changed since the checkpoint: zero.stage = 3, was 0"
check "resume_on_four_ranks_repeats_the_metrics_of_two" is "$(curve resumed)" "$(curve straight)"
refuses "a number of ranks that cannot make the global batch is refused, and those that can are named" 2 "use a number of ranks of \{1, 2, 4\}" \
    mpirun -n 3 "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/resumed" --resume_from_checkpoint latest --max_steps 9
check "unless the command line chooses another" train resumed 3 --resume_from_checkpoint latest --max_steps 9 --gradient_accumulation_steps 1
check "... which is said" says resumed "the global batch changes from 8 to 6 samples"
check "going back to an earlier checkpoint" train resumed 2 --resume_from_checkpoint "$work/resumed/checkpoint-4" --max_steps 6
check "sets aside those beyond it" is "$(cd "$work/resumed" && ls -d checkpoint-? checkpoint-[89].old-* | sed 's/old-.*/old/' | paste -sd' ')" \
    "checkpoint-4 checkpoint-6 checkpoint-8.old checkpoint-9.old"
check "and cuts the metrics" is "$(steps resumed loss)" "2 4 6"
check "a run that is done has nothing left to do" train resumed 2 --resume_from_checkpoint auto --max_steps 6
check "... and says so" says resumed "nothing is left to do"
check "auto starts afresh where there is nothing" train fresh 1 --resume_from_checkpoint auto --max_steps 2
refuses "latest does not" 1 "there is no complete checkpoint in" "$STAGECOACH" train "$work/tiny.cfg" --output_dir "$work/none" --resume_from_checkpoint latest
check "ignore_data_skip goes on" train resumed 2 --resume_from_checkpoint latest --max_steps 7 --ignore_data_skip
check "a run may start from the weights of another" train weights 1 --model.init_from "$work/run/checkpoint-8" --max_steps 1 --learning_rate 0
check "... with their loss" awk -v a="$(sed -n 's/.*"eval_loss":\([0-9.]*\).*/\1/p' "$work/run/metrics.jsonl" | tail -n 1)" \
    -v b="$("$STAGECOACH" eval "$work/tiny.cfg" --resume_from_checkpoint "$work/weights/checkpoint-1" 2>/dev/null | sed -n 's/.*eval_loss *= //p')" \
    'BEGIN { exit !(a > b - 1e-4 && a < b + 1e-4) }'

evaluate() { ranks "$1" "$STAGECOACH" eval "$work/tiny.cfg" --output_dir "$work/run" --resume_from_checkpoint latest "${@:2}" && grep eval_loss "$work/run/eval_results.json"; }
one=$(evaluate 1 2>/dev/null | tail -n 1)
check "eval gives the same bits on 3 ranks at stage 3" is "$(evaluate 3 --zero.stage 3 --per_device_eval_batch_size 3 2>/dev/null | tail -n 1)" "$one"
check "... and those of the evaluation in training" grep -qF "$(echo "$one" | sed 's/.*: \([0-9.]*\),/\1/')" "$work/run/metrics.jsonl"
check "eval prints a table on standard output only" is "$(evaluate 2 --log_level error 2>&1 >/dev/null | grep -v mpirun)" ""

check "a whole run from the command line alone" ranks 1 "$STAGECOACH" train --data.train_file "$work/text.txt" --data.block_size 16 --model.n_positions 16 \
    --model.n_embd 8 --model.n_layer 1 --model.n_head 1 --output_dir "$work/alone" --max_steps 1 --disable_tqdm
"$STAGECOACH" train "$work/tiny.cfg" --learning_rate 0.5 --print_config >"$work/printed.cfg" 2>"$work/err"
check "print_config shows where values are from" grep -qE 'learning_rate = 0.5;.*command line' "$work/printed.cfg"
check "... on standard output only" test ! -s "$work/err"
check "... once on several ranks" is "$(ranks 2 "$STAGECOACH" train "$work/tiny.cfg" --print_config 2>/dev/null | grep -c 'learning_rate')" 1
check "... and train reads it back" train printed 1 --max_steps 1
check "a saved configuration is one, too" ranks 1 "$STAGECOACH" train "$work/run/checkpoint-8/config.cfg" --output_dir "$work/again" --max_steps 1
check "--help answers without ranks" "$STAGECOACH" train --help training
check "the manual page has every command and option" test "$("$STAGECOACH" --man | grep -cE '^\.B (train|eval|generate|prepare|ckpt ls)$|learning_rate \"|zero.stage')" -ge 7
finish

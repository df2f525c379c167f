#!/bin/bash
# The job script without Slurm: a scontrol of our own writes down what it is asked for. And the configurations that are installed.
# shellcheck source=../lib.sh disable=SC2154
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
export STAGECOACH OMPI_MCA_odls_base_sigkill_timeout=1
mkdir "$work/bin"
printf '#!/bin/sh\necho "$*" >>"%s/scontrol.calls"\n' "$work" >"$work/bin/scontrol"
chmod +x "$work/bin/scontrol"
PATH=$work/bin:$PATH
options=(--data.train_file "$top/conf/gpt2-small.cfg" --data.cache_dir "$work" --model.n_embd 32 --model.n_layer 1 --model.n_head 2
    --model.n_positions 32 --data.block_size 32 --model.vocab_size 256 --gradient_accumulation_steps 1 --evaluation_strategy no
    --logging_steps 1)

# job DIRECTORY SIGNAL STEPS: runs the job script and sends it SIGNAL after the first updates (none: ""). Leaves its exit
# status in $status ("hung" after 2 minutes) and what it asked of Slurm in $asked.
job() {
    local directory=$1 signal=$2 n_steps=$3 i pid
    : >"$work/scontrol.calls"
    (cd "$top" && exec "$BASH" jobscripts/train.sbatch conf/gpt2-small.cfg "${options[@]}" --output_dir "$directory" \
        --max_steps "$n_steps") >"$work/job.log" 2>&1 &
    pid=$!
    for ((i = 0; i < 1200; i++)); do
        kill -0 "$pid" 2>/dev/null || break
        if [ -n "$signal" ] && grep -q '"step"' "$directory/metrics.jsonl" 2>/dev/null; then
            kill -"$signal" "$pid"
            signal=
        fi
        sleep 0.1
    done
    if kill -9 "$pid" 2>/dev/null; then status=hung; else wait "$pid"; status=$?; fi
    asked=$(cat "$work/scontrol.calls")
}

# is NAME STATUS CALLS: the last job ended so, and asked Slurm for so much.
is() {
    if [ "$status" = "$2" ] && [ "$asked" = "$3" ]; then ok "$1"
    else bad "$1" "status $status (expected $2), asked of Slurm: '$asked'" "$(tail -n 8 "$work/job.log")"; fi
}

export SLURM_JOB_ID=4711
job "$work/run" USR1 1000000
is a_job_near_its_time_limit_saves_and_goes_back_into_the_queue 0 "requeue 4711"
check what_it_saved_is_complete bash -c "'$STAGECOACH' ckpt ls '$work/run' | grep complete"
step=$("$STAGECOACH" ckpt ls "$work/run" | awk '/complete/ { print $1 }' | tail -n 1)

SLURM_RESTART_COUNT=1 job "$work/run" "" $((step + 3))
is the_requeued_job_completes 0 ""
check the_requeued_job_went_on_where_the_first_one_ended test "$(sed -n 's/.*"step": *\([0-9]*\).*/\1/p' "$work/run/metrics.jsonl" | uniq | tail -n 4 | tr '\n' ' ')" = \
    "$step $((step + 1)) $((step + 2)) $((step + 3)) "

job "$work/ended" TERM 1000000
is a_job_that_is_cancelled_saves_and_is_not_put_back_into_the_queue 75 ""
check what_a_cancelled_job_saved_is_complete bash -c "'$STAGECOACH' ckpt ls '$work/ended' | grep complete"

job /dev/null/run "" 2
is a_job_that_fails_is_not_put_back_into_the_queue 1 ""
unset SLURM_JOB_ID

for file in quickstart gpt2-small gpt2-tiny; do
    check "conf_${file}_is_accepted" "$STAGECOACH" train "$top/conf/$file.cfg" --print_config
done

check plot_loss_draws_both_losses bash -c "printf '%s\n' '{\"step\":1,\"loss\":5.5}' '{\"step\":2,\"loss\":2.25,\"x\":1}' '{\"step\":2,\"eval_loss\":2.5}' >'$work/metrics.jsonl'
    '$top/jobscripts/plot-loss.sh' '$work' | tee '$work/plot'
    grep -q '5.500 |' '$work/plot' && grep -q 'o$' '$work/plot' && grep -q 'last 2.500' '$work/plot'"
refuses plot_loss_names_the_file_that_it_cannot_read 1 "cannot read $work/nothing/metrics.jsonl" "$top/jobscripts/plot-loss.sh" "$work/nothing"
finish

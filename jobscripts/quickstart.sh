#!/bin/bash
# From a fresh clone on Debian 12 to a trained model: installs what is missing, builds, trains a small GPT-2 on the King James
# Bible on 2 ranks, stops it halfway, resumes it on 4 ranks with another ZeRO stage, evaluates, shows what is in the checkpoint,
# and has it write. About 2 minutes of training on 2 cores. A second run installs and builds nothing, and trains anew.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. jobscripts/one-node.sh
export OMP_NUM_THREADS=1
export CUDA_VISIBLE_DEVICES= # CPUs: four ranks are more than most machines have GPUs
stagecoach=build/stagecoach
run=runs/quickstart
launcher=

# A run that is left behind would hold the output directory.
trap '[ -z "$launcher" ] || kill "$launcher" 2>/dev/null || true' EXIT

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# say COMMAND: what is typed to get the output that follows.
say() { printf '\033[36m$ %s\033[0m\n' "$1"; }
# typed COMMAND...: shows it as it is typed, then runs it.
typed() {
    local word line=
    for word in "$@"; do
        case $word in *' '*) word="\"$word\"" ;; esac
        line="$line${line:+ }$word"
    done
    say "$line"
    "$@"
}

title "Packages and build"
jobscripts/install-deps.sh bible-kjv
[ -x configure ] || ./autogen.sh
mkdir -p build data
[ -f build/Makefile ] || (cd build && ../configure --quiet)
make -s -C build -j2 stagecoach
$stagecoach --version

title "The text: 4.4 MB of real English"
if [ ! -s data/kjv.txt ]; then
    say "bible -f gen1:1-rev22:21 > data/kjv.txt"
    bible -f gen1:1-rev22:21 >data/kjv.txt.tmp
    mv data/kjv.txt.tmp data/kjv.txt
fi
ls -l data/kjv.txt
head -n 2 data/kjv.txt

title "Training on 2 ranks, ZeRO stage 2; halfway, a signal"
n_steps=$(sed -n 's/^ *max_steps = \([0-9]*\).*/\1/p' conf/quickstart.cfg)
stop_at=$((n_steps * 11 / 20))
say "mpirun -n 2 $stagecoach train conf/quickstart.cfg --overwrite_output_dir"
rm -f $run/metrics.jsonl
SECONDS=0
# -q: without mpirun's remarks about ranks that exit with a status.
mpirun -q -n 2 $stagecoach train conf/quickstart.cfg --overwrite_output_dir &
launcher=$!
last_step() { sed -n 's/.*"step": *\([0-9]*\).*/\1/p' $run/metrics.jsonl 2>/dev/null | tail -n 1; }
while kill -0 $launcher 2>/dev/null; do
    step=$(last_step)
    if [ "${step:-0}" -ge $stop_at ]; then
        say "kill -USR1 $launcher        # mpirun passes it on: the ranks finish the update, save, and exit with 75"
        kill -USR1 $launcher
        break
    fi
    sleep 0.2
done
status=0
wait $launcher || status=$?
launcher=
echo "exit status $status"
if [ $status -ne 75 ]; then
    echo "quickstart.sh: the training should have ended with 75 (saved on a signal)" >&2
    exit 1
fi

title "The same training goes on: 4 ranks, ZeRO stage 3"
typed mpirun -n 4 $stagecoach train conf/quickstart.cfg --zero.stage 3 --resume_from_checkpoint latest
echo "training took $SECONDS s in all"
last=$run/checkpoint-$n_steps

title "Evaluation over the whole validation part"
typed mpirun -n 2 $stagecoach eval conf/quickstart.cfg --data.max_eval_samples 0 --resume_from_checkpoint "$last"

title "The loss curve"
typed jobscripts/plot-loss.sh $run

title "The checkpoints"
typed $stagecoach ckpt ls $run
echo "Every tensor is whole in checkpoint.h5, for whatever reads HDF5:"
typed h5dump -d /model/h.0.attn.c_attn.weight -s 0,0 -c 2,6 "$last/checkpoint.h5"

title "What it writes"
typed $stagecoach generate "$last" --prompt "In the beginning" --max_new_tokens 300 --temperature 0.7 --top_k 40 --seed 2
echo

title "What to type next"
cat <<END
. jobscripts/one-node.sh            # Open MPI's settings for one machine
mpirun -n 4 $stagecoach train conf/quickstart.cfg --zero.stage 3 --max_steps $((n_steps * 2)) --resume_from_checkpoint latest
$stagecoach generate $last --prompt "And the king said" --max_new_tokens 200 --temperature 0.8
mpirun -n 2 $stagecoach train conf/quickstart.cfg --data.train_file YOUR.txt --output_dir runs/yours
$stagecoach train --help training   # every setting of a group
sbatch jobscripts/train.sbatch conf/gpt2-small.cfg    # on a Slurm cluster
END

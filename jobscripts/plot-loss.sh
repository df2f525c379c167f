#!/bin/bash
# Draws the losses of a run in the terminal:  jobscripts/plot-loss.sh OUTPUT_DIR
# "." is the training loss, "o" the evaluation loss, in nats per token, over update steps.
set -eu
metrics=${1:?"usage: plot-loss.sh OUTPUT_DIR"}/metrics.jsonl
[ -r "$metrics" ] || { echo "plot-loss.sh: cannot read $metrics" >&2; exit 1; }
exec awk '
function number(key,    rest) {
    if (!match($0, "\"" key "\": *-?[0-9]")) return ""
    rest = substr($0, RSTART + RLENGTH - 1)
    if (substr($0, RSTART + RLENGTH - 2, 1) == "-") rest = "-" rest
    sub(/[,}].*/, "", rest)
    return rest + 0
}
function keep(mark, x, y) {
    n++; at[n] = x; value[n] = y; sign[n] = mark
    if (n == 1 || x > x_max) x_max = x
    if (n == 1 || y < y_min) y_min = y
    if (n == 1 || y > y_max) y_max = y
}
{
    step = number("step")
    loss = number("loss")
    if (loss != "") keep(".", step, loss)
    loss = number("eval_loss")
    if (loss != "") { keep("o", step, loss); last_eval = loss }
}
END {
    if (n == 0) { print "no losses yet"; exit }
    width = 64; height = 16
    if (y_max == y_min) y_max = y_min + 1
    if (x_max == 0) x_max = 1
    # Evaluation marks last, over the others.
    for (pass = 0; pass < 2; pass++)
        for (i = 1; i <= n; i++) if ((sign[i] == "o") == pass) {
            column = int(at[i] / x_max * (width - 1)); row = int((value[i] - y_min) / (y_max - y_min) * (height - 1) + 0.5)
            cell[row, column] = sign[i]
        }
    print "  loss"
    for (row = height - 1; row >= 0; row--) {
        line = ""
        for (column = 0; column < width; column++) line = line ((row, column) in cell ? cell[row, column] : " ")
        sub(/ +$/, "", line)
        if (row % 5 == 0) printf "  %6.3f |%s\n", y_min + (y_max - y_min) * row / (height - 1), line
        else printf "         |%s\n", line
    }
    line = ""
    for (column = 0; column < width; column++) line = line "-"
    printf "         +%s\n          0%*d\n", line, width - 1, x_max
    printf "          update steps; . training%s\n", last_eval == "" ? "" : sprintf(", o evaluation (last %.3f nats per token)", last_eval)
}' "$metrics"

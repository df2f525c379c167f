# Results of the bench, one line per repetition, to tables on stdout, as docs/benchmarks.md shows them, and to the file `json`. First file: what is known of the machine.
BEGIN { FS = "\t"; gflop_per_token = 0.756 } # GPT-2 124M: 6 x 123.6M parameters without positions + 6 L T C of causal attention, T = 256

FNR == NR { about[++n_about] = $1; told[$1] = $2; next }

{
    key = $1 FS $2 FS $3
    if (!(key in n)) { order[++n_keys] = key; unit[key] = $4 }
    value[key, ++n[key]] = $5 + 0
}

# Insertion sort: a few values each.
function sort_values(key,    i, j, x) {
    for (i = 2; i <= n[key]; i++) {
        x = sorted[key, i]
        for (j = i - 1; j >= 1 && sorted[key, j] > x; j--) sorted[key, j + 1] = sorted[key, j]
        sorted[key, j + 1] = x
    }
}

function summarise(    k, i, key, half) {
    for (k = 1; k <= n_keys; k++) {
        key = order[k]
        for (i = 1; i <= n[key]; i++) sorted[key, i] = value[key, i]
        sort_values(key)
        half = int((n[key] + 1) / 2)
        median[key] = n[key] % 2 ? sorted[key, half] : (sorted[key, half] + sorted[key, half + 1]) / 2
    }
}

# The faster of the two products that were measured.
function product_rate(type, threads,    a, b) {
    a = median["ceilings" FS type " product 2048x2048x2048, " threads FS "machine"]
    b = median["ceilings" FS type " product 1024x3072x768, " threads FS "machine"]
    return a > b ? a : b
}

function of(row, metric, side) { return median[row FS metric FS side] }

function reach(what, sign, limit, a, b) {
    if (!a || !b) return
    goal[++n_goals] = what
    goal_sign[n_goals] = sign
    goal_limit[n_goals] = limit
    goal_value[n_goals] = a / b
    goal_met[n_goals] = sign == ">=" ? a / b >= limit : a / b <= limit
}

function goals() {
    reach("GPT-2 fp32: ours / torch.compile", ">=", 1.3, of("gpt2-fp32", "speed", "ours"), of("gpt2-fp32", "speed", "torch compile"))
    reach("GPT-2 fp32: share of the fp32 product rate", ">=", 0.85, gflop_per_token * of("gpt2-fp32", "speed", "ours"), product_rate("fp32", "2 threads"))
    reach("GPT-2 bf16: ours / torch.compile with autocast", ">=", 1.6, of("gpt2-bf16", "speed", "ours"), of("gpt2-bf16", "speed", "torch compile"))
    reach("GPT-2 bf16: share of the bf16 product rate", ">=", 0.75, gflop_per_token * of("gpt2-bf16", "speed", "ours"), product_rate("bf16", "2 threads"))
    reach("2 ranks: stage 0 / DDP", ">=", 1.3, of("ranks", "speed", "stage 0"), of("ranks", "speed", "ddp"))
    reach("2 ranks: stage 3 / FSDP2", ">=", 2, of("ranks", "speed", "stage 3"), of("ranks", "speed", "fsdp2"))
    reach("2 ranks: stage 3 / stage 0", ">=", 0.93, of("ranks", "speed", "stage 3"), of("ranks", "speed", "stage 0"))
    reach("small model: loop, ours / Trainer", ">=", 4, of("small", "speed of the loop", "ours"), of("small", "speed of the loop", "Trainer"))
    reach("small model: whole command, Trainer / ours", ">=", 10, of("small", "whole command", "Trainer"), of("small", "whole command", "ours"))
    reach("peak memory, GPT-2 fp32: ours / torch.compile", "<=", 0.75, of("gpt2-fp32", "peak memory", "ours"), of("gpt2-fp32", "peak memory", "torch compile"))
    reach("peak memory, GPT-2 bf16: ours / torch.compile", "<=", 0.75, of("gpt2-bf16", "peak memory", "ours"), of("gpt2-bf16", "peak memory", "torch compile"))
    reach("peak memory, stage 0 / DDP", "<=", 0.75, of("ranks", "peak memory per rank", "stage 0"), of("ranks", "peak memory per rank", "ddp"))
    reach("peak memory, stage 1 / ZeroRedundancyOptimizer", "<=", 0.6, of("ranks", "peak memory per rank", "stage 1"), of("ranks", "peak memory per rank", "zero"))
    reach("peak memory, stage 2 / FSDP2", "<=", 0.6, of("ranks", "peak memory per rank", "stage 2"), of("ranks", "peak memory per rank", "fsdp2"))
    reach("peak memory, stage 3 / FSDP2", "<=", 0.6, of("ranks", "peak memory per rank", "stage 3"), of("ranks", "peak memory per rank", "fsdp2"))
    reach("peak memory, small model: ours / Trainer", "<=", 0.6, of("small", "peak memory", "ours"), of("small", "peak memory", "Trainer"))
    reach("start to end of update 1, 2 ranks (s)", "<=", 0.2, of("startup", "start to end of update 1", "2 ranks"), 1)
    reach("start to end of update 1, 16 ranks (s)", "<=", 2, of("startup", "start to end of update 1", "16 ranks"), 1)
    reach("T = 1024: time with / without gradient_checkpointing", "<=", 1.3, of("checkpointing", "time of an update", "with"),
          of("checkpointing", "time of an update", "without"))
}

function print_results(    k, key, part) {
    printf "\n| %-13s | %-38s | %-29s | %10s | %10s | %10s | %2s | %-9s |\n", "row", "what", "side", "median", "least", "most", "n", "unit"
    print "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"
    for (k = 1; k <= n_keys; k++) {
        key = order[k]
        split(key, part, FS)
        if (part[1] ~ /^kernels-/) continue
        printf "| %-13s | %-38s | %-29s | %10.4g | %10.4g | %10.4g | %2d | %-9s |\n", part[1], part[2], part[3], median[key], sorted[key, 1],
            sorted[key, n[key]], n[key], unit[key]
    }
}

# A kernel's median, its spread as a share of it, and the ceiling: cells of one row of the table.
function kernel_cells(type, kernel,    key, ceiling) {
    key = "kernels-" type FS kernel FS "ours"
    if (!(key in median)) return sprintf("| %8s | %7s | %8s | %6s ", "", "", "", "")
    ceiling = unit[key] == "GB/s" ? of("kernels-" type, kernel, "copy") : product_rate(type, "2 threads")
    return sprintf("| %8.1f | %5.0f %% | %8s | %6s ", median[key], 50 * (sorted[key, n[key]] - sorted[key, 1]) / median[key],
                   ceiling ? sprintf("%.1f", ceiling) : "", ceiling ? sprintf("%.0f %%", 100 * median[key] / ceiling) : "")
}

function print_kernels(    k, part, shown) {
    for (k = 1; k <= n_keys; k++) {
        split(order[k], part, FS)
        if (part[1] !~ /^kernels-/ || part[3] != "ours" || part[2] in shown) continue
        if (!shown[0]++) {
            printf "\n| %-19s | %-7s | %8s | %7s | %8s | %6s | %8s | %7s | %8s | %6s |\n", "kernel", "unit", "fp32", "+-", "ceiling", "share", "bf16", "+-",
                "ceiling", "share"
            print "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        }
        shown[part[2]] = 1
        printf "| %-19s | %-7s %s%s|\n", part[2], unit[order[k]], kernel_cells("fp32", part[2]), kernel_cells("bf16", part[2])
    }
}

function print_goals(    k) {
    if (n_goals) printf "\n| %-60s | %6s | %-7s | %-11s |\n| --- | ---: | --- | --- |\n", "ratio of medians", "is", "aim", ""
    for (k = 1; k <= n_goals; k++)
        printf "| %-60s | %6.3f | %s %4.2f | %-11s |\n", goal[k], goal_value[k], goal_sign[k], goal_limit[k], goal_met[k] ? "reached" : "not reached"
}

function text(s) { gsub(/["\\]/, "\\\\&", s); return "\"" s "\"" }

function write_json(    k, i, key, part) {
    printf "{\n  \"about\": {" >json
    for (i = 1; i <= n_about; i++) printf "%s\n    %s: %s", (i > 1 ? "," : ""), text(about[i]), text(told[about[i]]) >json
    printf "\n  },\n  \"results\": [" >json
    for (k = 1; k <= n_keys; k++) {
        key = order[k]
        split(key, part, FS)
        printf "%s\n    {\"row\": %s, \"metric\": %s, \"side\": %s, \"unit\": %s, \"median\": %.6g, \"least\": %.6g, \"most\": %.6g, \"values\": [", (k > 1 ? "," : ""),
            text(part[1]), text(part[2]), text(part[3]), text(unit[key]), median[key], sorted[key, 1], sorted[key, n[key]] >json
        for (i = 1; i <= n[key]; i++) printf "%s%.6g", (i > 1 ? ", " : ""), value[key, i] >json
        printf "]}" >json
    }
    printf "\n  ],\n  \"ratios\": [" >json
    for (k = 1; k <= n_goals; k++)
        printf "%s\n    {\"what\": %s, \"is\": %.6g, \"aim\": %s, \"reached\": %s}", (k > 1 ? "," : ""), text(goal[k]), goal_value[k],
            text(goal_sign[k] " " goal_limit[k]), goal_met[k] ? "true" : "false" >json
    printf "\n  ]\n}\n" >json
    close(json)
}

END {
    summarise()
    goals()
    for (k = 1; k <= n_about; k++) printf "%s: %s\n", about[k], told[about[k]]
    print_results()
    print_kernels()
    print_goals()
    write_json()
    printf "\nAll values are in %s.\n", json
}

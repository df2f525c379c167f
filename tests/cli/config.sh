#!/usr/bin/env bash
# Settings as a user gives them: files, arguments, mistakes.
. "$(dirname "$0")/../lib.sh"
cd "$work" || exit 1

# prints PATTERN COMMAND...: exactly one line of what the command prints matches.
prints() { local pattern=$1; shift; [ "$("$@" | grep -cE -- "$pattern")" -eq 1 ]; }

printf 'training:\n{\n    learning_rate = 3e-4;\n    seed = 5000000000L;\n};\n@include "zero/stage.cfg"\n' >good.cfg
mkdir zero && printf '\nzero: { stage = 2; };\n' >zero/stage.cfg
train=("$STAGECOACH" train)

check print_config_names_the_line_of_a_file prints '^ +learning_rate = 0\.0003; +# good\.cfg:3$' "${train[@]}" good.cfg --print_config
check print_config_names_the_included_file prints '^ +stage = 2; +# zero/stage\.cfg:2$' "${train[@]}" good.cfg --print_config
check print_config_names_the_command_line prints '^ +max_steps = 7; +# command line$' "${train[@]}" good.cfg --print_config --max_steps 7
check print_config_needs_no_file prints '^ +adam_beta1 = 0\.9; +# default$' "${train[@]}" --print_config
check print_config_is_printed_once_by_three_ranks prints '^ +seed = 5000000000L; +# good\.cfg:4$' ranks 3 "${train[@]}" good.cfg --print_config

"${train[@]}" good.cfg --output_dir 'a "b"\c' --learning_rate 0.30000000000000004 --max_grad_norm none --print_config | sed 's/ *#.*//' >all.cfg
same_values() { "${train[@]}" all.cfg --print_config | sed 's/ *#.*//' | diff all.cfg -; }
check what_print_config_shows_reads_back_to_the_same same_values

for file in "$top"/conf/*.cfg; do
    check "$(basename "$file" .cfg)_is_accepted" "${train[@]}" "$file" --print_config
done

cat >bad.cfg <<'EOF'
training:
{
    learning_rte = 3e-4;
    seed = 5000000000;
    weight_decay = "0.1";
    bf16_full_eval = true;
};
EOF
refuses errors_are_counted_and_shown_once_by_two_ranks 2 '8 errors in the settings' mpirun -n 2 "${train[@]}" bad.cfg --adam_beta1 2 --n_layer 3
for pattern in 'bad.cfg:3: .*did you mean learning_rate\?' 'bad.cfg:4: .*write 5000000000L' 'bad.cfg:5: .*write it like weight_decay' \
               'bad.cfg:6: bf16_full_eval is not offered in this version' '--adam_beta1 2: out of range' '--n_layer 3: .*did you mean --model.n_layer\?' \
               'training.output_dir: is not set' 'data.train_file: is not set'; do
    refuses "all_at_once: $pattern" 2 "$pattern" "${train[@]}" bad.cfg --adam_beta1 2 --n_layer 3
done

refuses missing_file_is_one_message_of_three_ranks 2 'error: nowhere.cfg: cannot be read: No such file' mpirun -n 3 "${train[@]}" nowhere.cfg
refuses directory_is_no_configuration 2 'zero: is a directory' "${train[@]}" zero
refuses executable_is_no_configuration 2 'give a configuration file' "${train[@]}" "$STAGECOACH"
printf 'training: {\n  lr_scheduler_type = cosine;\n};\n' >syntax.cfg
refuses syntax_error_names_the_line 2 'syntax.cfg:2: syntax error at `lr_scheduler_type = cosine;`' "${train[@]}" syntax.cfg
printf '@include "syntax.cfg"\n' >outer.cfg
refuses syntax_error_names_the_included_file 2 'syntax.cfg:2: syntax error' "${train[@]}" outer.cfg
refuses conflict_names_both_settings 2 '--lr_scheduler_type reduce_lr_on_plateau: conflicts with training.evaluation_strategy' \
    "${train[@]}" --lr_scheduler_type reduce_lr_on_plateau
refuses dashes_are_not_underscores 2 '--learning-rate 1: unknown option: did you mean --learning_rate\?' "${train[@]}" good.cfg --learning-rate 1
refuses a_second_file_is_not_expected 2 'bad.cfg: not expected here' "${train[@]}" good.cfg bad.cfg

for arguments in --version --man --help 'train --help zero' 'ckpt --help'; do
    refuses "a_full_disk_is_an_error_of: $arguments" 1 'cannot be written: No space left' bash -c "\"\$0\" $arguments >/dev/full" "$STAGECOACH"
done

check help_lists_all_groups prints '^checkpoint: ' "${train[@]}" --help
check help_of_a_group_shows_defaults_and_ranges prints '^  --zero\.stage +int +0 +0 \.\. 3$' "${train[@]}" --help zero
refuses help_of_an_unknown_group_names_the_groups 2 'there is no group zeros; write --help with one of model, data' "${train[@]}" --help zeros

finish

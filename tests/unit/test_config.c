/* Options that are accepted: values, origins, what is written and read back, help. */
#include <sys/stat.h>

#include "config_files.h"

static void same(const sgc_config *a, const sgc_config *b)
{
    for (int row = 0; row < sgc_config_n_rows(); row++) {
        sgc_str x = {0}, y = {0};
        ck_assert_int_eq(sgc_config_row_value(a, row, &x), SGC_OK);
        ck_assert_int_eq(sgc_config_row_value(b, row, &y), SGC_OK);
        ck_assert_msg(strcmp(x.text, y.text) == 0, "%s: %s and %s", sgc_config_row_name(row), x.text, y.text);
        sgc_str_free(&x);
        sgc_str_free(&y);
    }
}

START_TEST(defaults_are_those_of_the_trainer)
{
    sgc_config c;
    ck_assert_int_eq(sgc_config_load(&c, NULL, 0, NULL), SGC_OK);
    ck_assert(c.training.learning_rate == 5e-5 && c.training.adam_beta2 == 0.999 && c.training.num_train_epochs == 3.0);
    ck_assert(c.training.has_max_grad_norm && c.training.max_grad_norm == 1.0);
    ck_assert_int_eq(c.training.max_steps, -1);
    ck_assert_int_eq(c.training.lr_scheduler_type, SGC_SCHEDULE_LINEAR);
    ck_assert_int_eq(c.training.logging_strategy, SGC_STRATEGY_STEPS);
    ck_assert_int_eq(c.training.evaluation_strategy, SGC_STRATEGY_NO);
    ck_assert(c.training.log_on_each_node && !c.training.has_save_total_limit && !c.training.has_data_seed && !c.training.has_disable_tqdm);
    ck_assert_ptr_null(c.training.output_dir);
    ck_assert_str_eq(sgc_config_origin(&c, "training.seed"), "default");
    sgc_config_free(&c);
}
END_TEST

START_TEST(the_command_line_beats_the_file_and_the_file_beats_the_default)
{
    in_fresh_directory();
    sgc_config c;
    put("x.cfg", "training: {\n  seed = 7;\n  learning_rate = 1e-3;\n};\nzero = { stage = 2; }\n");
    ck_assert_int_eq(LOAD(&c, "x.cfg", "--seed", "8", "--zero.stage=3", "--training.weight_decay", "0.5", "--seed", "9"), SGC_OK);
    ck_assert_int_eq(c.training.seed, 9);
    ck_assert_int_eq(c.zero.stage, 3);
    ck_assert(c.training.learning_rate == 1e-3 && c.training.weight_decay == 0.5);
    ck_assert_str_eq(sgc_config_origin(&c, "training.seed"), "command line");
    ck_assert_str_eq(sgc_config_origin(&c, "training.learning_rate"), "x.cfg:3");
    ck_assert_str_eq(sgc_config_origin(&c, "training.max_steps"), "default");
    ck_assert(!sgc_config_is_on_command_line(&c, "training.learning_rate"));
    ck_assert(sgc_config_is_on_command_line(&c, "training.seed"));
    sgc_config_free(&c);
    leave();
}
END_TEST

START_TEST(a_file_gives_values_of_every_type)
{
    in_fresh_directory();
    sgc_config c;
    accept_file(&c, "training: { learning_rate = 1; eval_steps = 3L; seed = 5000000000L; save_total_limit = 2; max_grad_norm = \"none\";\n"
                    "  lr_scheduler_type = \"reduce_lr_on_plateau\"; evaluation_strategy = \"epoch\"; disable_tqdm = false; full_determinism = TRUE;\n"
                    "  output_dir = \"a \\\"b\\\"\\\\\" \"c\"; log_level = \"critical\"; data_seed = \"None\"; max_steps = 0x10; };\n"
                    "model: { activation_function = \"tanh\"; init_from = \"none\"; }; device: { type = \"reference\"; };\n"
                    "data: { max_train_samples = -0; } #* comment\n// another\n/* and\n one more */");
    ck_assert(c.training.learning_rate == 1.0 && c.training.has_eval_steps && c.training.eval_steps == 3.0);
    ck_assert_int_eq(c.training.seed, 5000000000);
    ck_assert(c.training.has_save_total_limit && c.training.save_total_limit == 2);
    ck_assert(!c.training.has_max_grad_norm && !c.training.has_data_seed);
    ck_assert_int_eq(c.training.lr_scheduler_type, SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU);
    ck_assert_int_eq(c.training.evaluation_strategy, SGC_STRATEGY_EPOCH);
    ck_assert(c.training.has_disable_tqdm && !c.training.disable_tqdm && c.training.full_determinism);
    ck_assert_str_eq(c.training.output_dir, "a \"b\"\\c");
    ck_assert_int_eq(c.training.log_level, 4);
    ck_assert_int_eq(c.training.max_steps, 16);
    ck_assert_int_eq(c.model.activation_function, SGC_ACT_TANH);
    ck_assert_int_eq(c.device.type, SGC_DEVICE_REFERENCE);
    ck_assert_ptr_null(c.model.init_from);
    sgc_config_free(&c);
    leave();
}
END_TEST

START_TEST(the_command_line_gives_values_of_every_type)
{
    sgc_config c;
    ck_assert_int_eq(LOAD(&c, NULL, "--gradient_checkpointing", "--log_on_each_node", "False", "--full_determinism=true", "--max_grad_norm", "None",
                          "--data_seed", "none", "--save_steps", "-1", "--learning_rate", "3e-4", "--seed", "9223372036854775807",
                          "--nonfinite", "continue", "--output_dir=a=b", "--eval_steps", "0.25", "--disable_tqdm"), SGC_OK);
    ck_assert(c.training.gradient_checkpointing && !c.training.log_on_each_node && c.training.full_determinism);
    ck_assert(!c.training.has_max_grad_norm && !c.training.has_data_seed && c.training.save_steps == -1 && c.training.learning_rate == 3e-4);
    ck_assert_int_eq(c.training.seed, INT64_MAX);
    ck_assert_int_eq(c.training.nonfinite, SGC_NONFINITE_CONTINUE);
    ck_assert_str_eq(c.training.output_dir, "a=b");
    ck_assert(c.training.eval_steps == 0.25 && c.training.has_disable_tqdm && c.training.disable_tqdm);
    sgc_config_free(&c);
}
END_TEST

START_TEST(includes_are_relative_to_the_file_that_names_them)
{
    in_fresh_directory();
    sgc_config c;
    ck_assert_int_eq(mkdir("sub", 0777) | mkdir("sub/deep", 0777), 0);
    put("sub/model.cfg", "@include \"deep/more.cfg\"\nmodel: {\n n_layer = 3;\n  @include \"deep/inner.cfg\"\n};");
    put("sub/deep/inner.cfg", "n_head = 4;\nn_embd = 64;");
    sgc_str text = {0};
    sgc_str_printf(&text, "@include \"%s/absolute.cfg\"\n", directory);
    put("sub/deep/more.cfg", text.text);
    sgc_str_free(&text);
    put("absolute.cfg", "zero: { stage = 1; };\n");
    accept_file(&c, "# @include \"nowhere\"\n  @include\t\"sub/model.cfg\" /* the model */\ntraining: { output_dir = \"x\n@include \\\"y\\\"\"; seed = 3; };\n");
    ck_assert_int_eq(c.model.n_layer, 3);
    ck_assert_int_eq(c.model.n_head, 4);
    ck_assert_int_eq(c.zero.stage, 1);
    ck_assert_str_eq(sgc_config_origin(&c, "model.n_layer"), "sub/model.cfg:3");
    ck_assert_str_eq(sgc_config_origin(&c, "model.n_embd"), "sub/deep/inner.cfg:2");
    ck_assert_str_eq(sgc_config_origin(&c, "training.seed"), "x.cfg:4");
    ck_assert_str_eq(c.training.output_dir, "x\n@include \"y\"");
    sgc_config_free(&c);
    put("sub/deep/inner.cfg", "\nn_haed = 4;");
    refuse_file("@include \"sub/model.cfg\"\n", "sub/deep/inner.cfg:2: group model has no setting n_haed: did you mean n_head?");
    refuse_file("\n@include \"no.cfg\"\n", "x.cfg:2: no.cfg: cannot be read: No such file or directory");
    refuse_file("\n@include \"sub\"\n", "x.cfg:2: sub: is a directory: give a configuration file");
    refuse_file("@include \"x.cfg\"\n", "x.cfg:1: @include comes back to a file that is being read, or is nested more than ten deep");
    put("sub/deep/inner.cfg", "n_head = \"4;\n");
    refuse_file("@include \"sub/model.cfg\"\n", "sub/deep/inner.cfg:1: this text has no closing quote");
    leave();
}
END_TEST

START_TEST(the_text_of_a_configuration_reads_back_to_the_same_values)
{
    in_fresh_directory();
    for (int with_origins = 0; with_origins < 2; with_origins++) {
        sgc_config a, b;
        sgc_str text = {0};
        ck_assert_int_eq(LOAD(&a, NULL, "--learning_rate", "0.30000000000000004", "--adam_epsilon", "4.9406564584124654e-324", "--num_train_epochs",
                              "123456789012", "--weight_decay", "1.7976931348623157e8", "--adam_beta1", "-0.0", "--seed", "9223372036854775807",
                              "--data_seed", "2147483648", "--eval_steps", "0.1", "--max_grad_norm", "none", "--save_total_limit", "2147483647",
                              "--output_dir", "a\"b\\c\n\t\x01\x7f\xc3\xa9 # ; @include", "--data.train_file", "C:\\new\\x41", "--disable_tqdm", "false",
                              "--lr_scheduler_type", "inverse_sqrt", "--max_steps", "-1"), SGC_OK);
        ck_assert_int_eq(sgc_config_text(&a, with_origins, &text), SGC_OK);
        put("saved.cfg", text.text);
        sgc_status st = sgc_config_load(&b, "saved.cfg", 0, NULL);
        ck_assert_msg(st == SGC_OK, "%s", sgc_err_message());
        same(&a, &b);
        ck_assert(memcmp(&a.training.learning_rate, &b.training.learning_rate, sizeof(double)) == 0);
        ck_assert(b.training.learning_rate == 0.1 + 0.2 && b.training.adam_epsilon == 4.9406564584124654e-324);
        ck_assert_int_eq(b.training.seed, INT64_MAX);
        ck_assert_str_eq(b.training.output_dir, "a\"b\\c\n\t\x01\x7f\xc3\xa9 # ; @include");
        ck_assert_str_eq(b.data.train_file, "C:\\new\\x41");
        ck_assert(!b.training.has_max_grad_norm && b.training.has_disable_tqdm && !b.training.disable_tqdm);
        sgc_str again = {0};
        ck_assert_int_eq(sgc_config_text(&b, false, &again), SGC_OK);
        if (!with_origins) ck_assert_str_eq(text.text, again.text);
        sgc_str_free(&text);
        sgc_str_free(&again);
        sgc_config_free(&a);
        sgc_config_free(&b);
    }
    leave();
}
END_TEST

START_TEST(every_value_is_shown_with_its_origin)
{
    in_fresh_directory();
    sgc_config c;
    sgc_str text = {0};
    put("a\nb.cfg", "\nzero: { stage = 2; };");
    ck_assert_int_eq(LOAD(&c, "a\nb.cfg", "--seed", "1"), SGC_OK);
    ck_assert_int_eq(sgc_config_text(&c, true, &text), SGC_OK);
    int n_comments = 0;
    for (const char *p = text.text; (p = strchr(p, '#')) != NULL; p++) n_comments++;
    ck_assert_int_eq(n_comments, sgc_config_n_rows());
    ck_assert_ptr_nonnull(strstr(text.text, "    seed = 1;                                           # command line\n"));
    ck_assert_ptr_nonnull(strstr(text.text, "    stage = 2;                                          # a?b.cfg:2\n"));
    ck_assert_ptr_nonnull(strstr(text.text, "    max_steps = -1;                                     # default\n"));
    sgc_str_free(&text);
    sgc_config_free(&c);
    leave();
}
END_TEST

START_TEST(packed_settings_arrive_whole_with_their_origins)
{
    in_fresh_directory();
    sgc_config a, b;
    char *bytes;
    size_t n_bytes;
    put("x.cfg", "zero: { stage = 2; };");
    ck_assert_int_eq(LOAD(&a, "x.cfg", "--learning_rate", "0.30000000000000004", "--output_dir", "a\nb", "--data_seed", "3", "--max_grad_norm", "none"), SGC_OK);
    ck_assert_int_eq(sgc_config_pack(&a, &bytes, &n_bytes), SGC_OK);
    ck_assert_int_eq(sgc_config_unpack(&b, bytes, n_bytes), SGC_OK);
    same(&a, &b);
    ck_assert_str_eq(sgc_config_origin(&b, "zero.stage"), "x.cfg:1");
    ck_assert_str_eq(sgc_config_origin(&b, "training.seed"), "default");
    ck_assert(sgc_config_is_on_command_line(&b, "training.data_seed") && !sgc_config_is_on_command_line(&b, "training.seed"));
    ck_assert_ptr_ne(a.training.output_dir, b.training.output_dir);
    sgc_config_free(&b);
    for (size_t n = 0; n < n_bytes; n++) {
        char *part = malloc(n ? n : 1); /* of its exact size, so that reading past its end is seen */
        memcpy(part, bytes, n);
        ck_assert_int_eq(sgc_config_unpack(&b, part, n), SGC_EARG);
        sgc_err_clear();
        free(part);
    }
    free(bytes);
    sgc_config_free(&a);
    leave();
}
END_TEST

START_TEST(a_derived_value_replaces_the_given_one)
{
    sgc_config c;
    ck_assert_int_eq(LOAD(&c, NULL, "--output_dir", "x"), SGC_OK);
    ck_assert_int_eq(sgc_config_set(&c, "training.gradient_accumulation_steps", "4", "derived for 2 ranks"), SGC_OK);
    ck_assert_int_eq(c.training.gradient_accumulation_steps, 4);
    ck_assert_str_eq(sgc_config_origin(&c, "training.gradient_accumulation_steps"), "derived for 2 ranks");
    ck_assert(!sgc_config_is_on_command_line(&c, "training.gradient_accumulation_steps"));
    ck_assert_int_eq(sgc_config_set(&c, "training.output_dir", c.training.output_dir, "x"), SGC_OK);
    ck_assert_str_eq(c.training.output_dir, "x");
    ck_assert_int_eq(sgc_config_set(&c, "training.output_dir", "none", "x"), SGC_OK);
    ck_assert_ptr_null(c.training.output_dir);
    ck_assert_int_eq(sgc_config_set(&c, "zero.stage", "4", "x"), SGC_ECONFIG);
    sgc_err_clear();
    ck_assert_int_eq(sgc_config_set(&c, "zero.stages", "3", "x"), SGC_EARG);
    sgc_err_clear();
    ck_assert_int_eq(c.zero.stage, 0);
    sgc_config_free(&c);
}
END_TEST

START_TEST(a_tilde_in_output_dir_is_the_home_directory)
{
    sgc_config c;
    setenv("HOME", "/home/someone", 1);
    ck_assert_int_eq(LOAD(&c, NULL, "--output_dir", "~/runs"), SGC_OK);
    ck_assert_str_eq(c.training.output_dir, "/home/someone/runs");
    ck_assert(sgc_config_is_on_command_line(&c, "training.output_dir"));
    sgc_config_free(&c);
    ck_assert_int_eq(LOAD(&c, NULL, "--output_dir", "~x"), SGC_OK);
    ck_assert_str_eq(c.training.output_dir, "~x");
    sgc_config_free(&c);
}
END_TEST

static char *printed(const char *group, bool is_man)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (is_man) sgc_config_man(f);
    else ck_assert_int_eq(sgc_config_help(f, group), SGC_OK);
    fclose(f);
    return text;
}
START_TEST(help_and_manual_name_every_option)
{
    char *overview = printed(NULL, false), *man = printed(NULL, true);
    for (int row = 0; row < sgc_config_n_rows(); row++) {
        const char *name = sgc_config_row_name(row), *key = strchr(name, '.') + 1;
        char group[32], wanted[128];
        snprintf(group, sizeof(group), "%.*s", (int)(key - 1 - name), name);
        char *text = printed(group, false);
        snprintf(wanted, sizeof(wanted), "\n  --%s ", strcmp(group, "training") == 0 ? key : name);
        ck_assert_ptr_nonnull(strstr(text, wanted));
        ck_assert_ptr_nonnull(strstr(overview, key));
        snprintf(wanted, sizeof(wanted), "\n.BI \\-\\-%s ", strcmp(group, "training") == 0 ? key : name);
        ck_assert_ptr_nonnull(strstr(man, wanted));
        free(text);
    }
    char *training = printed("training", false);
    ck_assert_ptr_nonnull(strstr(training, "--save_total_limit             int    none       1 .. 2147483647    checkpoints\n"));
    for (const char *line = training; *line != '\0'; line += strcspn(line, "\n") + 1) {
        ck_assert_uint_le(strcspn(line, "\n"), 100);
        ck_assert_msg(line[strcspn(line, "\n")] == '\n' && (line[0] == '\n' || line[strcspn(line, "\n") - 1] != ' '), "%s", line);
    }
    ck_assert_int_eq(sgc_config_help(stdout, "traning"), SGC_ECONFIG);
    sgc_err_clear();
    free(training);
    free(overview);
    free(man);
}
END_TEST

UNIT_MAIN("config", defaults_are_those_of_the_trainer, the_command_line_beats_the_file_and_the_file_beats_the_default,
          a_file_gives_values_of_every_type, the_command_line_gives_values_of_every_type,
          includes_are_relative_to_the_file_that_names_them, the_text_of_a_configuration_reads_back_to_the_same_values,
          every_value_is_shown_with_its_origin, packed_settings_arrive_whole_with_their_origins, a_derived_value_replaces_the_given_one,
          a_tilde_in_output_dir_is_the_home_directory, help_and_manual_name_every_option)

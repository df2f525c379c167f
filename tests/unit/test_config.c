#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/philox.h"
#include "base/util.h"
#include "conf/config.h"
#include "unit.h"

static char directory[64];

static void in_fresh_directory(void)
{
    strcpy(directory, "/tmp/sgc-config.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
}

static void leave(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert_int_eq(sgc_remove_tree(directory), SGC_OK);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

#define N(list) ((int)(sizeof(list) / sizeof((list)[0])))
#define LOAD(c, file, ...) sgc_config_load(c, file, N(((char *[]){__VA_ARGS__})), (char *[]){__VA_ARGS__})

static void accept_file(sgc_config *c, const char *text)
{
    put("x.cfg", text);
    sgc_status st = sgc_config_load(c, "x.cfg", 0, NULL);
    ck_assert_msg(st == SGC_OK, "refused: %s", sgc_err_message());
}

/* The whole message must be the given one. */
static void refuse_file(const char *text, const char *message)
{
    sgc_config c;
    put("x.cfg", text);
    ck_assert_int_eq(sgc_config_load(&c, "x.cfg", 0, NULL), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(), message);
    ck_assert_ptr_null(c.origins);
    sgc_err_clear();
}

static void refuse_arguments(int n, char *const *args, const char *message)
{
    sgc_config c;
    ck_assert_int_eq(sgc_config_load(&c, NULL, n, args), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(), message);
    sgc_err_clear();
}
#define REFUSE(message, ...) refuse_arguments(N(((char *[]){__VA_ARGS__})), (char *[]){__VA_ARGS__}, message)

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
    ck_assert(!sgc_config_is_set(&c, "training.seed"));
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
    ck_assert(sgc_config_is_set(&c, "training.learning_rate") && !sgc_config_is_on_command_line(&c, "training.learning_rate"));
    ck_assert(sgc_config_is_set(&c, "training.seed") && sgc_config_is_on_command_line(&c, "training.seed"));
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
                    "data: { max_train_samples = -0; } # comment\n// another\n/* and\n one more */");
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

START_TEST(integers_beyond_31_bits_need_an_L)
{
    in_fresh_directory();
    sgc_config c;
    refuse_file("training:\n{\n  seed = 5000000000;\n};", "x.cfg:3: seed = 5000000000 needs the suffix L: write 5000000000L");
    refuse_file("training: { eval_delay =\n 2147483648; };", "x.cfg:2: eval_delay = 2147483648 needs the suffix L: write 2147483648L");
    refuse_file("training: { seed = 0xFFFFFFFF; };", "x.cfg:1: seed = 0xFFFFFFFF needs the suffix L: write 0xFFFFFFFFL");
    refuse_file("training: { seed = 9223372036854775808L; };", "x.cfg:1: seed = 9223372036854775808 does not fit 64 bits");
    accept_file(&c, "# 5000000000\ntraining: { seed = 2147483647; output_dir = \"5000000000\"; eval_delay = 5000000000.0; /* 5000000000 */ };");
    ck_assert_int_eq(c.training.seed, INT32_MAX);
    ck_assert(c.training.eval_delay == 5e9);
    sgc_config_free(&c);
    leave();
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

START_TEST(all_errors_are_reported_at_once)
{
    in_fresh_directory();
    sgc_config c;
    put("x.cfg", "training:\n{\n  learning_rte = 1;\n  weight_decay = -1;\n  adam_beta1 = \"0.9\";\n  warmup_steps = 1.5;\n"
                 "  logging_steps = 0;\n};\ntraning: { };\n");
    ck_assert_int_eq(LOAD(&c, "x.cfg", "--seed", "3x", "--n_layer", "2", "--model.n_hed=3", "stray"), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(),
        "10 errors in the settings:\n"
        "  x.cfg:3: group training has no setting learning_rte: did you mean learning_rate?\n"
        "  x.cfg:4: training.weight_decay = -1.0 is out of range; write a number from 0 to 1000000000\n"
        "  x.cfg:5: training.adam_beta1 takes a number from 0 to 0.9999999999, not a text: write it like adam_beta1 = 0.9;\n"
        "  x.cfg:6: training.warmup_steps takes an integer of at least 0, not a number with a fraction or exponent: write it like warmup_steps = 0;\n"
        "  x.cfg:9: there is no group traning: did you mean training?\n"
        "  --seed 3x: \"3x\" is no integer of 64 bits; write an integer of at least 0\n"
        "  --n_layer 2: unknown option: did you mean --model.n_layer?\n"
        "  --model.n_hed=3: unknown option: did you mean --model.n_head?\n"
        "  stray: not expected here; settings are written --NAME VALUE or --NAME=VALUE\n"
        "  x.cfg:7: training.logging_steps = 0.0: conflicts with training.logging_strategy = \"steps\" (default); "
        "write logging_steps above 0, or logging_strategy no");
    sgc_err_clear();
    leave();
}
END_TEST

START_TEST(an_endless_list_of_errors_is_cut_with_its_count)
{
    enum { N_ERRORS = 5000 };
    static char *args[N_ERRORS];
    static char huge[100000];
    memset(huge, 'x', sizeof(huge) - 1);
    memcpy(huge, "--", 2);
    sgc_config c;
    for (int i = 0; i < N_ERRORS; i++) args[i] = i % 2 ? huge : "--seed=q";
    ck_assert_int_eq(sgc_config_load(&c, NULL, N_ERRORS, args), SGC_ECONFIG);
    const char *message = sgc_err_message(), *last = strrchr(message, '\n');
    ck_assert(strncmp(message, "5000 errors in the settings:\n", 29) == 0);
    int n_lines = 0, n_more = 0;
    for (const char *p = message; (p = strchr(p, '\n')) != NULL; p++) n_lines++;
    ck_assert_int_eq(sscanf(last, "\n  and %d more", &n_more), 1);
    ck_assert_int_eq(n_lines - 1 + n_more, N_ERRORS);
    sgc_err_clear();
}
END_TEST

START_TEST(arguments_say_what_to_write_instead)
{
    REFUSE("--learning-rate 1: unknown option: did you mean --learning_rate?", "--learning-rate", "1");
    REFUSE("--block_size 1: unknown option: did you mean --data.block_size or --checkpoint.block_size?", "--block_size", "1");
    REFUSE("--batch_size=4: unknown option: did you mean --per_device_train_batch_size?", "--batch_size=4");
    REFUSE("--qqqqqqq: unknown option; `train --help` lists them", "--qqqqqqq");
    REFUSE("--no_log_on_each_node: unknown option: write --log_on_each_node false", "--no_log_on_each_node");
    REFUSE("-seed: options begin with two dashes: did you mean --seed?", "-seed");
    REFUSE("--learning_rate 3e-4x: \"3e-4x\" is no number; write a number from 0 to 1000000000", "--learning_rate", "3e-4x");
    REFUSE("--learning_rate nan: \"nan\" is no number; write a number from 0 to 1000000000", "--learning_rate", "nan");
    REFUSE("--learning_rate 1e999: out of range; write a number from 0 to 1000000000", "--learning_rate", "1e999");
    REFUSE("--zero.stage 4: out of range; write an integer from 0 to 3", "--zero.stage", "4");
    REFUSE("--seed 1.0: \"1.0\" is no integer of 64 bits; write an integer of at least 0", "--seed", "1.0");
    REFUSE("--seed: the value is missing; write an integer of at least 0", "--seed", "--full_determinism");
    REFUSE("--seed=: \"\" is no integer of 64 bits; write an integer of at least 0", "--seed=");
    REFUSE("--full_determinism yes: \"yes\" is neither true nor false; write true or false", "--full_determinism", "yes");
    REFUSE("--seed none: \"none\" is no integer of 64 bits; write an integer of at least 0", "--seed", "none");
    REFUSE("--lr_scheduler_type cosin: \"cosin\" is none of the names: did you mean cosine?", "--lr_scheduler_type", "cosin");
    REFUSE("--save_strategy often: \"often\" is none of the names; write one of no, steps, epoch", "--save_strategy", "often");
    REFUSE("--save_total_limit 0: out of range; write an integer from 1 to 2147483647, or none", "--save_total_limit", "0");
    REFUSE("--output_dir=: \"\" is an empty text; write a text, or none", "--output_dir=");
    ck_assert_str_eq(sgc_config_nearest("zero.stge"), "zero.stage");
    ck_assert_str_eq(sgc_config_nearest("learning-Rate"), "training.learning_rate");
    ck_assert_ptr_null(sgc_config_nearest("qqqqqqq"));
}
END_TEST

START_TEST(files_say_what_to_write_instead)
{
    in_fresh_directory();
    refuse_file("learning_rate = 1;", "x.cfg:1: learning_rate stands outside of the groups: did you mean training: { learning_rate = ...; }?");
    refuse_file("deepspeed_config: { };", "x.cfg:1: there is no group deepspeed_config; the groups are model, data, training, zero, checkpoint, comm, device");
    refuse_file("model = 3;", "x.cfg:1: model is a group: write model: { ... };");
    refuse_file("training: { n_embd = 3; };", "x.cfg:1: group training has no setting n_embd: did you mean n_embd of group model?");
    refuse_file("training: { qqqqqq = 3; };", "x.cfg:1: group training has no setting qqqqqq; `train --help training` lists them");
    refuse_file("training: { save_strategy = false; };",
                "x.cfg:1: training.save_strategy takes one of no, steps, epoch, not a truth value: write it like save_strategy = \"no\";");
    refuse_file("training: { resume_from_checkpoint = true; };",
                "x.cfg:1: training.resume_from_checkpoint takes a text, or none, not a truth value: write it like resume_from_checkpoint = \"true\";");
    refuse_file("training: { seed = [1, 2]; };",
                "x.cfg:1: training.seed takes an integer of at least 0, not a list: write it like seed = 42;");
    refuse_file("training: { full_determinism = 1; };",
                "x.cfg:1: training.full_determinism takes true or false, not an integer: write it like full_determinism = false;");
    refuse_file("training: {\n  seed = 1;\n  seed = 2;\n};", "x.cfg:3: duplicate setting name at `seed = 2;`: keep one of the two");
    refuse_file("training: {\n  lr_scheduler_type = cosine;\n};",
                "x.cfg:2: syntax error at `lr_scheduler_type = cosine;` or just before; the form is group: { name = value; }; with texts in double quotes");
    refuse_file("training: {\n /* seed = 1;\n};", "x.cfg:2: this comment has no closing */");
    leave();
}
END_TEST

START_TEST(files_that_are_none_are_refused)
{
    in_fresh_directory();
    sgc_config c;
    const char *const paths[] = {"nowhere.cfg", ".", "x.cfg/y", "/dev/zero"};
    const char *const messages[] = {"nowhere.cfg: cannot be read: No such file or directory", ".: is a directory: give a configuration file",
                                    "x.cfg/y: cannot be read: Not a directory",
                                    "/dev/zero: is no file of text of at most 16 MiB: give a configuration file"};
    put("x.cfg", "");
    for (int i = 0; i < N(paths); i++) {
        ck_assert_int_eq(sgc_config_load(&c, paths[i], 0, NULL), SGC_ECONFIG);
        ck_assert_str_eq(sgc_err_message(), messages[i]);
        sgc_err_clear();
    }
    FILE *f = fopen("x.cfg", "w");
    fwrite("zero: {\0};", 1, 10, f);
    fclose(f);
    ck_assert_int_eq(sgc_config_load(&c, "x.cfg", 0, NULL), SGC_ECONFIG);
    ck_assert_str_eq(sgc_err_message(), "x.cfg: holds zero bytes: give a configuration file");
    sgc_err_clear();
    accept_file(&c, "\xef\xbb\xbf" "zero: { stage = 1; };\r\n");
    ck_assert_int_eq(c.zero.stage, 1);
    sgc_config_free(&c);
    leave();
}
END_TEST

/* A valid file with random bytes changed, removed or repeated: taken or refused with a message, never a crash. */
START_TEST(damaged_files_are_taken_or_refused_with_a_message)
{
    in_fresh_directory();
    const char *valid = "@include \"y.cfg\"\ntraining: {\n seed = 1; learning_rate = 1e-3; output_dir = \"a\\\"b\"; /* c */ data_seed = 5L;\n};\n"
                        "model = { n_layer = 0x4; resid_pdrop = .5 } // end\ndata: { block_size = 8; train_file = \"t\" \"u\"; }; # end\n";
    const char alphabet[] = "{}()[];:=\"\\/*#@+-.0123456789LexE\n\t ,aA~\x80\xff";
    const size_t n = strlen(valid);
    sgc_philox_key key = sgc_philox_make_key(1, SGC_PURPOSE_DATA);
    int n_taken = 0, n_refused = 0;
    put("y.cfg", "zero: { stage = 1; };\n");
    for (uint32_t i = 0; i < 3000; i++) {
        char text[1024];
        uint32_t r[4], counter[4] = {i, 0, 0, 0};
        strcpy(text, valid);
        for (uint32_t k = 0; k < 1 + i % 4; k++) {
            counter[1] = k;
            sgc_philox(key, counter, r);
            size_t at = r[0] % n;
            if (r[1] % 3 == 0) memmove(text + at, text + at + 1, strlen(text + at));
            else if (r[1] % 3 == 1) text[at] = alphabet[r[2] % (sizeof(alphabet) - 1)];
            else memmove(text + at + r[2] % 16, text + at, strlen(text + at) + 1);
        }
        sgc_config c;
        put("x.cfg", text);
        sgc_status st = sgc_config_load(&c, "x.cfg", 0, NULL);
        if (st == SGC_OK) {
            n_taken++;
            sgc_config_free(&c);
        } else {
            n_refused++;
            ck_assert_int_eq(st, SGC_ECONFIG);
            ck_assert_uint_gt(strlen(sgc_err_message()), 0);
            sgc_err_clear();
        }
    }
    ck_assert_int_gt(n_taken, 100);
    ck_assert_int_gt(n_refused, 1000);
    leave();
}
END_TEST

START_TEST(long_lines_and_deep_nesting_are_refused_with_a_message)
{
    in_fresh_directory();
    const char *const repeated[] = {"x", "a = {", "a = (", "((((", "a=1;", "a = \"x\";\n", "9", "/", "*", "\"", "\\", "@include \"", "@", "-", "\n\n"};
    for (int k = 0; k < N(repeated); k++) {
        sgc_str text = {0};
        sgc_config c;
        while (text.n < 1 << 20) sgc_str_printf(&text, "%s", repeated[k]);
        put("x.cfg", text.text);
        sgc_str_free(&text);
        sgc_status st = sgc_config_load(&c, "x.cfg", 0, NULL);
        if (strcmp(repeated[k], "\n\n") == 0) {
            ck_assert_int_eq(st, SGC_OK);
            sgc_config_free(&c);
            continue;
        }
        ck_assert_int_eq(st, SGC_ECONFIG);
        ck_assert_msg(strncmp(sgc_err_message(), "x.cfg:", 6) == 0, "%s", sgc_err_message());
        sgc_err_clear();
    }
    leave();
}
END_TEST

static const char *const not_offered[] = {
#define NOT_OFFERED(key, advice) #key,
#include "conf/not_offered.def"
};

START_TEST(every_argument_of_the_trainer_is_offered_or_refused_as_such)
{
    in_fresh_directory();
    int n_training = 0;
    for (int row = 0; row < sgc_config_n_rows(); row++) n_training += strncmp(sgc_config_row_name(row), "training.", 9) == 0;
    /* 113 of TrainingArguments and 5 of Seq2SeqTrainingArguments; nonfinite is ours */
    ck_assert_int_eq(n_training - 1 + N(not_offered), 113 + 5);
    for (int i = 0; i < N(not_offered); i++) {
        char argument[128], line[128];
        sgc_config c;
        snprintf(argument, sizeof(argument), "--%s", not_offered[i]);
        snprintf(line, sizeof(line), "training: { %s = 1; };", not_offered[i]);
        for (int row = 0; row < sgc_config_n_rows(); row++) ck_assert_str_ne(sgc_config_row_name(row) + strcspn(sgc_config_row_name(row), ".") + 1, not_offered[i]);
        for (int k = 0; k < i; k++) ck_assert_str_ne(not_offered[k], not_offered[i]);
        ck_assert_int_eq(LOAD(&c, NULL, argument, "1"), SGC_ECONFIG);
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), " 1: not offered in this version; "));
        sgc_err_clear();
        if (not_offered[i][0] == '_') continue; /* libconfig has no such names */
        put("x.cfg", line);
        ck_assert_int_eq(sgc_config_load(&c, "x.cfg", 0, NULL), SGC_ECONFIG);
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), " is not offered in this version; "));
        sgc_err_clear();
    }
    leave();
}
END_TEST

START_TEST(settings_that_exclude_each_other_are_refused)
{
    sgc_config c;
    REFUSE("--max_steps 0: write the number of updates, or -1 for num_train_epochs to decide", "--max_steps", "0");
    REFUSE("--save_steps 1.5: write a whole number of updates, or a share of all updates below 1", "--save_steps", "1.5");
    REFUSE("--evaluation_strategy steps: conflicts with --logging_steps 0; write eval_steps or logging_steps above 0",
           "--evaluation_strategy", "steps", "--logging_strategy", "no", "--logging_steps", "0");
    REFUSE("--logging_steps 0: conflicts with training.logging_strategy = \"steps\" (default); write logging_steps above 0, or logging_strategy no",
           "--logging_steps", "0");
    REFUSE("--lr_scheduler_type reduce_lr_on_plateau: conflicts with training.evaluation_strategy = \"no\" (default); "
           "the learning rate follows the evaluation loss: write evaluation_strategy steps or epoch", "--lr_scheduler_type", "reduce_lr_on_plateau");
    REFUSE("--evaluation_strategy epoch: conflicts with --data.validation_split_percentage 0; "
           "there is nothing to evaluate: write data.validation_file, or data.validation_split_percentage above 0",
           "--evaluation_strategy", "epoch", "--data.validation_split_percentage", "0");
    REFUSE("--model.n_positions 64: conflicts with data.block_size = 1024 (default); write a block_size of at most n_positions", "--model.n_positions", "64");
    REFUSE("--learning_rate 1e-08: conflicts with --lr_scheduler_type polynomial; this schedule ends at 1e-07: write a larger learning_rate",
           "--learning_rate", "1e-8", "--lr_scheduler_type", "polynomial");
    /* a value that was refused is not held against others */
    REFUSE("--logging_steps x: \"x\" is no number; write a number from 0 to 1e+18", "--logging_steps", "x", "--evaluation_strategy", "steps");
    ck_assert_int_eq(LOAD(&c, NULL, "--save_steps", "0.1", "--logging_steps", "0", "--logging_strategy", "epoch", "--evaluation_strategy", "steps",
                          "--eval_steps", "2", "--data.validation_split_percentage", "0", "--data.validation_file", "v"), SGC_OK);
    sgc_config_free(&c);
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
    ck_assert(sgc_config_is_on_command_line(&b, "training.data_seed") && !sgc_config_is_set(&b, "training.seed"));
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
    ck_assert(!sgc_config_is_set(&c, "training.gradient_accumulation_steps"));
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
    ck_assert_ptr_nonnull(strstr(training, "--save_total_limit             int    none     1 .. 2147483647    checkpoints\n"));
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
          a_file_gives_values_of_every_type, the_command_line_gives_values_of_every_type, integers_beyond_31_bits_need_an_L,
          includes_are_relative_to_the_file_that_names_them, all_errors_are_reported_at_once, an_endless_list_of_errors_is_cut_with_its_count,
          arguments_say_what_to_write_instead, files_say_what_to_write_instead, files_that_are_none_are_refused,
          damaged_files_are_taken_or_refused_with_a_message, long_lines_and_deep_nesting_are_refused_with_a_message,
          every_argument_of_the_trainer_is_offered_or_refused_as_such, settings_that_exclude_each_other_are_refused,
          the_text_of_a_configuration_reads_back_to_the_same_values, every_value_is_shown_with_its_origin,
          packed_settings_arrive_whole_with_their_origins, a_derived_value_replaces_the_given_one, a_tilde_in_output_dir_is_the_home_directory,
          help_and_manual_name_every_option)

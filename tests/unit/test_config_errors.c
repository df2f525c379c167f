/* Options that are refused: every mistake with its place and what to write instead. */
#include "base/philox.h"
#include "config_files.h"

/* libconfig 1.5 loses the text that it is reading when it meets a syntax error; the leak sanitizer asks here what to leave out. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libconfig.so\n"; }

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
        "  --seed 3x: \"3x\" is no integer; write an integer of at least 0\n"
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
    REFUSE("--seed 1.0: \"1.0\" is no integer; write an integer of at least 0", "--seed", "1.0");
    REFUSE("--seed 9223372036854775808: \"9223372036854775808\" is beyond 64 bits; write an integer of at least 0", "--seed", "9223372036854775808");
    REFUSE("--seed: the value is missing; write an integer of at least 0", "--seed", "--full_determinism");
    REFUSE("--seed=: \"\" is no integer; write an integer of at least 0", "--seed=");
    REFUSE("--full_determinism yes: \"yes\" is neither true nor false; write true or false", "--full_determinism", "yes");
    REFUSE("--seed none: \"none\" is no integer; write an integer of at least 0", "--seed", "none");
    REFUSE("--lr_scheduler_type cosin: \"cosin\" is none of the names: did you mean cosine?", "--lr_scheduler_type", "cosin");
    REFUSE("--save_strategy often: \"often\" is none of the names; write one of no, steps, epoch", "--save_strategy", "often");
    REFUSE("--save_total_limit 0: out of range; write an integer from 1 to 2147483647, or none", "--save_total_limit", "0");
    REFUSE("--output_dir=: \"\" is an empty text; write a text, or none", "--output_dir=");
    REFUSE("--zero.stge 1: unknown option: did you mean --zero.stage?", "--zero.stge", "1");
    REFUSE("--learning-Rate 1: unknown option: did you mean --learning_rate?", "--learning-Rate", "1");
    REFUSE("--qqqqqqq 1: unknown option; `train --help` lists them", "--qqqqqqq", "1");
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
    /* 113 of TrainingArguments, 5 of Seq2SeqTrainingArguments, 7 of later versions and of run_clm; nonfinite and profile are ours */
    ck_assert_int_eq(n_training - 2 + N(not_offered), 113 + 5 + 7);
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
    REFUSE("--model.n_head 5: conflicts with model.n_embd = 768 (default); write an n_head that divides n_embd", "--model.n_head", "5");
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

UNIT_MAIN("config_errors", integers_beyond_31_bits_need_an_L, all_errors_are_reported_at_once,
          an_endless_list_of_errors_is_cut_with_its_count, arguments_say_what_to_write_instead, files_say_what_to_write_instead,
          files_that_are_none_are_refused, damaged_files_are_taken_or_refused_with_a_message,
          long_lines_and_deep_nesting_are_refused_with_a_message, every_argument_of_the_trainer_is_offered_or_refused_as_such,
          settings_that_exclude_each_other_are_refused)

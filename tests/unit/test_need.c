/* Bytes that a run will take, and the change that makes them fit. */
#include <string.h>

#include "base/mem.h"
#include "train/need_impl.h"
#include "unit.h"

static sgc_model *model;
static sgc_device device;

static void open_all(const char *name)
{
    sgc_model_options o = {.vocab_size = 257, .n_positions = 64, .n_embd = 48, .n_layer = 3, .n_head = 3, .layer_norm_epsilon = 1e-5,
                           .resid_pdrop = 0.1, .tie_word_embeddings = true};
    ck_assert_int_eq(sgc_model_make(&model, &o, 257), SGC_OK);
    ck_assert_int_eq(sgc_device_open(&device, name, false), SGC_OK);
}

static void close_all(void)
{
    sgc_device_close(&device);
    sgc_model_free(model);
}

static sgc_need need(int stage, int n_ranks)
{
    return (sgc_need){.model = model, .device = &device, .zero = {.stage = stage, .prefetch_units = 1, .n_micro = 1, .reduce_type = SGC_F32},
                      .n_ranks = n_ranks, .micro_batch = 8, .block = 64};
}

static size_t all_of(const sgc_need *n)
{
    size_t bytes[SGC_MEM_N_PURPOSES], all = 0;
    ck_assert_int_eq(sgc_need_measure(n, bytes), SGC_OK);
    for (int p = 0; p < SGC_MEM_N_PURPOSES; p++) all += bytes[p];
    return all;
}

START_TEST(what_is_measured_is_what_the_engine_takes)
{
    const char *const names[] = {"cpu", "cpu_bf16"};
    for (int type = 0; type < 2; type++) {
        open_all(names[type]);
        for (int stage = 0; stage <= 3; stage++)
            for (int mode = 0; mode < 4; mode++) {
                sgc_need n = need(stage, 3);
                sgc_group *group;
                sgc_zero *z;
                size_t bytes[SGC_MEM_N_PURPOSES], before[SGC_MEM_N_PURPOSES];
                n.zero.n_micro = mode & 1 ? 4 : 1;
                n.zero.full_determinism = mode & 2;
                if (n.zero.full_determinism) n.n_ranks = 4;
                ck_assert_int_eq(sgc_need_measure(&n, bytes), SGC_OK);
                for (int p = 0; p < SGC_MEM_N_PURPOSES; p++) before[p] = sgc_mem_held((sgc_mem_purpose)p);
                ck_assert_int_eq(sgc_group_null(&group, n.n_ranks, 1), SGC_OK);
                ck_assert_int_eq(sgc_zero_make(&z, model, &device, group, &n.zero), SGC_OK);
                for (int p = 0; p < SGC_MEM_N_PURPOSES; p++)
                    if (p != SGC_MEM_ACTIVATIONS)
                        ck_assert_msg(sgc_mem_held((sgc_mem_purpose)p) - before[p] == bytes[p], "%s at stage %d, mode %d, of %s: %zu, measured %zu", names[type],
                                      stage, mode, sgc_mem_name((sgc_mem_purpose)p), sgc_mem_held((sgc_mem_purpose)p) - before[p], bytes[p]);
                sgc_zero_free(z);
                sgc_group_free(group);
            }
        close_all();
    }
}
END_TEST

/* Refused with so few bytes; the message must hold the text. */
static void refused(const sgc_need *n, size_t available, const char *text)
{
    sgc_err_clear();
    ck_assert_int_eq(sgc_need_check(n, available), SGC_ENOMEM);
    ck_assert_msg(strstr(sgc_err_message(), text) != NULL, "'%s' is not in: %s", text, sgc_err_message());
}

START_TEST(a_run_that_fits_is_not_refused)
{
    open_all("cpu");
    sgc_need n = need(0, 1);
    ck_assert_int_eq(sgc_need_check(&n, all_of(&n)), SGC_OK);
    refused(&n, all_of(&n) - 1, "activations");
    close_all();
}
END_TEST

START_TEST(the_advice_is_the_cheapest_change_that_fits)
{
    open_all("cpu");
    sgc_need n = need(0, 1), half = n, least = n, sharded = need(1, 2);
    half.micro_batch = 4;
    half.zero.n_micro = 2;
    refused(&n, all_of(&half), "the smallest change that fits: --per_device_train_batch_size 4 --gradient_accumulation_steps 2");
    least.micro_batch = 1;
    least.zero.n_micro = 8;
    least.checkpointing = true;
    refused(&n, all_of(&least), "--gradient_checkpointing true --per_device_train_batch_size 1 --gradient_accumulation_steps 8");
    n.n_ranks = 2;
    refused(&n, all_of(&sharded), "the smallest change that fits: --zero.stage 1");
    close_all();
}
END_TEST

START_TEST(more_ranks_are_asked_for_when_no_setting_helps)
{
    open_all("cpu");
    sgc_need n = need(3, 2), more = need(3, 4);
    n.micro_batch = more.micro_batch = 1;
    n.checkpointing = more.checkpointing = true;
    refused(&n, all_of(&more), "the smallest change that fits: 4 ranks");
    refused(&n, 1000, "no setting makes it fit");
    close_all();
}
END_TEST

START_TEST(evaluation_may_be_what_does_not_fit)
{
    open_all("cpu");
    sgc_need n = need(0, 1), training = n;
    n.micro_batch = training.micro_batch = 1;
    n.eval_batch = 64;
    refused(&n, all_of(&training), "the smallest change that fits: --per_device_eval_batch_size 1");
    close_all();
}
END_TEST

START_TEST(the_table_adds_up)
{
    open_all("cpu_bf16");
    sgc_need n = need(2, 2);
    refused(&n, 1024, "\n    free                 1.0 KiB\n");
    const char *const rows[] = {"parameters", "gradients", "optimizer", "activations", "communication", "together"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) ck_assert_ptr_nonnull(strstr(sgc_err_message(), rows[i]));
    close_all();
}
END_TEST

UNIT_MAIN("need", what_is_measured_is_what_the_engine_takes, a_run_that_fits_is_not_refused, the_advice_is_the_cheapest_change_that_fits,
          more_ranks_are_asked_for_when_no_setting_helps, evaluation_may_be_what_does_not_fit, the_table_adds_up)

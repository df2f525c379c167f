/* Derived quantities: micro-batches, updates and intervals by the rules of TrainingArguments. */
#include <string.h>

#include "unit.h"
#include "train/plan_impl.h"

static sgc_training_options defaults(void)
{
    return (sgc_training_options){.per_device_train_batch_size = 2, .gradient_accumulation_steps = 4, .num_train_epochs = 3, .max_steps = -1,
                                  .logging_strategy = SGC_STRATEGY_STEPS, .logging_steps = 500, .save_strategy = SGC_STRATEGY_STEPS,
                                  .save_steps = 500, .seed = 42};
}

static sgc_plan plan_of(const sgc_training_options *t, int64_t n_samples, int world)
{
    sgc_plan p;
    sgc_sampler s;
    ck_assert_int_eq(sgc_plan_make(&p, &s, t, n_samples, 16, world), SGC_OK);
    return p;
}

START_TEST(accumulation_runs_over_epoch_ends)
{
    sgc_training_options t = defaults();
    sgc_plan p = plan_of(&t, 100, 3); /* 17 micro-batches of 6 samples: L = 17, U = 4 */
    ck_assert_int_eq(p.micro_per_epoch, 17);
    ck_assert_int_eq(p.updates_per_epoch, 4);
    ck_assert_int_eq(p.n_steps, 12);
    ck_assert_int_eq(p.update_samples, 24);
    ck_assert_int_eq(p.update_targets, 24 * 15);
}
END_TEST

START_TEST(dropping_the_last_batch_makes_epochs_shorter)
{
    sgc_training_options t = defaults();
    t.dataloader_drop_last = true;
    ck_assert_int_eq(plan_of(&t, 100, 3).micro_per_epoch, 16);
}
END_TEST

START_TEST(full_determinism_fills_epochs_to_whole_updates)
{
    sgc_training_options t = defaults();
    t.full_determinism = true;
    sgc_plan p = plan_of(&t, 100, 4);
    ck_assert_int_eq(p.micro_per_epoch, 16); /* 128 samples: 4 updates of 32 */
    ck_assert_int_eq(p.updates_per_epoch, 4);
    t.gradient_accumulation_steps = 16;
    ck_assert_int_eq(plan_of(&t, 100, 1).updates_per_epoch, 4);
}
END_TEST

START_TEST(an_epoch_shorter_than_the_accumulation_updates_at_its_end)
{
    sgc_training_options t = defaults();
    t.gradient_accumulation_steps = 64;
    sgc_plan p = plan_of(&t, 10, 1);
    ck_assert_int_eq(p.accumulation, 5);
    ck_assert_int_eq(p.n_steps, 3);
    ck_assert_int_eq(p.global_batch, 128); /* what a checkpoint keeps is what was asked for */
}
END_TEST

START_TEST(fractional_epochs_are_rounded_up_to_an_update)
{
    sgc_training_options t = defaults();
    t.num_train_epochs = 0.3;
    ck_assert_int_eq(plan_of(&t, 100, 3).n_steps, 2); /* ceil(0.3 * 4) */
    t.max_steps = 7;
    ck_assert_int_eq(plan_of(&t, 100, 3).n_steps, 7);
}
END_TEST

START_TEST(no_epochs_are_an_error)
{
    sgc_training_options t = defaults();
    sgc_plan p;
    sgc_sampler s;
    t.num_train_epochs = 0;
    ck_assert_int_eq(sgc_plan_make(&p, &s, &t, 100, 16, 1), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "max_steps"));
    sgc_err_clear();
}
END_TEST

START_TEST(intervals_below_one_are_shares_of_all_updates)
{
    sgc_training_options t = defaults();
    t.max_steps = 10;
    t.logging_steps = 0.25;
    t.save_steps = 0.1;
    t.evaluation_strategy = SGC_STRATEGY_STEPS;
    sgc_plan p = plan_of(&t, 100, 1);
    ck_assert_int_eq(p.log_every, 3);
    ck_assert_int_eq(p.save_every, 1);
    ck_assert_int_eq(p.eval_every, 3); /* without eval_steps: logging_steps */
    t.save_steps = -1;
    t.has_eval_steps = true;
    t.eval_steps = 7;
    p = plan_of(&t, 100, 1);
    ck_assert_int_eq(p.save_every, 0);
    ck_assert_int_eq(p.eval_every, 7);
}
END_TEST

START_TEST(the_global_batch_of_a_checkpoint_is_kept)
{
    int64_t G;
    ck_assert_int_eq(sgc_plan_keep_batch(64, 4, 8, &G), SGC_OK);
    ck_assert_int_eq(G, 2);
    ck_assert_int_eq(sgc_plan_keep_batch(48, 4, 5, &G), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "ranks of {1, 2, 3, 4, 6, 12}"));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "per_device_train_batch_size of {none}"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_plan_keep_batch(48, 5, 6, &G), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "per_device_train_batch_size of {1, 2, 4, 8}"));
    sgc_err_clear();
}
END_TEST

UNIT_MAIN("plan", accumulation_runs_over_epoch_ends, dropping_the_last_batch_makes_epochs_shorter,
          full_determinism_fills_epochs_to_whole_updates, an_epoch_shorter_than_the_accumulation_updates_at_its_end,
          fractional_epochs_are_rounded_up_to_an_update, no_epochs_are_an_error, intervals_below_one_are_shares_of_all_updates,
          the_global_batch_of_a_checkpoint_is_kept)

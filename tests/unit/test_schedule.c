/* Learning rates against those of transformers and torch (tests/golden/schedules.txt, made by schedules.py beside it). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/optim.h"
#include "unit.h"

static const char *const names[] = {"linear",   "cosine",               "cosine_with_restarts", "polynomial",
                                    "constant", "constant_with_warmup", "inverse_sqrt",         "reduce_lr_on_plateau"};

static FILE *open_golden(void)
{
    char path[4096];
    const char *source = getenv("srcdir"); /* set by make check */
    snprintf(path, sizeof(path), "%s/tests/golden/schedules.txt", source ? source : ".");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot read %s", path);
    return f;
}

static int type_of(const char *name)
{
    for (int i = 0; i < 8; i++)
        if (strcmp(names[i], name) == 0) return i;
    ck_abort_msg("unknown schedule %s", name);
    return -1;
}

static void assert_rate(const char *line, double rate, double expected)
{
    ck_assert_msg(fabs(rate - expected) <= 1e-14 * fabs(expected) + 1e-20, "%s: %.17g instead of %.17g", line, rate, expected);
}

START_TEST(rates_are_those_of_transformers)
{
    FILE *f = open_golden();
    char line[256], title[256] = "", name[64];
    sgc_schedule s;
    sgc_training_options t;
    bool is_schedule = false;
    int n_rates = 0;
    bool seen[8] = {false};
    while (fgets(line, sizeof(line), f)) {
        long long warmup_steps, n_steps, k;
        double expected;
        if (line[0] == '#') continue;
        if (strncmp(line, "plateau", 7) == 0) {
            is_schedule = false;
        } else if (strncmp(line, "schedule", 8) == 0) {
            memset(&t, 0, sizeof(t));
            ck_assert_int_eq(sscanf(line, "schedule %63s %lf %lld %lf %lld", name, &t.learning_rate, &warmup_steps, &t.warmup_ratio, &n_steps), 5);
            t.lr_scheduler_type = type_of(name);
            t.warmup_steps = warmup_steps;
            ck_assert_int_eq(sgc_schedule_make(&s, &t, n_steps), SGC_OK);
            seen[t.lr_scheduler_type] = is_schedule = true;
            strcpy(title, line);
        } else if (is_schedule) {
            char where[320];
            ck_assert_int_eq(sscanf(line, "%lld %lf", &k, &expected), 2);
            snprintf(where, sizeof(where), "%.200s update %lld", title, k + 1);
            assert_rate(where, sgc_schedule_at(&s, k), expected);
            n_rates++;
        }
    }
    fclose(f);
    for (int i = 0; i < 7; i++)
        ck_assert_msg(seen[i], "no figures for %s", names[i]);
    ck_assert_int_gt(n_rates, 1000);
}
END_TEST

START_TEST(plateau_falls_as_in_torch)
{
    FILE *f = open_golden();
    char line[256], mode[8];
    sgc_schedule s;
    bool is_plateau = false;
    int n_falls = 0;
    while (fgets(line, sizeof(line), f)) {
        double metric, expected;
        if (strncmp(line, "schedule", 8) == 0) {
            is_plateau = false;
        } else if (strncmp(line, "plateau", 7) == 0) {
            sgc_training_options t = {.lr_scheduler_type = SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU, .evaluation_strategy = SGC_STRATEGY_EPOCH, .warmup_steps = 5};
            ck_assert_int_eq(sscanf(line, "plateau %lf %7s", &t.learning_rate, mode), 2);
            ck_assert_int_eq(sgc_schedule_make(&s, &t, 100), SGC_OK);
            s.plateau.greater_is_better = strcmp(mode, "max") == 0;
            assert_rate("before any evaluation", sgc_schedule_at(&s, 0), t.learning_rate);
            is_plateau = true;
        } else if (is_plateau) {
            ck_assert_int_eq(sscanf(line, "%lf %lf", &metric, &expected), 2); /* reads inf and nan too */
            const double before = sgc_schedule_at(&s, 0);
            sgc_schedule_evaluated(&s, metric);
            assert_rate(line, sgc_schedule_at(&s, 0), expected);
            n_falls += sgc_schedule_at(&s, 0) < before;
        }
    }
    fclose(f);
    ck_assert_int_ge(n_falls, 6);
}
END_TEST

START_TEST(evaluations_change_no_other_schedule)
{
    sgc_training_options t = {.lr_scheduler_type = SGC_SCHEDULE_CONSTANT, .learning_rate = 1e-3};
    sgc_schedule s;
    ck_assert_int_eq(sgc_schedule_make(&s, &t, 10), SGC_OK);
    for (int i = 0; i < 50; i++)
        sgc_schedule_evaluated(&s, 1.0);
    ck_assert_double_eq(sgc_schedule_at(&s, 5), 1e-3);
}
END_TEST

START_TEST(warmup_steps_win_over_the_ratio_which_is_rounded_up)
{
    sgc_training_options t = {.lr_scheduler_type = SGC_SCHEDULE_LINEAR, .learning_rate = 1e-3, .warmup_ratio = 0.1};
    sgc_schedule s;
    ck_assert_int_eq(sgc_schedule_make(&s, &t, 101), SGC_OK);
    ck_assert_int_eq(s.n_warmup, 11);
    t.warmup_steps = 7;
    ck_assert_int_eq(sgc_schedule_make(&s, &t, 101), SGC_OK);
    ck_assert_int_eq(s.n_warmup, 7);
}
END_TEST

START_TEST(polynomial_below_its_end_is_refused)
{
    sgc_training_options t = {.lr_scheduler_type = SGC_SCHEDULE_POLYNOMIAL, .learning_rate = 1e-7};
    sgc_schedule s;
    ck_assert_int_eq(sgc_schedule_make(&s, &t, 10), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "learning_rate"));
}
END_TEST

START_TEST(plateau_without_evaluation_is_refused)
{
    sgc_training_options t = {.lr_scheduler_type = SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU, .learning_rate = 1e-3};
    sgc_schedule s;
    ck_assert_int_eq(sgc_schedule_make(&s, &t, 10), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "evaluation_strategy"));
}
END_TEST

UNIT_MAIN("schedule", rates_are_those_of_transformers, plateau_falls_as_in_torch, evaluations_change_no_other_schedule,
          warmup_steps_win_over_the_ratio_which_is_rounded_up, polynomial_below_its_end_is_refused, plateau_without_evaluation_is_refused)

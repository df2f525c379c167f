/* How often to save: the formula against its own optimum. */
#include <math.h>

#include "train/interval_impl.h"
#include "unit.h"

/* Expected time for one second of work with exponential failures, saves of cost_s after every interval_s of work, no restart cost:
 * Daly's complete model, equation 20. */
static double slowdown(double interval_s, double cost_s, double mtbf_s)
{
    return mtbf_s / interval_s * (exp((interval_s + cost_s) / mtbf_s) - 1);
}

START_TEST(no_other_interval_loses_noticeably_less)
{
    const double mtbf_s = 24 * 3600;
    for (double cost_s = 0.01; cost_s < mtbf_s / 4; cost_s *= 3) {
        double chosen = slowdown(sgc_interval_s(cost_s, mtbf_s), cost_s, mtbf_s), least = chosen;
        for (double t = 1; t < 2 * mtbf_s; t *= 1.02) least = fmin(least, slowdown(t, cost_s, mtbf_s));
        ck_assert_msg(chosen - 1 <= 1.01 * (least - 1), "cost %g: %g instead of %g", cost_s, chosen, least);
    }
}
END_TEST

START_TEST(small_costs_follow_young)
{
    ck_assert_double_eq_tol(sgc_interval_s(1, 1e6) / sqrt(2e6), 1, 1e-3);
    ck_assert_double_eq(sgc_interval_s(300, 100), 100); /* saving takes longer than the job lives */
}
END_TEST

START_TEST(an_interval_is_whole_updates_and_no_shorter_than_a_save)
{
    ck_assert_int_eq(sgc_interval_updates(1, 1, 10, 1e6), (int64_t)ceil(sgc_interval_s(1, 1e6) / 10));
    ck_assert_int_eq(sgc_interval_updates(0, 30, 1, 1e6), 30);
    ck_assert_int_eq(sgc_interval_updates(0, 0, 1, 1e6), 1);
    ck_assert_int_eq(sgc_interval_updates(1, 1, 1e9, 1e6), 1);
    ck_assert_int_gt(sgc_interval_updates(1, 1, 0, 1e12), 1000);
}
END_TEST

UNIT_MAIN("interval", no_other_interval_loses_noticeably_less, small_costs_follow_young, an_interval_is_whole_updates_and_no_shorter_than_a_save)

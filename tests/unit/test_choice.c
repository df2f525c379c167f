/* Which token comes next: the distribution that temperature, top_k and top_p leave. */
#include <math.h>

#include "unit.h"
#include "train/choice_impl.h"

enum { V = 5 };
static const float logits[V] = {0.0f, 2.0f, 1.0f, 2.0f, -1.0f}; /* 1 and 3 are equal */

/* How often each token is chosen over an even grid of u. */
static void shares(const sgc_choice_rule *rule, double out[V])
{
    enum { N = 20000 };
    int32_t scratch[V];
    int count[V] = {0};
    for (int i = 0; i < N; i++)
        count[sgc_choose(logits, V, rule, (i + 0.5) / N, scratch)]++;
    for (int i = 0; i < V; i++)
        out[i] = (double)count[i] / N;
}

START_TEST(temperature_0_takes_the_first_of_the_most_likely)
{
    int32_t scratch[V];
    sgc_choice_rule rule = {0, 0, 1};
    ck_assert_int_eq(sgc_choose(logits, V, &rule, 0.99, scratch), 1);
}
END_TEST

START_TEST(tokens_come_with_the_probability_of_the_softmax)
{
    for (int k = 0; k < 2; k++) {
        sgc_choice_rule rule = {k ? 0.5 : 1.0, 0, 1};
        double out[V], sum = 0;
        shares(&rule, out);
        for (int i = 0; i < V; i++)
            sum += exp(logits[i] / rule.temperature);
        for (int i = 0; i < V; i++)
            ck_assert_double_eq_tol(out[i], exp(logits[i] / rule.temperature) / sum, 1e-4);
    }
}
END_TEST

START_TEST(top_k_leaves_k_tokens)
{
    double out[V];
    shares(&(sgc_choice_rule){1, 3, 1}, out);
    ck_assert(out[0] == 0 && out[4] == 0);
    ck_assert_double_eq_tol(out[1], out[3], 1e-4);
    ck_assert_double_eq_tol(out[1] / out[2], exp(1), 1e-2);
    shares(&(sgc_choice_rule){1, 100, 1}, out); /* more than there are */
    ck_assert(out[4] > 0);
}
END_TEST

START_TEST(top_p_leaves_the_fewest_tokens_that_reach_it)
{
    /* probabilities of 1, 3, 2, 0, 4: 0.39, 0.39, 0.14, 0.05, 0.02 */
    double out[V];
    shares(&(sgc_choice_rule){1, 0, 0.3}, out);
    ck_assert(out[1] == 1);
    shares(&(sgc_choice_rule){1, 0, 0.5}, out);
    ck_assert(out[1] > 0 && out[3] > 0 && out[2] == 0);
    shares(&(sgc_choice_rule){1, 0, 0.8}, out);
    ck_assert(out[2] > 0 && out[0] == 0);
    shares(&(sgc_choice_rule){1, 2, 1}, out);
    ck_assert(out[2] == 0);
}
END_TEST

START_TEST(choices_are_spread_evenly_and_depend_on_seed_and_position)
{
    enum { N = 4096, BINS = 16 };
    int count[BINS] = {0};
    for (int i = 0; i < N; i++) {
        double u = sgc_choice_uniform(7, i);
        ck_assert(u >= 0 && u < 1);
        count[(int)(u * BINS)]++;
    }
    for (int i = 0; i < BINS; i++)
        ck_assert(abs(count[i] - N / BINS) < 5 * 16); /* 5 standard deviations */
    ck_assert(sgc_choice_uniform(7, 1) == sgc_choice_uniform(7, 1));
    ck_assert(sgc_choice_uniform(7, 1) != sgc_choice_uniform(8, 1));
}
END_TEST

UNIT_MAIN("choice", temperature_0_takes_the_first_of_the_most_likely, tokens_come_with_the_probability_of_the_softmax, top_k_leaves_k_tokens,
          top_p_leaves_the_fewest_tokens_that_reach_it, choices_are_spread_evenly_and_depend_on_seed_and_position)

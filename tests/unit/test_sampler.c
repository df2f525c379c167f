/* The order of training samples. */
#include <stdlib.h>
#include <string.h>

#include "data/data.h"
#include "unit.h"

START_TEST(every_sample_comes_once_per_epoch)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 63, 64, 65, 99, 100, 101, 255, 256, 257, 1000, 4097, 10007};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            const int64_t n = sizes[k];
            char *seen = calloc(1, (size_t)n);
            for (int64_t i = 0; i < n; i++) {
                int64_t at = sgc_permute(42, epoch, n, i);
                ck_assert_msg(at >= 0 && at < n, "n %lld: %lld", (long long)n, (long long)at);
                ck_assert_msg(!seen[at], "n %lld: %lld comes twice", (long long)n, (long long)at);
                seen[at] = 1;
            }
            free(seen);
        }
}
END_TEST

START_TEST(the_largest_data_set_is_sought_in_no_time)
{
    const int64_t n = INT64_MAX;
    for (int64_t i = 0; i < 1000; i++) {
        int64_t a = sgc_permute(1, INT64_MAX, n, i), b = sgc_permute(1, INT64_MAX, n, n - 1 - i);
        ck_assert(a >= 0 && a < n && b >= 0 && b < n && a != b);
    }
    sgc_sampler s;
    ck_assert_int_eq(sgc_sampler_make(&s, 7, 1000003, 64, false), SGC_OK);
    int64_t at = sgc_sampler_at(&s, (int64_t)4e18);
    ck_assert(at >= 0 && at < 1000003);
}
END_TEST

START_TEST(the_order_depends_on_seed_and_epoch_alone)
{
    int n_same_seed = 0, n_same_epoch = 0, n_high_bits = 0;
    for (int64_t i = 0; i < 1000; i++) {
        const int64_t at = sgc_permute(1, 0, 1000, i);
        ck_assert_int_eq(at, sgc_permute(1, 0, 1000, i));
        n_same_seed += at == sgc_permute(2, 0, 1000, i);
        n_same_epoch += at == sgc_permute(1, 1, 1000, i);
        n_high_bits += at == sgc_permute(1 + ((uint64_t)1 << 40), 0, 1000, i) || at == sgc_permute(1, (int64_t)1 << 40, 1000, i);
    }
    /* two random orders agree in about one place, never in ten */
    ck_assert_int_lt(n_same_seed, 10);
    ck_assert_int_lt(n_same_epoch, 10);
    ck_assert_int_lt(n_high_bits, 12);
}
END_TEST

START_TEST(the_order_is_that_of_earlier_versions)
{
    static const int64_t expected[10] = {9, 5, 8, 7, 2, 6, 3, 1, 0, 4};
    for (int64_t i = 0; i < 10; i++)
        ck_assert_int_eq(sgc_permute(42, 3, 10, i), expected[i]);
}
END_TEST

/* Chi-square of counts that should be equal; its mean is n_cells - 1, its standard deviation sqrt(2 (n_cells - 1)). */
static double chi_square(const int *count, int n_cells, double n_total)
{
    double sum = 0, expected = n_total / n_cells;
    for (int i = 0; i < n_cells; i++)
        sum += (count[i] - expected) * (count[i] - expected) / expected;
    return sum;
}

START_TEST(every_order_of_three_samples_is_equally_likely)
{
    enum { n_draws = 60000 };
    int count[9] = {0}, orders[6], n_orders = 0;
    for (uint64_t seed = 0; seed < n_draws; seed++)
        count[3 * sgc_permute(seed, 0, 3, 0) + sgc_permute(seed, 0, 3, 1)]++;
    for (int i = 0; i < 9; i++)
        if (i % 4) orders[n_orders++] = count[i]; /* 0, 4, 8: the same sample twice */
    ck_assert_int_eq(n_orders, 6);
    ck_assert_msg(chi_square(orders, 6, n_draws) < 30, "chi-square %g of 5 degrees of freedom", chi_square(orders, 6, n_draws));
}
END_TEST

START_TEST(the_first_sample_of_an_epoch_is_anywhere)
{
    enum { n = 100, n_draws = 100000 };
    int by_seed[n] = {0}, by_epoch[n] = {0};
    for (int i = 0; i < n_draws; i++) {
        by_seed[sgc_permute((uint64_t)i, 0, n, 0)]++;
        by_epoch[sgc_permute(5, i, n, 0)]++;
    }
    /* 99 + 6 * sqrt(2 * 99) */
    ck_assert_msg(chi_square(by_seed, n, n_draws) < 183, "%g", chi_square(by_seed, n, n_draws));
    ck_assert_msg(chi_square(by_epoch, n, n_draws) < 183, "%g", chi_square(by_epoch, n, n_draws));
}
END_TEST

START_TEST(neighbours_are_torn_apart)
{
    enum { n = 10007, n_cells = 20 };
    int count[n_cells] = {0};
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t distance = (sgc_permute(9, 0, n, i + 1) - sgc_permute(9, 0, n, i) + n) % n;
        count[distance * n_cells / n]++;
    }
    /* 19 + 6 * sqrt(2 * 19) */
    ck_assert_msg(chi_square(count, n_cells, n - 1) < 56, "%g", chi_square(count, n_cells, n - 1));
}
END_TEST

static void check_epoch_is_filled(int64_t n, int64_t multiple, int64_t expected)
{
    sgc_sampler s;
    ck_assert_int_eq(sgc_sampler_make(&s, 11, n, multiple, false), SGC_OK);
    ck_assert_int_eq(s.epoch_samples, expected);
    for (int64_t epoch = 0; epoch < 3; epoch++)
        for (int64_t i = 0; i < s.epoch_samples; i++)
            ck_assert_int_eq(sgc_sampler_at(&s, epoch * s.epoch_samples + i), sgc_permute(11, epoch, n, i % n));
}

START_TEST(the_last_batch_is_filled_with_the_first_samples_of_its_epoch)
{
    check_epoch_is_filled(10, 4, 12);
    check_epoch_is_filled(12, 4, 12);
    check_epoch_is_filled(1, 1, 1);
}
END_TEST

START_TEST(fewer_samples_than_a_batch_are_repeated_until_it_is_full) { check_epoch_is_filled(3, 16, 16); }
END_TEST

START_TEST(drop_last_cuts_the_incomplete_batch)
{
    sgc_sampler s;
    ck_assert_int_eq(sgc_sampler_make(&s, 1, 11, 4, true), SGC_OK);
    ck_assert_int_eq(s.epoch_samples, 8);
    ck_assert_int_eq(sgc_sampler_at(&s, 8), sgc_permute(1, 1, 11, 0));
}
END_TEST

START_TEST(drop_last_that_leaves_nothing_is_refused_with_the_numbers)
{
    sgc_sampler s;
    ck_assert_int_eq(sgc_sampler_make(&s, 1, 3, 4, true), SGC_EDATA);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "3 training samples"));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "batch of 4"));
    sgc_err_clear();
    ck_assert_int_eq(sgc_sampler_make(&s, 1, 0, 4, false), SGC_EDATA);
}
END_TEST

UNIT_MAIN("sampler", every_sample_comes_once_per_epoch, the_largest_data_set_is_sought_in_no_time, the_order_depends_on_seed_and_epoch_alone,
          the_order_is_that_of_earlier_versions, every_order_of_three_samples_is_equally_likely, the_first_sample_of_an_epoch_is_anywhere,
          neighbours_are_torn_apart, the_last_batch_is_filled_with_the_first_samples_of_its_epoch,
          fewer_samples_than_a_batch_are_repeated_until_it_is_full, drop_last_cuts_the_incomplete_batch,
          drop_last_that_leaves_nothing_is_refused_with_the_numbers)

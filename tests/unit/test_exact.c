#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/exact.h"
#include "base/philox.h"
#include "unit.h"

static uint32_t draw(uint32_t i)
{
    uint32_t r[4];
    sgc_philox((sgc_philox_key){{7, 11}}, (uint32_t[4]){i, 0, 0, 0}, r);
    return r[0];
}

/* Numbers of either sign and any exponent, subnormal ones too. */
static double any_double(uint32_t i)
{
    uint64_t exponent = draw(3 * i) % 2047;
    uint64_t bits = (uint64_t)(draw(3 * i + 1) & 0x800fffff) << 32 | draw(3 * i + 2) | exponent << 52;
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static double sum_of(const double *x, int n)
{
    sgc_exact a;
    sgc_exact_zero(&a);
    for (int i = 0; i < n; i++) sgc_exact_add(&a, x[i]);
    return sgc_exact_value(&a);
}

START_TEST(one_number_comes_back_unchanged)
{
    for (uint32_t i = 0; i < 20000; i++) {
        double x = any_double(i), y = sum_of(&x, 1);
        if (x != y) ck_abort_msg("%a became %a", x, y);
    }
    const double edge[] = {DBL_MAX, -DBL_MAX, DBL_MIN, -DBL_MIN, DBL_TRUE_MIN, -DBL_TRUE_MIN, DBL_MIN - DBL_TRUE_MIN, 1.0, 0.0};
    for (size_t i = 0; i < sizeof(edge) / sizeof(edge[0]); i++) ck_assert_double_eq(sum_of(&edge[i], 1), edge[i]);
}
END_TEST

START_TEST(order_does_not_matter)
{
    enum { N = 3000 };
    static double x[N];
    for (uint32_t i = 0; i < N; i++) x[i] = any_double(i);
    for (uint32_t i = 0; i < N; i++)
        if (fabs(x[i]) > 1e300) x[i] *= 1e-10; /* the sum itself must not overflow */
    double want = sum_of(x, N);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = N - 1; i > 0; i--) {
            uint32_t j = draw(round * N + i) % (i + 1);
            double t = x[i];
            x[i] = x[j], x[j] = t;
        }
        ck_assert_double_eq(sum_of(x, N), want);
    }
}
END_TEST

START_TEST(value_is_the_correctly_rounded_sum)
{
    /* multiples of 2^-60 below 2^40 add up without rounding in 128 bits, and gcc rounds their conversion to nearest even */
    for (uint32_t round = 0; round < 2000; round++) {
        sgc_exact a;
        sgc_exact_zero(&a);
        __int128 want = 0;
        int n = 1 + (int)(draw(round) % 50);
        for (int i = 0; i < n; i++) {
            uint32_t k = 100000 + round * 200 + 3 * (uint32_t)i;
            int64_t mantissa = (int64_t)((uint64_t)(draw(k) & 0x1fffff) << 32 | draw(k + 1));
            int shift = (int)(draw(k + 2) % 48);
            if (draw(k + 2) & 0x80000000) mantissa = -mantissa;
            sgc_exact_add(&a, ldexp((double)mantissa, shift - 60));
            want += (__int128)mantissa * ((__int128)1 << shift);
        }
        ck_assert_double_eq(sgc_exact_value(&a), ldexp((double)want, -60));
    }
}
END_TEST

START_TEST(ties_go_to_the_even_neighbour)
{
    const double ulp = DBL_EPSILON;
    ck_assert_double_eq(sum_of((double[]){1.0, ulp / 2}, 2), 1.0);
    ck_assert_double_eq(sum_of((double[]){1.0 + ulp, ulp / 2}, 2), 1.0 + 2 * ulp);
    ck_assert_double_eq(sum_of((double[]){1.0, ulp / 2, DBL_TRUE_MIN}, 3), 1.0 + ulp);
    ck_assert_double_eq(sum_of((double[]){1.0, ulp / 2, -DBL_TRUE_MIN}, 3), 1.0);
    ck_assert_double_eq(sum_of((double[]){-1.0, -ulp / 2, -DBL_TRUE_MIN}, 3), -1.0 - ulp);
}
END_TEST

START_TEST(cancellation_loses_nothing)
{
    ck_assert_double_eq(sum_of((double[]){1e308, 1.0, -1e308}, 3), 1.0);
    ck_assert_double_eq(sum_of((double[]){DBL_MAX, DBL_MAX, DBL_TRUE_MIN, -DBL_MAX, -DBL_MAX}, 5), DBL_TRUE_MIN);
    ck_assert_double_eq(sum_of((double[]){1.0, -1.0}, 2), 0.0);
}
END_TEST

START_TEST(subnormals_add_up_exactly)
{
    sgc_exact a;
    sgc_exact_zero(&a);
    for (int i = 0; i < 1000; i++) sgc_exact_add(&a, 3 * DBL_TRUE_MIN);
    ck_assert_double_eq(sgc_exact_value(&a), 3000 * DBL_TRUE_MIN);
    sgc_exact_add(&a, DBL_MIN);
    ck_assert_double_eq(sgc_exact_value(&a), DBL_MIN + 3000 * DBL_TRUE_MIN);
}
END_TEST

START_TEST(a_sum_beyond_the_largest_double_is_infinite)
{
    ck_assert_double_eq(sum_of((double[]){DBL_MAX, DBL_MAX}, 2), INFINITY);
    ck_assert_double_eq(sum_of((double[]){-DBL_MAX, -DBL_MAX}, 2), -INFINITY);
}
END_TEST

/* As an MPI_SUM over int64_t does. */
static void merge(sgc_exact *a, const sgc_exact *b)
{
    int64_t x[SGC_EXACT_N_INT64], y[SGC_EXACT_N_INT64];
    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    for (int i = 0; i < SGC_EXACT_N_INT64; i++) x[i] += y[i];
    memcpy(a, x, sizeof(x));
}

START_TEST(numbers_that_are_not_finite_are_counted)
{
    sgc_exact a, b;
    sgc_exact_zero(&a);
    sgc_exact_zero(&b);
    sgc_exact_add(&a, INFINITY);
    sgc_exact_add(&a, 1.0);
    ck_assert_double_eq(sgc_exact_value(&a), INFINITY);
    sgc_exact_add(&b, -INFINITY);
    ck_assert_double_eq(sgc_exact_value(&b), -INFINITY);
    merge(&a, &b);
    ck_assert(isnan(sgc_exact_value(&a)));
    sgc_exact_zero(&a);
    sgc_exact_add(&a, NAN);
    ck_assert(isnan(sgc_exact_value(&a)));
    ck_assert_int_eq(a.n_nan, 1);
}
END_TEST

START_TEST(normalized_parts_merge_to_the_whole)
{
    enum { N = 5000, N_PARTS = 7 };
    sgc_exact whole, parts[N_PARTS], sum;
    sgc_exact_zero(&whole);
    for (int p = 0; p < N_PARTS; p++) sgc_exact_zero(&parts[p]);
    for (uint32_t i = 0; i < N; i++) {
        double x = any_double(i) * 0x1p-20;
        sgc_exact_add(&whole, x);
        sgc_exact_add(&parts[draw(i) % N_PARTS], x);
    }
    sgc_exact_zero(&sum);
    for (int p = 0; p < N_PARTS; p++) {
        double before = sgc_exact_value(&parts[p]);
        sgc_exact_normalize(&parts[p]);
        ck_assert_double_eq(sgc_exact_value(&parts[p]), before);
        for (int i = 0; i < SGC_EXACT_N_LIMBS - 1; i++) ck_assert(parts[p].limb[i] >= 0 && parts[p].limb[i] < (int64_t)1 << 32);
        merge(&sum, &parts[p]);
    }
    ck_assert_double_eq(sgc_exact_value(&sum), sgc_exact_value(&whole));
}
END_TEST

UNIT_MAIN("exact", one_number_comes_back_unchanged, order_does_not_matter, value_is_the_correctly_rounded_sum, ties_go_to_the_even_neighbour,
          cancellation_loses_nothing, subnormals_add_up_exactly, a_sum_beyond_the_largest_double_is_infinite,
          numbers_that_are_not_finite_are_counted, normalized_parts_merge_to_the_whole)

#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "unit.h"

/* The vectors of philox4x32-10 in the file kat_vectors of Random123. */
START_TEST(known_answers_of_random123)
{
    static const struct { uint32_t counter[4], key[2], want[4]; } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint32_t out[4];
        sgc_philox((sgc_philox_key){{known[i].key[0], known[i].key[1]}}, known[i].counter, out);
        ck_assert_mem_eq(out, known[i].want, sizeof(out));
    }
}
END_TEST

START_TEST(keys_differ_by_seed_and_purpose)
{
    sgc_philox_key a = sgc_philox_make_key(1, SGC_PURPOSE_INIT), b = sgc_philox_make_key(1, SGC_PURPOSE_DROPOUT);
    sgc_philox_key c = sgc_philox_make_key(2, SGC_PURPOSE_INIT), again = sgc_philox_make_key(1, SGC_PURPOSE_INIT);
    ck_assert_mem_ne(&a, &b, sizeof(a));
    ck_assert_mem_ne(&a, &c, sizeof(a));
    ck_assert_mem_eq(&a, &again, sizeof(a));
}
END_TEST

START_TEST(any_slice_of_normals_equals_the_whole)
{
    enum { N = 67 };
    float whole[N], slice[N];
    const int64_t base = ((int64_t)1 << 34) - 30; /* block numbers cross 32 bits */
    for (int k = 0; k < 2; k++) {
        int64_t first = k == 0 ? 0 : base;
        sgc_normal_fill(whole, N, 42, SGC_PURPOSE_INIT, 5, first, 0.5, 2.0);
        for (int64_t begin = 0; begin < N; begin++)
            for (int64_t n = 0; begin + n <= N; n++) {
                sgc_normal_fill(slice, n, 42, SGC_PURPOSE_INIT, 5, first + begin, 0.5, 2.0);
                if (memcmp(slice, whole + begin, (size_t)n * sizeof(float)) != 0)
                    ck_abort_msg("slice of %lld from %lld differs", (long long)n, (long long)begin);
            }
    }
}
END_TEST

/* They are made in vectors, by series of our own. */
START_TEST(normals_have_the_bits_that_the_library_of_mathematics_gives)
{
    enum { N = 1 << 20 };
    const double mean[] = {0, 0, 0.7}, std[] = {0.02, 3, 1e-3};
    float *x = malloc(N * sizeof(*x));
    ck_assert_ptr_nonnull(x);
    for (int k = 0; k < 3; k++) {
        sgc_philox_key key = sgc_philox_make_key((uint64_t)k, SGC_PURPOSE_INIT);
        sgc_normal_fill(x, N, (uint64_t)k, SGC_PURPOSE_INIT, 9, 0, mean[k], std[k]);
        for (uint32_t block = 0; block < N / 4; block++) {
            uint32_t r[4];
            double z[4];
            sgc_philox(key, (uint32_t[4]){block, 0, 9, 0}, r);
            sgc_normal_pair(r[0], r[1], z);
            sgc_normal_pair(r[2], r[3], z + 2);
            for (uint32_t j = 0; j < 4; j++)
                if (x[4 * block + j] != (float)(mean[k] + std[k] * z[j])) ck_abort_msg("number %u differs", 4 * block + j);
        }
    }
    free(x);
}
END_TEST

START_TEST(streams_of_normals_differ)
{
    float a[64], b[64];
    sgc_normal_fill(a, 64, 42, SGC_PURPOSE_INIT, 5, 0, 0.0, 1.0);
    sgc_normal_fill(b, 64, 42, SGC_PURPOSE_INIT, 6, 0, 0.0, 1.0);
    for (int i = 0; i < 64; i++) ck_assert(a[i] != b[i]);
}
END_TEST

START_TEST(normals_have_the_moments_of_the_normal_distribution)
{
    enum { N = 400000 };
    float *x = malloc(N * sizeof(*x));
    ck_assert_ptr_nonnull(x);
    sgc_normal_fill(x, N, 3, SGC_PURPOSE_INIT, 0, 0, 0.0, 1.0);
    double sum[5] = {0}, lag = 0;
    int64_t n_beyond_3 = 0;
    for (int i = 0; i < N; i++) {
        double p = 1;
        for (int k = 1; k <= 4; k++) sum[k] += p *= x[i];
        if (i > 0) lag += (double)x[i] * x[i - 1];
        n_beyond_3 += fabs((double)x[i]) > 3.0;
    }
    /* five standard errors of each */
    ck_assert_double_eq_tol(sum[1] / N, 0.0, 5 * sqrt(1.0 / N));
    ck_assert_double_eq_tol(sum[2] / N, 1.0, 5 * sqrt(2.0 / N));
    ck_assert_double_eq_tol(sum[3] / N, 0.0, 5 * sqrt(15.0 / N));
    ck_assert_double_eq_tol(sum[4] / N, 3.0, 5 * sqrt(96.0 / N));
    ck_assert_double_eq_tol(lag / N, 0.0, 5 * sqrt(1.0 / N));
    ck_assert_double_eq_tol((double)n_beyond_3 / N, 0.0026998, 5 * sqrt(0.0027 / N));
    free(x);
}
END_TEST

START_TEST(the_extreme_words_give_finite_normals)
{
    const uint32_t words[] = {0, 1, 0xfffffffe, 0xffffffff};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            double z[2];
            sgc_normal_pair(words[i], words[j], z);
            ck_assert(isfinite(z[0]) && isfinite(z[1]));
        }
    ck_assert_float_eq(sgc_uniform(0), 0.0f);
    ck_assert(sgc_uniform(0xffffffff) < 1.0f);
}
END_TEST

UNIT_MAIN("philox", known_answers_of_random123, keys_differ_by_seed_and_purpose, any_slice_of_normals_equals_the_whole,
          normals_have_the_bits_that_the_library_of_mathematics_gives, streams_of_normals_differ, normals_have_the_moments_of_the_normal_distribution, the_extreme_words_give_finite_normals)

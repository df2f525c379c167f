/* Element types: every short number comes back, and what lies between two of them goes to the nearer. */
#include <math.h>
#include <string.h>

#include "ckpt/shard_impl.h"
#include "unit.h"

static float widen(sgc_dtype type, uint16_t half)
{
    float x;
    sgc_dtype_unpack(type, &half, 1, &x);
    return x;
}

static uint16_t narrow(sgc_dtype type, float x)
{
    uint16_t half;
    sgc_dtype_pack(type, &x, 1, &half);
    return half;
}

/* The type, and the first short number that is infinite. */
static const struct { sgc_dtype type; uint16_t infinity; } shorts[] = {{SGC_BF16, 0x7f80}, {SGC_F16, 0x7c00}};

START_TEST(every_short_number_comes_back)
{
    sgc_dtype type = shorts[_i].type;
    for (uint32_t half = 0; half < 0x10000; half++) {
        float x = widen(type, (uint16_t)half);
        if (isnan(x)) {
            ck_assert((half & 0x7fff) > shorts[_i].infinity && isnan(widen(type, narrow(type, x))));
        } else {
            ck_assert_msg(narrow(type, x) == half, "%s: %x becomes %x", sgc_dtype_name(type), half, narrow(type, x));
        }
    }
    ck_assert(isinf(widen(type, shorts[_i].infinity)));
}
END_TEST

START_TEST(what_lies_between_goes_to_the_nearer_and_a_tie_to_the_even)
{
    sgc_dtype type = shorts[_i].type;
    for (uint16_t half = 0; half + 1 < shorts[_i].infinity; half++) {
        float low = widen(type, half), high = widen(type, (uint16_t)(half + 1)), middle = (float)(0.5 * ((double)low + (double)high));
        for (int negative = 0; negative <= 1; negative++) {
            float sign = negative ? -1 : 1;
            uint16_t bit = negative ? 0x8000 : 0;
            ck_assert_uint_eq(narrow(type, sign * middle), bit | (half + (half & 1)));
            ck_assert_uint_eq(narrow(type, sign * nextafterf(middle, 0)), bit | half);
            ck_assert_uint_eq(narrow(type, sign * nextafterf(middle, INFINITY)), bit | (half + 1));
        }
    }
}
END_TEST

START_TEST(the_largest_are_kept_and_beyond_them_is_infinity)
{
    ck_assert_uint_eq(narrow(SGC_F16, 65519.996f), 0x7bff);
    ck_assert_uint_eq(narrow(SGC_F16, 65520), 0x7c00);
    ck_assert_uint_eq(narrow(SGC_F16, -1e30f), 0xfc00);
    ck_assert_uint_eq(narrow(SGC_BF16, 0x1.fep127f), 0x7f7f);
    ck_assert_uint_eq(narrow(SGC_BF16, 0x1.ffp127f), 0x7f80);
    ck_assert_uint_eq(narrow(SGC_BF16, -INFINITY), 0xff80);
    ck_assert(isnan(widen(SGC_F16, narrow(SGC_F16, NAN))) && isnan(widen(SGC_BF16, narrow(SGC_BF16, NAN))));
}
END_TEST

START_TEST(short_elements_grow_and_shrink_in_place)
{
    enum { N = 100 };
    float x[N];
    for (int type = 0; type < SGC_N_STORED_DTYPES; type++) {
        for (int i = 0; i < N; i++) x[i] = (float)(i - 50) / 4;
        sgc_dtype_pack(type, x, N, x);
        char *end = (char *)(x + N) - N * sgc_dtype_bytes(type);
        memmove(end, x, (size_t)(N * sgc_dtype_bytes(type)));
        sgc_dtype_unpack(type, end, N, x);
        for (int i = 0; i < N; i++) ck_assert(x[i] == (float)(i - 50) / 4);
    }
}
END_TEST

/* HDF5 converts by what the type says of its bits. */
START_TEST(hdf5_takes_the_types_for_the_same_numbers)
{
    sgc_dtype dtype = shorts[_i].type;
    hid_t type = sgc_dtype_h5(dtype);
    ck_assert(type >= 0 && H5Tget_size(type) == 2);
    for (uint32_t half = 0; half < shorts[_i].infinity; half++) {
        float x = 0;
        uint16_t bits = (uint16_t)half;
        memcpy(&x, &bits, sizeof(bits));
        ck_assert(H5Tconvert(type, H5T_NATIVE_FLOAT, 1, &x, NULL, H5P_DEFAULT) >= 0);
        ck_assert_msg(x == widen(dtype, bits), "%s %x: %g, %g", sgc_dtype_name(dtype), half, (double)x, (double)widen(dtype, bits));
    }
    H5Tclose(type);
}
END_TEST

START_TEST(types_are_found_by_both_names)
{
    sgc_dtype type;
    ck_assert(sgc_dtype_find("bf16", &type) && type == SGC_BF16 && sgc_dtype_find("bfloat16", &type) && type == SGC_BF16);
    ck_assert(sgc_dtype_find("fp16", &type) && type == SGC_F16 && sgc_dtype_find("float32", &type) && type == SGC_F32);
    ck_assert(!sgc_dtype_find("float", &type) && !sgc_dtype_find("", &type));
    ck_assert(sgc_dtype_bytes(SGC_F32) == 4 && sgc_dtype_bytes(SGC_BF16) == 2 && sgc_dtype_bytes(SGC_F16) == 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("element");
    TCase *all = tcase_create("element");
    tcase_add_loop_test(all, every_short_number_comes_back, 0, 2);
    tcase_add_loop_test(all, what_lies_between_goes_to_the_nearer_and_a_tie_to_the_even, 0, 2);
    tcase_add_loop_test(all, hdf5_takes_the_types_for_the_same_numbers, 0, 2);
    tcase_add_test(all, the_largest_are_kept_and_beyond_them_is_infinity);
    tcase_add_test(all, short_elements_grow_and_shrink_in_place);
    tcase_add_test(all, types_are_found_by_both_names);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int n_failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

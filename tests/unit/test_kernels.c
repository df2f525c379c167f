/* The fast kernels against the reference in double, and against themselves at other thread counts and places. */
#include "kernels.h"

#include <omp.h>

#include "conf/config.h"
#include "device/cpu/cpu_impl.h"

enum { N_LEVELS = 4 };
static const char *const levels[N_LEVELS] = {"portable", "avx2", "avx512", "avx512_bf16"};
static const char *const fast_devices[] = {"cpu", "cpu_bf16"};

/* A device at an instruction set; false if this machine does not have it. */
static bool open_level(sgc_device *d, const char *name, const char *level)
{
    setenv("STAGECOACH_ISA", level, 1);
    sgc_status st = sgc_device_open(d, name, false);
    unsetenv("STAGECOACH_ISA");
    if (st == SGC_OK) return true;
    ck_assert_str_ne(level, "portable");
    sgc_err_clear();
    return false;
}

/* What follows runs with d open at each instruction set of this machine. */
#define EACH_LEVEL(d, name) \
    for (int level = 0; level < N_LEVELS; level++) \
        if (open_level(&(d), name, levels[level]))

START_TEST(every_kernel_agrees_with_the_reference_at_every_instruction_set)
{
    sgc_device d;
    for (int type = 0; type < 2; type++) EACH_LEVEL(d, fast_devices[type]) {
        compare_all(&d, levels[level]);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(every_kernel_agrees_with_the_reference_under_full_determinism)
{
    sgc_device d;
    omp_set_num_threads(3);
    for (int type = 0; type < 2; type++) {
        open_device(&d, fast_devices[type], true);
        compare_all(&d, "full determinism");
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(calls_that_do_the_work_of_several_have_their_bits)
{
    sgc_device d;
    for (int type = 0; type < 2; type++) EACH_LEVEL(d, fast_devices[type]) {
        compare_joined(&d);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(the_reference_in_float_agrees_with_the_one_in_double)
{
    sgc_device d;
    open_device(&d, "ref32", false);
    compare_all(&d, "ref32");
    sgc_device_close(&d);
}
END_TEST

static void check_threads(sgc_device *d, const kernel_case *k, const int64_t *size)
{
    omp_set_num_threads(1);
    call one = run(k->kernel, d, size, 2, SGC_F64);
    for (int n_threads = 2; n_threads <= 4; n_threads++) {
        omp_set_num_threads(n_threads);
        call more = run(k->kernel, d, size, 2, SGC_F64);
        ck_assert_msg(same_bits(&one, &more), "%s at %lld %lld %lld %lld differs at %d threads", k->name, (long long)size[0], (long long)size[1],
                      (long long)size[2], (long long)size[3], n_threads);
        free_call(&more);
    }
    free_call(&one);
}

START_TEST(no_bit_depends_on_the_number_of_threads_under_full_determinism)
{
    sgc_device d;
    for (int type = 0; type < 2; type++) {
        open_device(&d, fast_devices[type], true);
        for (int k = 0; k < n_kernel_cases; k++)
            for (int i = 0; i < kernel_cases[k].n_sizes; i++) check_threads(&d, &kernel_cases[k], kernel_cases[k].size[i]);
        sgc_device_close(&d);
    }
}
END_TEST

/* Outputs for which libraries split the inner side by the number of threads. */
START_TEST(small_products_over_many_rows_do_not_depend_on_the_number_of_threads)
{
    static const int64_t sizes[][6] = {{64, 64, 16384}, {128, 128, 8192}, {100, 3, 5001}, {65, 300, 2999}, {1, 257, 9001}};
    sgc_device d;
    const kernel_case *matmul = find_case("matmul");
    for (int type = 0; type < 3; type++) { /* the third: bf16 emulated */
        if (type == 2) setenv("STAGECOACH_ISA", "portable", 1);
        open_device(&d, fast_devices[type > 0], true);
        unsetenv("STAGECOACH_ISA");
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) check_threads(&d, matmul, sizes[i]);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(all_but_matrix_products_ignore_the_number_of_threads_by_default)
{
    sgc_device d;
    for (int type = 0; type < 2; type++) {
        open_device(&d, fast_devices[type], false);
        for (int k = 0; k < n_kernel_cases; k++)
            for (int i = 0; i < kernel_cases[k].n_sizes && strncmp(kernel_cases[k].name, "matmul", 6) != 0; i++)
                check_threads(&d, &kernel_cases[k], kernel_cases[k].size[i]);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(a_range_cut_anywhere_gives_the_same_bits)
{
    enum { N = 1100, N_CUTS = 10 };
    static const int64_t cuts[] = {0, 1, 16, 19, 64, 65, 131, 512, 528, 1023, N};
    sgc_device d;
    for (int type = 0; type < 2; type++) EACH_LEVEL(d, fast_devices[type]) {
        call c = {.device = &d, .seed = 3};
        const size_t bytes = sgc_dtype_bytes(d.ops->value);
        const sgc_update_part all = {0, SGC_UPDATE_WITH_DECAY};
        const sgc_adamw a = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .t = 3, .grad_scale = 0.3};
        char *x = in(&c, N), *y = in(&c, N), *whole = out(&c, N), *pieces = out(&c, N);
        for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
            d.ops->activation_forward(&d, kind, whole, x, N);
            for (int i = 0; i < N_CUTS; i++)
                d.ops->activation_forward(&d, kind, pieces + (size_t)cuts[i] * bytes, x + (size_t)cuts[i] * bytes, cuts[i + 1] - cuts[i]);
            ck_assert_mem_eq(whole, pieces, N * bytes);
            d.ops->activation_backward(&d, kind, whole, y, x, N);
            for (int i = 0; i < N_CUTS; i++) {
                size_t at = (size_t)cuts[i] * bytes;
                d.ops->activation_backward(&d, kind, pieces + at, y + at, x + at, cuts[i + 1] - cuts[i]);
            }
            ck_assert_mem_eq(whole, pieces, N * bytes);
        }
        float *p[2], *m[2], *v[2];
        for (int k = 0; k < 2; k++) {
            p[k] = in_wide(&c, N), m[k] = in_wide(&c, N), v[k] = (in_wide(&c, N), positive(&c));
            if (k == 0) continue;
            memcpy(p[1], p[0], N * sizeof(float));
            memcpy(m[1], m[0], N * sizeof(float));
            memcpy(v[1], v[0], N * sizeof(float));
            d.ops->adamw(&d, whole, p[0], m[0], v[0], x, d.ops->value, N, &all, 1, 0.1, &a);
            for (int i = 0; i < N_CUTS; i++) {
                size_t at = (size_t)cuts[i] * bytes;
                d.ops->adamw(&d, pieces + at, p[1] + cuts[i], m[1] + cuts[i], v[1] + cuts[i], x + at, d.ops->value, cuts[i + 1] - cuts[i], &all, 1, 0.1,
                             &a);
            }
            ck_assert_mem_eq(whole, pieces, N * bytes);
            ck_assert_mem_eq(p[0], p[1], N * sizeof(float));
            ck_assert_mem_eq(m[0], m[1], N * sizeof(float));
            ck_assert_mem_eq(v[0], v[1], N * sizeof(float));
        }
        free_call(&c);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(activations_are_accurate_over_their_whole_range)
{
    enum { N = 400001 };
    sgc_device d, reference;
    EACH_LEVEL(d, "cpu") {
        open_device(&reference, "ref64", false);
        float *x = malloc(N * sizeof(*x)), *y = malloc(N * sizeof(*y)), *one = malloc(N * sizeof(*one));
        double *x64 = malloc(N * sizeof(*x64)), *y64 = malloc(N * sizeof(*y64)), *one64 = malloc(N * sizeof(*one64));
        ck_assert(x && y && one && x64 && y64 && one64);
        for (int i = 0; i < N; i++) {
            x[i] = (float)(i - N / 2) * 1e-4f;
            x64[i] = x[i];
            one[i] = 1;
            one64[i] = 1;
        }
        for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++)
            for (int backward = 0; backward < 2; backward++) {
                if (backward) {
                    d.ops->activation_backward(&d, kind, y, one, x, N);
                    reference.ops->activation_backward(&reference, kind, y64, one64, x64, N);
                } else {
                    d.ops->activation_forward(&d, kind, y, x, N);
                    reference.ops->activation_forward(&reference, kind, y64, x64, N);
                }
                for (int i = 0; i < N; i++) {
                    double unit = fmax(1, fabs(x64[i])) * 0x1p-23; /* of the larger of argument and 1: both have terms of that size */
                    if (!(fabs(y[i] - y64[i]) <= 4 * unit)) /* an assertion per element would take seconds */
                        ck_abort_msg("kind %d%s at %.9g: %.9g, should be %.9g", kind, backward ? " backward" : "", x64[i], (double)y[i], y64[i]);
                }
            }
        free(x), free(y), free(one), free(x64), free(y64), free(one64);
        sgc_device_close(&d);
        sgc_device_close(&reference);
    }
}
END_TEST

START_TEST(a_nan_is_never_lost)
{
    sgc_device d;
    for (int type = 0; type < 2; type++) EACH_LEVEL(d, fast_devices[type]) {
        for (int at = 0; at < 70; at += 23) {
            call c = {.device = &d, .seed = 4};
            void *x = in(&c, 70), *y = in(&c, 70), *qkv = in(&c, 70 * 3 * 8), *o = in(&c, 70 * 8);
            float *lse = in_wide(&c, 70), *logits = in_wide(&c, 70);
            double loss;
            set_element(&c.arrays[0], at, NAN);
            for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
                d.ops->activation_forward(&d, kind, y, x, 70);
                ck_assert_double_nan(element(&c.arrays[1], at));
            }
            set_element(&c.arrays[2], at * 24, NAN); /* a query */
            d.ops->attention_forward(&d, o, lse, qkv, 1, 70, 8, 1, &(sgc_dropout){0});
            ck_assert_double_nan(element(&c.arrays[3], at * 8));
            logits[at] = NAN;
            d.ops->cross_entropy(&d, &loss, NULL, logits, (int32_t[]){1}, 1, 70, 70, 0, NULL);
            ck_assert_double_nan(loss);
            logits[at] = INFINITY;
            d.ops->cross_entropy(&d, &loss, NULL, logits, (int32_t[]){1}, 1, 70, 70, 0, NULL);
            ck_assert_msg(!isfinite(loss), "%g", loss);
            free_call(&c);
        }
        sgc_device_close(&d);
    }
}
END_TEST

/* Upper and lower half of every float that can make a difference: all upper halves, and lower halves around zero and one half. */
START_TEST(numbers_are_rounded_to_the_nearest_even_bf16_at_every_instruction_set)
{
    enum { N_LOW = 7, N = 65536 * N_LOW };
    static const uint32_t low[N_LOW] = {0, 1, 0x1234, 0x7fff, 0x8000, 0x8001, 0xffff};
    uint32_t *bits = malloc(N * sizeof(*bits));
    sgc_bf16 *rounded = malloc(N * sizeof(*rounded));
    sgc_device d;
    ck_assert(bits && rounded);
    for (uint32_t i = 0; i < N; i++) bits[i] = i / N_LOW << 16 | low[i % N_LOW];
    EACH_LEVEL(d, "cpu_bf16") {
        d.ops->narrow(&d, rounded, bits, N);
        for (int i = 0; i < N; i++) {
            uint32_t upper = bits[i] >> 16, lower = bits[i] & 0xffff, is_nan = (bits[i] & 0x7fffffff) > 0x7f800000;
            uint32_t nearest = lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1) ? upper + 1 : upper; /* beyond the largest comes infinity */
            bool right = is_nan ? (rounded[i] & 0x7fff) > 0x7f80 : rounded[i] == nearest;
            if (!right) ck_abort_msg("%s: %08x becomes %04x", levels[level], bits[i], rounded[i]);
            float f;
            memcpy(&f, &bits[i], sizeof(f));
            if (sgc_float_to_bf16(f) != rounded[i]) ck_abort_msg("%s: %08x becomes %04x, elsewhere %04x", levels[level], bits[i], rounded[i], sgc_float_to_bf16(f));
        }
        sgc_device_close(&d);
    }
    free(bits), free(rounded);
}
END_TEST

/* Denormals and infinities as well: the sum with a zero changes nothing. */
START_TEST(every_bf16_number_goes_in_and_out_unchanged)
{
    enum { N = 65536 };
    sgc_bf16 *x = malloc(N * sizeof(*x)), *zero = malloc(N * sizeof(*zero)), *y = malloc(N * sizeof(*y));
    sgc_device d;
    ck_assert(x && zero && y);
    for (int i = 0; i < N; i++) {
        x[i] = (sgc_bf16)i;
        zero[i] = 0x8000; /* minus zero: 0 + -0 is 0, and -0 + -0 is -0 */
    }
    EACH_LEVEL(d, "cpu_bf16") {
        d.ops->add(&d, y, x, zero, N);
        for (int i = 0; i < N; i++) {
            bool is_nan = (x[i] & 0x7fff) > 0x7f80;
            if (is_nan ? (y[i] & 0x7fff) <= 0x7f80 : y[i] != x[i]) ck_abort_msg("%s: %04x becomes %04x", levels[level], x[i], y[i]);
        }
        sgc_device_close(&d);
    }
    free(x), free(zero), free(y);
}
END_TEST

START_TEST(a_device_without_instructions_for_bf16_says_so)
{
    sgc_device d;
    for (int forced = 0; forced < 2; forced++)
        for (int k = 0; k < 2; k++) {
            if (forced) setenv("STAGECOACH_ISA", "portable", 1);
            open_device(&d, fast_devices[k], false);
            unsetenv("STAGECOACH_ISA");
            bool has_instructions = !forced && strcmp(sgc_device_isa(), "AVX-512 BF16") == 0;
            if (k == 0) ck_assert(!d.emulates);
            else if (!has_instructions) ck_assert(d.emulates); /* else it is for the library of matrix products to say */
            sgc_device_close(&d);
        }
}
END_TEST

START_TEST(the_same_elements_are_dropped_on_every_device)
{
    enum { B = 3, N = 10007 };
    static const char *const names[] = {"ref32", "ref64", "cpu_bf16"};
    static const int64_t sample[B] = {0, 1, 1LL << 40};
    const sgc_philox_key key = sgc_dropout_key(42, 1);
    const sgc_dropout drop = {.p = 0.3, .key = &key, .stream = 65535, .sample = sample};
    sgc_device d;
    EACH_LEVEL(d, "cpu") {
        call c = {.device = &d, .seed = 5};
        float *x = in(&c, B * N), *y = in(&c, B * N);
        d.ops->dropout(&d, y, x, B, N, &drop);
        int64_t n_kept = 0;
        for (int64_t i = 0; i < B * N; i++) n_kept += y[i] != 0;
        double rate = (double)n_kept / (B * N), deviation = sqrt(0.3 * 0.7 / (B * N));
        ck_assert_msg(fabs(rate - 0.7) < 4 * deviation, "kept %g", rate);
        ck_assert_msg(memcmp(y, y + N, 100 * sizeof(*y)) != 0, "two samples share their mask");
        for (int k = 0; k < 3; k++) {
            sgc_device reference;
            open_device(&reference, names[k], false);
            call r = {.device = &reference, .seed = 5};
            void *rx = in(&r, B * N), *ry = in(&r, B * N);
            reference.ops->dropout(&reference, ry, rx, B, N, &drop);
            int64_t n_different = 0;
            for (int64_t i = 0; i < B * N; i++) n_different += (element(&r.arrays[1], i) != 0) != (y[i] != 0);
            ck_assert_int_eq(n_different, 0);
            if (k == 0) ck_assert_mem_eq(ry, y, B * N * sizeof(*y));
            free_call(&r);
            sgc_device_close(&reference);
        }
        free_call(&c);
        sgc_device_close(&d);
    }
}
END_TEST

/* The number of a block of four elements fills one word of the counter and goes on in the next. */
START_TEST(masks_of_long_tensors_go_on_beyond_32_bits)
{
    enum { N = 200 };
    const sgc_philox_key key = sgc_dropout_key(1, 2);
    const int64_t first = 4 * ((1LL << 32) - 10), sample = (5LL << 32) + 6;
    const uint32_t stream = 3, threshold = 1u << 31;
    float ones[N], y[N];
    sgc_device d;
    for (int i = 0; i < N; i++) ones[i] = 1;
    EACH_LEVEL(d, "cpu") {
        sgc_cpu_simd(&d)->dropout(y, ones, first, N, key, stream, sample, threshold, 2);
        for (int64_t e = first; e < first + N; e++) {
            uint64_t block = (uint64_t)e / 4;
            uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) << 16 | stream, 6, 5}, r[4];
            sgc_philox(key, counter, r);
            ck_assert(y[e - first] == (r[e % 4] < threshold ? 0 : 2));
        }
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(ignored_rows_have_no_loss_and_no_gradient)
{
    static const char *const names[] = {"cpu", "cpu_bf16", "ref32"};
    for (int k = 0; k < 3; k++) {
        sgc_device d;
        open_device(&d, names[k], false);
        call c = {.device = &d, .seed = 7};
        float *logits = in_wide(&c, 2 * 50);
        void *dlogits = in(&c, 2 * 50);
        double loss[2], sum = 0;
        logits[0] = NAN;
        if (d.ops->value == d.ops->wide) { /* in place */
            memcpy(dlogits, logits, 2 * 50 * sizeof(*logits));
            logits = dlogits;
        }
        d.ops->cross_entropy(&d, loss, dlogits, logits, (int32_t[]){-100, 3}, 2, 50, 50, 0.1, &(double){1});
        ck_assert(loss[0] == 0 && loss[1] > 0);
        for (int i = 0; i < 50; i++) ck_assert(element(&c.arrays[1], i) == 0);
        for (int i = 50; i < 100; i++) sum += element(&c.arrays[1], i);
        ck_assert_double_lt(fabs(sum), d.ops->value == SGC_BF16 ? 0x1p-8 : 1e-6);
        free_call(&c);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(values_take_the_place_of_the_wide_numbers_they_are_made_of)
{
    enum { N = 11 * SGC_CPU_PIECE + 5, V = 1003, LD = 1010, R = 40 };
    sgc_device d;
    omp_set_num_threads(3);
    EACH_LEVEL(d, "cpu_bf16") {
        call c = {.device = &d, .seed = 9};
        ck_assert(d.ops->rounds_in_place);
        float *wide = in_wide(&c, N), *logits = in_wide(&c, R * LD);
        sgc_bf16 *apart = malloc(N * sizeof(*apart)), *gradient = malloc(R * LD * sizeof(*gradient));
        double loss[2][R];
        int32_t target[R];
        for (int n = 0; n < R; n++) target[n] = n % 7 ? n * 25 : -100;
        d.ops->narrow(&d, apart, wide, N);
        d.ops->narrow(&d, wide, wide, N);
        ck_assert_mem_eq(apart, wide, N * sizeof(*apart));
        d.ops->cross_entropy(&d, loss[0], gradient, logits, target, R, V, LD, 0.1, &(double){0.5});
        d.ops->cross_entropy(&d, loss[1], logits, logits, target, R, V, LD, 0.1, &(double){0.5});
        ck_assert_mem_eq(loss[0], loss[1], sizeof(loss[0]));
        for (int n = 0; n < R; n++) ck_assert_mem_eq(gradient + n * LD, logits + n * LD, V * sizeof(*gradient));
        free(apart);
        free(gradient);
        free_call(&c);
        sgc_device_close(&d);
    }
}
END_TEST

START_TEST(every_device_fills_every_slot_and_null_needs_no_memory)
{
    static const char *const names[] = {"cpu", "cpu_bf16", "ref32", "ref64", "null"};
    for (int k = 0; k < 5; k++) {
        sgc_device d;
        open_device(&d, names[k], false);
        ck_assert_str_eq(d.ops->name, names[k]);
        ck_assert_int_eq(d.ops->is_null, k == 4);
        void (*const *slot)(void) = (void (*const *)(void))&d.ops->embedding_forward;
        for (size_t i = 0; (const char *)&slot[i] < (const char *)(d.ops + 1); i++) ck_assert_msg(slot[i] != NULL, "%s has no slot %zu", names[k], i);
        sgc_device_close(&d);
    }
    sgc_device d;
    open_device(&d, "null", false);
    d.ops->matmul(&d, &(sgc_matmul){.m = 100, .n = 100, .k = 100});
    d.ops->attention_forward(&d, NULL, NULL, NULL, 4, 64, 64, 4, NULL);
    sgc_device_close(&d);
}
END_TEST

START_TEST(unknown_devices_and_instruction_sets_are_refused)
{
    sgc_device d;
    ck_assert_int_eq(sgc_device_open(&d, "gpu", false), SGC_EARG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "'gpu'"));
    sgc_err_clear();
    setenv("STAGECOACH_ISA", "sse9", 1);
    ck_assert_int_eq(sgc_device_open(&d, "cpu", false), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "'sse9'"));
    sgc_err_clear();
    setenv("STAGECOACH_ISA", "portable", 1);
    ck_assert_str_eq(sgc_device_isa(), "portable");
    unsetenv("STAGECOACH_ISA");
}
END_TEST

UNIT_MAIN("kernels", every_kernel_agrees_with_the_reference_at_every_instruction_set,
          every_kernel_agrees_with_the_reference_under_full_determinism,
          calls_that_do_the_work_of_several_have_their_bits,
          the_reference_in_float_agrees_with_the_one_in_double,
          no_bit_depends_on_the_number_of_threads_under_full_determinism,
          small_products_over_many_rows_do_not_depend_on_the_number_of_threads,
          all_but_matrix_products_ignore_the_number_of_threads_by_default,
          a_range_cut_anywhere_gives_the_same_bits,
          activations_are_accurate_over_their_whole_range,
          a_nan_is_never_lost,
          numbers_are_rounded_to_the_nearest_even_bf16_at_every_instruction_set,
          every_bf16_number_goes_in_and_out_unchanged,
          a_device_without_instructions_for_bf16_says_so,
          the_same_elements_are_dropped_on_every_device,
          masks_of_long_tensors_go_on_beyond_32_bits,
          ignored_rows_have_no_loss_and_no_gradient,
          values_take_the_place_of_the_wide_numbers_they_are_made_of,
          every_device_fills_every_slot_and_null_needs_no_memory,
          unknown_devices_and_instruction_sets_are_refused)

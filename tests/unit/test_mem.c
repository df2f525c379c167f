#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "unit.h"

/* The address sanitizer ends the program at an absurd size unless it is told that NULL is an answer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

START_TEST(memory_is_aligned_and_zero_also_when_used_before)
{
    for (size_t bytes = 0; bytes < 3000; bytes += 37)
        for (int round = 0; round < 2; round++) {
            unsigned char *p = sgc_mem_alloc(SGC_MEM_DATA, bytes);
            ck_assert_ptr_nonnull(p);
            ck_assert_uint_eq((uintptr_t)p % 64, 0);
            for (size_t i = 0; i < bytes; i++)
                if (p[i] != 0) ck_abort_msg("byte %zu of %zu is %d", i, bytes, p[i]);
            memset(p, 0xff, bytes);
            sgc_mem_free(p);
        }
}
END_TEST

START_TEST(bytes_are_counted_by_purpose)
{
    void *a = sgc_mem_alloc(SGC_MEM_PARAMETERS, 1000), *b = sgc_mem_alloc(SGC_MEM_PARAMETERS, 24), *c = sgc_mem_alloc(SGC_MEM_GRADIENTS, 7);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_PARAMETERS), 1024);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_GRADIENTS), 7);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_OPTIMIZER), 0);
    sgc_mem_free(a);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_PARAMETERS), 24);
    ck_assert_uint_eq(sgc_mem_peak(SGC_MEM_PARAMETERS), 1024);
    sgc_mem_free(b);
    sgc_mem_free(c);
    sgc_mem_free(NULL);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_PARAMETERS), 0);
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_GRADIENTS), 0);
    ck_assert_str_eq(sgc_mem_name(SGC_MEM_OPTIMIZER), "optimizer");
}
END_TEST

START_TEST(a_refusal_names_purpose_wanted_and_held)
{
    void *held = sgc_mem_alloc(SGC_MEM_OPTIMIZER, 3 << 20);
    const size_t too_much[] = {SIZE_MAX, SIZE_MAX / 2};
    for (int i = 0; i < 2; i++) {
        sgc_err_clear();
        ck_assert_ptr_null(sgc_mem_alloc(SGC_MEM_OPTIMIZER, too_much[i]));
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), "no memory for optimizer: "));
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), "PiB wanted, 3.0 MiB held"));
    }
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_OPTIMIZER), 3 << 20);
    sgc_mem_free(held);
}
END_TEST

START_TEST(threads_count_together)
{
#pragma omp parallel for num_threads(4)
    for (int i = 0; i < 4000; i++) sgc_mem_free(sgc_mem_alloc(SGC_MEM_COMM, 100));
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_COMM), 0);
    ck_assert_uint_ge(sgc_mem_peak(SGC_MEM_COMM), 100);
    ck_assert_uint_le(sgc_mem_peak(SGC_MEM_COMM), 400);
}
END_TEST

UNIT_MAIN("mem", memory_is_aligned_and_zero_also_when_used_before, bytes_are_counted_by_purpose, a_refusal_names_purpose_wanted_and_held,
          threads_count_together)

/* The probe of matrix products: a rate, or a message that says what to do. */
#include "unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "train/probe_impl.h"

static sgc_status probe(double *flops)
{
    sgc_device device;
    sgc_group *alone;
    ck_assert_int_eq(sgc_device_open(&device, "cpu", false), SGC_OK);
    ck_assert_int_eq(sgc_group_null(&alone, 1, 0), SGC_OK);
    sgc_status st = sgc_probe_gemm(&device, alone, flops);
    sgc_group_free(alone);
    sgc_device_close(&device);
    return st;
}

START_TEST(a_rate_is_measured)
{
    double flops = 0;
    ck_assert_int_eq(probe(&flops), SGC_OK);
    ck_assert(isfinite(flops) && flops > 1e6);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which needs address space of its own */
/* The process (each test has its own) may take 8 MiB more than it has; the matrices need more. */
START_TEST(without_memory_it_says_how_to_do_without)
{
    double flops = 0;
    long pages;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld", &pages) != 1) return;
    fclose(f);
    rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)8 << 20);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}), 0);
    ck_assert_int_eq(probe(&flops), SGC_ENOMEM);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "write device.gemm_probe false"));
}
END_TEST

UNIT_MAIN("probe", a_rate_is_measured, without_memory_it_says_how_to_do_without)
#else
UNIT_MAIN("probe", a_rate_is_measured)
#endif

/* Threads of a rank: what OMP_NUM_THREADS may say, and the share of the cores that a binding leaves to each rank. */
#include "unit.h"

#include <omp.h>
#include <pthread.h>
#include <string.h>

#include "base/cores.h"
#include "train/threads_impl.h"

START_TEST(a_number_of_threads_is_taken)
{
    int n;
    ck_assert_int_eq(sgc_threads_parse("4", &n), SGC_OK);
    ck_assert_int_eq(n, 4);
    ck_assert_int_eq(sgc_threads_parse(" 12 ", &n), SGC_OK);
    ck_assert_int_eq(n, 12);
    ck_assert_int_eq(sgc_threads_parse("3,2", &n), SGC_OK);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(sgc_threads_parse(NULL, &n), SGC_OK);
    ck_assert_int_eq(n, 0);
    ck_assert_int_eq(sgc_threads_parse("", &n), SGC_OK);
    ck_assert_int_eq(n, 0);
}
END_TEST

START_TEST(anything_else_is_refused_and_named)
{
    static const char *const bad[] = {"0", "-2", "two", "2x", "99999999999999999999", "1.5", "70000"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int n;
        ck_assert_int_eq(sgc_threads_parse(bad[i], &n), SGC_ECONFIG);
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), bad[i]));
        ck_assert_ptr_nonnull(strstr(sgc_err_message(), "leave it unset"));
        sgc_err_clear();
    }
}
END_TEST

/* CPUs 0 .. 63 of eight cores with two hardware threads each: 0 and 8 are one core, 1 and 9, ... */
static const int *cores(void)
{
    static int core[64];
    for (int cpu = 0; cpu < 64; cpu++) core[cpu] = cpu < 16 ? cpu % 8 : cpu;
    return core;
}

static sgc_threads share(const uint64_t *mask, int n_ranks, int rank, int n)
{
    sgc_threads t = {.n = n};
    sgc_threads_share(&t, mask, n_ranks, rank, 1, cores());
    return t;
}

START_TEST(ranks_without_a_binding_divide_the_cores)
{
    const uint64_t all[4] = {0xffff, 0xffff, 0xffff, 0xffff};
    for (int n_ranks = 1; n_ranks <= 4; n_ranks++) {
        sgc_threads t = share(all, n_ranks, n_ranks - 1, 0);
        ck_assert_int_eq(t.n, 8 / n_ranks);
        ck_assert_int_eq(t.n_cores, 8);
        ck_assert_int_eq(t.n_node_cores, 8);
        ck_assert_int_eq(t.n_sharing, n_ranks);
    }
}
END_TEST

START_TEST(bound_ranks_have_a_thread_for_each_core_of_theirs)
{
    const uint64_t bound[3] = {0x0303 /* cores 0 and 1 */, 0x00fc /* 2 to 7, one hardware thread each */, 0x0303};
    ck_assert_int_eq(share(bound, 2, 0, 0).n, 2);
    ck_assert_int_eq(share(bound, 2, 1, 0).n, 6);
    ck_assert_int_eq(share(bound, 2, 1, 0).n_node_cores, 8);
    ck_assert_int_eq(share(bound, 3, 0, 0).n, 1); /* shared with the third */
    ck_assert_int_eq(share(bound, 3, 1, 0).n_sharing, 1);
}
END_TEST

START_TEST(there_is_always_one_thread)
{
    const uint64_t one[3] = {1, 1, 1};
    ck_assert_int_eq(share(one, 3, 2, 0).n, 1);
}
END_TEST

START_TEST(what_the_user_says_goes_first)
{
    const uint64_t one[1] = {1};
    sgc_threads t = share(one, 1, 0, 6);
    ck_assert_int_eq(t.n, 6);
    ck_assert_int_eq(t.n_cores, 1);
}
END_TEST

/* All cores of this machine are this process'. */
static sgc_threads whole_machine(uint64_t mask[SGC_CORES_WORDS])
{
    sgc_threads t = {0};
    int core[SGC_CORES_CPUS];
    memset(mask, 0, SGC_CORES_WORDS * sizeof(*mask));
    sgc_cores_mask(mask);
    for (int cpu = 0; cpu < SGC_CORES_CPUS; cpu++) core[cpu] = sgc_cores_of(cpu);
    sgc_threads_share(&t, mask, 1, 0, SGC_CORES_WORDS, core);
    omp_set_num_threads(t.n);
    return t;
}

static void *unbound_mask(void *mask)
{
    sgc_cores_unbind();
    sgc_cores_mask(mask);
    return NULL;
}

START_TEST(threads_with_a_core_for_each_stay_on_it)
{
    static uint64_t all[SGC_CORES_WORDS], seen[SGC_CORES_WORDS], others[SGC_CORES_WORDS];
    int n_overlaps = 0;
    pthread_t thread;
    unsetenv("OMP_PROC_BIND");
    sgc_threads t = whole_machine(all);
    sgc_threads_bind(&t);
#pragma omp parallel
    {
        uint64_t own[SGC_CORES_WORDS] = {0};
        sgc_cores_mask(own);
#pragma omp critical
        for (int k = 0; k < SGC_CORES_WORDS; k++) {
            n_overlaps += (seen[k] & own[k]) != 0;
            seen[k] |= own[k];
        }
    }
    ck_assert_int_eq(n_overlaps, 0);
    ck_assert_mem_eq(seen, all, sizeof(all));
    ck_assert_int_eq(pthread_create(&thread, NULL, unbound_mask, others), 0);
    pthread_join(thread, NULL);
    ck_assert_mem_eq(others, all, sizeof(all));
}
END_TEST

START_TEST(what_to_do_about_too_many_threads_fits_the_case)
{
    char advice[96];
    const sgc_threads two_cores = {.n_node_cores = 2}, many = {.n_node_cores = 16}, one = {.n_node_cores = 1};
    ck_assert_str_eq(sgc_threads_advice(&two_cores, 1, advice), "set OMP_NUM_THREADS=2");
    ck_assert_str_eq(sgc_threads_advice(&many, 5, advice), "start fewer ranks, or set OMP_NUM_THREADS=3");
    ck_assert_str_eq(sgc_threads_advice(&two_cores, 16, advice), "start no more than 2 ranks on it"); /* one thread each is too many */
    ck_assert_str_eq(sgc_threads_advice(&one, 4, advice), "start no more than 1 rank on it");
}
END_TEST

START_TEST(threads_that_share_cores_or_that_the_user_places_are_left_free)
{
    static uint64_t all[SGC_CORES_WORDS], after[SGC_CORES_WORDS];
    sgc_threads t = whole_machine(all), sharing = t;
    sharing.n_sharing = 2;
    unsetenv("OMP_PROC_BIND");
    sgc_threads_bind(&sharing);
    setenv("OMP_PROC_BIND", "false", 1);
    sgc_threads_bind(&t);
    sgc_cores_mask(after);
    ck_assert_mem_eq(after, all, sizeof(all));
}
END_TEST

UNIT_MAIN("threads", a_number_of_threads_is_taken, anything_else_is_refused_and_named, ranks_without_a_binding_divide_the_cores,
          bound_ranks_have_a_thread_for_each_core_of_theirs, there_is_always_one_thread, what_the_user_says_goes_first,
          threads_with_a_core_for_each_stay_on_it, what_to_do_about_too_many_threads_fits_the_case,
          threads_that_share_cores_or_that_the_user_places_are_left_free)

/*
 * Check under MPI. One Check program per noun: MPI_UNIT_MAIN("noun", test_a, test_b, ...) at the end of the file. Tests do not fork,
 * and assert by mpi_assert only, called by all ranks: a failure on one rank then fails the test on all, and none is left waiting.
 */
#ifndef SGC_TESTS_MPI_CHECK_H
#define SGC_TESTS_MPI_CHECK_H

#include <check.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "comm/comm.h"

static sgc_world world; /* started by MPI_UNIT_MAIN */

/* Collective: fails on all ranks if cond is false on any; those say so. */
#define mpi_assert(cond)                                                                                       \
    do {                                                                                                       \
        int holds_here_ = (cond) ? 1 : 0, holds_ = 0;                                                          \
        if (!holds_here_)                                                                                      \
            fprintf(stderr, "%s:%d: rank %d of %d: %s (last error: '%s')\n", __FILE__, __LINE__, world.rank,   \
                    world.size, #cond, sgc_err_message());                                                     \
        MPI_Allreduce(&holds_here_, &holds_, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);                             \
        ck_assert_msg(holds_, "%s does not hold on every rank", #cond);                                        \
    } while (0)

#define mpi_assert_ok(call) mpi_assert((call) == SGC_OK)

#define MPI_UNIT_MAIN(noun, ...)                                                                               \
    int main(int argc, char **argv)                                                                            \
    {                                                                                                          \
        if (sgc_world_start(&world, &argc, &argv) != SGC_OK) {                                                 \
            fprintf(stderr, "MPI does not start: %s\n", sgc_err_message());                                    \
            return EXIT_FAILURE;                                                                               \
        }                                                                                                      \
        const TTest *const tests[] = {__VA_ARGS__};                                                            \
        Suite *suite = suite_create(noun);                                                                     \
        TCase *all = tcase_create(noun);                                                                       \
        for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) tcase_add_test(all, tests[i]);           \
        suite_add_tcase(suite, all);                                                                           \
        SRunner *runner = srunner_create(suite);                                                               \
        srunner_set_fork_status(runner, CK_NOFORK);                                                            \
        srunner_run_all(runner, world.rank == 0 ? CK_ENV : CK_SILENT);                                         \
        int n_failed = srunner_ntests_failed(runner);                                                          \
        srunner_free(runner);                                                                                  \
        sgc_world_stop(&world);                                                                                \
        return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;                                                         \
    }

#endif

#include <string.h>

#include "base/util.h"
#include "mpi_check.h"

START_TEST(no_failure_is_agreed_as_such)
{
    mpi_assert(sgc_agree(world.all, SGC_OK) == SGC_OK);
    mpi_assert(sgc_err_message()[0] == '\0');
}
END_TEST

START_TEST(a_failure_of_any_rank_reaches_all_with_rank_and_node)
{
    for (int failing = 0; failing < world.size; failing++) {
        sgc_status st = SGC_OK;
        char origin[300];
        sgc_err_clear();
        if (world.rank == failing) st = sgc_err(SGC_EIO, "disk %d is full", failing);
        st = sgc_agree(world.all, st);
        snprintf(origin, sizeof(origin), "rank %d on %s", failing, sgc_node_name());
        char message[64];
        snprintf(message, sizeof(message), "disk %d is full", failing);
        mpi_assert(st == SGC_EIO);
        mpi_assert(strcmp(sgc_err_message(), message) == 0);
        mpi_assert(strcmp(sgc_err_origin(), world.rank == failing ? "" : origin) == 0);
    }
    sgc_err_clear();
}
END_TEST

START_TEST(the_lowest_of_several_failing_ranks_speaks)
{
    sgc_status st = SGC_OK;
    char origin[320];
    int lowest = world.size > 2 ? 1 : 0, n_failing = world.size - lowest;
    if (world.rank >= lowest) st = sgc_err(world.rank == lowest ? SGC_EDATA : SGC_EIO, "error %d", world.rank);
    st = sgc_agree(world.all, st);
    mpi_assert(st == SGC_EDATA);
    mpi_assert(strcmp(sgc_err_message(), lowest == 1 ? "error 1" : "error 0") == 0);
    snprintf(origin, sizeof(origin), "rank %d on %s (and %d more rank%s)", lowest, sgc_node_name(), n_failing - 1, n_failing > 2 ? "s" : "");
    mpi_assert(strcmp(sgc_err_origin(), world.rank == lowest ? "" : origin) == 0);
    sgc_err_clear();
}
END_TEST

START_TEST(an_error_that_is_agreed_again_keeps_its_origin)
{
    sgc_status st = SGC_OK;
    int last = world.size - 1;
    char origin[320];
    if (world.rank == last) st = sgc_err(SGC_ECKPT, "shard 3 is damaged");
    for (int round = 0; round < 3; round++) st = sgc_agree(round == 1 ? world.node : world.all, st);
    snprintf(origin, sizeof(origin), "rank %d on %s", last, sgc_node_name());
    mpi_assert(st == SGC_ECKPT);
    mpi_assert(strcmp(sgc_err_message(), "shard 3 is damaged") == 0);
    mpi_assert(strcmp(sgc_err_origin(), world.rank == last ? "" : origin) == 0);
    sgc_err_clear();
}
END_TEST

START_TEST(an_older_error_of_another_rank_does_not_hide_the_new_one)
{
    sgc_status st = SGC_OK;
    if (world.rank != 0) sgc_err(SGC_EIO, "an error that was dealt with");
    else st = sgc_err(SGC_EDATA, "the new one");
    mpi_assert(sgc_agree(world.all, st) == SGC_EDATA);
    mpi_assert(strcmp(sgc_err_message(), "the new one") == 0);
    sgc_err_clear();
}
END_TEST

static sgc_status fail_in_the_middle(int failing)
{
    sgc_status st = SGC_OK;
    int64_t one = 1;
    if (world.rank == failing) st = sgc_err(SGC_ENOMEM, "no memory");
    SGC_AGREE(world.all);
    SGC_TRY(sgc_sum_int64(world.all, &one, 1)); /* would hang if the failing rank alone left the function */
done:
    return st;
}

START_TEST(a_collective_function_fails_on_all_ranks_or_none)
{
    mpi_assert(fail_in_the_middle(world.size - 1) == SGC_ENOMEM);
    sgc_err_clear();
    mpi_assert(fail_in_the_middle(-1) == SGC_OK);
}
END_TEST

MPI_UNIT_MAIN("agree", no_failure_is_agreed_as_such, a_failure_of_any_rank_reaches_all_with_rank_and_node, the_lowest_of_several_failing_ranks_speaks,
              an_error_that_is_agreed_again_keeps_its_origin, an_older_error_of_another_rank_does_not_hide_the_new_one,
              a_collective_function_fails_on_all_ranks_or_none)

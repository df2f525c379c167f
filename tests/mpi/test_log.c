#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "mpi_check.h"

static FILE *file;
static int stderr_copy;
static char text[400000];

static void catch_stderr(void)
{
    file = tmpfile();
    stderr_copy = dup(STDERR_FILENO);
    mpi_assert(file != NULL && stderr_copy >= 0);
    dup2(fileno(file), STDERR_FILENO);
}

static const char *caught(void)
{
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

static int n_occurrences(const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p += strlen(what)) n++;
    return n;
}

/* Ranks 1 and up as a prefix says them. */
static const char *all_replicas(void)
{
    static char ranks[32];
    snprintf(ranks, sizeof(ranks), world.size == 2 ? "[rank 1" : world.size == 3 ? "[ranks 1,2" : "[ranks 1-%d", world.size - 1);
    return ranks;
}

START_TEST(equal_lines_of_replicas_are_one_line_with_a_rank_range)
{
    char want[300];
    catch_stderr();
    sgc_log_warning("the scratch disk is slow");
    sgc_status st = sgc_log_flush(world.all);
    caught();
    mpi_assert(st == SGC_OK);
    snprintf(want, sizeof(want), "WARNING  %s %s] the scratch disk is slow\n", all_replicas(), sgc_node_name());
    mpi_assert(n_occurrences("WARNING  the scratch disk is slow\n") == (world.rank == 0)); /* the main process's own */
    mpi_assert(n_occurrences(want) == (world.rank == 0 && world.size > 1));
    mpi_assert(n_occurrences("\n") == (world.rank > 0 ? 0 : world.size > 1 ? 2 : 1));
}
END_TEST

START_TEST(different_lines_keep_their_order_and_say_their_rank)
{
    catch_stderr();
    if (world.rank > 0) {
        sgc_log_error("begins");
        sgc_log_error("is number %d", world.rank);
        sgc_log_error("begins"); /* once more: not merged with the first */
    }
    sgc_status st = sgc_log_flush(world.all);
    caught();
    mpi_assert(st == SGC_OK);
    bool is_right = true;
    if (world.rank == 0 && world.size > 1) {
        is_right = n_occurrences("] begins\n") == 2 && n_occurrences("\n") == 2 + world.size - 1;
        const char *last = text;
        for (int r = 1; r < world.size; r++) {
            char want[300];
            snprintf(want, sizeof(want), "ERROR    [rank %d %s] is number %d\n", r, sgc_node_name(), r);
            const char *at = strstr(text, want);
            is_right = is_right && at != NULL && at > last;
            if (at != NULL) last = at;
        }
        is_right = is_right && strstr(text, "begins") < strstr(text, "is number");
    }
    mpi_assert(is_right);
}
END_TEST

START_TEST(lines_printed_are_gone)
{
    catch_stderr();
    sgc_log_error("once");
    sgc_status st = sgc_log_flush(world.all);
    if (st == SGC_OK) st = sgc_log_flush(world.all);
    caught();
    mpi_assert(st == SGC_OK);
    mpi_assert(n_occurrences("once") == (world.rank > 0 ? 0 : world.size > 1 ? 2 : 1));
}
END_TEST

START_TEST(replicas_obey_a_level_of_their_own)
{
    catch_stderr();
    if (world.rank > 0) sgc_log_set_level(SGC_LOG_ERROR);
    sgc_log_info("read");
    sgc_status st = sgc_log_flush(world.all);
    sgc_log_set_level(SGC_LOG_INFO);
    caught();
    mpi_assert(st == SGC_OK);
    mpi_assert(n_occurrences("read") == (world.rank == 0));
}
END_TEST

START_TEST(dropped_lines_of_a_full_queue_are_reported)
{
    catch_stderr();
    for (int i = 0; world.rank > 0 && i < 1000; i++) sgc_log_info("%0200d", i);
    sgc_status st = sgc_log_flush(world.all);
    caught();
    mpi_assert(st == SGC_OK);
    mpi_assert(n_occurrences("676 more lines dropped\n") == (world.rank == 0 && world.size > 1));
}
END_TEST

MPI_UNIT_MAIN("log", equal_lines_of_replicas_are_one_line_with_a_rank_range, different_lines_keep_their_order_and_say_their_rank,
              lines_printed_are_gone, replicas_obey_a_level_of_their_own, dropped_lines_of_a_full_queue_are_reported)

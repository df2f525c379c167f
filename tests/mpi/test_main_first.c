#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "mpi_check.h"

/* The main process makes a file, slowly; the others must find it. */
typedef struct job {
    const char *path;
    int pause_ms;
    int n_calls;
    bool was_main, fail_on_main, fail_on_last;
} job;

static sgc_status make_or_find(void *arg, bool is_main)
{
    job *j = arg;
    j->n_calls++;
    j->was_main = is_main;
    if (!is_main) {
        if (j->fail_on_last && world.rank == world.size - 1) return sgc_err(SGC_EDATA, "the file does not fit");
        return sgc_path_exists(j->path) ? SGC_OK : sgc_err(SGC_EDATA, "%s is not there", j->path);
    }
    nanosleep(&(struct timespec){.tv_sec = j->pause_ms / 1000, .tv_nsec = j->pause_ms % 1000 * 1000000L}, NULL);
    if (j->fail_on_main) return sgc_err(SGC_EIO, "cannot write %s", j->path);
    return sgc_write_file_atomic(j->path, "x", 1);
}

static char path[64];

/* A name of which all ranks know that it is free. */
static void make_path(void)
{
    if (world.rank == 0) {
        strcpy(path, "/tmp/sgc-main-first-XXXXXX");
        int fd = mkstemp(path);
        if (fd >= 0) close(fd);
        unlink(path);
    }
    mpi_assert_ok(sgc_bcast_bytes(world.all, path, sizeof(path), 0));
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

START_TEST(the_others_find_what_the_main_process_made)
{
    for (int local = 0; local < 2; local++) {
        make_path();
        job j = {.path = path, .pause_ms = 200};
        mpi_assert_ok(sgc_main_process_first(&world, local, "making a file", 0.0, make_or_find, &j));
        mpi_assert(j.n_calls == 1);
        mpi_assert(j.was_main == ((local ? world.node_rank : world.rank) == 0));
        mpi_assert_ok(sgc_barrier(world.all));
        if (world.rank == 0) unlink(path);
    }
}
END_TEST

START_TEST(waiting_ranks_burn_no_core)
{
    make_path();
    job j = {.path = path, .pause_ms = 1500};
    double before_s = cpu_s();
    mpi_assert_ok(sgc_main_process_first(&world, false, "making a file", 0.0, make_or_find, &j));
    double used_s = cpu_s() - before_s;
    mpi_assert(used_s < 0.5); /* spinning would use nearly all of the 1.5 s */
    if (world.rank == 0) unlink(path);
}
END_TEST

START_TEST(when_the_main_process_fails_nobody_else_tries)
{
    make_path();
    job j = {.path = path, .fail_on_main = true};
    mpi_assert(sgc_main_process_first(&world, false, "making a file", 0.0, make_or_find, &j) == SGC_EIO);
    mpi_assert(j.n_calls == (world.rank == 0));
    mpi_assert(strstr(sgc_err_message(), "cannot write") != NULL);
    mpi_assert(strncmp(sgc_err_origin(), "rank 0 on ", 10) == 0 || world.rank == 0);
    sgc_err_clear();
}
END_TEST

START_TEST(a_failure_of_another_rank_is_agreed)
{
    make_path();
    job j = {.path = path, .fail_on_last = true};
    sgc_status st = sgc_main_process_first(&world, true, "making a file", 0.0, make_or_find, &j);
    mpi_assert(st == (world.size == 1 ? SGC_OK : SGC_EDATA));
    if (world.rank == 0) unlink(path);
    sgc_err_clear();
}
END_TEST

START_TEST(the_first_waiting_rank_says_what_it_waits_for)
{
    make_path();
    FILE *caught = tmpfile();
    int stderr_copy = dup(STDERR_FILENO);
    mpi_assert(caught != NULL && stderr_copy >= 0);
    dup2(fileno(caught), STDERR_FILENO);
    job j = {.path = path, .pause_ms = 700};
    sgc_status st = sgc_main_process_first(&world, false, "making a file", 0.2, make_or_find, &j);
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    char text[4096];
    rewind(caught);
    text[fread(text, 1, sizeof(text) - 1, caught)] = '\0';
    fclose(caught);
    mpi_assert(st == SGC_OK);
    char want[400];
    snprintf(want, sizeof(want), "INFO     [rank 1 %s] waiting for the main process: making a file (", sgc_node_name());
    mpi_assert((strstr(text, want) != NULL) == (world.rank == 1));
    if (world.rank == 0) unlink(path);
}
END_TEST

MPI_UNIT_MAIN("main_first", the_others_find_what_the_main_process_made, waiting_ranks_burn_no_core, when_the_main_process_fails_nobody_else_tries,
              a_failure_of_another_rank_is_agreed, the_first_waiting_rank_says_what_it_waits_for)

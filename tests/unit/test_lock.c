/* The lock of a run: OUTPUT_DIR/run.lock. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "unit.h"

typedef struct fixture { char directory[64]; } fixture;

static void set_up(fixture *f)
{
    *f = (fixture){.directory = "/tmp/stagecoach-lock.XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(f->directory));
    sgc_log_set_level(SGC_LOG_ERROR);
}

static void tear_down(fixture *f) { ck_assert_int_eq(sgc_remove_tree(f->directory), SGC_OK); }

static void shell(const fixture *f, const char *command)
{
    char line[640];
    snprintf(line, sizeof(line), "cd %s && %s", f->directory, command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

START_TEST(a_second_job_is_refused_by_name_until_the_first_ends)
{
    fixture f;
    char pid[32], byte;
    int ready[2], end[2];
    set_up(&f);
    ck_assert(pipe(ready) == 0 && pipe(end) == 0);
    pid_t holder = fork();
    if (holder == 0) {
        setenv("SLURM_JOB_ID", "4711", 1);
        close(end[1]);
        bool held = sgc_lock_take(f.directory) == SGC_OK;
        if (write(ready[1], held ? "1" : "0", 1) != 1 || read(end[0], &byte, 1) < 0) _exit(2);
        sgc_lock_release();
        _exit(0);
    }
    close(end[0]);
    ck_assert(read(ready[0], &byte, 1) == 1 && byte == '1');
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_ECONFIG);
    snprintf(pid, sizeof(pid), "pid %d", (int)holder);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), pid));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "job id 4711"));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), sgc_node_name()));
    sgc_err_clear();
    close(end[1]);
    ck_assert(waitpid(holder, NULL, 0) == holder);
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_OK);
    sgc_lock_release();
    shell(&f, "test ! -e run.lock");
    tear_down(&f);
}
END_TEST

START_TEST(the_lock_of_a_killed_job_is_taken_over)
{
    fixture f;
    set_up(&f);
    pid_t holder = fork();
    if (holder == 0) {
        bool held = sgc_lock_take(f.directory) == SGC_OK;
        raise(held ? SIGKILL : SIGSTOP);
    }
    ck_assert(waitpid(holder, NULL, 0) == holder);
    shell(&f, "test -e run.lock");
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_OK);
    sgc_lock_release();
    shell(&f, "test -z \"$(ls -A)\"");
    tear_down(&f);
}
END_TEST

/* A lock as another process left it. */
static sgc_status take_from(const fixture *f, const char *job, int restart, const char *host, int pid, int start)
{
    char command[256];
    sgc_err_clear();
    snprintf(command, sizeof(command), "printf 'job %s\\nrestart %d\\nhost %s\\npid %d\\nstart %d\\n' >run.lock", job, restart, host,
             pid, start);
    shell(f, command);
    sgc_status st = sgc_lock_take(f->directory);
    sgc_lock_release();
    return st;
}

START_TEST(a_lock_is_stale_only_when_its_holder_is_surely_dead)
{
    fixture f;
    set_up(&f);
    setenv("SLURM_JOB_ID", "12", 1);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    const char *here = sgc_node_name();
    ck_assert_int_eq(take_from(&f, "-", 0, here, (int)getppid(), 0), SGC_ECONFIG);   /* alive, start time unknown */
    ck_assert_int_eq(take_from(&f, "-", 0, here, (int)getppid(), 1), SGC_OK);        /* the number belongs to another process now */
    ck_assert_int_eq(take_from(&f, "11", 0, "elsewhere", 1, 1), SGC_ECONFIG);        /* cannot be asked */
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "elsewhere"));
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "remove that file"));
    ck_assert_int_eq(take_from(&f, "12", 0, "elsewhere", 1, 1), SGC_OK);             /* this job, before it was requeued */
    ck_assert_int_eq(take_from(&f, "12", 1, "elsewhere", 1, 1), SGC_ECONFIG);        /* another step of this job */
    sgc_err_clear();
    shell(&f, ": >run.lock");
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "does not say whose it is"));
    sgc_err_clear();
    tear_down(&f);
}
END_TEST

START_TEST(on_a_full_disk_a_link_is_the_lock)
{
    fixture f;
    char command[256];
    set_up(&f);
    snprintf(command, sizeof(command), "ln -s '11 0 %s %d 0' run.lock", sgc_node_name(), (int)getppid());
    shell(&f, command);
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_ECONFIG);
    ck_assert_ptr_nonnull(strstr(sgc_err_message(), "job id 11"));
    sgc_err_clear();
    shell(&f, "test -L run.lock && rm run.lock");
    snprintf(command, sizeof(command), "ln -s '11 0 %s %d 1' run.lock", sgc_node_name(), (int)getppid());
    shell(&f, command);
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_OK); /* that process is gone */
    shell(&f, "test -f run.lock -a ! -L run.lock");
    sgc_lock_release();
    shell(&f, "test -z \"$(ls -A)\"");
    tear_down(&f);
}
END_TEST

START_TEST(stale_locks_that_a_killed_start_moved_away_are_removed)
{
    fixture f;
    char command[512];
    set_up(&f);
    snprintf(command, sizeof(command), "for i in 0 1; do printf 'job -\\nrestart 0\\nhost %s\\npid %d\\nstart '$i'\\n' >run.lock.stale-000000000000000$i; done; "
             ": >run.lock.stale-0000000000000002; : >run.lock.stale-mine", sgc_node_name(), (int)getppid());
    shell(&f, command);
    ck_assert_int_eq(sgc_lock_take(f.directory), SGC_OK);
    sgc_lock_release();
    shell(&f, "test \"$(echo *)\" = 'run.lock.stale-0000000000000000 run.lock.stale-mine'"); /* whose job is alive, and somebody's */
    tear_down(&f);
}
END_TEST

UNIT_MAIN("lock", a_second_job_is_refused_by_name_until_the_first_ends, the_lock_of_a_killed_job_is_taken_over,
          a_lock_is_stale_only_when_its_holder_is_surely_dead, on_a_full_disk_a_link_is_the_lock, stale_locks_that_a_killed_start_moved_away_are_removed)

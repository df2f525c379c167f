/*
 * run.lock: one job at a time in an output directory. It names its holder, so that a lock left by a job that was killed is told
 * from one that is held: by process id and start time on the same host, by the restart count of a job that Slurm requeued.
 * Who makes room on a full disk holds a link in its place, whose target names him: a short one needs no room but its entry.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"

typedef struct holder {
    char job[64], host[128];
    int64_t restart;      /* SLURM_RESTART_COUNT */
    int64_t pid, start;   /* start: ticks since boot, 0 if not known */
} holder;

typedef struct lock {
    char path[SGC_PATH_MAX];
    pid_t pid;            /* that took it */
} lock;

static const char lock_name[] = "run.lock", moved_prefix[] = "run.lock.stale-";

enum { N_HELD_MAX = 2 }; /* of an output_dir, and of a directory on this node */
static lock held[N_HELD_MAX];
static int n_held;

/* Field 22 of /proc/PID/stat; the second may hold blanks and parentheses. -1: dead, but not yet waited for. */
static int64_t start_time(int64_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof(path), "/proc/%" PRId64 "/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    size_t n = fread(line, 1, sizeof(line) - 1, f);
    fclose(f);
    line[n] = '\0';
    char *p = strrchr(line, ')');
    if (p && (p[2] == 'Z' || p[2] == 'X')) return -1;
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    return p ? strtoll(p, NULL, 10) : 0;
}

static holder myself(void)
{
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    holder h = {.pid = getpid(), .start = start_time(getpid()), .restart = restart ? strtoll(restart, NULL, 10) : 0};
    snprintf(h.job, sizeof(h.job), "%s", job && *job ? job : "-");
    snprintf(h.host, sizeof(h.host), "%s", sgc_node_name());
    return h;
}

static void put_text(const holder *h, sgc_str *text)
{
    sgc_str_printf(text, "job %s\nrestart %" PRId64 "\nhost %s\npid %" PRId64 "\nstart %" PRId64 "\n", h->job, h->restart, h->host, h->pid,
                   h->start);
}

static void put_link_text(const holder *h, sgc_str *text)
{
    sgc_str_printf(text, "%s %" PRId64 " %s %" PRId64 " %" PRId64, h->job, h->restart, h->host, h->pid, h->start);
}

/* Of a file or of a link. */
static bool parse_text(const char *text, holder *h)
{
    return sscanf(text, "job %63s restart %" SCNd64 " host %127s pid %" SCNd64 " start %" SCNd64, h->job, &h->restart, h->host, &h->pid, &h->start) == 5 ||
           sscanf(text, "%63s %" SCNd64 " %127s %" SCNd64 " %" SCNd64, h->job, &h->restart, h->host, &h->pid, &h->start) == 5;
}

static sgc_status read_text(const char *path, char **text)
{
    char target[SGC_PATH_MAX];
    size_t n_bytes;
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0) return sgc_read_file(path, text, &n_bytes);
    target[n] = '\0';
    return (*text = strdup(target)) ? SGC_OK : sgc_err(SGC_ENOMEM, "no memory to read %s", path);
}

static bool is_stale(const holder *h, const holder *me)
{
    if (strcmp(h->job, "-") != 0 && strcmp(h->job, me->job) == 0 && me->restart > h->restart) return true;
    if (strcmp(h->host, me->host) != 0) return false;
    if (kill((pid_t)h->pid, 0) != 0 && errno == ESRCH) return true;
    int64_t start = start_time(h->pid);
    return start < 0 || (start && h->start && start != h->start); /* the number was given to another process */
}

static bool is_full(void) { return errno == ENOSPC || errno == EDQUOT; }

/* The text of a new lock, on the disk. *no_room: it failed for lack of that. */
static sgc_status put_on_disk(int fd, const holder *me, const char *path, bool *no_room)
{
    sgc_str text = {0};
    put_text(me, &text);
    errno = 0;
    sgc_status st = sgc_pwrite_all(fd, text.text, text.n, 0, path);
    *no_room = st != SGC_OK && is_full();
    if (st == SGC_OK && fsync(fd) != 0) {
        *no_room = is_full();
        st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    }
    sgc_str_free(&text);
    return st;
}

/* *taken is false if there is a lock by now. */
static sgc_status create_link(const char *path, const holder *me, bool *taken)
{
    sgc_str text = {0};
    put_link_text(me, &text);
    *taken = symlink(text.text, path) == 0;
    sgc_status st = *taken || errno == EEXIST ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot create %s", path);
    sgc_str_free(&text);
    return st;
}

/* Create the lock. *taken is false if there is one. may_be_link: where the text of a file finds no room. */
static sgc_status create(const char *path, const holder *me, bool may_be_link, bool *taken)
{
    bool no_room;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *taken = fd >= 0;
    if (fd < 0) return errno == EEXIST ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot create %s", path);
    sgc_status st = put_on_disk(fd, me, path, &no_room);
    if (close(fd) != 0 && st == SGC_OK) {
        no_room = is_full();
        st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    }
    if (st == SGC_OK) return SGC_OK;
    unlink(path);
    if (!no_room || !may_be_link) return st;
    sgc_err_clear();
    return create_link(path, me, taken);
}

/* Remove the stale lock, and not one that another job put in its place meanwhile: move it away and look at what was moved. */
static sgc_status remove_stale(const char *path, const char *stale_text)
{
    sgc_status st = SGC_OK;
    char id[SGC_ID_CHARS + 1], moved[SGC_PATH_MAX], *text = NULL;
    sgc_ckpt_new_id(id);
    if (snprintf(moved, sizeof(moved), "%s.stale-%s", path, id) >= (int)sizeof(moved))
        return sgc_err(SGC_EIO, "the path %.60s... is too long", path);
    if (rename(path, moved) != 0) return errno == ENOENT ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot remove the stale lock %s", path);
    SGC_TRY(read_text(moved, &text));
    if (strcmp(text, stale_text) != 0 && link(moved, path) != 0)
        sgc_log_warning("%s, taken by another job this moment, could not be put back: %s", path, strerror(errno));
done:
    unlink(moved);
    free(text);
    return st;
}

/* What a start that was killed had moved away. Another may just now find that what it moved is the lock of this one, and put it back. */
static void sweep_moved(const char *output_dir, const holder *me)
{
    DIR *directory = opendir(output_dir);
    for (struct dirent *e; directory && (e = readdir(directory));) {
        char path[SGC_PATH_MAX], *text = NULL;
        holder h;
        size_t n = strlen(moved_prefix);
        if (strncmp(e->d_name, moved_prefix, n) != 0 || !sgc_ckpt_is_id(e->d_name + n) || sgc_path_join(path, output_dir, e->d_name) != SGC_OK) continue;
        if (read_text(path, &text) == SGC_OK && (!parse_text(text, &h) || is_stale(&h, me)) && unlink(path) == 0)
            sgc_log_info("%s removed: a stale lock, left of a start that did not finish", path);
        free(text);
    }
    if (directory) closedir(directory);
    sgc_err_clear();
}

static void release(const lock *l)
{
    holder h;
    char *text = NULL;
    if (!sgc_path_exists(l->path)) return;
    if (read_text(l->path, &text) == SGC_OK && parse_text(text, &h) && h.pid == getpid()) unlink(l->path);
    free(text);
}

void sgc_lock_release(void)
{
    if (n_held && held[0].pid != getpid()) return; /* a forked child ends too */
    while (n_held > 0) release(&held[--n_held]);
}

static sgc_status take(const char *output_dir, bool may_be_link)
{
    sgc_status st = SGC_OK;
    static bool is_registered;
    const holder me = myself();
    lock l = {.pid = (pid_t)me.pid};
    char *const path = l.path, *text = NULL;
    bool taken = false;
    SGC_TRY(sgc_path_join(l.path, output_dir, lock_name));
    SGC_TRY(sgc_make_dirs(output_dir));
    for (int attempt = 0; attempt < 3 && !taken; attempt++) {
        holder h;
        SGC_TRY(create(path, &me, may_be_link, &taken));
        if (taken) break;
        free(text);
        text = NULL;
        if (read_text(path, &text) != SGC_OK) {
            if (!sgc_path_exists(path)) { /* released this moment */
                sgc_err_clear();
                continue;
            }
            st = SGC_EIO;
            goto done;
        }
        if (!parse_text(text, &h)) {
            st = sgc_err(SGC_ECONFIG, "%s does not say whose it is; if no job runs in %s, remove it", path, output_dir);
            goto done;
        }
        if (!is_stale(&h, &me)) {
            st = sgc_err(SGC_ECONFIG, "another job runs in %s: job id %s, host %s, pid %" PRId64 " (%s); choose another output_dir, or "
                         "remove that file if the job is dead", output_dir, h.job, h.host, h.pid, path);
            goto done;
        }
        sgc_log_warning("%s is stale: its job (id %s, host %s, pid %" PRId64 ") is dead; taken over", path, h.job, h.host, h.pid);
        SGC_TRY(remove_stale(path, text));
    }
    if (!taken) {
        st = sgc_err(SGC_ECONFIG, "other jobs are starting in %s: %s changes hands", output_dir, path);
        goto done;
    }
    assert(n_held < N_HELD_MAX);
    held[n_held++] = l;
    sweep_moved(output_dir, &me);
    if (!is_registered) atexit(sgc_lock_release);
    is_registered = true;
done:
    free(text);
    return st;
}

sgc_status sgc_lock_take(const char *output_dir) { return take(output_dir, false); }

sgc_status sgc_lock_take_to_delete(const char *output_dir) { return take(output_dir, true); }

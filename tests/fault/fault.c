/*
 * Preloaded into the program by tests: makes the k-th call of a save that touches the disk fail, and counts those calls.
 *
 *   FAULT_ROOT   only calls on paths below this one count, and only once a path says checkpoint-
 *   FAULT_RANKS  "all", or the rank that is to fail
 *   FAULT_AT     number of the call, from 1; 0: none fails
 *   FAULT_CALL   only calls of this name count: unlink, rmdir, ...; empty: all
 *   FAULT_KIND   EIO, ENOSPC, EDQUOT, SHORT (half is written, the rest fails with ENOSPC), KILL (SIGKILL), SLEEP (every call from there on
 *                takes FAULT_MS milliseconds more)
 *   FAULT_THEN   after that, the first call of this name, on whatever path, ends in SIGKILL
 *   FAULT_MEMINFO  is read in the place of /proc/meminfo
 *   FAULT_COUNT  file to which the number of calls is written, with .RANK appended; and what each call was
 */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int n_calls, has_failed;

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static int is_chosen(void)
{
    const char *ranks = setting("FAULT_RANKS");
    return strcmp(ranks, "all") == 0 || strcmp(ranks, setting("OMPI_COMM_WORLD_RANK")) == 0;
}

static void record(const char *call, const char *path)
{
    char name[4096], line[8192];
    if (!*setting("FAULT_COUNT")) return;
    snprintf(name, sizeof(name), "%s.%s", setting("FAULT_COUNT"), setting("OMPI_COMM_WORLD_RANK"));
    int n = snprintf(line, sizeof(line), "%d %s %s\n", n_calls, call, path);
    int (*real_open)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    ssize_t (*real_write)(int, const void *, size_t) = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    int (*real_close)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
    int fd = real_open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return;
    if (real_write(fd, line, (size_t)n) < 0) abort();
    real_close(fd);
}

/* 0: go on. Else errno, or -1 for a short write. */
static int fault(const char *call, const char *path)
{
    const char *root = setting("FAULT_ROOT"), *kind = setting("FAULT_KIND");
    int saved = errno, outcome = 0;
    if (has_failed && strcmp(call, setting("FAULT_THEN")) == 0) kill(getpid(), SIGKILL);
    if (!*root || strncmp(path, root, strlen(root)) != 0 || (*setting("FAULT_CALL") && strcmp(call, setting("FAULT_CALL")) != 0)) return 0;
    pthread_mutex_lock(&lock);
    if (n_calls > 0 || strstr(path, "checkpoint-")) {
        n_calls++;
        record(call, path);
        int at = atoi(setting("FAULT_AT"));
        if (is_chosen() && at > 0 && strcmp(kind, "SLEEP") == 0 && n_calls >= at) {
            long ms = atol(setting("FAULT_MS"));
            nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
        } else if (is_chosen() && n_calls == at) {
            if (strcmp(kind, "KILL") == 0) kill(getpid(), SIGKILL);
            has_failed = 1;
            outcome = strcmp(kind, "EIO") == 0 ? EIO : strcmp(kind, "EDQUOT") == 0 ? EDQUOT : strcmp(kind, "SHORT") == 0 ? -1 : ENOSPC;
        }
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return outcome;
}

static int fault_fd(const char *call, int fd)
{
    char link[64], path[4096];
    int saved = errno;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    errno = saved;
    if (n <= 0) return 0;
    path[n] = '\0';
    return fault(call, path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define FAIL_IF(outcome)                            \
    do {                                            \
        int error_ = (outcome);                     \
        if (error_) {                               \
            errno = error_ < 0 ? ENOSPC : error_;   \
            return -1;                              \
        }                                           \
    } while (0)

static int opens(const char *name, const char *path, int flags, mode_t mode, int (*real)(const char *, int, ...))
{
    if (flags & (O_CREAT | O_WRONLY | O_RDWR)) FAIL_IF(fault(name, path));
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return opens("open", path, flags, mode, real);
}

int open64(const char *path, int flags, ...)
{
    REAL(int, "open64", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return opens("open", path, flags, mode, real);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    if (!real) real = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
    if (*setting("FAULT_MEMINFO") && strcmp(path, "/proc/meminfo") == 0) path = setting("FAULT_MEMINFO");
    return real(path, mode);
}

static ssize_t writes(int fd, const void *data, size_t n, off_t offset, ssize_t (*real)(int, const void *, size_t, off_t))
{
    int outcome = fault_fd("pwrite", fd);
    if (outcome == -1 && n > 1) return real(fd, data, n / 2, offset); /* the disk is full there: the next call says so */
    FAIL_IF(outcome);
    return real(fd, data, n, offset);
}

/* After a short write the next write to any file fails. */
static ssize_t short_or(int fd, const void *data, size_t n, off_t offset, ssize_t (*real)(int, const void *, size_t, off_t))
{
    static __thread int was_short;
    if (was_short) {
        was_short = 0;
        errno = ENOSPC;
        return -1;
    }
    ssize_t done = writes(fd, data, n, offset, real);
    was_short = done >= 0 && (size_t)done < n && strcmp(setting("FAULT_KIND"), "SHORT") == 0;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return short_or(fd, data, n, offset, real);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off_t offset)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    return short_or(fd, data, n, offset, real);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    FAIL_IF(fault_fd("fsync", fd));
    return real(fd);
}

/* As Linux: the descriptor is closed even then. */
int close(int fd)
{
    REAL(int, "close", int);
    int flags = fcntl(fd, F_GETFL);
    int error = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY ? fault_fd("close", fd) : 0;
    int rc = real(fd);
    FAIL_IF(error);
    return rc;
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    REAL(int, "fallocate", int, int, off_t, off_t);
    FAIL_IF(fault_fd("fallocate", fd));
    return real(fd, mode, offset, n);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    FAIL_IF(fault("mkdir", path));
    return real(path, mode);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    FAIL_IF(fault("rename", from));
    return real(from, to);
}

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    FAIL_IF(fault("unlink", path));
    return real(path);
}

int rmdir(const char *path)
{
    REAL(int, "rmdir", const char *);
    FAIL_IF(fault("rmdir", path));
    return real(path);
}

int symlink(const char *target, const char *path)
{
    REAL(int, "symlink", const char *, const char *);
    FAIL_IF(fault("symlink", path));
    return real(target, path);
}

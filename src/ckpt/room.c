/* Is there room for a checkpoint? Asked, and taken where that is possible, before its first byte is written. */
#define _GNU_SOURCE 1 /* fallocate */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ckpt/shard_impl.h"

sgc_status sgc_room_check(const char *path, int64_t n_bytes)
{
    struct statvfs s;
    char needed[32], available[32];
    if (statvfs(path, &s) != 0) return sgc_err_errno(SGC_EIO, "cannot ask for the free room of %s", path);
    double room = (double)s.f_bavail * (double)s.f_frsize;
    if (s.f_blocks == 0 || room >= (double)n_bytes) return SGC_OK; /* some file systems do not tell */
    return sgc_err(SGC_EIO, "a checkpoint needs %s, but only %s are free in %s; nothing was written", sgc_format_bytes((double)n_bytes, needed),
                   sgc_format_bytes(room, available), path);
}

/* The failure of a call on a new file, with what was needed and what is free. */
static sgc_status say_room(const char *path, int fd, int64_t n_bytes)
{
    struct statvfs s;
    int error = errno;
    char needed[32], available[32] = "an unknown amount";
    if (fstatvfs(fd, &s) == 0) sgc_format_bytes((double)s.f_bavail * (double)s.f_frsize, available);
    errno = error;
    return sgc_err_errno(SGC_EIO, "cannot write %s (%s needed, %s free)", path, sgc_format_bytes((double)n_bytes, needed), available);
}

sgc_status sgc_room_make(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot create %s", path);
    return close(fd) == 0 ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot close %s", path);
}

sgc_status sgc_room_take(const char *path, int64_t n_bytes)
{
    sgc_status st = SGC_OK;
    if (n_bytes == 0) return SGC_OK; /* an error for fallocate */
    int rc, fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot open %s", path);
    /* Not posix_fallocate: where the file system cannot, glibc writes to every block instead. */
    do rc = fallocate(fd, 0, 0, (off_t)n_bytes);
    while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno != EOPNOTSUPP && errno != ENOSYS) st = say_room(path, fd, n_bytes);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    return st;
}

sgc_status sgc_room_reserve(const char *path, int64_t n_bytes)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_room_make(path));
    SGC_TRY(sgc_room_take(path, n_bytes));
done:
    return st;
}

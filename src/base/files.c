/* The part of util.h that deals with paths and files. */
#define _GNU_SOURCE 1 /* nftw */
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sgc_status sgc_path_join(char out[SGC_PATH_MAX], const char *dir, const char *name)
{
    size_t n = strlen(dir);
    int length = snprintf(out, SGC_PATH_MAX, "%s%s%s", dir, n > 0 && dir[n - 1] != '/' ? "/" : "", name);
    if (length < 0 || length >= SGC_PATH_MAX) return sgc_err(SGC_EARG, "the path %.60s... is longer than %d bytes", dir, SGC_PATH_MAX - 1);
    return SGC_OK;
}

sgc_status sgc_fsync_path(const char *path)
{
    sgc_status st = SGC_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot open %s to sync it", path);
    if (fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s to the disk", path);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    return st;
}

static void parent_of(const char *path, char parent[SGC_PATH_MAX])
{
    snprintf(parent, SGC_PATH_MAX, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) strcpy(parent, ".");
    else if (slash == parent) parent[1] = '\0';
    else *slash = '\0';
}

sgc_status sgc_make_dirs(const char *path)
{
    char part[SGC_PATH_MAX], parent[SGC_PATH_MAX];
    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part)) return sgc_err(SGC_EIO, "the path %.60s... is too long", path);
    for (char *p = part;; p++) {
        if (p == part || (*p != '/' && *p != '\0')) {
            if (*p == '\0') return SGC_OK; /* an empty path */
            continue;
        }
        char c = *p;
        *p = '\0';
        if (mkdir(part, 0777) == 0) {
            parent_of(part, parent);
            /* or what is synced below it is lost with it; what may not be read cannot be synced */
            sgc_status st = access(parent, R_OK) == 0 ? sgc_fsync_path(parent) : SGC_OK;
            if (st != SGC_OK) return st;
        } else {
            int error = errno; /* another rank may have made it meanwhile; a parent that is there may forbid mkdir */
            struct stat s;
            if (stat(part, &s) != 0) {
                errno = error;
                return sgc_err_errno(SGC_EIO, "cannot make the directory %s", part);
            }
            if (!S_ISDIR(s.st_mode)) return sgc_err(SGC_EIO, "cannot make the directory %s: a file of that name is in the way", part);
        }
        *p = c;
        if (c == '\0') return SGC_OK;
    }
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *walk)
{
    (void)s, (void)walk;
    if (kind == FTW_DP ? rmdir(path) == 0 : unlink(path) == 0) return 0;
    if (errno == ENOENT) return 0;
    sgc_err_errno(SGC_EIO, "cannot remove %s", path);
    return 1;
}

sgc_status sgc_remove_tree(const char *path)
{
    struct stat s;
    if (lstat(path, &s) != 0) return errno == ENOENT ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot remove %s", path);
    int rc = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (rc < 0 && errno != ENOENT) return sgc_err_errno(SGC_EIO, "cannot remove %s", path);
    return rc > 0 ? SGC_EIO : SGC_OK;
}

bool sgc_path_exists(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

/* only_file: no pipe, whose reader would wait for a writer, and no device. */
static sgc_status read_whole(const char *path, bool only_file, char **text, size_t *bytes)
{
    sgc_status st = SGC_OK;
    char *data = NULL;
    size_t n = 0, capacity = 0;
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | (only_file ? O_NONBLOCK : 0));
    if (fd < 0) return sgc_err_errno(SGC_EDATA, "cannot read %s", path);
    bool is_file = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    if (only_file && !is_file) {
        st = sgc_err(SGC_EDATA, "cannot read %s: it is no file", path);
        goto done;
    }
    if (is_file) capacity = (size_t)s.st_size;
    capacity += 4096; /* a file of unknown size, and one byte to see the end of a known one */
    for (;;) {
        if (data == NULL || n + 1 >= capacity) {
            if (data != NULL) capacity *= 2;
            char *more = realloc(data, capacity);
            if (more == NULL) {
                st = sgc_err(SGC_ENOMEM, "no memory to read %s (%zu bytes)", path, capacity);
                goto done;
            }
            data = more;
        }
        ssize_t got = read(fd, data + n, capacity - 1 - n);
        if (got == 0) break;
        if (got > 0) n += (size_t)got;
        else if (errno != EINTR) {
            st = sgc_err_errno(SGC_EDATA, "cannot read %s", path);
            goto done;
        }
    }
    data[n] = '\0';
done:
    close(fd);
    if (st != SGC_OK) {
        free(data);
        return st;
    }
    *text = data;
    *bytes = n;
    return SGC_OK;
}

sgc_status sgc_read_file(const char *path, char **text, size_t *bytes) { return read_whole(path, false, text, bytes); }

sgc_status sgc_read_plain_file(const char *path, char **text, size_t *bytes) { return read_whole(path, true, text, bytes); }

sgc_status sgc_write_file_atomic(const char *path, const char *text, size_t bytes)
{
    sgc_status st = SGC_OK;
    char temporary[SGC_PATH_MAX], parent[SGC_PATH_MAX];
    if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int)sizeof(temporary)) return sgc_err(SGC_EIO, "the path %.60s... is too long", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot create %s", temporary);
    st = sgc_pwrite_all(fd, text, bytes, 0, temporary);
    if (st == SGC_OK && fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s to the disk", temporary);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", temporary);
    if (st == SGC_OK && rename(temporary, path) != 0) st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", temporary, path);
    if (st != SGC_OK) {
        unlink(temporary);
        return st;
    }
    parent_of(path, parent);
    return sgc_fsync_path(parent);
}

sgc_status sgc_pwrite_all(int fd, const void *data, size_t bytes, int64_t offset, const char *path)
{
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = pwrite(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return sgc_err_errno(SGC_EIO, "cannot write %zu bytes to %s", bytes, path);
        p += n, bytes -= (size_t)n, offset += n;
    }
    return SGC_OK;
}

sgc_status sgc_pread_all(int fd, void *data, size_t bytes, int64_t offset, const char *path)
{
    char *p = data;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return sgc_err_errno(SGC_EIO, "cannot read %zu bytes from %s", bytes, path);
        if (n == 0) return sgc_err(SGC_EIO, "%s is too short: it ends %zu bytes early", path, bytes);
        p += n, bytes -= (size_t)n, offset += n;
    }
    return SGC_OK;
}

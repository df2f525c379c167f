/* Small things that every layer needs: time, files, strings, hashes. */
#ifndef SGC_BASE_UTIL_H
#define SGC_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

#define SGC_PATH_MAX 4096

double sgc_time_s(void);                     /* monotonic seconds                                   */
double sgc_time_since_start_s(void);         /* seconds since the process was started (from /proc, else since first call) */
void sgc_time_iso(char out[32]);             /* now, UTC, "2026-01-31T12:00:00Z"                     */

uint64_t sgc_hash64(const void *data, size_t bytes); /* XXH3, 64 bits                                */
/* The same of bytes that come piece by piece. NULL: SGC_ENOMEM is recorded. */
typedef struct sgc_hasher sgc_hasher;
sgc_hasher *sgc_hasher_new(void);
void sgc_hasher_add(sgc_hasher *h, const void *data, size_t bytes);
uint64_t sgc_hasher_value(const sgc_hasher *h);
void sgc_hasher_free(sgc_hasher *h);         /* NULL is allowed                                     */

/* "a/b"; SGC_EARG if it does not fit. */
sgc_status sgc_path_join(char out[SGC_PATH_MAX], const char *dir, const char *name);
sgc_status sgc_make_dirs(const char *path);              /* mkdir -p, synced; SGC_EIO                */
sgc_status sgc_remove_tree(const char *path);            /* rm -r; no error if it is not there       */
sgc_status sgc_fsync_path(const char *path);             /* file or directory                        */
bool sgc_path_exists(const char *path);
sgc_status sgc_read_file(const char *path, char **text, size_t *bytes); /* owned by the caller (free), NUL added; SGC_EDATA */
sgc_status sgc_read_plain_file(const char *path, char **text, size_t *bytes); /* the same; a pipe or device is SGC_EDATA and not waited for */
/* Write text to PATH.tmp, fsync, rename to PATH, fsync the directory; SGC_EIO. */
sgc_status sgc_write_file_atomic(const char *path, const char *text, size_t bytes);
sgc_status sgc_pwrite_all(int fd, const void *data, size_t bytes, int64_t offset, const char *path); /* SGC_EIO, names path */
sgc_status sgc_pread_all(int fd, void *data, size_t bytes, int64_t offset, const char *path);        /* SGC_EIO; short file is an error */

const char *sgc_node_name(void);             /* host name up to the first dot                        */

/* Growing string. Zero-initialise; text is owned, NUL-terminated, freed by sgc_str_free. Out of memory aborts. */
typedef struct sgc_str { char *text; size_t n, capacity; } sgc_str;
void sgc_str_printf(sgc_str *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sgc_str_append(sgc_str *s, const void *data, size_t bytes); /* may hold NULs */
void sgc_str_free(sgc_str *s);

/* Edit distance with transpositions; what "did you mean" uses. */
int sgc_edit_distance(const char *a, const char *b);

/* 1536 -> "1.5 KiB" */
const char *sgc_format_bytes(double bytes, char out[32]);

#endif

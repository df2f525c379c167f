/*
 * HDF5 files written through our own file driver. HDF5 1.10 crashes at exit after a write fails inside H5Fclose, so it never
 * sees an error: the driver keeps the first one and sgc_h5_close returns it. HDF5's file locking is off.
 */
#ifndef SGC_BASE_H5_H
#define SGC_BASE_H5_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sgc_h5 sgc_h5;

/* Create or truncate PATH. SGC_EIO names the path. HDF5's own error printing is switched off. */
sgc_status sgc_h5_create(sgc_h5 **f, const char *path);
hid_t sgc_h5_id(const sgc_h5 *f);
/* Close, fsync. The first error of any write, of the close or the sync; *f becomes NULL. NULL is allowed. */
sgc_status sgc_h5_close(sgc_h5 **f);

/* What HDF5 makes of a file, without the bytes of datasets: in order of offset, not touching each other; what lies between is zero, or data. */
typedef struct sgc_h5_piece { int64_t offset, n_bytes; unsigned char *bytes; } sgc_h5_piece;
typedef struct sgc_h5_sketch {
    int64_t n_bytes;          /* of the whole file */
    int n_pieces;
    sgc_h5_piece *pieces;     /* owned */
} sgc_h5_sketch;
/* A file that HDF5 makes in memory and the caller writes: datasets of sgc_h5_write with data NULL have their place in it and no bytes. */
sgc_status sgc_h5_create_sketch(sgc_h5 **f, const char *name);
sgc_status sgc_h5_close_sketch(sgc_h5 **f, sgc_h5_sketch *sketch); /* *f becomes NULL; sgc_h5_close gives a sketch up */
void sgc_h5_sketch_free(sgc_h5_sketch *sketch);

/* Open a whole HDF5 file that lies in memory (checked before by the caller); bytes may be freed after the close. */
sgc_status sgc_h5_open_image(hid_t *file, void *bytes, size_t n_bytes);
/* Open an existing file read-only, without locking. SGC_EDATA. */
sgc_status sgc_h5_open(hid_t *file, const char *path);

/* Contiguous dataset with storage allocated at once; `path` may have groups, made as needed. data may be NULL (written later). */
sgc_status sgc_h5_write(hid_t file, const char *path, hid_t type, int n_dim, const hsize_t *shape, const void *data);
/* Byte offset of a contiguous dataset in its file. */
sgc_status sgc_h5_offset(hid_t file, const char *path, int64_t *offset, int64_t *n_bytes);

sgc_status sgc_h5_attr_int(hid_t object, const char *name, int64_t value);
sgc_status sgc_h5_attr_double(hid_t object, const char *name, double value);
sgc_status sgc_h5_attr_text(hid_t object, const char *name, const char *value);
/* SGC_EDATA if absent or of another type. */
sgc_status sgc_h5_get_int(hid_t object, const char *name, int64_t *value);
sgc_status sgc_h5_get_double(hid_t object, const char *name, double *value);
sgc_status sgc_h5_get_text(hid_t object, const char *name, char *value, size_t bytes);

#endif

/* The file driver below h5.c. */
#ifndef SGC_BASE_H5_IMPL_H
#define SGC_BASE_H5_IMPL_H

#include <stdbool.h>

#include "base/h5.h"

/* Bytes of metadata that could not be written, or of a sketch. HDF5 may ask for them again and crashes if it gets anything else. */
typedef struct sgc_h5_unwritten {
    struct sgc_h5_unwritten *next;
    haddr_t first;
    size_t n_bytes;
    unsigned char bytes[];
} sgc_h5_unwritten;

struct sgc_h5 {
    hid_t id;
    bool is_sketch;             /* never on disk: everything written is kept in memory */
    int fd;                     /* owned here, not by the driver: it outlives H5Fclose, to be synced; -1: a sketch */
    haddr_t end_of_file;        /* of a sketch, once it is closed */
    char *path;                 /* owned */
    int error;                  /* errno of the first failure, 0: none */
    const char *failed_call;    /* what failed: "write", "truncate" */
    haddr_t failed_offset;
    sgc_h5_unwritten *unwritten, **unwritten_end;
};

/**
 * Point a file access list at the driver.
 * @param owner  [in,out] of a file to be written: takes the errors. NULL: the file is opened read-only by its path.
 */
sgc_status sgc_h5_driver_set(hid_t fapl, sgc_h5 *owner);

#endif

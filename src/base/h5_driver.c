/*
 * A file driver for HDF5 that never tells the library of a failed write. The first failure is kept in the sgc_h5; what follows
 * goes nowhere, except that metadata is kept in memory, so that HDF5 goes on to see a consistent file until it is closed. Of a
 * sketch everything is kept in memory.
 * There are no lock functions, so no file is locked, whatever HDF5's own setting.
 */
#include "base/h5_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

typedef struct driver_info { sgc_h5 *owner; } driver_info;

typedef struct h5_file {
    H5FD_t base;                /* the library's part, must be first */
    sgc_h5 *owner;              /* borrowed; NULL when reading */
    int fd;
    haddr_t end_allocated, end_of_file;
} h5_file;

static hid_t driver_id = H5I_INVALID_HID;

static void keep_error(sgc_h5 *owner, const char *call, haddr_t offset)
{
    if (owner->error) return;
    owner->error = errno ? errno : EIO;
    owner->failed_call = call;
    owner->failed_offset = offset;
}

static void keep_unwritten(sgc_h5 *owner, haddr_t first, size_t n_bytes, const void *bytes)
{
    sgc_h5_unwritten *piece = malloc(sizeof(*piece) + n_bytes);
    if (!piece) {
        keep_error(owner, "keep the metadata of", first);
        return;
    }
    *piece = (sgc_h5_unwritten){.first = first, .n_bytes = n_bytes};
    memcpy(piece->bytes, bytes, n_bytes);
    *owner->unwritten_end = piece;
    owner->unwritten_end = &piece->next;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
    const driver_info *info = H5Pget_driver_info(fapl);
    bool writes = (flags & H5F_ACC_RDWR) != 0;
    if (!info || !maxaddr || writes != (info->owner != NULL)) return NULL;
    h5_file *f = calloc(1, sizeof(*f));
    struct stat status;
    if (!f) return NULL;
    f->owner = info->owner;
    f->fd = writes ? info->owner->fd : open(name, O_RDONLY | O_CLOEXEC);
    if (writes && info->owner->is_sketch) return &f->base;
    if (f->fd < 0 || fstat(f->fd, &status) != 0) {
        if (!writes && f->fd >= 0) close(f->fd);
        free(f);
        return NULL;
    }
    f->end_of_file = (haddr_t)status.st_size;
    return &f->base;
}

static herr_t driver_close(H5FD_t *file)
{
    h5_file *f = (h5_file *)file;
    if (!f->owner) close(f->fd);
    free(f);
    return 0;
}

static herr_t driver_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA |
             H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const h5_file *)file)->end_allocated;
}

static herr_t driver_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t address)
{
    (void)type;
    ((h5_file *)file)->end_allocated = address;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const h5_file *)file)->end_of_file;
}

static herr_t driver_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t n_bytes, void *buffer)
{
    (void)type, (void)dxpl;
    h5_file *f = (h5_file *)file;
    unsigned char *to = buffer;
    size_t done = 0;
    while (done < n_bytes && f->fd >= 0) {
        ssize_t n = pread(f->fd, to + done, n_bytes - done, (off_t)(address + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && !f->owner) return -1;
        if (n <= 0) break;
        done += (size_t)n;
    }
    memset(to + done, 0, n_bytes - done); /* beyond the end, as HDF5's own driver does */
    if (!f->owner) return 0;
    for (const sgc_h5_unwritten *p = f->owner->unwritten; p; p = p->next) {
        haddr_t first = p->first > address ? p->first : address;
        haddr_t end = p->first + p->n_bytes < address + n_bytes ? p->first + p->n_bytes : address + n_bytes;
        if (first < end) memcpy(to + (first - address), p->bytes + (first - p->first), end - first);
    }
    return 0;
}

static herr_t driver_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t n_bytes, const void *buffer)
{
    (void)dxpl;
    h5_file *f = (h5_file *)file;
    const unsigned char *from = buffer;
    size_t done = 0;
    if (!f->owner) return -1;
    bool is_kept = f->owner->is_sketch;
    while (done < n_bytes && !f->owner->error && !is_kept) {
        ssize_t n = pwrite(f->fd, from + done, n_bytes - done, (off_t)(address + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            keep_error(f->owner, "write", address + done);
        else
            done += (size_t)n;
    }
    if (is_kept || (f->owner->error && type != H5FD_MEM_DRAW)) keep_unwritten(f->owner, address, n_bytes, buffer);
    if (address + n_bytes > f->end_of_file) f->end_of_file = address + n_bytes;
    return 0;
}

static herr_t driver_flush(H5FD_t *file, hid_t dxpl, hbool_t closing)
{
    (void)file, (void)dxpl, (void)closing; /* synced once, by sgc_h5_close */
    return 0;
}

static herr_t driver_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing)
{
    (void)dxpl, (void)closing;
    h5_file *f = (h5_file *)file;
    if (f->owner) f->owner->end_of_file = f->end_allocated;
    if (!f->owner || f->end_allocated == f->end_of_file) return 0;
    if (!f->owner->error && !f->owner->is_sketch && ftruncate(f->fd, (off_t)f->end_allocated) != 0) keep_error(f->owner, "truncate", f->end_allocated);
    f->end_of_file = f->end_allocated;
    return 0;
}

static herr_t driver_terminate(void)
{
    driver_id = H5I_INVALID_HID;
    return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = 21319, /* of the range that HDF5 leaves to others */
#endif
    .name = "stagecoach",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .terminate = driver_terminate,
    .fapl_size = sizeof(driver_info),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .read = driver_read,
    .write = driver_write,
    .flush = driver_flush,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

sgc_status sgc_h5_driver_set(hid_t fapl, sgc_h5 *owner)
{
    const driver_info info = {.owner = owner};
    if (driver_id < 0) driver_id = H5FDregister(&driver_class);
    if (driver_id < 0 || H5Pset_driver(fapl, driver_id, &info) < 0) return sgc_err(SGC_ENOMEM, "HDF5 does not take the file driver");
    return SGC_OK;
}

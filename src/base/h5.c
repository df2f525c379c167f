/* Files, datasets and attributes: HDF5 calls in the form that the rest of the program wants them. */
#include "base/h5_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

static void close_id(hid_t id)
{
    if (id >= 0) H5Idec_ref(id);
}

/* Of the file that holds an object. */
static const char *file_name(hid_t object, char name[SGC_PATH_MAX])
{
    if (H5Fget_name(object, name, SGC_PATH_MAX) <= 0) strcpy(name, "?");
    return name;
}

static void free_file(sgc_h5 *f)
{
    while (f->unwritten) {
        sgc_h5_unwritten *next = f->unwritten->next;
        free(f->unwritten);
        f->unwritten = next;
    }
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free(f);
}

/* Of a file: descriptor and path are set. */
static sgc_status create(sgc_h5 *f)
{
    sgc_status st = SGC_OK;
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    SGC_TRY(sgc_h5_driver_set(fapl, f));
    f->id = H5Fcreate(f->path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    if (f->id < 0) st = sgc_err(SGC_EIO, "HDF5 cannot create %s", f->path);
done:
    close_id(fapl);
    return st;
}

static sgc_status new_file(sgc_h5 **out, const char *path)
{
    sgc_h5 *f = *out = calloc(1, sizeof(*f));
    if (!f || !(f->path = strdup(path))) {
        free(f);
        *out = NULL;
        return sgc_err(SGC_ENOMEM, "out of memory while creating %s", path);
    }
    f->id = H5I_INVALID_HID;
    f->fd = -1;
    f->unwritten_end = &f->unwritten;
    return SGC_OK;
}

sgc_status sgc_h5_create(sgc_h5 **out, const char *path)
{
    sgc_status st = SGC_OK;
    SGC_TRY(new_file(out, path));
    (*out)->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    st = (*out)->fd < 0 ? sgc_err_errno(SGC_EIO, "cannot create %s", path) : create(*out);
done:
    if (st != SGC_OK && *out) {
        free_file(*out);
        *out = NULL;
    }
    return st;
}

sgc_status sgc_h5_create_sketch(sgc_h5 **out, const char *name)
{
    sgc_status st = SGC_OK;
    SGC_TRY(new_file(out, name));
    (*out)->is_sketch = true;
    st = create(*out);
done:
    if (st != SGC_OK && *out) {
        free_file(*out);
        *out = NULL;
    }
    return st;
}

static int by_offset(const void *a, const void *b)
{
    int64_t x = ((const sgc_h5_piece *)a)->offset, y = ((const sgc_h5_piece *)b)->offset;
    return (x > y) - (x < y);
}

/* The pieces as they were written, some over others, to pieces that do not touch. */
static sgc_status merge_pieces(const sgc_h5 *f, sgc_h5_sketch *out)
{
    int n = 0, n_merged = 0;
    for (const sgc_h5_unwritten *p = f->unwritten; p; p = p->next) n++;
    out->pieces = calloc((size_t)n + 1, sizeof(*out->pieces));
    if (!out->pieces) return sgc_err(SGC_ENOMEM, "no memory for the metadata of %s", f->path);
    sgc_h5_piece *pieces = out->pieces;
    n = 0;
    for (const sgc_h5_unwritten *p = f->unwritten; p; p = p->next)
        pieces[n++] = (sgc_h5_piece){.offset = (int64_t)p->first, .n_bytes = (int64_t)p->n_bytes};
    qsort(pieces, (size_t)n, sizeof(*pieces), by_offset);
    for (int i = 0; i < n; i++) {
        sgc_h5_piece *last = n_merged ? &pieces[n_merged - 1] : NULL;
        int64_t end = pieces[i].offset + pieces[i].n_bytes;
        if (!last || pieces[i].offset > last->offset + last->n_bytes)
            pieces[n_merged++] = pieces[i];
        else if (end > last->offset + last->n_bytes)
            last->n_bytes = end - last->offset;
    }
    out->n_pieces = n_merged;
    for (int i = 0; i < n_merged; i++)
        if (!(pieces[i].bytes = calloc(1, (size_t)pieces[i].n_bytes))) return sgc_err(SGC_ENOMEM, "no memory for the metadata of %s", f->path);
    for (const sgc_h5_unwritten *p = f->unwritten; p; p = p->next) {
        int first = 0, end = n_merged; /* the piece that begins last at or before p */
        while (end - first > 1) {
            int middle = (first + end) / 2;
            if (pieces[middle].offset <= (int64_t)p->first) first = middle;
            else end = middle;
        }
        memcpy(pieces[first].bytes + ((int64_t)p->first - pieces[first].offset), p->bytes, p->n_bytes);
    }
    return SGC_OK;
}

sgc_status sgc_h5_close_sketch(sgc_h5 **file, sgc_h5_sketch *out)
{
    sgc_status st = SGC_OK;
    sgc_h5 *f = *file;
    *out = (sgc_h5_sketch){0};
    *file = NULL;
    if (H5Fclose(f->id) < 0 || f->error)
        st = sgc_err(SGC_EIO, "HDF5 cannot make %s", f->path);
    else
        st = merge_pieces(f, out);
    out->n_bytes = (int64_t)f->end_of_file;
    free_file(f);
    if (st != SGC_OK) sgc_h5_sketch_free(out);
    return st;
}

void sgc_h5_sketch_free(sgc_h5_sketch *s)
{
    for (int i = 0; i < s->n_pieces; i++) free(s->pieces[i].bytes);
    free(s->pieces);
    *s = (sgc_h5_sketch){0};
}

hid_t sgc_h5_id(const sgc_h5 *f) { return f->id; }

sgc_status sgc_h5_close(sgc_h5 **file)
{
    sgc_status st = SGC_OK;
    sgc_h5 *f = *file;
    if (!f) return SGC_OK;
    *file = NULL;
    herr_t closed = H5Fclose(f->id);
    int descriptor = f->fd;
    if (f->is_sketch) {
        free_file(f);
        return SGC_OK;
    }
    if (f->error) {
        errno = f->error;
        st = sgc_err_errno(SGC_EIO, "cannot %s %s at byte %llu", f->failed_call, f->path, (unsigned long long)f->failed_offset);
    } else if (closed < 0) {
        st = sgc_err(SGC_EIO, "HDF5 cannot close %s", f->path);
    } else if (fsync(descriptor) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot sync %s", f->path);
    }
    f->fd = -1;
    if (close(descriptor) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", f->path);
    free_file(f);
    return st;
}

sgc_status sgc_h5_open_image(hid_t *file, void *bytes, size_t n_bytes)
{
    static unsigned n_images; /* HDF5 takes images of one name for one file */
    char name[64];
    snprintf(name, sizeof(name), "an image in memory (%u)", ++n_images);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    *file = H5I_INVALID_HID;
    if (H5Pset_fapl_core(fapl, 1 << 16, false) >= 0 && H5Pset_file_image(fapl, bytes, n_bytes) >= 0)
        *file = H5Fopen(name, H5F_ACC_RDONLY, fapl);
    close_id(fapl);
    return *file < 0 ? sgc_err(SGC_EDATA, "not an HDF5 file") : SGC_OK;
}

sgc_status sgc_h5_open(hid_t *file, const char *path)
{
    sgc_status st = SGC_OK;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    *file = H5I_INVALID_HID;
    if (access(path, R_OK) != 0) {
        st = sgc_err_errno(SGC_EDATA, "cannot read %s", path);
        goto done;
    }
    SGC_TRY(sgc_h5_driver_set(fapl, NULL));
    *file = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    if (*file < 0) st = sgc_err(SGC_EDATA, "%s is not an HDF5 file, or it is damaged", path);
done:
    close_id(fapl);
    return st;
}

sgc_status sgc_h5_write(hid_t file, const char *path, hid_t type, int n_dim, const hsize_t *shape, const void *data)
{
    char name[SGC_PATH_MAX];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = n_dim ? H5Screate_simple(n_dim, shape, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5I_INVALID_HID;
    bool written = H5Pset_create_intermediate_group(links, 1) >= 0 && H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 &&
                   H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0 &&
                   H5Pset_obj_track_times(creation, false) >= 0 &&
                   (dataset = H5Dcreate2(file, path, type, space, links, creation, H5P_DEFAULT)) >= 0 &&
                   (!data || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    close_id(dataset);
    close_id(space);
    close_id(creation);
    close_id(links);
    return written ? SGC_OK : sgc_err(SGC_EIO, "HDF5 cannot write dataset '%s' of %s", path, file_name(file, name));
}

sgc_status sgc_h5_offset(hid_t file, const char *path, int64_t *offset, int64_t *n_bytes)
{
    char name[SGC_PATH_MAX];
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
    haddr_t address = dataset < 0 ? HADDR_UNDEF : H5Dget_offset(dataset);
    if (address != HADDR_UNDEF) {
        *offset = (int64_t)address;
        *n_bytes = (int64_t)H5Dget_storage_size(dataset);
    }
    close_id(dataset);
    return address == HADDR_UNDEF ? sgc_err(SGC_EDATA, "%s has no contiguous dataset '%s'", file_name(file, name), path) : SGC_OK;
}

static sgc_status write_attribute(hid_t object, const char *attribute, hid_t type, const void *value)
{
    char name[SGC_PATH_MAX];
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(object, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool written = id >= 0 && H5Awrite(id, type, value) >= 0;
    close_id(id);
    close_id(space);
    return written ? SGC_OK : sgc_err(SGC_EIO, "HDF5 cannot write attribute '%s' of %s", attribute, file_name(object, name));
}

sgc_status sgc_h5_attr_int(hid_t object, const char *name, int64_t value)
{
    return write_attribute(object, name, H5T_NATIVE_INT64, &value);
}

sgc_status sgc_h5_attr_double(hid_t object, const char *name, double value)
{
    return write_attribute(object, name, H5T_NATIVE_DOUBLE, &value);
}

sgc_status sgc_h5_attr_text(hid_t object, const char *name, const char *value)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    sgc_status st = write_attribute(object, name, type, value);
    close_id(type);
    return st;
}

/* A scalar attribute of the class; its type, or invalid. */
static hid_t open_attribute(hid_t object, const char *name, H5T_class_t class, hid_t *type)
{
    *type = H5I_INVALID_HID;
    if (H5Aexists(object, name) <= 0) return H5I_INVALID_HID;
    hid_t id = H5Aopen(object, name, H5P_DEFAULT), space = H5Aget_space(id);
    *type = H5Aget_type(id);
    bool fits = space >= 0 && H5Sget_simple_extent_npoints(space) == 1 && H5Tget_class(*type) == class;
    close_id(space);
    if (fits) return id;
    close_id(*type);
    close_id(id);
    return *type = H5I_INVALID_HID;
}

static sgc_status read_number(hid_t object, const char *attribute, H5T_class_t class, hid_t native, const char *what, void *value)
{
    char name[SGC_PATH_MAX];
    hid_t type, id = open_attribute(object, attribute, class, &type);
    bool read = id >= 0 && H5Aread(id, native, value) >= 0;
    close_id(type);
    close_id(id);
    return read ? SGC_OK : sgc_err(SGC_EDATA, "attribute '%s' of %s is missing or is not %s", attribute, file_name(object, name), what);
}

sgc_status sgc_h5_get_int(hid_t object, const char *name, int64_t *value)
{
    return read_number(object, name, H5T_INTEGER, H5T_NATIVE_INT64, "an integer", value);
}

sgc_status sgc_h5_get_double(hid_t object, const char *name, double *value)
{
    return read_number(object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, "a floating-point number", value);
}

sgc_status sgc_h5_get_text(hid_t object, const char *attribute, char *value, size_t bytes)
{
    char name[SGC_PATH_MAX];
    hid_t type, id = open_attribute(object, attribute, H5T_STRING, &type);
    bool read = false;
    size_t size = id < 0 ? 0 : H5Tget_size(type);
    if (id >= 0 && H5Tis_variable_str(type) == 0 && size < INT_MAX) {
        char *text = calloc(1, size + 1);
        read = text && H5Aread(id, type, text) >= 0 && strlen(text) < bytes;
        if (read) strcpy(value, text);
        free(text);
    }
    close_id(type);
    close_id(id);
    if (read) return SGC_OK;
    return sgc_err(SGC_EDATA, "attribute '%s' of %s is missing or is not a text of less than %zu bytes", attribute,
                   file_name(object, name), bytes);
}

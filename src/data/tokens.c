/* Token files: opening and reading. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/h5.h"
#include "data/text_impl.h"
#include "data/tokens_impl.h"

/* What HDF5 has to say about a file that it cannot use is replaced by what the user can do about it. */
static sgc_status unusable(const char *path, const char *why)
{
    sgc_err_clear();
    return sgc_err(SGC_EDATA, "%s is no usable token file: %s; make one with: stagecoach prepare --output FILE.h5 TEXT", path, why);
}

static sgc_status check_signature(int fd, const char *path)
{
    char begin[SGC_HDF5_SIGNATURE_BYTES];
    struct stat s;
    if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) return sgc_err(SGC_EDATA, "%s is a directory, not a token file", path);
    if (pread(fd, begin, sizeof(begin), 0) != sizeof(begin) || memcmp(begin, SGC_HDF5_SIGNATURE, sizeof(begin)) != 0)
        return unusable(path, "it is not an HDF5 file");
    return SGC_OK;
}

static sgc_status read_attributes(sgc_tokens *f, hid_t file)
{
    char format[64], hash[32], *end;
    int64_t version;
    if (H5Aexists(file, SGC_TOKENS_ATTR_FORMAT) <= 0 || sgc_h5_get_text(file, SGC_TOKENS_ATTR_FORMAT, format, sizeof(format)) != SGC_OK ||
        strcmp(format, SGC_TOKENS_FORMAT) != 0)
        return unusable(f->path, "it is an HDF5 file of another kind");
    if (sgc_h5_get_int(file, SGC_TOKENS_ATTR_VERSION, &version) != SGC_OK) return unusable(f->path, "its format version is missing");
    if (version < 1 || version > SGC_TOKENS_VERSION)
        return sgc_err(SGC_EDATA, "%s has format version %" PRId64 ", this program knows version %d; make it anew or use a newer stagecoach",
                       f->path, version, SGC_TOKENS_VERSION);
    if (sgc_h5_get_text(file, SGC_TOKENS_ATTR_TOKENIZER, f->tokenizer, sizeof(f->tokenizer)) != SGC_OK)
        return unusable(f->path, "the name of its tokenizer is missing");
    if (sgc_h5_get_int(file, SGC_TOKENS_ATTR_VOCAB_SIZE, &f->vocab_size) != SGC_OK || f->vocab_size < 1 || f->vocab_size > INT32_MAX)
        return unusable(f->path, "its vocabulary size is missing or out of range");
    if (sgc_h5_get_text(file, SGC_TOKENS_ATTR_HASH, hash, sizeof(hash)) != SGC_OK) return unusable(f->path, "the hash of its sources is missing");
    f->source_hash = strtoull(hash, &end, 16);
    if (end == hash || *end) return unusable(f->path, "the hash of its sources is damaged");
    return SGC_OK;
}

/* Length of a one-dimensional dataset of one of two element types; -1 if it is anything else. */
static int64_t length_of(hid_t file, const char *name, hid_t type_a, hid_t type_b, int *element_bytes)
{
    int64_t n = -1;
    hsize_t length;
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), type = H5I_INVALID_HID, space = H5I_INVALID_HID;
    if (dataset >= 0 && (type = H5Dget_type(dataset)) >= 0 && (space = H5Dget_space(dataset)) >= 0 &&
        (H5Tequal(type, type_a) > 0 || H5Tequal(type, type_b) > 0) && H5Sget_simple_extent_ndims(space) == 1 &&
        H5Sget_simple_extent_dims(space, &length, NULL) == 1 && length <= INT64_MAX / 8) {
        n = (int64_t)length;
        *element_bytes = (int)H5Tget_size(type);
    }
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (dataset >= 0) H5Dclose(dataset);
    return n;
}

/* Offsets rise from 0 to n_tokens. */
static sgc_status check_documents(sgc_tokens *f, hid_t file)
{
    sgc_status st = SGC_OK;
    int64_t *offset = NULL;
    hid_t dataset = H5I_INVALID_HID;
    int bytes;
    const int64_t n = length_of(file, SGC_TOKENS_DOCUMENTS, H5T_NATIVE_INT64, H5T_NATIVE_INT64, &bytes);
    if (n < 2 || n > f->n_tokens + 1) return unusable(f->path, "its document offsets are missing or damaged");
    f->n_documents = n - 1;
    if (!(offset = malloc(sizeof(*offset) * (size_t)n)))
        return sgc_err(SGC_ENOMEM, "no memory for the offsets of %" PRId64 " documents of %s", n - 1, f->path);
    dataset = H5Dopen2(file, SGC_TOKENS_DOCUMENTS, H5P_DEFAULT);
    bool good = dataset >= 0 && H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, offset) >= 0 && offset[0] == 0 &&
                offset[n - 1] == f->n_tokens;
    for (int64_t i = 1; good && i < n; i++)
        good = offset[i] > offset[i - 1];
    if (!good) st = unusable(f->path, "its document offsets are damaged");
    if (dataset >= 0) H5Dclose(dataset);
    free(offset);
    return st;
}

static sgc_status map_tokens(sgc_tokens *f, hid_t file, int fd)
{
    int64_t offset, bytes;
    struct stat s;
    f->n_tokens = length_of(file, SGC_TOKENS_TOKENS, H5T_NATIVE_UINT16, H5T_NATIVE_UINT32, &f->token_bytes);
    if (f->n_tokens < 1) return unusable(f->path, "its tokens are missing or not 16 or 32 bit integers of this machine's byte order");
    if (sgc_h5_offset(file, SGC_TOKENS_TOKENS, &offset, &bytes) != SGC_OK) return unusable(f->path, "its tokens are not stored in one piece");
    if (fstat(fd, &s) != 0) return sgc_err_errno(SGC_EIO, "cannot read %s", f->path);
    if (offset < 0 || bytes != f->n_tokens * f->token_bytes || offset > s.st_size || bytes > s.st_size - offset)
        return unusable(f->path, "it is cut short");
    void *map = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return sgc_err_errno(SGC_EIO, "cannot map %s into memory", f->path);
    f->map = map;
    f->map_bytes = (size_t)s.st_size;
    f->token = (const char *)map + offset;
    return SGC_OK;
}

sgc_status sgc_tokens_open(sgc_tokens *f, const char *path)
{
    sgc_status st = SGC_OK;
    hid_t file = H5I_INVALID_HID;
    int fd = -1;
    memset(f, 0, sizeof(*f));
    if (snprintf(f->path, sizeof(f->path), "%s", path) >= (int)sizeof(f->path))
        return sgc_err(SGC_EDATA, "the path of a token file is longer than %d bytes: %.60s...", SGC_PATH_MAX - 1, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        st = sgc_err_errno(SGC_EDATA, "cannot read the token file %s", path);
        goto done;
    }
    SGC_TRY(check_signature(fd, path));
    if (sgc_h5_open(&file, path) != SGC_OK) {
        st = unusable(path, "it is damaged or cut short");
        goto done;
    }
    SGC_TRY(read_attributes(f, file));
    SGC_TRY(map_tokens(f, file, fd));
    SGC_TRY(check_documents(f, file));
done:
    if (file >= 0) H5Fclose(file);
    if (fd >= 0) close(fd);
    if (st != SGC_OK) sgc_tokens_close(f);
    return st;
}

void sgc_tokens_close(sgc_tokens *f)
{
    if (f->map) munmap(f->map, f->map_bytes);
    f->map = NULL;
    f->token = NULL;
    f->n_tokens = 0;
}

sgc_status sgc_tokens_read(const sgc_tokens *f, int64_t first, int64_t n, int32_t *out)
{
    assert(first >= 0 && n >= 0 && first <= f->n_tokens - n);
    uint32_t largest = 0;
    if (f->token_bytes == 2) {
        for (int64_t i = 0; i < n; i++) {
            uint16_t id;
            memcpy(&id, (const char *)f->token + 2 * (first + i), sizeof(id));
            largest = id > largest ? id : largest;
            out[i] = id;
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            uint32_t id;
            memcpy(&id, (const char *)f->token + 4 * (first + i), sizeof(id));
            largest = id > largest ? id : largest;
            out[i] = (int32_t)id;
        }
    }
    if (largest >= (uint64_t)f->vocab_size)
        return sgc_err(SGC_EDATA, "%s is damaged: among its tokens %" PRId64 " to %" PRId64 " is %u, but its vocabulary has %" PRId64
                       "; make it anew with stagecoach prepare", f->path, first, first + n - 1, largest, f->vocab_size);
    return SGC_OK;
}

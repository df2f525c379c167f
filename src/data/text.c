/* Reading text files in pieces and hashing them. */
#include "data/text_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE_BYTES ((size_t)1 << 20)

/* Fill the buffer; fewer bytes only at the end of the file. */
static sgc_status fill(int fd, const char *path, char *buffer, size_t *n)
{
    for (*n = 0; *n < PIECE_BYTES;) {
        ssize_t got = read(fd, buffer + *n, PIECE_BYTES - *n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sgc_err_errno(SGC_EDATA, "cannot read %s", path);
        if (got == 0) break;
        *n += (size_t)got;
    }
    return SGC_OK;
}

static sgc_status read_one(int document, const char *path, char *buffer, sgc_text_piece piece, void *arg, XXH3_state_t *hash)
{
    sgc_status st = SGC_OK;
    struct stat s;
    uint64_t n_bytes = 0;
    size_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return sgc_err_errno(SGC_EDATA, "cannot read %s", path);
    if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) {
        st = sgc_err(SGC_EDATA, "%s is a directory; name the text files in it", path);
        goto done;
    }
    do {
        SGC_TRY(fill(fd, path, buffer, &n));
        if (n_bytes == 0 && n == 0) {
            st = sgc_err(SGC_EDATA, "%s is empty", path);
            goto done;
        }
        if (n_bytes == 0 && n >= SGC_HDF5_SIGNATURE_BYTES && memcmp(buffer, SGC_HDF5_SIGNATURE, SGC_HDF5_SIGNATURE_BYTES) == 0) {
            st = sgc_err(SGC_EDATA, "%s is an HDF5 file, not text; a token file is given to data.train_file as it is", path);
            goto done;
        }
        XXH3_64bits_update(hash, buffer, n);
        if (piece && n > 0) SGC_TRY(piece(arg, document, buffer, n));
        n_bytes += n;
    } while (n == PIECE_BYTES);
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)(n_bytes >> (8 * i));
    XXH3_64bits_update(hash, size, sizeof(size));
done:
    close(fd);
    return st;
}

sgc_status sgc_text_read(int n_files, char *const *files, sgc_text_piece piece, void *arg, uint64_t *hash)
{
    sgc_status st = SGC_OK;
    char *buffer = malloc(PIECE_BYTES);
    XXH3_state_t *state = XXH3_createState();
    if (!buffer || !state) {
        st = sgc_err(SGC_ENOMEM, "no memory to read text");
        goto done;
    }
    XXH3_64bits_reset(state);
    for (int i = 0; i < n_files; i++)
        SGC_TRY(read_one(i, files[i], buffer, piece, arg, state));
    *hash = XXH3_64bits_digest(state);
done:
    XXH3_freeState(state);
    free(buffer);
    return st;
}

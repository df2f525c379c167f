/*
 * Token files: making them from text, and telling whether one still fits its text.
 * A contiguous dataset needs its length beforehand, and how many tokens a text has is known only when it was read. Since the text
 * is read just once (it may be a pipe, and hash and tokens must belong together), the ids go through a nameless temporary file.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/h5.h"
#include "data/text_impl.h"
#include "data/tokens_impl.h"

#define COPY_TOKENS ((int64_t)1 << 18)

typedef struct writer {
    const sgc_tokenizer *tokenizer;
    const char *output;
    char directory[SGC_PATH_MAX];
    char temporary[SGC_PATH_MAX]; /* becomes output                                      */
    bool is_temporary_there;
    int fd;                       /* nameless file of ids                                */
    int token_bytes;
    int n_documents;
    int64_t *documents;           /* owned: [n_documents + 1]                            */
    int64_t n_tokens;
    uint64_t source_hash;
} writer;

static sgc_status add_piece(void *arg, int document, const char *text, size_t bytes)
{
    sgc_status st = SGC_OK;
    writer *w = arg;
    int32_t *ids = NULL;
    uint16_t *narrow = NULL;
    int64_t n = 0;
    SGC_TRY(w->tokenizer->encode(w->tokenizer, text, bytes, &ids, &n));
    if (w->token_bytes == 2) {
        narrow = malloc(sizeof(*narrow) * (size_t)(n + 1));
        if (!narrow) {
            st = sgc_err(SGC_ENOMEM, "no memory for %" PRId64 " tokens", n);
            goto done;
        }
        for (int64_t i = 0; i < n; i++) {
            assert(ids[i] >= 0 && ids[i] < w->tokenizer->vocab_size);
            narrow[i] = (uint16_t)ids[i];
        }
    }
    SGC_TRY(sgc_pwrite_all(w->fd, narrow ? (void *)narrow : (void *)ids, (size_t)(n * w->token_bytes), w->n_tokens * w->token_bytes, w->output));
    w->n_tokens += n;
    w->documents[document + 1] = w->n_tokens;
done:
    free(narrow);
    free(ids);
    return st;
}

/* Never put a token file in the place of a text, as a slip of the shell might ask for. */
static sgc_status check_output(const char *output, int n_files, char *const *files)
{
    struct stat there, source;
    char begin[SGC_HDF5_SIGNATURE_BYTES];
    if (stat(output, &there) != 0) return SGC_OK;
    if (S_ISDIR(there.st_mode)) return sgc_err(SGC_EIO, "the output %s is a directory; name a file in it", output);
    for (int i = 0; i < n_files; i++)
        if (stat(files[i], &source) == 0 && source.st_dev == there.st_dev && source.st_ino == there.st_ino)
            return sgc_err(SGC_EIO, "%s is both text and output; name another output", output);
    if (there.st_size == 0) return SGC_OK;
    int fd = open(output, O_RDONLY | O_CLOEXEC);
    bool is_hdf5 = fd >= 0 && pread(fd, begin, sizeof(begin), 0) == sizeof(begin) && memcmp(begin, SGC_HDF5_SIGNATURE, sizeof(begin)) == 0;
    if (fd >= 0) close(fd);
    return is_hdf5 ? SGC_OK : sgc_err(SGC_EIO, "%s is there and is no token file; remove it or name another output", output);
}

static sgc_status open_nameless(writer *w)
{
    char name[SGC_PATH_MAX];
    const char *slash = strrchr(w->output, '/');
    const int n = slash ? (int)(slash - w->output) + 1 : 0;
    if (strlen(w->output) + 128 > SGC_PATH_MAX) return sgc_err(SGC_EIO, "the path of the output is too long: %.60s...", w->output);
    snprintf(w->directory, sizeof(w->directory), "%.*s", n ? n : 2, n ? w->output : "./");
    snprintf(w->temporary, sizeof(w->temporary), "%s.%.60s-%ld.tmp", w->output, sgc_node_name(), (long)getpid());
    sgc_status st = sgc_make_dirs(w->directory);
    if (st != SGC_OK) return st;
    snprintf(name, sizeof(name), "%s.ids-XXXXXX", w->output);
    w->fd = mkstemp(name);
    if (w->fd < 0) return sgc_err_errno(SGC_EIO, "cannot write %s", w->output);
    unlink(name);
    return SGC_OK;
}

/* Move the ids from the nameless file into the dataset. */
static sgc_status copy_tokens(writer *w, hid_t file, hid_t type)
{
    sgc_status st = SGC_OK;
    void *piece = malloc((size_t)(COPY_TOKENS * w->token_bytes));
    hid_t dataset = H5Dopen2(file, SGC_TOKENS_TOKENS, H5P_DEFAULT), space = dataset < 0 ? dataset : H5Dget_space(dataset);
    if (!piece) st = sgc_err(SGC_ENOMEM, "no memory to copy tokens");
    for (int64_t first = 0; st == SGC_OK && first < w->n_tokens; first += COPY_TOKENS) {
        const hsize_t start = (hsize_t)first, count = (hsize_t)(w->n_tokens - first < COPY_TOKENS ? w->n_tokens - first : COPY_TOKENS);
        SGC_TRY(sgc_pread_all(w->fd, piece, count * (size_t)w->token_bytes, first * w->token_bytes, w->output));
        hid_t memory = H5Screate_simple(1, &count, NULL);
        if (space < 0 || memory < 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &count, NULL) < 0 ||
            H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, piece) < 0)
            st = sgc_err(SGC_EIO, "HDF5 cannot write the tokens of %s", w->output);
        if (memory >= 0) H5Sclose(memory);
    }
done:
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    free(piece);
    return st;
}

static sgc_status write_file(writer *w)
{
    sgc_status st = SGC_OK;
    sgc_h5 *h5 = NULL;
    char hash[32], created[32];
    const hid_t type = w->token_bytes == 2 ? H5T_NATIVE_UINT16 : H5T_NATIVE_UINT32;
    const hsize_t n_tokens = (hsize_t)w->n_tokens, n_offsets = (hsize_t)w->n_documents + 1;
    SGC_TRY(sgc_h5_create(&h5, w->temporary));
    w->is_temporary_there = true;
    const hid_t file = sgc_h5_id(h5);
    snprintf(hash, sizeof(hash), "%016" PRIx64, w->source_hash);
    sgc_time_iso(created);
    SGC_TRY(sgc_h5_attr_text(file, SGC_TOKENS_ATTR_FORMAT, SGC_TOKENS_FORMAT));
    SGC_TRY(sgc_h5_attr_int(file, SGC_TOKENS_ATTR_VERSION, SGC_TOKENS_VERSION));
    SGC_TRY(sgc_h5_attr_text(file, SGC_TOKENS_ATTR_TOKENIZER, w->tokenizer->name));
    SGC_TRY(sgc_h5_attr_int(file, SGC_TOKENS_ATTR_VOCAB_SIZE, w->tokenizer->vocab_size));
    SGC_TRY(sgc_h5_attr_text(file, SGC_TOKENS_ATTR_HASH, hash));
    SGC_TRY(sgc_h5_attr_text(file, SGC_TOKENS_ATTR_CREATED, created));
    SGC_TRY(sgc_h5_attr_text(file, SGC_TOKENS_ATTR_PROGRAM, PACKAGE_VERSION));
    SGC_TRY(sgc_h5_write(file, SGC_TOKENS_DOCUMENTS, H5T_NATIVE_INT64, 1, &n_offsets, w->documents));
    SGC_TRY(sgc_h5_write(file, SGC_TOKENS_TOKENS, type, 1, &n_tokens, NULL));
    SGC_TRY(copy_tokens(w, file, type));
done:
    SGC_KEEP(sgc_h5_close(&h5));
    return st;
}

sgc_status sgc_tokens_prepare(const char *output, const sgc_tokenizer *t, int n_files, char *const *files)
{
    sgc_status st = SGC_OK;
    writer w = {.tokenizer = t, .output = output, .fd = -1, .n_documents = n_files, .token_bytes = t->vocab_size <= 65536 ? 2 : 4};
    assert(n_files > 0);
    SGC_TRY(check_output(output, n_files, files));
    SGC_TRY(open_nameless(&w));
    if (!(w.documents = calloc((size_t)n_files + 1, sizeof(*w.documents)))) {
        st = sgc_err(SGC_ENOMEM, "no memory for the offsets of %d documents", n_files);
        goto done;
    }
    SGC_TRY(sgc_text_read(n_files, files, add_piece, &w, &w.source_hash));
    SGC_TRY(write_file(&w));
    if (rename(w.temporary, output) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot write %s", output);
        goto done;
    }
    w.is_temporary_there = false;
    SGC_TRY(sgc_fsync_path(w.directory));
done:
    if (w.is_temporary_there) unlink(w.temporary);
    if (w.fd >= 0) close(w.fd);
    free(w.documents);
    return st;
}

bool sgc_tokens_fit(const char *path, const sgc_tokenizer *t, int n_files, char *const *files)
{
    sgc_tokens f;
    uint64_t hash;
    bool fit = sgc_tokens_open(&f, path) == SGC_OK;
    if (fit) {
        fit = strcmp(f.tokenizer, t->name) == 0 && f.vocab_size == t->vocab_size && f.n_documents == n_files &&
              sgc_text_read(n_files, files, NULL, NULL, &hash) == SGC_OK && hash == f.source_hash;
        sgc_tokens_close(&f);
    }
    if (!fit) sgc_err_clear(); /* no file, or one that will be made anew: the answer is no, not an error */
    return fit;
}

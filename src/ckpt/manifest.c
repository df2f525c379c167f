#include "ckpt/manifest_impl.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char title[] = SGC_MANIFEST_TITLE;
enum { END_BYTES = 4 + 16 + 1 }; /* "end ", 16 digits, newline */

void sgc_manifest_path(char path[64], int file, int n_shard_files)
{
    if (file == SGC_FILE_INDEX)
        strcpy(path, "checkpoint.h5");
    else if (file == SGC_FILE_CONFIG)
        strcpy(path, "config.cfg");
    else
        snprintf(path, 64, "shards/shard-%05d-of-%05d.h5", file - SGC_FILE_SHARDS, n_shard_files);
}

void sgc_manifest_put_head(sgc_str *text, const char *id, int64_t step, int world_size, int n_shard_files, int64_t block_size)
{
    sgc_str_printf(text, "%s\nversion %d\nid %s\nstep %" PRId64 "\nworld_size %d\n", title, SGC_CKPT_VERSION, id, step, world_size);
    if (n_shard_files != world_size) sgc_str_printf(text, "files %d\n", n_shard_files);
    sgc_str_printf(text, "block_size %" PRId64 "\n", block_size);
}

void sgc_manifest_put_dtype(sgc_str *text, sgc_dtype dtype)
{
    if (dtype != SGC_F32) sgc_str_printf(text, "dtype %s\n", sgc_dtype_name(dtype));
}

void sgc_manifest_put_file(sgc_str *text, int file, int n_shard_files, int64_t n_bytes)
{
    char name[64];
    sgc_manifest_path(name, file, n_shard_files);
    sgc_str_printf(text, "file %" PRId64 " %s\n", n_bytes, name);
}

void sgc_manifest_put_hash(sgc_str *text, uint64_t hash) { sgc_str_printf(text, "hash %016" PRIx64 "\n", hash); }

void sgc_manifest_put_bytes(sgc_str *text, int file, int n_shard_files, const void *bytes, size_t n_bytes, int64_t block_size)
{
    sgc_manifest_put_file(text, file, n_shard_files, (int64_t)n_bytes);
    for (size_t offset = 0; offset < n_bytes; offset += (size_t)block_size) {
        size_t n = n_bytes - offset < (size_t)block_size ? n_bytes - offset : (size_t)block_size;
        sgc_manifest_put_hash(text, sgc_hash64((const char *)bytes + offset, n));
    }
}

void sgc_manifest_put_shard(sgc_str *text, int shard) { sgc_str_printf(text, "shard %d\n", shard); }

void sgc_manifest_put_data(sgc_str *text, int64_t offset, int64_t n, sgc_slot slot, const char *unit)
{
    sgc_str_printf(text, "data %" PRId64 " %" PRId64 " %s %s\n", offset, n, sgc_slot_path[slot], unit);
}

void sgc_manifest_put_end(sgc_str *text)
{
    sgc_str_printf(text, "end %016" PRIx64 "\n", sgc_hash64(text->text, text->n));
}

/* A place in the text; every take_ function moves it on, or says no and leaves it. */
typedef struct reader {
    const char *next, *end;
    int64_t line;
} reader;

static bool take_text(reader *r, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(r->end - r->next) < n || memcmp(r->next, text, n) != 0) return false;
    r->next += n;
    return true;
}

static bool take_newline(reader *r)
{
    bool taken = take_text(r, "\n");
    r->line += taken;
    return taken;
}

/* Decimal digits without sign or leading zeros, at most max. */
static bool take_number(reader *r, int64_t max, int64_t *value)
{
    const char *p = r->next;
    int64_t v = 0;
    for (; p < r->end && *p >= '0' && *p <= '9'; p++) {
        int digit = *p - '0';
        if (digit > max || v > (max - digit) / 10) return false;
        v = 10 * v + digit;
    }
    if (p == r->next || (*r->next == '0' && p > r->next + 1)) return false;
    r->next = p;
    *value = v;
    return true;
}

static bool take_hash(reader *r, uint64_t *value)
{
    uint64_t v = 0;
    if (r->end - r->next < 16) return false;
    for (int i = 0; i < 16; i++) {
        char c = r->next[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    r->next += 16;
    *value = v;
    return true;
}

static bool take_unit(reader *r, char unit[64])
{
    size_t n = 0;
    while (r->next + n < r->end && r->next[n] > ' ' && r->next[n] <= '~' && r->next[n] != '/') n++;
    if (n == 0 || n >= 64) return false;
    memcpy(unit, r->next, n);
    unit[n] = '\0';
    r->next += n;
    return true;
}

static bool take_slot(reader *r, sgc_slot *slot)
{
    for (int s = 0; s < SGC_N_SLOTS; s++) {
        reader at = *r;
        if (!take_text(&at, sgc_slot_path[s]) || !take_text(&at, " ")) continue;
        *r = at;
        *slot = s;
        return true;
    }
    return false;
}

/* float32 is not written. */
static bool take_dtype(reader *r, sgc_dtype *dtype)
{
    for (int t = SGC_F32 + 1; t < SGC_N_STORED_DTYPES; t++)
        if (take_text(r, sgc_dtype_name(t))) {
            *dtype = t;
            return true;
        }
    return false;
}

static bool take_head(reader *r, sgc_manifest *m)
{
    uint64_t id;
    int64_t world_size, n_shard_files;
    if (!take_text(r, "id ") || !take_hash(r, &id) || !take_newline(r)) return false;
    snprintf(m->id, sizeof(m->id), "%016" PRIx64, id);
    if (!take_text(r, "step ") || !take_number(r, INT64_MAX, &m->step) || !take_newline(r)) return false;
    if (!take_text(r, "world_size ") || !take_number(r, INT_MAX - SGC_FILE_SHARDS, &world_size) || world_size < 1 || !take_newline(r))
        return false;
    m->world_size = m->n_shard_files = (int)world_size;
    if (take_text(r, "files ")) {
        if (!take_number(r, world_size - 1, &n_shard_files) || n_shard_files < 1 || !take_newline(r)) return false;
        m->n_shard_files = (int)n_shard_files;
    }
    if (!take_text(r, "block_size ") || !take_number(r, INT_MAX, &m->block_size) || m->block_size == 0 || !take_newline(r)) return false;
    return !take_text(r, "dtype ") || (take_dtype(r, &m->dtype) && take_newline(r));
}

/* The array with room for element n, NULL: no memory. It grows with the lines that are there, not with what a number claims. */
static void *grown(void *array, int64_t n, size_t element_bytes)
{
    if (n & (n - 1)) return array; /* there is room up to the next power of two */
    return realloc(array, (size_t)(n ? 2 * n : 1) * element_bytes);
}

static sgc_status take_file(reader *r, sgc_manifest *m, int number, const char *path)
{
    char name[64];
    sgc_manifest_file *f = &m->files[number];
    bool is_shared = m->n_shard_files != m->world_size;
    int64_t shard = is_shared ? -1 : number - SGC_FILE_SHARDS;
    sgc_manifest_path(name, number, m->n_shard_files);
    if (!take_text(r, "file ") || !take_number(r, INT64_MAX - INT_MAX, &f->n_bytes) || !take_text(r, " ") || !take_text(r, name) ||
        !take_newline(r))
        return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": expected the entry of %s", path, r->line, name);
    int64_t n_blocks = (f->n_bytes + m->block_size - 1) / m->block_size;
    for (; f->n_blocks < n_blocks; f->n_blocks++) {
        void *hash = grown(f->hash, f->n_blocks, sizeof(*f->hash));
        if (!hash) return sgc_err(SGC_ENOMEM, "no memory for the hashes of %s", path);
        f->hash = hash;
        if (!take_text(r, "hash ") || !take_hash(r, &f->hash[f->n_blocks]) || !take_newline(r))
            return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": expected the hash of block %" PRId64 " of %s", path, r->line, f->n_blocks, name);
    }
    while (number >= SGC_FILE_SHARDS) {
        if (is_shared && take_text(r, "shard ")) {
            int64_t before = shard;
            if (!take_number(r, m->world_size - 1, &shard) || shard <= before || !take_newline(r))
                return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": not the next shard of %s", path, r->line, name);
        }
        if (!take_text(r, "data ")) break;
        if (shard < 0) return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": it is not said of which shard this dataset is", path, r->line);
        void *data = f->n_data < INT_MAX / 2 ? grown(f->data, f->n_data, sizeof(*f->data)) : NULL;
        if (!data) return sgc_err(SGC_ENOMEM, "no memory for the datasets of %s", path);
        f->data = data;
        sgc_manifest_data *d = &f->data[f->n_data];
        if (!take_number(r, f->n_bytes, &d->offset) || !take_text(r, " ") ||
            !take_number(r, (f->n_bytes - d->offset) / sgc_dtype_bytes(m->dtype), &d->n) || d->n == 0 || !take_text(r, " ") ||
            !take_slot(r, &d->slot) || !take_unit(r, d->unit) || !take_newline(r))
            return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": not a dataset that lies in %s", path, r->line, name);
        d->shard = (int)shard;
        f->n_data++;
    }
    return SGC_OK;
}

static int n_data_of(const sgc_manifest_file *f, int first)
{
    int n = 0;
    while (first + n < f->n_data && f->data[first + n].shard == f->data[first].shard) n++;
    return n;
}

/* Where each shard lies; each is there once. */
static sgc_status find_shards(sgc_manifest *m, const char *path)
{
    int n_found = 0;
    for (int file = SGC_FILE_SHARDS; file < m->n_files; file++) /* counted before a claimed number is believed */
        for (int k = 0; k < m->files[file].n_data; k += n_data_of(&m->files[file], k)) n_found++;
    if (n_found != m->world_size && m->n_shard_files != m->world_size)
        return sgc_err(SGC_ECKPT, "%s: it has datasets of %d shards instead of %d", path, n_found, m->world_size);
    m->file_of = calloc((size_t)m->world_size, sizeof(*m->file_of));
    m->first_data_of = calloc((size_t)m->world_size, sizeof(*m->first_data_of));
    if (!m->file_of || !m->first_data_of) return sgc_err(SGC_ENOMEM, "no memory for the shards of %s", path);
    for (int file = SGC_FILE_SHARDS; file < m->n_files; file++) {
        const sgc_manifest_file *f = &m->files[file];
        if (m->n_shard_files == m->world_size) { /* with or without datasets */
            m->file_of[file - SGC_FILE_SHARDS] = file;
            continue;
        }
        for (int k = 0; k < f->n_data; k += n_data_of(f, k)) {
            int shard = f->data[k].shard;
            if (m->file_of[shard]) return sgc_err(SGC_ECKPT, "%s: shard %d is there twice", path, shard);
            m->file_of[shard] = file;
            m->first_data_of[shard] = k;
        }
    }
    return SGC_OK;
}

/* All shards hold the same datasets: a unit is cut into equal pieces. */
static sgc_status check_shards(const sgc_manifest *m, const char *path)
{
    const sgc_manifest_file *first = &m->files[m->file_of[0]];
    int first_k = m->first_data_of[0], n = first->n_data ? n_data_of(first, first_k) : 0;
    for (int shard = 0; shard < m->world_size; shard++) {
        const sgc_manifest_file *f = &m->files[m->file_of[shard]];
        int at = m->first_data_of[shard];
        bool same = n == (f->n_data ? n_data_of(f, at) : 0);
        for (int k = 0; same && k < n; k++) {
            const sgc_manifest_data *x = &f->data[at + k], *y = &first->data[first_k + k];
            same = x->n == y->n && x->slot == y->slot && strcmp(x->unit, y->unit) == 0;
        }
        if (!same) return sgc_err(SGC_ECKPT, "%s: shards 0 and %d do not hold the same units", path, shard);
    }
    return SGC_OK;
}

/* Does the last line fit what is above it? */
static sgc_status check_end(const char *text, size_t n_bytes, const char *path)
{
    uint64_t hash;
    reader end = {.next = n_bytes < END_BYTES ? text : text + n_bytes - END_BYTES, .end = text + n_bytes};
    if (!take_text(&end, "end ") || !take_hash(&end, &hash) || !take_newline(&end))
        return sgc_err(SGC_ECKPT, "%s is damaged: its last line is missing", path);
    if (hash != sgc_hash64(text, n_bytes - END_BYTES)) return sgc_err(SGC_ECKPT, "%s is damaged: it does not fit its own hash", path);
    return SGC_OK;
}

/* The first two lines. */
static bool take_version(reader *r, int64_t *version)
{
    return take_text(r, title) && take_newline(r) && take_text(r, "version ") && take_number(r, INT64_MAX, version) && take_newline(r);
}

bool sgc_manifest_is_newer(const char *text, size_t n_bytes)
{
    int64_t version;
    reader r = {.next = text, .end = text + n_bytes};
    bool is = check_end(text, n_bytes, "") == SGC_OK && take_version(&r, &version) && version > SGC_CKPT_VERSION;
    sgc_err_clear();
    return is;
}

sgc_status sgc_manifest_parse(sgc_manifest *m, const char *text, size_t n_bytes, const char *path)
{
    sgc_status st = SGC_OK;
    int64_t version;
    *m = (sgc_manifest){0};
    SGC_TRY(check_end(text, n_bytes, path));
    reader r = {.next = text, .end = text + n_bytes - END_BYTES, .line = 1};
    if (!take_version(&r, &version))
        return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": not the manifest of a stagecoach checkpoint", path, r.line);
    if (version != SGC_CKPT_VERSION)
        return sgc_err(SGC_ECKPT, "%s has format version %" PRId64 ", this program reads version %d: use a newer stagecoach", path, version,
                       SGC_CKPT_VERSION);
    if (!take_head(&r, m))
        return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": expected id, step, world_size and block_size in this order", path, r.line);
    for (int file = 0; file < SGC_FILE_SHARDS + m->n_shard_files; file++) {
        void *files = grown(m->files, m->n_files, sizeof(*m->files));
        if (!files) return sgc_err(SGC_ENOMEM, "no memory for the files of %s", path);
        m->files = files;
        m->files[m->n_files++] = (sgc_manifest_file){0};
        SGC_TRY(take_file(&r, m, file, path));
    }
    if (r.next != r.end) return sgc_err(SGC_ECKPT, "%s:%" PRId64 ": expected the end", path, r.line);
    SGC_TRY(find_shards(m, path));
    SGC_TRY(check_shards(m, path));
done:
    return st;
}

void sgc_manifest_free(sgc_manifest *m)
{
    for (int i = 0; i < m->n_files; i++) {
        free(m->files[i].hash);
        free(m->files[i].data);
    }
    free(m->files);
    free(m->file_of);
    free(m->first_data_of);
    *m = (sgc_manifest){0};
}

const sgc_manifest_data *sgc_manifest_find(const sgc_manifest *m, int shard, sgc_slot slot, const char *unit)
{
    const sgc_manifest_file *f = &m->files[m->file_of[shard]];
    for (int k = m->first_data_of[shard]; k < f->n_data && f->data[k].shard == shard; k++)
        if (f->data[k].slot == slot && strcmp(f->data[k].unit, unit) == 0) return &f->data[k];
    return NULL;
}

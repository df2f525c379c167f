/* Reading: metadata once and checked before HDF5 sees it; tensors by raw offsets of the manifest, block by checked block. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "ckpt/spread_impl.h"

static sgc_status file_path(const sgc_ckpt *c, int file, char path[SGC_PATH_MAX])
{
    char name[64];
    sgc_manifest_path(name, file, c->manifest.n_shard_files);
    return sgc_path_join(path, c->path, name);
}

/* Size and presence of a file. */
static sgc_status check_size(const char *path, int64_t n_bytes)
{
    struct stat status;
    if (stat(path, &status) != 0) return sgc_err_errno(SGC_ECKPT, "%s of the checkpoint cannot be read", path);
    if (!S_ISREG(status.st_mode)) return sgc_err(SGC_ECKPT, "%s of the checkpoint is no file", path);
    if (status.st_size != n_bytes)
        return sgc_err(SGC_ECKPT, "%s has %" PRId64 " bytes, the manifest says %" PRId64 ": it is damaged or of another checkpoint", path,
                       (int64_t)status.st_size, n_bytes);
    return SGC_OK;
}

/* A whole small file; its bytes fit the manifest. */
static sgc_status read_checked(const sgc_ckpt *c, int file, char **bytes, size_t *n_bytes)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    const sgc_manifest_file *f = &c->manifest.files[file];
    int64_t block_size = c->manifest.block_size;
    *bytes = NULL;
    SGC_TRY(file_path(c, file, path));
    SGC_TRY(check_size(path, f->n_bytes));
    SGC_TRY(sgc_read_plain_file(path, bytes, n_bytes));
    bool fits = (int64_t)*n_bytes == f->n_bytes;
    for (int64_t k = 0; fits && k < f->n_blocks; k++) {
        int64_t n = f->n_bytes - k * block_size < block_size ? f->n_bytes - k * block_size : block_size;
        fits = sgc_hash64(*bytes + k * block_size, (size_t)n) == f->hash[k];
    }
    if (!fits) st = sgc_err(SGC_ECKPT, "%s is damaged or of another checkpoint: it does not fit its hash in the manifest", path);
done:
    if (st != SGC_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return st;
}

/* A link to its neighbour, as OUTPUT_DIR/best: what it leads to now is what is read to the end, and what messages name. */
static void follow_link(char path[SGC_PATH_MAX])
{
    char target[SGC_NAME_MAX];
    size_t n_path = strlen(path);
    while (n_path > 1 && path[n_path - 1] == '/') path[--n_path] = '\0';
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n <= 0 || memchr(target, '/', (size_t)n)) return;
    target[n] = '\0';
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if ((size_t)(name - path) + (size_t)n < SGC_PATH_MAX) strcpy(name, target);
}

static sgc_status new_ckpt(sgc_ckpt **c, const char *path)
{
    *c = calloc(1, sizeof(**c));
    if (!*c) return sgc_err(SGC_ENOMEM, "no memory to open %s", path);
    (*c)->fd = (*c)->open_file = (*c)->block_file = -1;
    if (snprintf((*c)->path, SGC_PATH_MAX, "%s", path) >= SGC_PATH_MAX) return sgc_err(SGC_ECKPT, "the path %.60s... is too long", path);
    follow_link((*c)->path);
    return SGC_OK;
}

static sgc_status read_manifest(sgc_ckpt *c)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    if (!sgc_path_exists(c->path)) return sgc_err(SGC_ECKPT, "there is no checkpoint %s", c->path);
    SGC_TRY(sgc_path_join(path, c->path, SGC_MANIFEST_NAME));
    if (!sgc_path_exists(path)) return sgc_err(SGC_ECKPT, "%s is no complete checkpoint: it has no manifest", c->path);
    SGC_TRY(sgc_read_plain_file(path, &c->manifest_text, &c->n_manifest_bytes));
    SGC_TRY(sgc_manifest_parse(&c->manifest, c->manifest_text, c->n_manifest_bytes, path));
done:
    return st;
}

sgc_status sgc_ckpt_open_part(sgc_ckpt **out, const char *path)
{
    sgc_status st = SGC_OK;
    char *index = NULL, name[SGC_PATH_MAX];
    size_t n_index_bytes, n_config_bytes;
    SGC_TRY(new_ckpt(out, path));
    sgc_ckpt *c = *out;
    SGC_TRY(read_manifest(c));
    SGC_TRY(read_checked(c, SGC_FILE_CONFIG, &c->config_text, &n_config_bytes));
    SGC_TRY(read_checked(c, SGC_FILE_INDEX, &index, &n_index_bytes));
    SGC_TRY(file_path(c, SGC_FILE_INDEX, name));
    SGC_TRY(sgc_index_read(index, n_index_bytes, name, &c->info, &c->state));
    if (strcmp(c->info.id, c->manifest.id) != 0 || c->info.world_size != c->manifest.world_size || c->info.step != c->manifest.step ||
        strcmp(c->info.dtype, sgc_dtype_name(c->manifest.dtype)) != 0) {
        st = sgc_err(SGC_ECKPT, "%s and the manifest beside it are of different checkpoints", name);
        goto done;
    }
done:
    free(index);
    if (st != SGC_OK) {
        sgc_ckpt_close(*out);
        *out = NULL;
    }
    return st;
}

sgc_status sgc_ckpt_open_local(sgc_ckpt **out, const char *path)
{
    sgc_status st = SGC_OK;
    char name[SGC_PATH_MAX];
    sgc_nodes nodes;
    SGC_TRY(sgc_ckpt_open_part(out, path));
    sgc_ckpt *c = *out;
    if (sgc_nodes_read(&nodes, path) == SGC_OK && nodes.n_nodes > 1)
        st = sgc_err(SGC_ECKPT, "%s is only what node %d of %d holds of a checkpoint; train --resume_from_checkpoint latest puts the parts together",
                     path, nodes.node, nodes.n_nodes);
    else
        sgc_err_clear(); /* most have no such text */
    sgc_nodes_free(&nodes);
    if (st != SGC_OK) goto done;
    for (int file = SGC_FILE_SHARDS; file < c->manifest.n_files; file++) {
        SGC_TRY(file_path(c, file, name));
        SGC_TRY(check_size(name, c->manifest.files[file].n_bytes));
    }
done:
    if (st != SGC_OK) {
        sgc_ckpt_close(*out);
        *out = NULL;
    }
    return st;
}

/* What rank 0 sends: this, then the manifest, without a NUL at its end. */
typedef struct package { char path[SGC_PATH_MAX]; sgc_ckpt_info info; sgc_run_state state; int64_t n_manifest_bytes; } package;

static sgc_status pack(const sgc_ckpt *c, char **bytes, int64_t *n_bytes)
{
    package p = {.info = c->info, .state = c->state, .n_manifest_bytes = (int64_t)c->n_manifest_bytes};
    strcpy(p.path, c->path);
    *n_bytes = (int64_t)sizeof(p) + p.n_manifest_bytes;
    if (!(*bytes = malloc((size_t)*n_bytes))) return sgc_err(SGC_ENOMEM, "no memory to send the manifest of %s", c->path);
    memcpy(*bytes, &p, sizeof(p));
    memcpy(*bytes + sizeof(p), c->manifest_text, c->n_manifest_bytes);
    return SGC_OK;
}

static sgc_status unpack(sgc_ckpt *c, const char *bytes)
{
    package p;
    memcpy(&p, bytes, sizeof(p));
    bytes += sizeof(p);
    strcpy(c->path, p.path);
    c->info = p.info;
    c->state = p.state;
    return sgc_manifest_parse(&c->manifest, bytes, (size_t)p.n_manifest_bytes, c->path);
}

sgc_status sgc_ckpt_open(sgc_ckpt **out, const char *path, sgc_group *group)
{
    sgc_status st = SGC_OK;
    bool is_root = sgc_group_rank(group) == 0;
    char *bytes = NULL;
    int64_t n_bytes = 0;
    *out = NULL;
    if (is_root && (st = sgc_ckpt_open_local(out, path)) == SGC_OK) st = pack(*out, &bytes, &n_bytes);
    if (!is_root) st = new_ckpt(out, path);
    SGC_AGREE(group);
    SGC_TRY(sgc_bcast_bytes(group, &n_bytes, sizeof(n_bytes), 0));
    if (!is_root && !(bytes = malloc((size_t)n_bytes))) st = sgc_err(SGC_ENOMEM, "no memory for the manifest of %s", path);
    SGC_AGREE(group);
    SGC_TRY(sgc_bcast_bytes(group, bytes, n_bytes, 0));
    if (!is_root) st = unpack(*out, bytes);
    SGC_AGREE(group);
    free((*out)->manifest_text);
    (*out)->manifest_text = NULL;
done:
    free(bytes);
    if (st != SGC_OK) {
        sgc_ckpt_close(*out);
        *out = NULL;
    }
    return st;
}

void sgc_ckpt_close(sgc_ckpt *c)
{
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    sgc_mem_free(c->block);
    sgc_manifest_free(&c->manifest);
    free(c->manifest_text);
    free(c->config_text);
    free(c);
}

const sgc_ckpt_info *sgc_ckpt_get_info(const sgc_ckpt *c) { return &c->info; }
const sgc_run_state *sgc_ckpt_get_state(const sgc_ckpt *c) { return &c->state; }

sgc_dtype sgc_ckpt_dtype(const sgc_ckpt *c) { return c->manifest.dtype; }

/* One file is open at a time: a rank reads them in order. */
static sgc_status open_file(sgc_ckpt *c, int file, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    SGC_TRY(file_path(c, file, path));
    if (c->open_file == file) return SGC_OK;
    if (c->fd >= 0) close(c->fd);
    c->open_file = -1;
    SGC_TRY(check_size(path, c->manifest.files[file].n_bytes));
    if ((c->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) return sgc_err_errno(SGC_ECKPT, "%s of the checkpoint cannot be read", path);
    c->open_file = file;
done:
    return st;
}

/* Bring a block of a file into the buffer, or to `out`, checked. data: what is read, for the message; NULL: no tensor. */
static sgc_status load_block(sgc_ckpt *c, int file, int64_t number, const sgc_manifest_data *data, char *out)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    const sgc_manifest_file *f = &c->manifest.files[file];
    int64_t first = number * c->manifest.block_size;
    int64_t n = f->n_bytes - first < c->manifest.block_size ? f->n_bytes - first : c->manifest.block_size;
    if (!out && c->block_file == file && c->block_number == number) return SGC_OK;
    if (!out && !c->block && !(c->block = sgc_mem_alloc(SGC_MEM_CHECKPOINT, (size_t)c->manifest.block_size))) return SGC_ENOMEM;
    char *bytes = out ? out : c->block;
    if (!out) c->block_file = -1;
    SGC_TRY(open_file(c, file, path));
    SGC_TRY(sgc_pread_all(c->fd, bytes, (size_t)n, first, path));
    double start_s = sgc_time_s();
    bool fits = sgc_hash64(bytes, (size_t)n) == f->hash[number];
    c->hash_s += sgc_time_s() - start_s;
    c->n_bytes_read += n;
    if (!fits) {
        char what[128] = "padding or metadata of HDF5";
        if (data) snprintf(what, sizeof(what), "part of %s of unit %s", sgc_slot_path[data->slot], data->unit);
        return sgc_err(SGC_ECKPT, "%s is damaged or of another checkpoint: bytes %" PRId64 " to %" PRId64 ", which hold %s, do not fit their hash in the "
                       "manifest", path, first, first + n - 1, what);
    }
    if (!out) {
        c->block_file = file;
        c->block_number = number;
    }
done:
    return st;
}

/* n elements of a shard's dataset, from element `first` of it. */
static sgc_status read_shard(sgc_ckpt *c, const sgc_manifest_data *data, int64_t first, int64_t n, float *out)
{
    sgc_status st = SGC_OK;
    const sgc_dtype dtype = c->manifest.dtype;
    int64_t block_size = c->manifest.block_size, bytes = sgc_dtype_bytes(dtype);
    int64_t next = data->offset + first * bytes, end = next + n * bytes;
    char *to = (char *)(out + n) - n * bytes; /* short elements grow in place, from the first on */
    const char *read = to;
    while (next < end) {
        int64_t block = next / block_size, stop = (block + 1) * block_size < end ? (block + 1) * block_size : end;
        bool is_whole = stop - next == block_size; /* goes straight to where it is wanted */
        SGC_TRY(load_block(c, c->manifest.file_of[data->shard], block, data, is_whole ? to : NULL));
        if (!is_whole) memcpy(to, c->block + (next - block * block_size), (size_t)(stop - next));
        to += stop - next;
        next = stop;
    }
    if (dtype != SGC_F32) sgc_dtype_unpack(dtype, read, n, out);
done:
    return st;
}

sgc_status sgc_ckpt_read(sgc_ckpt *c, const sgc_unit *unit, sgc_slot slot, int64_t first, int64_t n, float *out)
{
    sgc_status st = SGC_OK;
    int64_t end = first + n < unit->n ? first + n : unit->n, next = first;
    const sgc_manifest_data *data = sgc_manifest_find(&c->manifest, 0, slot, unit->name);
    if (!data)
        return sgc_err(SGC_ECKPT, "%s has no %s of unit %s: it is a checkpoint of another model", c->path, sgc_slot_path[slot], unit->name);
    int64_t n_shard = data->n;
    if (n_shard != sgc_flat_make(unit->n, c->manifest.world_size).n_shard)
        return sgc_err(SGC_ECKPT, "%s holds %" PRId64 " x %d elements of unit %s, which do not fit its %" PRId64 ": it is a checkpoint of "
                       "another model", c->path, n_shard, c->manifest.world_size, unit->name, unit->n);
    while (next < end) {
        int shard = (int)(next / n_shard);
        int64_t in_shard = next - shard * n_shard, n_here = n_shard - in_shard < end - next ? n_shard - in_shard : end - next;
        data = sgc_manifest_find(&c->manifest, shard, slot, unit->name);
        SGC_TRY(read_shard(c, data, in_shard, n_here, out + (next - first)));
        next += n_here;
    }
    int64_t n_read = next - first; /* the rest is padding */
    memset(out + n_read, 0, (size_t)(n - n_read) * sizeof(float));
done:
    return st;
}

/* Blocks of a file in which there are elements of tensors. holds: [n_blocks], false. */
static void mark_tensors(const sgc_manifest *m, const sgc_manifest_file *f, const sgc_model *model, bool *holds)
{
    for (int k = 0; k < f->n_data; k++) {
        const sgc_manifest_data *d = &f->data[k];
        const sgc_unit *unit = NULL;
        for (int u = 0; u < model->n_units && !unit; u++)
            if (strcmp(model->units[u].name, d->unit) == 0) unit = &model->units[u];
        int64_t n = unit ? unit->n - d->shard * d->n : 0; /* what lies beyond is padding */
        if (n > d->n) n = d->n;
        int64_t end = d->offset + n * sgc_dtype_bytes(m->dtype);
        for (int64_t block = d->offset / m->block_size; n > 0 && block * m->block_size < end; block++) holds[block] = true;
    }
}

sgc_status sgc_ckpt_check_rest(sgc_ckpt *c, const sgc_model *model, int rank, int n_ranks)
{
    sgc_status st = SGC_OK;
    bool *holds = NULL;
    for (int file = SGC_FILE_SHARDS; file < c->manifest.n_files; file++) {
        const sgc_manifest_file *f = &c->manifest.files[file];
        if ((file - SGC_FILE_SHARDS) % n_ranks != rank) continue;
        free(holds);
        if (!(holds = calloc((size_t)f->n_blocks + 1, sizeof(*holds)))) return sgc_err(SGC_ENOMEM, "no memory to check %s", c->path);
        mark_tensors(&c->manifest, f, model, holds);
        for (int64_t block = 0; block < f->n_blocks; block++)
            if (!holds[block]) SGC_TRY(load_block(c, file, block, NULL, NULL));
    }
done:
    free(holds);
    return st;
}

/*
 * Another checkpoint out of one: other shards, weights only, another element type. Shard files are made block by block: of the
 * bytes that HDF5 wants, and of tensors that are read from the source as they are needed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/inspect.h"
#include "ckpt/shard_impl.h"

typedef struct conversion {
    sgc_ckpt_view from;
    sgc_group *group;         /* borrowed */
    int rank, size;
    sgc_ckpt_info info;       /* of the new checkpoint */
    int64_t block_size;
    sgc_dtype dtype;
    sgc_ckpt_files *files;
    sgc_ckpt_part *parts;     /* owned: what each shard holds; no values */
    int n_parts;
    char final[SGC_PATH_MAX], temporary[SGC_PATH_MAX], parent[SGC_PATH_MAX];
    char *block;              /* owned: [block_size] of the file that is written */
    float *values;            /* owned: the elements of a block, whole ones also at its ends */
    char *index;              /* owned: rank 0: [n_index] checkpoint.h5 */
    size_t n_index;
    int64_t n_overflows, n_bytes;
} conversion;

/* The dataset of part k in shard `shard`: where in the file its bytes are. */
typedef struct target { const sgc_h5_sketch *sketch; const int64_t *offset; int shard; } target;

/* Bytes [from, to) of the file, which lie in part k, into the block that begins at `first`. */
static sgc_status fill(conversion *c, const target *t, int k, int64_t from, int64_t to, int64_t first)
{
    sgc_status st = SGC_OK;
    const sgc_ckpt_part *p = &c->parts[k];
    int64_t bytes = sgc_dtype_bytes(c->dtype), begin = (from - t->offset[k]) / bytes, end = (to - t->offset[k] + bytes - 1) / bytes;
    SGC_TRY(sgc_ckpt_read(c->from.ckpt, p->unit, p->slot, t->shard * p->flat.n_shard + begin, end - begin, c->values));
    if (c->dtype == SGC_F16)
        for (int64_t i = 0; i < end - begin; i++) c->n_overflows += isfinite(c->values[i]) && fabsf(c->values[i]) >= 65520.0f;
    sgc_dtype_pack(c->dtype, c->values, end - begin, c->values);
    memcpy(c->block + (from - first), (const char *)c->values + (from - t->offset[k] - begin * bytes), (size_t)(to - from));
done:
    return st;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static sgc_status make_block(conversion *c, const target *t, int64_t first, int64_t end)
{
    sgc_status st = SGC_OK;
    memset(c->block, 0, (size_t)(end - first));
    for (int i = 0; i < t->sketch->n_pieces; i++) {
        const sgc_h5_piece *p = &t->sketch->pieces[i];
        int64_t from = larger(first, p->offset), to = smaller(end, p->offset + p->n_bytes);
        if (from < to) memcpy(c->block + (from - first), p->bytes + (from - p->offset), (size_t)(to - from));
    }
    for (int k = 0; k < c->n_parts; k++) {
        int64_t from = larger(first, t->offset[k]), to = smaller(end, t->offset[k] + c->parts[k].flat.n_shard * sgc_dtype_bytes(c->dtype));
        if (from < to) SGC_TRY(fill(c, t, k, from, to, first));
    }
done:
    return st;
}

/* The places of datasets as HDF5 lays them out. */
static sgc_status sketch_shard(conversion *c, int shard, sgc_h5_sketch *sketch, int64_t *offset)
{
    sgc_status st = SGC_OK;
    sgc_h5 *f = NULL;
    char dataset[256], name[64];
    int64_t n_bytes;
    hid_t type = sgc_dtype_h5(c->dtype);
    sgc_manifest_path(name, SGC_FILE_SHARDS + shard, c->files->n_files);
    SGC_TRY(sgc_h5_create_sketch(&f, name));
    for (int k = 0; k < c->n_parts; k++) {
        const hsize_t shape[1] = {(hsize_t)c->parts[k].flat.n_shard};
        sgc_shard_dataset(dataset, c->files, c->info.id, shard, &c->parts[k]);
        SGC_TRY(sgc_h5_write(sgc_h5_id(f), dataset, type, 1, shape, NULL));
        SGC_TRY(sgc_h5_offset(sgc_h5_id(f), dataset, &offset[k], &n_bytes));
    }
    SGC_TRY(sgc_h5_close_sketch(&f, sketch));
done:
    if (f) SGC_KEEP(sgc_h5_close(&f));
    H5Tclose(type);
    return st;
}

static sgc_status write_blocks(conversion *c, const target *t, const char *path, sgc_str *lines)
{
    sgc_status st = SGC_OK;
    int64_t n_bytes = t->sketch->n_bytes;
    SGC_TRY(sgc_room_reserve(path, n_bytes));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot open %s", path);
    for (int64_t first = 0; first < n_bytes && st == SGC_OK; first += c->block_size) {
        int64_t end = smaller(first + c->block_size, n_bytes);
        if ((st = make_block(c, t, first, end)) != SGC_OK) break;
        sgc_manifest_put_hash(lines, sgc_hash64(c->block, (size_t)(end - first)));
        st = sgc_pwrite_all(fd, c->block, (size_t)(end - first), first, path);
    }
    if (st == SGC_OK && fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
done:
    return st;
}

static sgc_status write_shard(conversion *c, int shard, sgc_str *lines)
{
    sgc_status st = SGC_OK;
    char name[64], path[SGC_PATH_MAX];
    sgc_h5_sketch sketch = {0};
    int64_t *offset = calloc((size_t)c->n_parts + 1, sizeof(*offset));
    if (!offset) return sgc_err(SGC_ENOMEM, "no memory for the layout of a shard");
    sgc_manifest_path(name, SGC_FILE_SHARDS + shard, c->files->n_files);
    SGC_TRY(sgc_path_join(path, c->temporary, name));
    SGC_TRY(sketch_shard(c, shard, &sketch, offset));
    sgc_manifest_put_file(lines, SGC_FILE_SHARDS + shard, c->files->n_files, sketch.n_bytes);
    SGC_TRY(write_blocks(c, &(target){.sketch = &sketch, .offset = offset, .shard = shard}, path, lines));
    for (int k = 0; k < c->n_parts; k++)
        sgc_manifest_put_data(lines, offset[k], c->parts[k].flat.n_shard, c->parts[k].slot, c->parts[k].unit->name);
    c->n_bytes += sketch.n_bytes;
done:
    sgc_h5_sketch_free(&sketch);
    free(offset);
    return st;
}

/* This rank's share of the shards: neighbours, so that the lines of all ranks one after the other are in order. */
static sgc_status write_share(conversion *c, sgc_str *lines)
{
    sgc_status st = SGC_OK;
    int64_t n = c->files->n_shards, begin = n * c->rank / c->size, end = n * (c->rank + 1) / c->size;
    size_t n_values = (size_t)(c->block_size / sgc_dtype_bytes(c->dtype) + 2);
    sgc_str_printf(lines, "%s", "");
    c->block = sgc_mem_alloc(SGC_MEM_CHECKPOINT, (size_t)c->block_size);
    c->values = sgc_mem_alloc(SGC_MEM_CHECKPOINT, n_values * sizeof(*c->values));
    if (!c->block || !c->values) return SGC_ENOMEM;
    for (int64_t shard = begin; shard < end; shard++) SGC_TRY(write_shard(c, (int)shard, lines));
done:
    return st;
}

static sgc_status write_file(conversion *c, const char *name, const char *bytes, size_t n_bytes)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(path, c->temporary, name));
    SGC_TRY(sgc_room_reserve(path, (int64_t)n_bytes));
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot open %s", path);
    st = sgc_pwrite_all(fd, bytes, n_bytes, 0, path);
    if (st == SGC_OK && fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    c->n_bytes += (int64_t)n_bytes;
done:
    return st;
}

/* Rank 0: index, settings, manifest; then the final name. */
static sgc_status publish_local(conversion *c, const char *shard_lines, size_t n_line_bytes)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    const char *settings = c->from.ckpt->config_text;
    sgc_str manifest = {0};
    int n_files = c->files->n_files;
    SGC_TRY(sgc_path_join(path, c->temporary, "shards"));
    SGC_TRY(sgc_fsync_path(path));
    SGC_TRY(write_file(c, "checkpoint.h5", c->index, c->n_index));
    SGC_TRY(write_file(c, "config.cfg", settings, strlen(settings)));
    sgc_manifest_put_head(&manifest, c->info.id, c->info.step, c->info.world_size, n_files, c->block_size);
    sgc_manifest_put_dtype(&manifest, c->dtype);
    sgc_manifest_put_bytes(&manifest, SGC_FILE_INDEX, n_files, c->index, c->n_index, c->block_size);
    sgc_manifest_put_bytes(&manifest, SGC_FILE_CONFIG, n_files, settings, strlen(settings), c->block_size);
    sgc_str_append(&manifest, shard_lines, n_line_bytes);
    sgc_manifest_put_end(&manifest);
    SGC_TRY(write_file(c, SGC_MANIFEST_NAME, manifest.text, manifest.n));
    SGC_TRY(sgc_fsync_path(c->temporary));
    if (rename(c->temporary, c->final) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", c->temporary, c->final);
        goto done;
    }
    SGC_TRY(sgc_fsync_path(c->parent));
done:
    sgc_str_free(&manifest);
    return st;
}

/* PARENT/NAME and PARENT/.NAME.tmp-ID */
static sgc_status name_places(conversion *c, const char *to)
{
    sgc_str hidden = {0};
    size_t n = strlen(to);
    while (n > 1 && to[n - 1] == '/') n--;
    if (n == 0 || n >= SGC_PATH_MAX - 64) return sgc_err(SGC_ECONFIG, "'%.60s' is no name for a new checkpoint", to);
    snprintf(c->final, sizeof(c->final), "%.*s", (int)n, to);
    const char *slash = strrchr(c->final, '/'), *name = slash ? slash + 1 : c->final;
    snprintf(c->parent, sizeof(c->parent), "%.*s", slash ? slash == c->final ? 1 : (int)(slash - c->final) : 1, slash ? c->final : ".");
    sgc_str_printf(&hidden, ".%s.tmp-%s", name, c->info.id);
    sgc_status st = sgc_path_join(c->temporary, c->parent, hidden.text);
    sgc_str_free(&hidden);
    return st;
}

static sgc_status list_parts(conversion *c)
{
    const sgc_model *m = c->from.model;
    c->parts = calloc((size_t)m->n_units * SGC_N_SLOTS + 1, sizeof(*c->parts));
    if (!c->parts) return sgc_err(SGC_ENOMEM, "no memory for the list of shards");
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; sgc_ckpt_has_slot(c->from.ckpt, slot) && u < m->n_units; u++)
            c->parts[c->n_parts++] = (sgc_ckpt_part){.unit = &m->units[u], .slot = slot, .flat = sgc_flat_make(m->units[u].n, c->info.world_size)};
    return SGC_OK;
}

static sgc_status prepare_local(conversion *c, const char *from, const char *to, const sgc_convert_spec *spec)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_ckpt_view_open(&c->from, from));
    char id[SGC_ID_CHARS + 1];
    memcpy(id, c->info.id, sizeof(id));
    c->info = *sgc_ckpt_get_info(c->from.ckpt);
    memcpy(c->info.id, id, sizeof(id));
    c->block_size = c->from.ckpt->manifest.block_size;
    c->dtype = spec->has_dtype ? spec->dtype : sgc_ckpt_dtype(c->from.ckpt);
    bool weights_only = spec->weights_only || sgc_ckpt_is_weights_only(c->from.ckpt);
    if (c->dtype != SGC_F32 && !weights_only)
        return sgc_err(SGC_ECONFIG, "a checkpoint to resume from has float32 tensors; for %s add --weights_only", sgc_dtype_name(c->dtype));
    if (spec->n_shards > 0) c->info.world_size = spec->n_shards;
    snprintf(c->info.dtype, sizeof(c->info.dtype), "%s", sgc_dtype_name(c->dtype));
    sgc_time_iso(c->info.date);
    snprintf(c->info.host, sizeof(c->info.host), "%.*s", (int)sizeof(c->info.host) - 1, sgc_node_name());
    SGC_TRY(name_places(c, to));
    if (sgc_path_exists(c->final)) return sgc_err(SGC_ECONFIG, "%s is already there; choose another name, or remove it", c->final);
    SGC_TRY(sgc_files_single(&c->files, c->info.world_size));
    SGC_TRY(list_parts(c));
    if (!weights_only) return SGC_OK;
    int n = 0;
    while (n < c->n_parts && c->parts[n].slot == SGC_SLOT_MODEL) n++;
    c->n_parts = n;
done:
    return st;
}

/* Of earlier conversions to this name that were killed, or of one that is under way: only whoever started it knows. */
static void name_leftovers(const conversion *c)
{
    const char *name = strrchr(c->temporary, '/') + 1;
    size_t n = strlen(name) - SGC_ID_CHARS; /* ".NAME.tmp-" */
    DIR *directory = opendir(c->parent);
    if (!directory) return; /* it is yet to be made */
    for (struct dirent *e; (e = readdir(directory));)
        if (strncmp(e->d_name, name, n) == 0)
            sgc_log_warning("%s/%s is left of a command that did not end, unless one is at work there: stagecoach ckpt prune %s removes it", c->parent,
                            e->d_name, c->parent);
    closedir(directory);
}

/* A checkpoint inside another would go with it. TO's directories need not be there yet. */
static sgc_status check_outside(const conversion *c)
{
    char problem[256], *real = NULL, up[SGC_PATH_MAX];
    snprintf(up, sizeof(up), "%s", c->parent);
    while (!(real = realpath(up, NULL)) && strrchr(up, '/') > up) *strrchr(up, '/') = '\0';
    if (!real) real = realpath(up[0] == '/' ? "/" : ".", NULL);
    while (real && real[0] && !sgc_ckpt_is_one(real, problem)) *strrchr(real, '/') = '\0';
    sgc_status st = real && real[0] ? sgc_err(SGC_ECONFIG, "%s would lie inside the checkpoint %s; choose a place outside", c->final, real) : SGC_OK;
    free(real);
    return st;
}

/* All but the manifest and what HDF5 adds to shards: too little room is said before the first byte, for the rest when it is written. */
static int64_t n_bytes_needed(const conversion *c)
{
    int64_t n = (int64_t)c->n_index + (int64_t)strlen(c->from.ckpt->config_text);
    for (int k = 0; k < c->n_parts; k++) n += c->parts[k].flat.n_shard * c->info.world_size * sgc_dtype_bytes(c->dtype);
    return n;
}

static sgc_status make_directories_local(conversion *c)
{
    sgc_status st = SGC_OK;
    char shards[SGC_PATH_MAX];
    SGC_TRY(check_outside(c));
    name_leftovers(c);
    SGC_TRY(sgc_index_make(c->from.model, &c->info, sgc_ckpt_get_state(c->from.ckpt), c->parts, c->n_parts, c->files, &c->index, &c->n_index));
    SGC_TRY(sgc_path_join(shards, c->temporary, "shards"));
    SGC_TRY(sgc_make_dirs(shards));
    SGC_TRY(sgc_room_check(c->temporary, n_bytes_needed(c)));
done:
    return st;
}

sgc_status sgc_ckpt_convert(const char *from, const char *to, const sgc_convert_spec *spec, sgc_group *group, sgc_convert_result *result)
{
    sgc_status st = SGC_OK;
    conversion c = {.group = group, .rank = sgc_group_rank(group), .size = sgc_group_size(group)};
    sgc_str lines = {0};
    char *all = NULL;
    bool has_directory = false;
    int64_t *n_bytes_of = NULL, n_bytes = 0;
    if (c.rank == 0) sgc_ckpt_new_id(c.info.id);
    SGC_TRY(sgc_bcast_bytes(group, c.info.id, sizeof(c.info.id), 0));
    st = prepare_local(&c, from, to, spec);
    SGC_AGREE(group);
    has_directory = true;
    if (c.rank == 0) st = make_directories_local(&c);
    SGC_AGREE(group);
    if (!(n_bytes_of = calloc((size_t)c.size, sizeof(*n_bytes_of))))
        st = sgc_err(SGC_ENOMEM, "no memory for the manifest");
    else
        st = write_share(&c, &lines);
    SGC_AGREE(group);
    SGC_TRY(sgc_gather_bytes(group, lines.text, (int64_t)lines.n, &all, n_bytes_of, 0));
    for (int rank = 0; c.rank == 0 && rank < c.size; rank++) n_bytes += n_bytes_of[rank];
    if (c.rank == 0) st = publish_local(&c, all, (size_t)n_bytes);
    SGC_AGREE(group);
    has_directory = false;
    SGC_TRY(sgc_sum_int64(group, &c.n_overflows, 1));
    SGC_TRY(sgc_sum_int64(group, &c.n_bytes, 1));
    *result = (sgc_convert_result){.n_shards = c.info.world_size, .dtype = c.dtype, .weights_only = c.parts[c.n_parts - 1].slot == SGC_SLOT_MODEL,
                                   .n_bytes = c.n_bytes, .n_overflows = c.n_overflows};
done:
    if (has_directory && c.rank == 0) SGC_KEEP(sgc_remove_tree(c.temporary));
    sgc_ckpt_view_close(&c.from);
    sgc_files_free(c.files);
    free(c.parts);
    sgc_mem_free(c.block);
    sgc_mem_free(c.values);
    free(c.index);
    sgc_str_free(&lines);
    free(all);
    free(n_bytes_of);
    return st;
}

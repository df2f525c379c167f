/* Between the engine's shards and a checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/save_impl.h"

/* As fast as the memory: by all threads. From a GPU it is there at the next wait. */
static void copy_shard(const sgc_zero *engine, float *to, const float *from, int64_t n)
{
    if (!sgc_zero_is_visible(engine)) {
        sgc_device_download(sgc_zero_device(engine), to, from, (size_t)n * sizeof(*to));
        return;
    }
    const int64_t piece = 1 << 18;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += piece) memcpy(to + i, from + i, (size_t)(n - i < piece ? n - i : piece) * sizeof(*to));
}

size_t sgc_save_buffer_bytes(const sgc_zero *engine, const sgc_model *model)
{
    size_t n = 0;
    for (int u = 0; u < model->n_units; u++) n += SGC_N_SLOTS * (size_t)sgc_zero_flat(engine, u).n_shard * sizeof(float);
    return n;
}

/* All slots of all units; copied to the buffer if there is one, else where they are. */
static int collect_parts(const sgc_ckpt_job *job, float *buffer, sgc_ckpt_part *parts)
{
    int n_units = job->model->n_units, n_parts = SGC_N_SLOTS * n_units;
    for (int k = 0; k < n_parts; k++) {
        int u = k % n_units, slot = k / n_units;
        sgc_ckpt_part *p = &parts[k];
        *p = (sgc_ckpt_part){.unit = &job->model->units[u], .slot = slot, .flat = sgc_zero_flat(job->engine, u),
                             .values = sgc_zero_shard(job->engine, u, slot)};
        if (!buffer) {
            p->device = sgc_zero_is_visible(job->engine) ? NULL : sgc_zero_device(job->engine);
            continue;
        }
        copy_shard(job->engine, buffer, p->values, p->flat.n_shard);
        p->values = buffer;
        buffer += p->flat.n_shard;
    }
    return n_parts;
}

/* The list of shards, copied if there is a buffer. */
static sgc_status copy_local(const sgc_ckpt_job *job, void *buffer, sgc_ckpt_part **parts, int *n_parts)
{
    *parts = calloc((size_t)job->model->n_units * SGC_N_SLOTS, sizeof(**parts));
    if (!*parts) return sgc_err(SGC_ENOMEM, "no memory for the list of shards");
    *n_parts = collect_parts(job, buffer, *parts);
    return sgc_device_finish(sgc_zero_device(job->engine));
}

sgc_status sgc_ckpt_begin(sgc_save **s, const sgc_ckpt_job *job, void *buffer)
{
    int n_parts = 0;
    sgc_ckpt_part *parts = NULL;
    double start_s = sgc_time_s();
    sgc_status st = copy_local(job, buffer, &parts, &n_parts);
    double copy_s = sgc_time_s() - start_s;
    SGC_AGREE(job->group);
    SGC_TRY(sgc_save_begin(s, job, parts, n_parts, buffer != NULL));
    (*s)->start_s = start_s; /* the copy is part of it */
    (*s)->copy_s = copy_s;
done:
    free(parts);
    return st;
}

sgc_status sgc_ckpt_write(const sgc_ckpt_job *job, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    sgc_save *s = NULL;
    SGC_TRY(sgc_ckpt_begin(&s, job, NULL));
    SGC_TRY(sgc_save_finish(s));
    strcpy(path, sgc_save_path(s));
done:
    sgc_save_free(s);
    return st;
}

enum { PIECE = 16 << 20 }; /* elements of a shard that go to a GPU at once */

/* One slot of one unit; piece: where it is read to if the host does not see the shard. */
static sgc_status load_shard(sgc_ckpt *c, sgc_zero *engine, const sgc_unit *unit, int slot, int rank, float *piece)
{
    sgc_status st = SGC_OK;
    const sgc_flat flat = sgc_zero_flat(engine, unit->index);
    float *shard = sgc_zero_shard(engine, unit->index, slot);
    if (!piece) return sgc_ckpt_read(c, unit, slot, rank * flat.n_shard, flat.n_shard, shard);
    for (int64_t i = 0, n; i < flat.n_shard; i += n) {
        n = flat.n_shard - i < PIECE ? flat.n_shard - i : PIECE;
        SGC_TRY(sgc_ckpt_read(c, unit, slot, rank * flat.n_shard + i, n, piece));
        SGC_TRY(sgc_device_write(sgc_zero_device(engine), shard + i, piece, (size_t)n * sizeof(*piece)));
    }
done:
    return st;
}

static int64_t largest_shard(const sgc_zero *engine, const sgc_model *model)
{
    int64_t n = 0;
    for (int u = 0; u < model->n_units; u++)
        if (sgc_zero_flat(engine, u).n_shard > n) n = sgc_zero_flat(engine, u).n_shard;
    return n;
}

static sgc_status load_local(sgc_ckpt *c, sgc_zero *engine, const sgc_model *model, bool weights_only, int rank, int n_ranks)
{
    sgc_status st = SGC_OK;
    float *piece = NULL;
    int64_t n = largest_shard(engine, model);
    if (!sgc_zero_is_visible(engine) &&
        !(piece = sgc_device_alloc_staging(sgc_zero_device(engine), SGC_MEM_CHECKPOINT, (size_t)(n < PIECE ? n : PIECE) * sizeof(*piece))))
        return SGC_ENOMEM;
    for (int slot = 0; slot < (weights_only ? SGC_SLOT_MODEL + 1 : SGC_N_SLOTS); slot++)
        for (int u = 0; u < model->n_units; u++)
            SGC_TRY(load_shard(c, engine, &model->units[u], slot, rank, piece));
    SGC_TRY(sgc_ckpt_check_rest(c, model, rank, n_ranks));
done:
    sgc_device_free(sgc_zero_device(engine), piece);
    return st;
}

sgc_status sgc_ckpt_load(sgc_ckpt *c, sgc_zero *engine, const sgc_model *model, bool weights_only, sgc_group *group)
{
    double start_s = sgc_time_s();
    char size[32];
    sgc_status st = load_local(c, engine, model, weights_only, sgc_group_rank(group), sgc_group_size(group));
    double read_s = sgc_time_s() - start_s;
    SGC_AGREE(group);
    sgc_log_debug("%s read in %.2f s, of which checking hashes took %.1f %%", sgc_format_bytes((double)c->n_bytes_read, size), read_s,
                  read_s > 0 ? 100 * c->hash_s / read_s : 0);
    SGC_TRY(sgc_zero_loaded(engine));
done:
    return st;
}

/* Between the engine's shards and a checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"

/* As fast as the memory: by all threads. */
static void copy_floats(float *to, const float *from, int64_t n)
{
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

/* All slots of all units; copied to the buffer if there is one. */
static int collect_parts(const sgc_ckpt_job *job, float *buffer, sgc_ckpt_part *parts)
{
    int n_units = job->model->n_units, n_parts = SGC_N_SLOTS * n_units;
    for (int k = 0; k < n_parts; k++) {
        int u = k % n_units, slot = k / n_units;
        sgc_ckpt_part *p = &parts[k];
        *p = (sgc_ckpt_part){.unit = &job->model->units[u], .slot = slot, .flat = sgc_zero_flat(job->engine, u),
                             .values = sgc_zero_shard(job->engine, u, slot)};
        if (!buffer) continue;
        copy_floats(buffer, p->values, p->flat.n_shard);
        p->values = buffer;
        buffer += p->flat.n_shard;
    }
    return n_parts;
}

sgc_status sgc_ckpt_begin(sgc_save **s, const sgc_ckpt_job *job, void *buffer)
{
    sgc_status st = SGC_OK;
    int n_parts = 0;
    sgc_ckpt_part *parts = calloc((size_t)job->model->n_units * SGC_N_SLOTS, sizeof(*parts));
    if (!parts) st = sgc_err(SGC_ENOMEM, "no memory for the list of shards");
    SGC_AGREE(job->group);
    n_parts = collect_parts(job, buffer, parts);
    SGC_TRY(sgc_save_begin(s, job, parts, n_parts, buffer != NULL));
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

static sgc_status load_local(sgc_ckpt *c, sgc_zero *engine, const sgc_model *model, bool weights_only, int rank)
{
    sgc_status st = SGC_OK;
    for (int slot = 0; slot < (weights_only ? SGC_SLOT_MODEL + 1 : SGC_N_SLOTS); slot++)
        for (int u = 0; u < model->n_units; u++) {
            const sgc_flat flat = sgc_zero_flat(engine, u);
            SGC_TRY(sgc_ckpt_read(c, &model->units[u], slot, rank * flat.n_shard, flat.n_shard, sgc_zero_shard(engine, u, slot)));
        }
done:
    return st;
}

sgc_status sgc_ckpt_load(sgc_ckpt *c, sgc_zero *engine, const sgc_model *model, bool weights_only, sgc_group *group)
{
    double start_s = sgc_time_s();
    char size[32];
    sgc_status st = load_local(c, engine, model, weights_only, sgc_group_rank(group));
    double read_s = sgc_time_s() - start_s;
    SGC_AGREE(group);
    sgc_log_debug("%s read in %.2f s, of which checking hashes took %.1f %%", sgc_format_bytes((double)c->n_bytes_read, size), read_s,
                  read_s > 0 ? 100 * c->hash_s / read_s : 0);
    SGC_TRY(sgc_zero_loaded(engine));
done:
    return st;
}

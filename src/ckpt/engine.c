/* Between the engine's shards and a checkpoint. */
#include <stdlib.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"

sgc_status sgc_ckpt_write(const sgc_ckpt_job *job, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    int n_units = job->model->n_units, n_parts = 0;
    sgc_ckpt_part *parts = calloc((size_t)n_units * SGC_N_SLOTS, sizeof(*parts));
    if (!parts) st = sgc_err(SGC_ENOMEM, "no memory for the list of shards");
    SGC_AGREE(job->group);
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < n_units; u++)
            parts[n_parts++] = (sgc_ckpt_part){.unit = &job->model->units[u], .slot = slot, .flat = sgc_zero_flat(job->engine, u),
                                               .values = sgc_zero_shard(job->engine, u, slot)};
    SGC_TRY(sgc_ckpt_write_parts(job, parts, n_parts, path));
done:
    free(parts);
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

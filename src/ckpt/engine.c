/* Between the engine's shards and a checkpoint. */
#include <stdlib.h>

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
    sgc_status st = load_local(c, engine, model, weights_only, sgc_group_rank(group));
    SGC_AGREE(group);
    SGC_TRY(sgc_zero_loaded(engine));
done:
    return st;
}

#include "train/exchange_impl.h"

#include "base/log.h"
#include "shard/flat.h"

/* Programs that are linked without the CUDA device, or without NCCL, have none of these. */
sgc_status sgc_nccl_find(int *version) __attribute__((weak));
sgc_status sgc_group_use_nccl(sgc_group *g, const sgc_nccl_spec *spec) __attribute__((weak));

static sgc_status watch(void *group) { return sgc_group_ops(group)->watch(group); }

static sgc_status find_nccl_local(int *version)
{
    if (sgc_nccl_find) return sgc_nccl_find(version);
    return sgc_err(SGC_EDEVICE, "this stagecoach was built without NCCL: build it with ./configure --with-nccl, or write --comm.backend mpi");
}

/* Ranks of a node if that is regular: so many consecutive ones on each; else 0. */
static sgc_status find_nodes(sgc_world *w, int *ranks_per_node)
{
    sgc_status st = SGC_OK;
    int64_t n_irregular = w->rank != w->node_index * w->node_size + w->node_rank || w->size != w->n_nodes * w->node_size;
    SGC_TRY(sgc_sum_int64(w->all, &n_irregular, 1));
    *ranks_per_node = n_irregular == 0 ? w->node_size : 0;
done:
    return st;
}

static sgc_status use_nccl(sgc_world *w, const sgc_config *c, sgc_device *d, int version)
{
    sgc_status st = SGC_OK;
    sgc_nccl_spec spec = {.device = d, .stream = d->ops->memory->stream(d), .timeout_s = c->comm.timeout_s};
    SGC_TRY(find_nodes(w, &spec.ranks_per_node));
    SGC_TRY(sgc_group_use_nccl(w->all, &spec));
    sgc_log_info("messages between GPUs: NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
done:
    return st;
}

static sgc_status use_staged(sgc_world *w, sgc_device *d, const sgc_model *model, sgc_dtype type, const char *why)
{
    sgc_status st = SGC_OK;
    const sgc_device_memory *m = d->ops->memory;
    sgc_staging staging = {.device = d, .alloc_staging = m->alloc_staging, .free_staging = m->free_staging, .copy = m->copy, .upload = m->upload,
                           .download = m->download, .mark_make = m->mark_make, .mark_free = m->mark_free, .mark_set = m->mark_set, .mark_wait = m->mark_wait};
    int64_t most = 0;
    for (int i = 0; i < model->n_units; i++) {
        int64_t n = sgc_flat_make(model->units[i].n, w->size).n_shard;
        if (n > most) most = n;
    }
    SGC_TRY(sgc_group_use_staged(w->all, &staging, type, most));
    if (w->size > 1) sgc_log_info("messages between GPUs: MPI, by way of the host's memory%s%s", why[0] ? ": " : "", why);
done:
    return st;
}

sgc_status sgc_exchange_begin(sgc_world *w, const sgc_config *c, sgc_device *d, const sgc_model *model, sgc_dtype type)
{
    sgc_status st = SGC_OK;
    const sgc_device_memory *memory = d->ops->memory;
    bool is_asked_for = c->comm.backend == SGC_BACKEND_NCCL, is_wanted = is_asked_for || (c->comm.backend == SGC_BACKEND_AUTO && w->size > 1);
    char why[512] = "";
    int version = 0;
    if (is_asked_for && !(memory && memory->stream)) {
        st = sgc_err(SGC_ECONFIG, "--comm.backend nccl: NCCL carries messages between GPUs, and this job computes on CPUs: write --comm.backend auto");
        SGC_AGREE(w->all);
    }
    if (!memory) return SGC_OK; /* MPI reaches it */
    if (is_wanted && !is_asked_for && c->device.share) {
        snprintf(why, sizeof(why), "NCCL refuses ranks that share a GPU");
        is_wanted = false;
    }
    if (is_wanted) {
        st = sgc_agree(w->all, find_nccl_local(&version));
        if (st != SGC_OK && is_asked_for) goto done;
        if (st != SGC_OK) {
            snprintf(why, sizeof(why), "%.500s", sgc_err_message());
            sgc_err_clear();
            is_wanted = false;
        }
    }
    if (is_wanted) SGC_TRY(use_nccl(w, c, d, version));
    else SGC_TRY(use_staged(w, d, model, type, why));
    d->watched = w->all;
    d->watch = sgc_group_ops(w->all)->watch ? watch : NULL;
done:
    return st;
}

void sgc_exchange_end(sgc_world *w, sgc_device *d)
{
    d->watch = NULL;
    sgc_group_use_mpi(w->all);
}

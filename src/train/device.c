#include "train/device_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"

static bool is_for_gpus(const sgc_config *c)
{
    return !c->training.use_cpu && !c->training.no_cuda && (c->device.type == SGC_DEVICE_AUTO || c->device.type == SGC_DEVICE_CUDA);
}

/* A rank with GPUs and one without cannot share a job: with one of each kind, this rank's complaint. */
static sgc_status check_mixture(sgc_world *w, const sgc_gpus *gpus, bool *all, bool *none)
{
    sgc_status st = SGC_OK;
    char node[256];
    double first = gpus->n > 0 ? w->rank : w->size; /* the lowest rank with a GPU */
    int64_t n_with = gpus->n > 0;
    SGC_TRY(sgc_sum_int64(w->all, &n_with, 1));
    SGC_TRY(sgc_min_double(w->all, &first, 1));
    *all = n_with == w->size;
    *none = n_with == 0;
    if (*all || *none) goto done;
    snprintf(node, sizeof(node), "%s", sgc_node_name());
    SGC_TRY(sgc_bcast_bytes(w->all, node, sizeof(node), (int)first));
    if (gpus->n == 0)
        st = sgc_err(SGC_EDEVICE, "node %s has no GPU for this job (%s), but rank %d on node %s has: give the job nodes of one kind, or write --use_cpu true",
                     sgc_node_name(), gpus->none, (int)first, node);
    SGC_AGREE(w->all);
done:
    return st;
}

static bool is_same(const sgc_gpus *x, const sgc_gpus *y) { return x->n == y->n && memcmp(x->id, y->id, (size_t)x->n * sizeof(x->id[0])) == 0; }

/* This rank's number among the ranks of its node that see the same GPUs. of: [node_size] what each sees. */
static void find_place(const sgc_world *w, const sgc_gpus *of, sgc_device_spec *spec)
{
    const sgc_gpus *own = &of[w->node_rank];
    spec->node_rank = spec->node_size = 0;
    for (int r = 0; r < w->node_size; r++) {
        if (!is_same(&of[r], own)) continue;
        if (r < w->node_rank) spec->node_rank++;
        spec->node_size++;
    }
}

/* The GPU that rank r of the node takes. */
static const uint8_t *taken_by(const sgc_gpus *of, int r)
{
    int place = 0;
    for (int i = 0; i < r; i++) place += is_same(&of[i], &of[r]);
    return of[r].id[place % of[r].n];
}

/* Ranks that were shown different GPUs may have been shown some twice. */
static sgc_status check_overlap(const sgc_world *w, const sgc_gpus *of)
{
    for (int r = 0; r < w->node_size; r++)
        if (!is_same(&of[r], &of[w->node_rank]) && memcmp(taken_by(of, r), taken_by(of, w->node_rank), sizeof(of->id[0])) == 0)
            return sgc_err(SGC_EDEVICE, "two ranks of node %s would take the same GPU: show every rank all GPUs of the node, or each one of its own "
                           "(CUDA_VISIBLE_DEVICES, srun --gpus-per-task=1), or write --device.share true", sgc_node_name());
    return SGC_OK;
}

static sgc_status choose_gpu(sgc_world *w, const sgc_gpus *own, sgc_device_spec *spec)
{
    sgc_status st = SGC_OK;
    char *bytes = NULL;
    sgc_gpus *of = calloc((size_t)w->node_size, sizeof(*of));
    int64_t *n_bytes_of = calloc((size_t)w->node_size, sizeof(*n_bytes_of));
    if (!of || !n_bytes_of) st = sgc_err(SGC_ENOMEM, "no memory for the list of GPUs");
    SGC_AGREE(w->all);
    SGC_TRY(sgc_gather_bytes(w->node, own, sizeof(*own), &bytes, n_bytes_of, 0));
    if (w->node_rank == 0) memcpy(of, bytes, (size_t)w->node_size * sizeof(*of));
    SGC_TRY(sgc_bcast_bytes(w->node, of, w->node_size * (int64_t)sizeof(*of), 0));
    find_place(w, of, spec);
    for (int r = 0; r < w->node_size; r++) spec->n_sharing += memcmp(taken_by(of, r), taken_by(of, w->node_rank), sizeof(of->id[0])) == 0;
    if (!spec->share) st = check_overlap(w, of);
    SGC_AGREE(w->all);
done:
    free(of);
    free(n_bytes_of);
    free(bytes);
    return st;
}

/* Programs that were built without cuDNN have no such function. */
sgc_status sgc_cudnn_find(int *version) __attribute__((weak));

static sgc_status find_cudnn_local(int *version)
{
    *version = 0;
    if (sgc_cudnn_find) return sgc_cudnn_find(version);
    return sgc_err(SGC_EDEVICE, "this stagecoach was built without cuDNN: build it with ./configure --with-cudnn, or write --device.attention own");
}

/* All ranks use the same cuDNN, or none: which rank does what work must not decide about bits. */
static sgc_status choose_attention(sgc_world *w, const sgc_config *c, sgc_device_spec *spec)
{
    const bool is_asked_for = c->device.attention == SGC_ATTENTION_CUDNN, has_short_values = c->training.bf16 || c->training.fp16;
    int version = 0;
    spec->attention = c->device.attention;
    if (!is_asked_for && (!has_short_values || spec->full_determinism)) spec->attention = SGC_ATTENTION_OWN;
    if (spec->attention == SGC_ATTENTION_OWN) return SGC_OK;
    sgc_status st = sgc_agree(w->all, find_cudnn_local(&version));
    if (st != SGC_OK && is_asked_for) return st;
    if (st != SGC_OK) {
        sgc_log_info("attention: own kernels: %s", sgc_err_message());
        sgc_err_clear();
        spec->attention = SGC_ATTENTION_OWN;
        return SGC_OK;
    }
    double oldest = version, newest = version;
    SGC_TRY(sgc_min_double(w->all, &oldest, 1));
    SGC_TRY(sgc_max_double(w->all, &newest, 1));
    if (oldest == newest) return SGC_OK;
    if (is_asked_for)
        return sgc_err(SGC_EDEVICE, "--device.attention cudnn: some nodes have version %d of cuDNN and some %d: give all the same, or write --device.attention own",
                       (int)oldest, (int)newest);
    sgc_log_info("attention: own kernels: some nodes have version %d of cuDNN and some %d", (int)oldest, (int)newest);
    spec->attention = SGC_ATTENTION_OWN;
done:
    return st;
}

sgc_status sgc_choose_device(sgc_world *w, const sgc_config *c, sgc_device_spec *spec)
{
    sgc_status st = SGC_OK;
    sgc_gpus gpus = {.n = 0};
    bool all = false, none = true;
    const sgc_training_options *t = &c->training;
    *spec = (sgc_device_spec){.full_determinism = t->full_determinism, .share = c->device.share, .tf32 = t->has_tf32 && t->tf32, .graphs = c->device.graphs,
                              .node_rank = w->node_rank, .node_size = w->node_size};
    if (is_for_gpus(c)) {
        st = sgc_device_gpus(&gpus);
        SGC_AGREE(w->all);
        SGC_TRY(check_mixture(w, &gpus, &all, &none));
    }
    if (all) {
        SGC_TRY(choose_gpu(w, &gpus, spec));
        spec->name = t->bf16 ? "cuda_bf16" : t->fp16 ? "cuda_fp16" : "cuda";
        SGC_TRY(choose_attention(w, c, spec));
    } else if (c->device.attention == SGC_ATTENTION_CUDNN) {
        st = sgc_err(SGC_ECONFIG, "--device.attention cudnn: node %s has no GPU for this job (%s), and cuDNN is a library of GPUs: write --device.attention auto",
                     sgc_node_name(), gpus.none);
    } else if (is_for_gpus(c) && c->device.type == SGC_DEVICE_CUDA) {
        st = sgc_err(SGC_EDEVICE, "--device.type cuda: node %s has no GPU for this job: %s; ask for one, or write --use_cpu true", sgc_node_name(), gpus.none);
    } else if (t->fp16) {
        st = sgc_err(SGC_ECONFIG, "--fp16 true: node %s has no GPU for this job (%s), and CPUs have no fast fp16 arithmetic: write --bf16 true, which needs no "
                     "loss scaling", sgc_node_name(), gpus.none);
    } else if (spec->tf32) {
        st = sgc_err(SGC_ECONFIG, "--tf32 true: node %s has no GPU for this job (%s), and TF32 is a number format of GPUs: write --tf32 false", sgc_node_name(),
                     gpus.none);
    } else {
        spec->name = c->device.type == SGC_DEVICE_REFERENCE ? "ref32" : t->bf16 ? "cpu_bf16" : "cpu";
    }
    SGC_AGREE(w->all);
done:
    return st;
}

sgc_status sgc_compare_devices(sgc_world *w, const sgc_device *d, bool full_determinism)
{
    sgc_status st = SGC_OK;
    char first[sizeof(d->about)];
    memcpy(first, d->about, sizeof(first));
    SGC_TRY(sgc_bcast_bytes(w->all, first, sizeof(first), 0));
    if (strcmp(first, d->about) != 0) {
        if (full_determinism)
            st = sgc_err(SGC_EDEVICE, "full_determinism needs the same bits from all ranks: node %s computes on %s, rank 0 on %s; give the job nodes of one kind",
                         sgc_node_name(), d->about, first);
        else
            sgc_log_warning("node %s computes on %s, rank 0 on %s: losses may differ in their last digits from those on nodes of one kind", sgc_node_name(),
                            d->about, first);
    }
    SGC_AGREE(w->all);
done:
    return st;
}

/* What goes into a graph from run to run, and what comes out: where the host does not see the device's memory, copies of both. */
#include <string.h>

#include "graph/graph_impl.h"

enum { N_INPUTS = 4, ALIGNMENT = 64 };

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
static const sgc_tensor *result_of(const sgc_graph *g) { return g->spec.mode == SGC_DECODE ? g->logits : g->loss; }

static sgc_status make_inputs(sgc_graph *g)
{
    sgc_input *const inputs[] = {&g->factors, &g->tokens, &g->targets, &g->samples};
    size_t n = (size_t)(g->spec.B * g->spec.T), offset = 0;
    g->factors.bytes = sizeof(sgc_factors);
    g->tokens.bytes = n * sizeof(int32_t);
    if (g->spec.mode != SGC_DECODE) g->targets.bytes = n * sizeof(int32_t);
    if (g->spec.mode == SGC_TRAIN) g->samples.bytes = (size_t)g->spec.B * sizeof(int64_t);
    for (int i = 0; i < N_INPUTS; i++) offset += aligned(inputs[i]->bytes);
    sgc_status st = sgc_mirror_make(&g->inputs, g->device, SGC_MEM_DATA, offset);
    offset = 0;
    for (int i = 0; st == SGC_OK && i < N_INPUTS; i++) {
        if (inputs[i]->bytes > 0) inputs[i]->device = (char *)g->inputs.device + offset;
        if (inputs[i]->bytes > 0) inputs[i]->host = (char *)g->inputs.host + offset;
        offset += aligned(inputs[i]->bytes);
    }
    return st;
}

sgc_status sgc_graph_batch_make(sgc_graph *g)
{
    sgc_status st = SGC_OK;
    const sgc_device_memory *memory = g->device->ops->memory;
    if (g->device->ops->is_null) return SGC_OK;
    SGC_TRY(make_inputs(g));
    if (!memory) return SGC_OK;
    if (!(g->result = sgc_device_alloc_staging(g->device, SGC_MEM_DATA, result_of(g)->bytes))) return SGC_ENOMEM;
    if (!(g->result_mark = memory->mark_make(g->device))) st = sgc_err(SGC_ENOMEM, "no memory for a mark of the GPU's work");
done:
    return st;
}

void sgc_graph_batch_free(sgc_graph *g)
{
    const sgc_device_memory *memory = g->device->ops->memory;
    sgc_mirror_free(&g->inputs, g->device);
    sgc_device_free(g->device, g->result);
    if (g->result_mark) memory->mark_free(g->device, g->result_mark);
}

/* Position t of a sample is scored against its label t + 1; the last one against nothing. */
static void shift_labels(const sgc_graph *g, const int32_t *labels, int32_t *targets)
{
    int64_t T = g->spec.T;
    for (int64_t b = 0; b < g->spec.B; b++)
        for (int64_t t = 0; t < T; t++)
            targets[b * T + t] = t + 1 < T ? labels[b * T + t + 1] : -100;
}

sgc_status sgc_graph_bind_batch(sgc_graph *g, const sgc_batch *batch)
{
    sgc_status st = SGC_OK;
    g->batch = *batch;
    SGC_TRY(sgc_mirror_wait(&g->inputs, g->device)); /* the batch before may still be on its way */
    if (g->factors.host) *(sgc_factors *)g->factors.host = (sgc_factors){.scale = batch->scale, .dropout = sgc_dropout_key(batch->seed, batch->step)};
    if (g->tokens.host) memcpy(g->tokens.host, batch->tokens, g->tokens.bytes);
    if (g->targets.host) shift_labels(g, batch->labels, g->targets.host);
    if (g->samples.host) memcpy(g->samples.host, batch->sample, g->samples.bytes);
    sgc_mirror_push(&g->inputs, g->device, 0, g->inputs.bytes);
done:
    return st;
}

void sgc_graph_fetch_result(const sgc_graph *g)
{
    const sgc_device_memory *memory = g->device->ops->memory;
    if (!memory) return;
    memory->download(g->device, g->result, sgc_at(g, result_of(g)), result_of(g)->bytes);
    memory->mark_set(g->device, g->result_mark);
}

static sgc_status result(sgc_graph *g, const void **at)
{
    const sgc_device_memory *memory = g->device->ops->memory;
    *at = memory ? g->result : sgc_at(g, result_of(g));
    return memory ? memory->mark_wait(g->device, g->result_mark) : SGC_OK;
}

sgc_status sgc_graph_losses(sgc_graph *g, const double **losses)
{
    const void *at;
    sgc_status st = result(g, &at);
    *losses = at;
    return st;
}

sgc_status sgc_graph_logits(sgc_graph *g, const void **logits) { return result(g, logits); }

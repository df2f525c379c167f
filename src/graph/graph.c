#include "graph/graph_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"

/* Stands in for whatever could not be allocated, so that model code needs no checks. */
static sgc_tensor no_tensor;
static sgc_node no_node;

static void *grown(sgc_graph *g, void *array, int n, int *capacity, size_t element_bytes)
{
    if (n < *capacity) return array;
    int wanted = *capacity ? 2 * *capacity : 256;
    void *larger = realloc(array, (size_t)wanted * element_bytes);
    if (!larger) {
        g->out_of_memory = true;
        return NULL;
    }
    *capacity = wanted;
    return larger;
}

sgc_tensor *sgc_tensor_new(sgc_graph *g, sgc_tensor_kind kind, int64_t rows, int64_t cols, size_t element_bytes)
{
    sgc_tensor **list = grown(g, g->tensors, g->n_tensors, &g->tensors_capacity, sizeof(*list));
    sgc_tensor *t = list ? calloc(1, sizeof(*t)) : NULL;
    if (list) g->tensors = list;
    if (!t) {
        g->out_of_memory = true;
        return &no_tensor;
    }
    *t = (sgc_tensor){.kind = kind, .rows = rows, .cols = cols, .element_bytes = element_bytes, .unit = -1, .first = -1, .last = -1};
    t->bytes = (size_t)rows * (size_t)cols * element_bytes;
    g->tensors[g->n_tensors++] = t;
    return t;
}

sgc_tensor *sgc_values_new(sgc_graph *g, int64_t rows, int64_t cols)
{
    return sgc_tensor_new(g, SGC_TENSOR_ACTIVATION, rows, cols, sgc_dtype_bytes(g->device->ops->value));
}

sgc_tensor *sgc_wide_new(sgc_graph *g, int64_t rows, int64_t cols)
{
    return sgc_tensor_new(g, SGC_TENSOR_ACTIVATION, rows, cols, sgc_dtype_bytes(g->device->ops->wide));
}

sgc_tensor *sgc_tensor_like(sgc_graph *g, const sgc_tensor *t) { return sgc_tensor_new(g, SGC_TENSOR_ACTIVATION, t->rows, t->cols, t->element_bytes); }

sgc_node *sgc_node_new(sgc_graph *g, const sgc_op *op)
{
    sgc_node *list = grown(g, g->nodes, g->n_nodes, &g->nodes_capacity, sizeof(*list));
    if (!list) return &no_node;
    g->nodes = list;
    sgc_node *n = &g->nodes[g->n_nodes++];
    *n = (sgc_node){.op = op};
    return n;
}

static const sgc_param_spec *find_param(const sgc_unit *u, const char *name)
{
    size_t prefix = strlen(u->name);
    for (int i = 0; i < u->n_params; i++) {
        const char *full = u->params[i].name;
        if (strcmp(full, name) == 0) return &u->params[i];
        if (strncmp(full, u->name, prefix) == 0 && full[prefix] == '.' && strcmp(full + prefix + 1, name) == 0) return &u->params[i];
    }
    return NULL;
}

sgc_tensor *sgc_param(sgc_graph *g, const sgc_unit *u, const char *name)
{
    const sgc_unit *owner = u;
    const sgc_param_spec *spec = find_param(u, name);
    if (!spec && u->borrows >= 0) {
        owner = &g->model->units[u->borrows];
        spec = find_param(owner, name);
    }
    assert(spec && "a unit's forward asks for a parameter that it does not declare");
    int64_t rows = spec->n_dim == 2 ? spec->shape[0] : 1;
    sgc_tensor *t = sgc_tensor_new(g, SGC_TENSOR_PARAM, rows, spec->n / rows, sgc_dtype_bytes(g->device->ops->value));
    t->unit = owner->index;
    t->offset = (size_t)spec->offset;
    return t;
}

sgc_tensor *sgc_param_grad(sgc_graph *g, const sgc_tensor *param)
{
    if (!param) return NULL;
    sgc_tensor *t = sgc_tensor_new(g, SGC_TENSOR_PARAM_GRAD, param->rows, param->cols, sgc_dtype_bytes(g->device->ops->wide));
    t->unit = param->unit;
    t->offset = param->offset;
    t->first_writer = true;
    for (int i = 0; i < g->n_tensors && t->first_writer; i++) {
        const sgc_tensor *other = g->tensors[i];
        t->first_writer = other == t || other->kind != SGC_TENSOR_PARAM_GRAD || other->unit != t->unit || other->offset != t->offset;
    }
    return t;
}

bool sgc_adds(const sgc_graph *g, const sgc_tensor *gradient) { return !(gradient->first_writer && g->fresh[gradient->unit]); }

void *sgc_at_adding(const sgc_graph *g, const sgc_tensor *gradient)
{
    void *p = sgc_at(g, gradient);
    if (gradient && !sgc_adds(g, gradient)) sgc_device_clear(g->device, p, gradient->bytes);
    return p;
}

void *sgc_at(const sgc_graph *g, const sgc_tensor *t)
{
    if (!t) return NULL;
    switch (t->kind) {
    case SGC_TENSOR_PARAM: return (char *)g->values[t->unit] + t->offset * t->element_bytes;
    case SGC_TENSOR_PARAM_GRAD: return (char *)g->gradients[t->unit] + t->offset * t->element_bytes;
    default: return g->arena + t->offset;
    }
}

/* Heads are those of the whole model. */
static sgc_attention_shape attention_shape(const sgc_graph *g)
{
    const sgc_model_options *o = &g->model->options;
    return (sgc_attention_shape){.B = g->spec.B, .T = g->spec.T, .C = o->n_embd, .H = o->n_head, .dropout = g->spec.mode == SGC_TRAIN ? o->attn_pdrop : 0,
                                 .backward = g->spec.mode == SGC_TRAIN};
}

static sgc_status prepare_attention(sgc_graph *g)
{
    const sgc_attention_shape s = attention_shape(g);
    if (!g->device->ops->attention_prepare || g->spec.mode == SGC_DECODE || s.H == 0) return SGC_OK;
    return g->device->ops->attention_prepare(g->device, &s, g->attention_bytes);
}

sgc_status sgc_graph_build(sgc_graph **out, const sgc_model *model, sgc_device *device, const sgc_graph_spec *spec)
{
    sgc_status st = SGC_OK;
    size_t n_units = (size_t)model->n_units;
    int64_t head = model->options.n_head > 0 ? model->options.n_embd / model->options.n_head : 0, largest = device->ops->largest_head;
    if (largest > 0 && head > largest)
        return sgc_err(SGC_ECONFIG, "attention heads of %lld numbers (model.n_embd / model.n_head) are more than the %lld that GPUs take here: raise model.n_head, or "
                       "write --use_cpu true", (long long)head, (long long)largest);
    sgc_graph *g = calloc(1, sizeof(*g));
    if (!g) return sgc_err(SGC_ENOMEM, "no memory for a graph");
    *g = (sgc_graph){.model = model, .device = device, .spec = *spec};
    if ((st = prepare_attention(g)) != SGC_OK) {
        free(g);
        return st;
    }
    g->forward = calloc(n_units, sizeof(*g->forward));
    g->backward = calloc(n_units, sizeof(*g->backward));
    g->values = calloc(n_units, sizeof(*g->values));
    g->gradients = calloc(n_units, sizeof(*g->gradients));
    g->fresh = calloc(n_units, sizeof(*g->fresh));
    g->recorded = calloc(2 * n_units, sizeof(*g->recorded));
    if (!g->forward || !g->backward || !g->values || !g->gradients || !g->fresh || !g->recorded) g->out_of_memory = true;

    sgc_tensor *x = NULL;
    for (int u = 0; u < model->n_units && !g->out_of_memory; u++) {
        g->forward[u].first = g->n_nodes;
        x = model->units[u].forward(g, &model->units[u], x);
        g->forward[u].end = g->n_nodes;
    }
    if (!g->out_of_memory && spec->mode == SGC_TRAIN) sgc_derive(g);
    if (!g->out_of_memory) sgc_join(g);
    st = g->out_of_memory ? sgc_err(SGC_ENOMEM, "no memory for a graph of %d units", model->n_units) : sgc_plan_memory(g);
    if (st == SGC_OK) st = sgc_graph_batch_make(g);
    if (st != SGC_OK) {
        sgc_graph_free(g);
        g = NULL;
    }
    *out = g;
    return st;
}

void sgc_graph_free(sgc_graph *g)
{
    if (!g) return;
    sgc_graph_forget(g);
    sgc_graph_batch_free(g);
    for (int i = 0; i < g->n_tensors; i++)
        free(g->tensors[i]);
    free(g->tensors);
    free(g->nodes);
    free(g->forward);
    free(g->backward);
    free(g->values);
    free(g->gradients);
    free(g->fresh);
    free(g->recorded);
    free(g);
}

size_t sgc_graph_arena_bytes(const sgc_graph *g) { return g->arena_bytes; }

size_t sgc_graph_scratch_bytes(const sgc_graph *g)
{
    const sgc_attention_shape s = attention_shape(g);
    int64_t widest = s.C; /* of what has a bias */
    for (int u = 0; u < g->model->n_units; u++)
        for (int i = 0; i < g->model->units[u].n_params; i++) {
            const sgc_param_spec *p = &g->model->units[u].params[i];
            if (p->n_dim == 1 && p->n > widest) widest = p->n;
        }
    return g->device->ops->scratch_bytes ? g->device->ops->scratch_bytes(g->device, &s, widest) : 0;
}

void sgc_graph_bind_arena(sgc_graph *g, void *arena) { g->arena = arena; }

void sgc_graph_bind_unit(sgc_graph *g, int unit, void *values, void *gradients, bool fresh)
{
    g->values[unit] = values;
    g->gradients[unit] = gradients;
    g->fresh[unit] = fresh;
}

void sgc_graph_bind_between(sgc_graph *g, void (*call)(void *arg), void *arg)
{
    g->between = call;
    g->between_arg = arg;
}

void sgc_graph_between(const sgc_graph *g)
{
    if (g->between && !g->device->is_recording) g->between(g->between_arg); /* a library of messages may itself ask the device something */
}

/* Long calls give turns within: what the others did with them is theirs. */
static void record(const sgc_graph *g, const sgc_node *n, int unit, double start_s, double waited_s)
{
    double end_s = sgc_time_s();
    sgc_work work = n->op->work(g, n);
    sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_WORK, .repeated = n->recomputed, .name = n->op->name, .unit = g->model->units[unit].name,
                                     .start_s = start_s, .end_s = end_s, .waited_s = sgc_trace_waited_s() - waited_s, .flop = work.flop, .bytes = work.bytes});
}

typedef struct unit_run {
    const sgc_graph *graph;
    int unit;
    sgc_node_range range;
} unit_run;

static void make_calls(void *arg)
{
    const unit_run *r = arg;
    const sgc_graph *g = r->graph;
    for (int i = r->range.first; i < r->range.end; i++) {
        const sgc_node *n = &g->nodes[i];
        if (!n->op->run) continue;
        double start_s = sgc_trace_now(), waited_s = sgc_trace_waited_s();
        n->op->run(g, n);
        if (sgc_trace_is_on) sgc_device_finish(g->device); /* a failure is told again by the next wait */
        if (sgc_trace_is_on) record(g, n, r->unit, start_s, waited_s);
        sgc_graph_between(g);
    }
}

static void run(sgc_graph *g, int unit, bool backward)
{
    unit_run r = {.graph = g, .unit = unit, .range = backward ? g->backward[unit] : g->forward[unit]};
    if (g->device->ops->is_null) return;
    if (g->spec.mode == SGC_DECODE) make_calls(&r); /* the position is an argument */
    else sgc_graph_repeat(g, unit, backward, make_calls, &r);
    sgc_graph_between(g);
}

static bool is_last(const sgc_graph *g, int unit) { return unit == g->model->n_units - 1; }

void sgc_graph_forward(sgc_graph *g, int unit)
{
    run(g, unit, false);
    if (is_last(g, unit) && g->spec.mode != SGC_TRAIN) sgc_graph_fetch_result(g);
}

void sgc_graph_backward(sgc_graph *g, int unit)
{
    run(g, unit, true);
    if (is_last(g, unit)) sgc_graph_fetch_result(g);
}

bool sgc_graph_reads(const sgc_graph *g, bool backward, int unit, int owner)
{
    sgc_node_range range = backward ? g->backward[unit] : g->forward[unit];
    for (int i = range.first; i < range.end; i++)
        for (int k = 0; k < SGC_MAX_IN; k++) {
            const sgc_tensor *t = g->nodes[i].in[k];
            if (t && t->kind == SGC_TENSOR_PARAM && t->unit == owner && g->nodes[i].op->run) return true;
        }
    return false;
}

bool sgc_graph_writes_gradient(const sgc_graph *g, int unit, int owner)
{
    for (int i = g->backward[unit].first; i < g->backward[unit].end; i++)
        for (int k = 0; k < SGC_MAX_OUT; k++) {
            const sgc_tensor *t = g->nodes[i].out[k];
            if (t && t->kind == SGC_TENSOR_PARAM_GRAD && t->unit == owner) return true;
        }
    return false;
}

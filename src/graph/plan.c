/* The memory plan: every activation gets a place in one arena, shared by tensors that are never alive together. */
#include "graph/graph_impl.h"

#include <stdlib.h>

#include "base/place.h"

static void touch(sgc_tensor *t, int node)
{
    if (!t) return;
    if (t->first < 0) t->first = node;
    t->last = node;
}

static void set_lifetimes(sgc_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < SGC_MAX_IN; k++)
            touch(g->nodes[i].in[k], i);
        for (int k = 0; k < SGC_MAX_OUT; k++)
            touch(g->nodes[i].out[k], i);
    }
    for (int i = 0; i < g->n_tensors; i++)
        if (g->tensors[i]->keep) g->tensors[i]->last = g->n_nodes - 1;
}

sgc_status sgc_plan_memory(sgc_graph *g)
{
    sgc_status st = SGC_OK;
    size_t base = 0;
    sgc_span *spans = calloc((size_t)g->n_tensors + 1, sizeof(*spans));
    if (!spans) return sgc_err(SGC_ENOMEM, "no memory for the plan of a graph");
    set_lifetimes(g);
    for (int i = 0; i < g->n_tensors; i++)
        if (g->tensors[i]->kind == SGC_TENSOR_STATE) {
            g->tensors[i]->offset = base;
            base += (g->tensors[i]->bytes + 63) & ~(size_t)63;
        }
    int n = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        const sgc_tensor *t = g->tensors[i];
        if (t->kind == SGC_TENSOR_ACTIVATION && t->first >= 0) spans[n++] = (sgc_span){t->first, t->last, t->bytes, 0};
    }
    SGC_TRY(sgc_place(spans, n, base, &g->arena_bytes));
    n = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        sgc_tensor *t = g->tensors[i];
        if (t->kind == SGC_TENSOR_ACTIVATION && t->first >= 0) t->offset = spans[n++].offset;
    }
done:
    free(spans);
    return st;
}

/* The backward pass, derived from the forward nodes in reverse; with checkpointing each unit's forward is repeated first. */
#include "graph/graph_impl.h"

#include <string.h>

sgc_tensor *sgc_grad_target(sgc_graph *g, sgc_tensor *t, bool *add)
{
    *add = t->grad && t->grad->n_sharing == 1;
    return *add ? t->grad : sgc_tensor_like(g, t);
}

void sgc_grad_done(sgc_graph *g, sgc_tensor *t, sgc_tensor *target)
{
    if (target == t->grad) return;
    if (t->grad) { /* the old one is still read by others: sum into the new one */
        sgc_emit_add(g, target, target, t->grad);
        t->grad->n_sharing--;
    }
    t->grad = target;
    target->n_sharing = 1;
}

void sgc_grad_share(sgc_graph *g, sgc_tensor *t, sgc_tensor *gradient)
{
    if (!t->grad) {
        t->grad = gradient;
        gradient->n_sharing++;
        return;
    }
    bool add;
    sgc_tensor *target = sgc_grad_target(g, t, &add);
    sgc_emit_add(g, target, t->grad, gradient);
    if (!add) {
        t->grad->n_sharing--;
        t->grad = target;
        target->n_sharing = 1;
    }
}

/* Copies of a unit's forward nodes at the end of the list, on new tensors; a gradient that arrived at an output moves to its copy. */
static sgc_node_range repeat_forward(sgc_graph *g, sgc_node_range forward)
{
    sgc_node_range copies = {g->n_nodes, g->n_nodes};
    for (int i = forward.first; i < forward.end && !g->out_of_memory; i++) {
        sgc_node copy = g->nodes[i];
        copy.recomputed = true;
        for (int k = 0; k < SGC_MAX_IN; k++)
            if (copy.in[k] && copy.in[k]->copy) copy.in[k] = copy.in[k]->copy;
        for (int k = 0; k < SGC_MAX_OUT; k++)
            if (copy.out[k]) {
                copy.out[k]->copy = sgc_tensor_like(g, copy.out[k]);
                copy.out[k]->copy->grad = copy.out[k]->grad;
                copy.out[k] = copy.out[k]->copy;
            }
        *sgc_node_new(g, copy.op) = copy;
    }
    copies.end = g->n_nodes;
    return copies;
}

static bool is_read_after(const sgc_graph *g, const sgc_tensor *t, int node, int end)
{
    for (int i = node + 1; i < end; i++)
        for (int k = 0; k < SGC_MAX_IN; k++)
            if (g->nodes[i].in[k] == t) return true;
    return false;
}

/* Take out the repeated calls whose results the backward does not read (the last layers of a unit, usually). */
static void drop_unread(sgc_graph *g, int first)
{
    for (int i = g->n_nodes - 1; i >= first; i--) {
        if (!g->nodes[i].recomputed) continue;
        bool read = false;
        for (int k = 0; k < SGC_MAX_OUT && !read; k++)
            read = g->nodes[i].out[k] && is_read_after(g, g->nodes[i].out[k], i, g->n_nodes);
        if (read) continue;
        memmove(&g->nodes[i], &g->nodes[i + 1], (size_t)(g->n_nodes - i - 1) * sizeof(*g->nodes));
        g->n_nodes--;
    }
}

void sgc_derive(sgc_graph *g)
{
    g->deriving = true;
    for (int u = g->model->n_units - 1; u >= 0 && !g->out_of_memory; u--) {
        int first = g->n_nodes;
        sgc_node_range source = g->forward[u];
        if (g->spec.checkpointing && u < g->model->n_units - 1) source = repeat_forward(g, source); /* the last unit's is still there */
        for (int i = source.end - 1; i >= source.first && !g->out_of_memory; i--) {
            sgc_node n = g->nodes[i]; /* a copy: emitting nodes moves the list */
            n.op->backward(g, &n);
            for (int k = 0; k < SGC_MAX_OUT; k++)
                if (n.out[k] && n.out[k]->grad) n.out[k]->grad->n_sharing--;
        }
        drop_unread(g, first);
        g->backward[u] = (sgc_node_range){first, g->n_nodes};
    }
    g->deriving = false;
}

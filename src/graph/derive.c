/*
 * The backward pass, derived from the forward nodes in reverse. Cheap calls of a unit are repeated first rather than keeping what they made;
 * with checkpointing all are, and only the unit's input is kept.
 */
#include "graph/graph_impl.h"

#include <stdlib.h>
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

/*
 * The forward calls of a unit as its backward sees them: those that are repeated are copied to the end of the list, on new tensors, and
 * all read the copies of what was copied. A gradient that arrived at an output moves to its copy. NULL out of memory.
 */
static sgc_node *repeat_forward(sgc_graph *g, sgc_node_range forward, bool all)
{
    sgc_node *seen = calloc((size_t)(forward.end - forward.first) + 1, sizeof(*seen));
    if (!seen) g->out_of_memory = true;
    for (int i = forward.first; i < forward.end && !g->out_of_memory; i++) {
        sgc_node *n = &seen[i - forward.first];
        *n = g->nodes[i];
        for (int k = 0; k < SGC_MAX_IN; k++)
            if (n->in[k] && n->in[k]->copy) n->in[k] = n->in[k]->copy;
        if (!all && !n->op->is_cheap) continue;
        n->recomputed = true;
        for (int k = 0; k < SGC_MAX_OUT; k++)
            if (n->out[k]) {
                n->out[k]->copy = sgc_tensor_like(g, n->out[k]);
                n->out[k]->copy->grad = n->out[k]->grad;
                n->out[k] = n->out[k]->copy;
            }
        *sgc_node_new(g, n->op) = *n;
    }
    return seen;
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
    for (int u = g->model->n_units - 1; u >= 0 && !g->out_of_memory; u--) {
        int first = g->n_nodes, n_forward = g->forward[u].end - g->forward[u].first;
        bool is_last = u == g->model->n_units - 1; /* what it made is still there */
        sgc_node *seen = is_last ? NULL : repeat_forward(g, g->forward[u], g->spec.checkpointing);
        for (int i = n_forward - 1; i >= 0 && !g->out_of_memory; i--) {
            sgc_node n = is_last ? g->nodes[g->forward[u].first + i] : seen[i]; /* a copy: emitting nodes moves the list */
            n.op->backward(g, &n);
            for (int k = 0; k < SGC_MAX_OUT; k++)
                if (n.out[k] && n.out[k]->grad) n.out[k]->grad->n_sharing--;
        }
        free(seen);
        drop_unread(g, first);
        g->backward[u] = (sgc_node_range){first, g->n_nodes};
    }
}

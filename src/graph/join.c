/*
 * Calls that can be made in one become one. This comes when the backward pass has been derived and before memory is placed: models state, and
 * derivatives are made of, the plain ops, and what calls a device makes at once is nobody else's concern. Calls that are gone have no op until the
 * list is closed at the end. A call may move to another unit's part of the list: forward, to the one that reads what it makes, or back, to
 * the one whose result it reads. It never takes a parameter along.
 */
#include "graph/graph_impl.h"

#include <stdlib.h>

int sgc_node_before(const sgc_graph *g, int node)
{
    do {
        node--;
    } while (node >= 0 && !g->nodes[node].op);
    return node < 0 ? -1 : node;
}

int sgc_writer_before(const sgc_graph *g, int node, const sgc_tensor *t)
{
    while ((node = sgc_node_before(g, node)) >= 0)
        for (int k = 0; k < SGC_MAX_OUT; k++)
            if (g->nodes[node].out[k] == t) return node;
    return -1;
}

int sgc_n_readers(const sgc_graph *g, const sgc_tensor *t)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < SGC_MAX_IN; k++)
            if (g->nodes[i].op && g->nodes[i].in[k] == t) n++;
    return n;
}

void sgc_node_drop(sgc_graph *g, int node) { g->nodes[node].op = NULL; }

/* Ends of ranges count the calls that are left before them. */
static void close_gaps(sgc_graph *g)
{
    int *left = malloc(((size_t)g->n_nodes + 1) * sizeof(*left)), n = 0;
    if (!left) {
        g->out_of_memory = true;
        return;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        left[i] = n;
        if (g->nodes[i].op) g->nodes[n++] = g->nodes[i];
    }
    left[g->n_nodes] = n;
    for (int u = 0; u < g->model->n_units; u++) {
        g->forward[u] = (sgc_node_range){left[g->forward[u].first], left[g->forward[u].end]};
        g->backward[u] = (sgc_node_range){left[g->backward[u].first], left[g->backward[u].end]};
    }
    g->n_nodes = n;
    free(left);
}

void sgc_join(sgc_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && g->nodes[i].op->join) g->nodes[i].op->join(g, i);
    close_gaps(g);
}

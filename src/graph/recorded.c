/*
 * Runs of a unit as recordings. Whatever changes from run to run is read from the device's memory; the memory itself that a unit is bound to, and
 * whether it writes gradients or adds to them, takes few values that come again. There is a recording for each.
 */
#include "graph/graph_impl.h"

#include <string.h>

static sgc_binding binding_of(const sgc_graph *g, int unit, bool backward)
{
    const int owners[2] = {unit, g->model->units[unit].borrows};
    sgc_binding b;
    memset(&b, 0, sizeof(b)); /* bindings are compared as bytes */
    b.arena = g->arena;
    for (int i = 0; i < 2; i++) {
        if (owners[i] < 0) continue;
        b.values[i] = g->values[owners[i]];
        if (!backward) continue;
        b.gradients[i] = g->gradients[owners[i]];
        b.fresh[i] = g->fresh[owners[i]];
    }
    return b;
}

void sgc_graph_repeat(sgc_graph *g, int unit, bool backward, void (*calls)(void *arg), void *arg)
{
    sgc_recorded *recorded = &g->recorded[2 * unit + backward];
    const sgc_binding now = binding_of(g, unit, backward);
    int i = 0;
    while (i < recorded->n && memcmp(&recorded->bindings[i], &now, sizeof(now)) != 0) i++;
    if (i == SGC_MAX_RECORDED) {
        calls(arg);
        return;
    }
    if (i == recorded->n) recorded->bindings[recorded->n++] = now;
    sgc_device_repeat(g->device, &recorded->recordings[i], calls, arg);
}

void sgc_graph_forget(sgc_graph *g)
{
    for (int k = 0; g->recorded && k < 2 * g->model->n_units; k++)
        for (int i = 0; i < g->recorded[k].n; i++) sgc_device_forget(g->device, &g->recorded[k].recordings[i]);
}

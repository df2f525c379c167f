#include "zero/schedule.h"

#include <stdlib.h>

#include "base/place.h"

int sgc_pass_unit(const sgc_pass *p, int time) { return time < p->n_units ? time : 2 * p->n_units - 1 - time; }
bool sgc_pass_is_backward(const sgc_pass *p, int time) { return time >= p->n_units; }

static int by_start(const void *a, const void *b)
{
    const sgc_stay *x = a, *y = b;
    if (x->start != y->start) return x->start - y->start;
    return x->first != y->first ? x->first - y->first : x->unit - y->unit;
}

/* One stay for each row of uses without a gap in time: a unit that the next time reads again is kept. */
static void find_stays(sgc_pass *p, const sgc_graph *g, int prefetch)
{
    for (int u = 0; u < p->n_units; u++) {
        sgc_stay *stay = NULL;
        for (int t = 0; t < p->n_times; t++) {
            if (!sgc_graph_reads(g, sgc_pass_is_backward(p, t), sgc_pass_unit(p, t), u)) continue;
            if (stay && stay->last == t - 1) {
                stay->last = t;
                continue;
            }
            int earliest = stay ? stay->last + 1 : 0, start = t - prefetch;
            stay = &p->stays[p->n_stays++];
            *stay = (sgc_stay){.unit = u, .start = start > earliest ? start : earliest, .first = t, .last = t};
        }
    }
    qsort(p->stays, (size_t)p->n_stays, sizeof(*p->stays), by_start);
}

static void find_backflows(sgc_pass *p, const sgc_graph *g)
{
    for (int u = 0; u < p->n_units; u++) {
        p->backflows[u] = (sgc_backflow){.first = -1, .last = -1};
        for (int t = p->n_units; t < p->n_times; t++) {
            if (!sgc_graph_writes_gradient(g, sgc_pass_unit(p, t), u)) continue;
            if (p->backflows[u].first < 0) p->backflows[u].first = t;
            p->backflows[u].last = t;
        }
    }
}

static sgc_status place(sgc_pass *p, const sgc_flat *flats, const sgc_pass_spec *spec)
{
    sgc_status st = SGC_OK;
    int n = 0;
    sgc_span *spans = calloc((size_t)(p->n_stays + 3 * p->n_units), sizeof(*spans));
    if (!spans) return sgc_err(SGC_ENOMEM, "no memory for the schedule of %d units", p->n_units);
    for (int i = 0; i < p->n_stays; i++)
        spans[n++] = (sgc_span){p->stays[i].start, p->stays[i].last, (size_t)flats[p->stays[i].unit].n_padded * spec->value_bytes, 0};
    for (int u = 0; p->backflows && u < p->n_units; u++) {
        const sgc_backflow *b = &p->backflows[u];
        size_t n_whole = (size_t)flats[u].n_padded, n_arriving = n_whole - (size_t)flats[u].n_shard, travel_bytes = sgc_dtype_bytes(spec->reduce_type);
        const int end = b->last + p->reduce_times;
        spans[n++] = (sgc_span){b->first, end, spec->pooled_gradients ? n_whole * sizeof(float) : 0, 0};
        spans[n++] = (sgc_span){b->last, end, n_arriving * travel_bytes, 0};
        spans[n++] = (sgc_span){b->last, end, spec->reduce_type == SGC_F32 ? 0 : n_whole * travel_bytes, 0};
    }
    SGC_TRY(sgc_place(spans, n, 0, &p->buffer_bytes));
    n = 0;
    for (int i = 0; i < p->n_stays; i++)
        p->stays[i].offset = spans[n++].offset;
    for (int u = 0; p->backflows && u < p->n_units; u++) {
        p->backflows[u].gradient_offset = spans[n++].offset;
        p->backflows[u].scratch_offset = spans[n++].offset;
        p->backflows[u].rounded_offset = spans[n++].offset;
    }
done:
    free(spans);
    return st;
}

sgc_status sgc_pass_make(sgc_pass *p, const sgc_model *model, const sgc_flat *flats, const sgc_pass_spec *spec)
{
    sgc_status st = SGC_OK;
    sgc_device device = {0};
    sgc_graph *g = NULL;
    /* The smallest graph on the null device tells who reads and writes whose parameters; that does not depend on its shape. */
    sgc_graph_spec shape = {.mode = spec->backward ? SGC_TRAIN : SGC_EVAL, .B = 1, .T = 1};
    *p = (sgc_pass){.n_units = model->n_units, .n_times = spec->backward ? 2 * model->n_units : model->n_units, .reduce_times = spec->reduce_times};
    SGC_TRY(sgc_device_open(&device, "null", false));
    SGC_TRY(sgc_graph_build(&g, model, &device, &shape));
    p->stays = calloc((size_t)p->n_times * (size_t)p->n_units, sizeof(*p->stays)); /* no unit has more stays than times */
    p->backflows = spec->backward ? calloc((size_t)p->n_units, sizeof(*p->backflows)) : NULL;
    if (!p->stays || (spec->backward && !p->backflows)) {
        st = sgc_err(SGC_ENOMEM, "no memory for the schedule of %d units", p->n_units);
        goto done;
    }
    if (spec->sharded_parameters) find_stays(p, g, spec->prefetch);
    if (spec->backward) find_backflows(p, g);
    SGC_TRY(place(p, flats, spec));
done:
    sgc_graph_free(g);
    if (device.ops) sgc_device_close(&device);
    if (st != SGC_OK) sgc_pass_free(p);
    return st;
}

void sgc_pass_free(sgc_pass *p)
{
    free(p->stays);
    free(p->backflows);
    *p = (sgc_pass){0};
}

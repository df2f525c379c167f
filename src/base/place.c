#include "base/place.h"

#include <stdlib.h>

static size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Larger first; of equal ones the earlier, then the one that stands first, so that the result does not depend on the sort. */
static int by_size(const void *a, const void *b)
{
    const sgc_span *x = *(sgc_span *const *)a, *y = *(sgc_span *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first) return x->first - y->first;
    return x < y ? -1 : x > y;
}

static int by_offset(const void *a, const void *b)
{
    const sgc_span *x = *(sgc_span *const *)a, *y = *(sgc_span *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lowest gap that fits s among the placed spans alive with it. busy: scratch for their list. */
static size_t lowest_gap(const sgc_span *s, sgc_span *const *placed, int n_placed, sgc_span **busy, size_t base)
{
    int n_busy = 0;
    for (int i = 0; i < n_placed; i++)
        if (placed[i]->first <= s->last && s->first <= placed[i]->last) busy[n_busy++] = placed[i];
    qsort(busy, (size_t)n_busy, sizeof(*busy), by_offset);
    size_t at = base;
    for (int i = 0; i < n_busy; i++) {
        if (at + aligned(s->bytes) <= busy[i]->offset) break;
        size_t end = busy[i]->offset + aligned(busy[i]->bytes);
        if (end > at) at = end;
    }
    return at;
}

sgc_status sgc_place(sgc_span *spans, int n, size_t base, size_t *total)
{
    *total = base;
    sgc_span **order = malloc(2 * ((size_t)n + 1) * sizeof(*order));
    if (!order) return sgc_err(SGC_ENOMEM, "no memory for a plan of %d pieces", n);
    sgc_span **busy = order + n + 1;
    for (int i = 0; i < n; i++)
        order[i] = &spans[i];
    qsort(order, (size_t)n, sizeof(*order), by_size);
    for (int i = 0; i < n; i++) {
        order[i]->offset = lowest_gap(order[i], order, i, busy, base);
        size_t end = order[i]->offset + aligned(order[i]->bytes);
        if (end > *total) *total = end;
    }
    free(order);
    return SGC_OK;
}

#include "base/cover.h"

#include <stdbool.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 1024 };

static int by_start(const void *a, const void *b)
{
    double x = ((const sgc_time_span *)a)->start_s, y = ((const sgc_time_span *)b)->start_s;
    return (x > y) - (x < y);
}

/* One after the other, with a gap between each and the next. */
static void merge(sgc_cover *c)
{
    int64_t n = 0;
    if (c->n == 0) return;
    qsort(c->intervals, (size_t)c->n, sizeof(*c->intervals), by_start);
    for (int64_t i = 1; i < c->n; i++) {
        sgc_time_span *last = &c->intervals[n], next = c->intervals[i];
        if (next.start_s > last->end_s) c->intervals[++n] = next;
        else if (next.end_s > last->end_s) last->end_s = next.end_s;
    }
    c->n = n + 1;
}

/* Room for one more. Intervals that touch become one before memory is taken for more of them. */
static bool make_room(sgc_cover *c)
{
    if (c->n < c->capacity) return true;
    merge(c);
    if (c->n < c->capacity / 2) return true;
    int64_t capacity = c->capacity > 0 ? 2 * c->capacity : FIRST_CAPACITY;
    sgc_time_span *larger = realloc(c->intervals, (size_t)capacity * sizeof(*larger));
    if (!larger) return c->n < c->capacity;
    c->intervals = larger;
    c->capacity = capacity;
    return true;
}

void sgc_cover_add(sgc_cover *c, double start_s, double end_s)
{
    if (end_s > start_s && make_room(c)) c->intervals[c->n++] = (sgc_time_span){start_s, end_s};
}

double sgc_cover_common(sgc_cover *a, sgc_cover *b)
{
    double sum_s = 0;
    merge(a);
    merge(b);
    for (int64_t i = 0, j = 0; i < a->n && j < b->n;) {
        const sgc_time_span *x = &a->intervals[i], *y = &b->intervals[j];
        double start_s = x->start_s > y->start_s ? x->start_s : y->start_s, end_s = x->end_s < y->end_s ? x->end_s : y->end_s;
        if (end_s > start_s) sum_s += end_s - start_s;
        if (x->end_s < y->end_s) i++;
        else j++;
    }
    return sum_s;
}

void sgc_cover_free(sgc_cover *c)
{
    free(c->intervals);
    *c = (sgc_cover){0};
}

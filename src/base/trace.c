#include "base/trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/cover.h"

enum { MAX_ROWS = 256 };

bool sgc_trace_is_on;

static struct {
    sgc_trace_event *events; /* owned */
    int64_t n_events, max_events, n_dropped;
    sgc_trace_row rows[MAX_ROWS]; /* the last one takes what finds no other place */
    int n_rows;
    double waited_s, on_s;   /* on_s: since when it is on */
    sgc_cover on, travels;   /* when it was on, and when messages were under way */
} trace;

sgc_status sgc_trace_start(int64_t max_events)
{
    sgc_trace_free();
    trace.events = malloc((size_t)max_events * sizeof(*trace.events));
    if (!trace.events) return sgc_err(SGC_ENOMEM, "no memory for a trace of %lld events", (long long)max_events);
    trace.max_events = max_events;
    sgc_trace_resume();
    return SGC_OK;
}

void sgc_trace_resume(void)
{
    if (!sgc_trace_is_on) trace.on_s = sgc_time_s();
    sgc_trace_is_on = true;
}

void sgc_trace_stop(void)
{
    if (sgc_trace_is_on) sgc_cover_add(&trace.on, trace.on_s, sgc_time_s());
    sgc_trace_is_on = false;
}

void sgc_trace_free(void)
{
    sgc_trace_is_on = false;
    free(trace.events);
    sgc_cover_free(&trace.on);
    sgc_cover_free(&trace.travels);
    memset(&trace, 0, sizeof(trace));
}

static sgc_trace_row *row_of(const sgc_trace_event *e)
{
    int unit_chars = e->unit ? (int)strcspn(e->unit, ".") : 0;
    for (int i = 0; i < trace.n_rows; i++) {
        sgc_trace_row *r = &trace.rows[i];
        if (r->kind == e->kind && r->repeated == e->repeated && strcmp(r->name, e->name) == 0 && r->unit_chars == unit_chars &&
            (unit_chars == 0 || memcmp(r->unit, e->unit, (size_t)unit_chars) == 0))
            return r;
    }
    if (trace.n_rows == MAX_ROWS) return &trace.rows[MAX_ROWS - 1];
    sgc_trace_row *r = &trace.rows[trace.n_rows++];
    *r = (sgc_trace_row){.kind = e->kind, .repeated = e->repeated, .name = e->name, .unit = e->unit, .unit_chars = unit_chars};
    if (trace.n_rows == MAX_ROWS) r->name = "all others";
    return r;
}

void sgc_trace_add(const sgc_trace_event *e)
{
    sgc_trace_row *r = row_of(e);
    r->n_calls++;
    r->time_s += e->end_s - e->start_s - e->waited_s;
    if (e->kind == SGC_TRACE_WAIT) trace.waited_s += e->end_s - e->start_s;
    if (e->kind == SGC_TRACE_TRAVEL) sgc_cover_add(&trace.travels, e->start_s, e->end_s);
    r->flop += e->flop;
    r->bytes += e->bytes;
    if (trace.n_events < trace.max_events)
        trace.events[trace.n_events++] = *e;
    else
        trace.n_dropped++;
}

double sgc_trace_waited_s(void) { return trace.waited_s; }
double sgc_trace_traveled_s(void) { return sgc_cover_common(&trace.travels, &trace.on); }

const sgc_trace_row *sgc_trace_rows(int *n)
{
    *n = trace.n_rows;
    return trace.rows;
}

const sgc_trace_event *sgc_trace_events(int64_t *n, int64_t *n_dropped)
{
    *n = trace.n_events;
    *n_dropped = trace.n_dropped;
    return trace.events;
}

/* Where the time goes: spans of work, of waiting for messages, and of messages under way, recorded while the trace is on. Off, a call
 * costs the test of a flag. One thread of the process records. */
#ifndef SGC_BASE_TRACE_H
#define SGC_BASE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/util.h"

typedef enum sgc_trace_kind {
    SGC_TRACE_WORK,
    SGC_TRACE_WAIT,   /* communication that this rank could do nothing beside: exposed              */
    SGC_TRACE_TRAVEL, /* messages under way, from their start to the moment their end was noticed    */
    SGC_TRACE_N_KINDS
} sgc_trace_kind;

typedef struct sgc_trace_event {
    sgc_trace_kind kind;
    bool repeated;           /* a forward call made again in the backward pass                      */
    const char *name, *unit; /* borrowed until sgc_trace_free; unit NULL: of none                   */
    double start_s, end_s;   /* on the clock of sgc_time_s                                          */
    double waited_s;         /* of it, in waits that are recorded by themselves                     */
    double flop, bytes;      /* floating-point operations, bytes of memory read and written; 0: unknown */
} sgc_trace_event;

/* All events of one name, in units of one kind: what comes before the first dot of their names ("h" for "h.0", "h.1"). */
typedef struct sgc_trace_row {
    sgc_trace_kind kind;
    bool repeated;
    const char *name, *unit;
    int unit_chars;
    int64_t n_calls;
    double time_s, flop, bytes;
} sgc_trace_row;

extern bool sgc_trace_is_on;

/* Begin, forgetting what was recorded. Rows count every event; the events themselves are kept up to a number. SGC_ENOMEM. */
sgc_status sgc_trace_start(int64_t max_events);
void sgc_trace_stop(void);   /* rows and events stay */
void sgc_trace_resume(void); /* what happened in between is no part of the trace */
void sgc_trace_free(void);

void sgc_trace_add(const sgc_trace_event *e); /* only while on */

double sgc_trace_waited_s(void);   /* in all waits so far */
double sgc_trace_traveled_s(void); /* while it was on and any message was under way: of all of them, also those whose events were not kept */

/* Around a piece of work: start = sgc_trace_now(); ...; sgc_trace_work("name", unit, start, flop, bytes). */
static inline double sgc_trace_now(void) { return sgc_trace_is_on ? sgc_time_s() : 0; }
static inline void sgc_trace_work(const char *name, const char *unit, double start_s, double flop, double bytes)
{
    if (sgc_trace_is_on)
        sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_WORK, .name = name, .unit = unit, .start_s = start_s, .end_s = sgc_time_s(), .flop = flop,
                                         .bytes = bytes});
}
static inline void sgc_trace_wait(const char *name, double start_s)
{
    if (sgc_trace_is_on) sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_WAIT, .name = name, .start_s = start_s, .end_s = sgc_time_s()});
}

/* Borrowed until the next call of sgc_trace_start or _free. */
const sgc_trace_row *sgc_trace_rows(int *n);
const sgc_trace_event *sgc_trace_events(int64_t *n, int64_t *n_dropped);

#endif

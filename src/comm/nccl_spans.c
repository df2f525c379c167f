#include "comm/nccl_impl.h"

#include "base/trace.h"

static sgc_nccl_span *span_of(sgc_nccl_spans *spans, int64_t number) { return &spans->last[number % SGC_NCCL_SPANS]; }

static sgc_status make(sgc_nccl *s, sgc_nccl_spans *spans)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < SGC_NCCL_SPANS; i++) {
        SGC_CUDA(s, cudaEventCreateWithFlags(&spans->last[i].start, cudaEventDefault));
        SGC_CUDA(s, cudaEventCreateWithFlags(&spans->last[i].end, cudaEventDefault));
    }
done:
    return st;
}

sgc_status sgc_nccl_spans_make(sgc_nccl *s)
{
    sgc_status st = SGC_OK;
    SGC_CUDA(s, cudaEventCreateWithFlags(&s->ready, cudaEventDisableTiming));
    SGC_CUDA(s, cudaEventCreateWithFlags(&s->zero, cudaEventDefault));
    SGC_TRY(make(s, &s->flights));
    SGC_TRY(make(s, &s->waits));
done:
    return st;
}

static void drop(cudaEvent_t event)
{
    if (event) cudaEventDestroy(event);
}

void sgc_nccl_spans_free(sgc_nccl *s)
{
    for (int i = 0; i < SGC_NCCL_SPANS; i++) {
        drop(s->flights.last[i].start);
        drop(s->flights.last[i].end);
        drop(s->waits.last[i].start);
        drop(s->waits.last[i].end);
    }
    drop(s->ready);
    drop(s->zero);
}

/* When an event was, on the host's clock. */
static double host_time(const sgc_nccl *s, cudaEvent_t event)
{
    float ms = 0;
    cudaEventElapsedTime(&ms, s->zero, event);
    return s->zero_s + 1e-3 * (double)ms;
}

static void trace(const sgc_nccl *s, const sgc_nccl_span *span, sgc_trace_kind kind)
{
    if (sgc_trace_is_on && span->is_traced)
        sgc_trace_add(&(sgc_trace_event){.kind = kind, .name = sgc_collective_name(span->kind), .start_s = host_time(s, span->start),
                                         .end_s = host_time(s, span->end)});
}

static void look_at(sgc_nccl *s, sgc_nccl_spans *spans, sgc_trace_kind kind)
{
    if (spans->n_ended < spans->n - SGC_NCCL_SPANS) spans->n_ended = spans->n - SGC_NCCL_SPANS; /* their events are in use again */
    for (; spans->n_ended < spans->n; spans->n_ended++) {
        const sgc_nccl_span *span = span_of(spans, spans->n_ended);
        if (cudaEventQuery(span->end) != cudaSuccess) {
            cudaGetLastError(); /* "not ready" is no error, but would be taken for one of the next launch */
            break;
        }
        trace(s, span, kind);
        if (spans == &s->flights) s->moved_s = sgc_time_s();
    }
}

void sgc_nccl_look(sgc_nccl *s)
{
    look_at(s, &s->flights, SGC_TRACE_TRAVEL);
    look_at(s, &s->waits, SGC_TRACE_WAIT);
}

/* The two clocks are compared once per trace, when the stream is empty. */
static sgc_status set_zero(sgc_nccl *s)
{
    sgc_status st = SGC_OK;
    if (!sgc_trace_is_on) s->zero_s = 0;
    if (!sgc_trace_is_on || s->zero_s > 0) return SGC_OK;
    SGC_CUDA(s, cudaEventRecord(s->zero, s->stream));
    SGC_CUDA(s, cudaEventSynchronize(s->zero));
    s->zero_s = sgc_time_s();
done:
    return st;
}

sgc_status sgc_nccl_take_off(sgc_nccl *s, sgc_collective kind)
{
    sgc_status st = SGC_OK;
    sgc_nccl_span *span = span_of(&s->flights, s->flights.n);
    if (s->failure[0]) return sgc_err(SGC_ECOMM, "%s", s->failure);
    SGC_TRY(set_zero(s));
    if (sgc_trace_is_on) sgc_nccl_look(s);
    *span = (sgc_nccl_span){.start = span->start, .end = span->end, .kind = kind, .is_traced = sgc_trace_is_on};
    SGC_CUDA(s, cudaEventRecord(s->ready, s->compute));
    SGC_CUDA(s, cudaStreamWaitEvent(s->stream, s->ready, 0));
    SGC_CUDA(s, cudaEventRecord(span->start, s->stream));
done:
    return st;
}

sgc_status sgc_nccl_land(sgc_nccl *s, int64_t *number)
{
    sgc_status st = SGC_OK;
    SGC_CUDA(s, cudaEventRecord(span_of(&s->flights, s->flights.n)->end, s->stream));
    *number = s->flights.n++;
done:
    return st;
}

sgc_status sgc_nccl_join(sgc_nccl *s, sgc_collective kind, int64_t number)
{
    sgc_status st = SGC_OK;
    sgc_nccl_span *wait = span_of(&s->waits, s->waits.n);
    if (s->failure[0]) return sgc_err(SGC_ECOMM, "%s", s->failure);
    bool is_traced = sgc_trace_is_on && s->zero_s > 0;
    if (is_traced) SGC_CUDA(s, cudaEventRecord(wait->start, s->compute));
    SGC_CUDA(s, cudaStreamWaitEvent(s->compute, span_of(&s->flights, number)->end, 0)); /* its own end, or a later one on the same stream */
    if (!is_traced) return SGC_OK;
    SGC_CUDA(s, cudaEventRecord(wait->end, s->compute));
    wait->kind = kind;
    wait->is_traced = true;
    s->waits.n++;
done:
    return st;
}

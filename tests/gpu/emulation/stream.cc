/*
 * Streams are queues of work. EMULATED_LAZY=0: work is done when it is asked for. 1: as late as a GPU may do it, that is when the host waits for
 * it, or something it waits for; so what forgets to wait reads what is not there yet. More: like 1, but at each call a random stream may do
 * some of its work, drawn from that number; so what forgets that a GPU may be fast is found too.
 *
 * A captured stream does nothing: its work becomes a list, with the arguments that it had then, and a launch queues a copy of all of it. Only one stream is
 * captured at a time, kernels, copies within the device and clears; events tie it to no other.
 */
#include <deque>
#include <memory>
#include <sched.h>
#include <stdlib.h>
#include <vector>

#include "emulation.h"
#include "launch_emulated.h"
#include "runtime.h"

using namespace emulated;

/* How often an event was recorded, and how many of these have been reached. It outlives the handle as long as work refers to it. */
struct event_state {
    long recorded = 0, reached = 0;
    bool is_captured = false;   /* the last recording was part of a capture */
    cudaStream_t stream = NULL; /* of the last recording */
};

struct CUevent_st {
    std::shared_ptr<event_state> state = std::make_shared<event_state>();
};

/* Work in its order; of a capture under way, of a graph, and of its executable form. */
struct CUgraph_st {
    std::vector<work *> parts;
    bool is_valid = true;
    CUgraph_st() {}
    CUgraph_st(const CUgraph_st &other)
    {
        for (work *w : other.parts) parts.push_back(w->copy());
    }
    ~CUgraph_st()
    {
        for (work *w : parts) delete w;
    }
};

struct CUgraphExec_st : CUgraph_st {
    explicit CUgraphExec_st(const CUgraph_st &graph) : CUgraph_st(graph) {}
};

struct CUstream_st {
    std::deque<work *> queue;
    bool is_running = false;
};

static CUstream_st default_stream;
static std::vector<cudaStream_t> streams = {&default_stream};
static cudaStream_t captured;     /* NULL: none */
static CUgraph_st *capture;       /* of it */
static long n_captures;
static long lazy = -1; /* not yet known */
static uint64_t random_state;

static cudaStream_t real(cudaStream_t stream) { return stream ? stream : &default_stream; }

static bool exists(cudaStream_t stream)
{
    for (cudaStream_t s : streams)
        if (s == real(stream)) return true;
    return false;
}

/* False: the work waits for another process. */
static bool run_first(cudaStream_t stream)
{
    work *w = stream->queue.front();
    stream->is_running = true;
    bool is_ready = w->is_ready();
    if (is_ready) {
        stream->queue.pop_front();
        w->run();
        delete w;
    }
    stream->is_running = false;
    return is_ready;
}

static void run_all(cudaStream_t stream)
{
    open_memory();
    while (!stream->queue.empty())
        if (!run_first(stream)) sched_yield();
}

static bool is_reached(const event_state &e, long recording) { return e.reached >= recording; }

/* Runs the stream of a recording until it is reached; memory is open. False: something waits for another process. */
static bool run_until(event_state &e, long recording, cudaStream_t stream)
{
    while (!is_reached(e, recording)) {
        if (!exists(stream) || stream->queue.empty()) emulated_defect("an event is waited for that can no longer be reached: its stream is gone");
        if (stream->is_running) emulated_defect("two streams wait for each other");
        if (!run_first(stream)) return false;
    }
    return true;
}

namespace emulated {

struct record_work : work {
    std::shared_ptr<event_state> event;
    long recording;
    void run() override
    {
        if (event->reached < recording) event->reached = recording;
    }
};

struct wait_work : work {
    std::shared_ptr<event_state> event;
    long recording;
    cudaStream_t stream;
    bool is_ready() override { return run_until(*event, recording, stream); }
    void run() override {}
};

struct kernel_work : work {
    grid g;
    kernel_call *call;
    ~kernel_work() override { delete call; }
    work *copy() const override
    {
        kernel_work *w = new kernel_work;
        w->g = g;
        w->call = call->copy();
        return w;
    }
    void run() override
    {
        if (fails_here()) fail_for_good((cudaError_t)setting("EMULATED_FAIL_WITH", cudaErrorIllegalAddress));
        else if (usable() == cudaSuccess) run_grid(g, *call);
    }
};

work *work::copy() const { emulated_defect("this is not emulated in a captured stream"); }

static cudaError_t invalidate(cudaError_t rc)
{
    capture->is_valid = false;
    return rc;
}

cudaError_t may_queue(cudaStream_t stream)
{
    count_request();
    return captured && real(stream) == captured && !capture->is_valid ? cudaErrorStreamCaptureInvalidated : usable();
}

cudaError_t may_wait() { return captured ? invalidate(cudaErrorStreamCaptureUnsupported) : usable(); }

void queue(cudaStream_t stream, work *w)
{
    if (lazy < 0) lazy = setting("EMULATED_LAZY", 0);
    stream = real(stream);
    if (stream == captured) {
        work *part = w->copy(); /* tells what cannot be captured */
        delete w;
        capture->parts.push_back(part);
        return;
    }
    stream->queue.push_back(w);
    if (lazy == 1) return;
    open_memory();
    while (lazy == 0 && !stream->queue.empty() && run_first(stream)) continue;
    if (lazy > 1) {
        if (!random_state) random_state = (uint64_t)lazy * 0x9E3779B97F4A7C15u;
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        cudaStream_t chosen = streams[(random_state >> 33) % streams.size()];
        for (uint64_t n = random_state >> 60; n > 0 && !chosen->queue.empty() && run_first(chosen); n--) continue;
    }
    close_memory();
}

void finish_all()
{
    for (cudaStream_t s : streams) run_all(s);
    close_memory();
}

cudaError_t queue_kernel(cudaStream_t stream, const grid &g, kernel_call *call)
{
    cudaError_t rc = may_queue(stream);
    if (rc == cudaSuccess && !exists(stream)) rc = cudaErrorInvalidResourceHandle;
    if (rc == cudaSuccess && !fits(g)) rc = cudaErrorInvalidConfiguration;
    if (rc != cudaSuccess) {
        delete call;
        return told(rc);
    }
    kernel_work *w = new kernel_work;
    w->g = g;
    w->call = call;
    queue(stream, w);
    return cudaPeekAtLastError();
}

} // namespace emulated

extern "C" {

void emulated_set_lazy(long n)
{
    lazy = n;
    random_state = 0;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    *stream = new CUstream_st;
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) { return cudaStreamCreateWithFlags(stream, flags); }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return told(usable());
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!stream || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
    run_all(stream);
    close_memory();
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (long)i);
    delete stream;
    return told(usable());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    if (!exists(stream)) return told(cudaErrorInvalidResourceHandle);
    run_all(real(stream));
    close_memory();
    return told(usable());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    if (!exists(stream)) return told(cudaErrorInvalidResourceHandle);
    if (real(stream)->queue.empty()) return cudaSuccess;
    open_memory();
    run_first(real(stream)); /* who asks again and again must come to an end */
    close_memory();
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    finish_all();
    return told(usable());
}

cudaError_t cudaDeviceReset(void) { return cudaDeviceSynchronize(); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    cudaError_t rc = usable();
    if (rc == cudaSuccess) *event = new CUevent_st;
    return told(rc);
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!event) return told(cudaErrorInvalidResourceHandle);
    delete event;
    return told(usable());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t rc = may_queue(stream);
    if (rc != cudaSuccess) return told(rc);
    if (!event || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
    event->state->is_captured = captured && real(stream) == captured;
    if (event->state->is_captured) return cudaSuccess;
    record_work *w = new record_work;
    w->event = event->state;
    w->recording = ++event->state->recorded;
    event->state->stream = real(stream);
    queue(stream, w);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    cudaError_t rc = may_queue(stream);
    if (rc != cudaSuccess) return told(rc);
    if (!event || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
    const bool in_capture = captured && real(stream) == captured;
    if (in_capture && !event->state->is_captured) return told(invalidate(cudaErrorStreamCaptureIsolation));
    if (event->state->is_captured && !in_capture) emulated_defect("a capture of several streams is not emulated");
    if (in_capture) return cudaSuccess;
    if (is_reached(*event->state, event->state->recorded) || event->state->stream == real(stream)) return cudaSuccess;
    wait_work *w = new wait_work;
    w->event = event->state;
    w->recording = event->state->recorded;
    w->stream = event->state->stream;
    queue(stream, w);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    if (!event) return told(cudaErrorInvalidResourceHandle);
    if (event->state->is_captured) return told(cudaErrorCapturedEvent);
    open_memory();
    while (!run_until(*event->state, event->state->recorded, event->state->stream)) sched_yield();
    close_memory();
    return told(usable());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    if (!event) return told(cudaErrorInvalidResourceHandle);
    if (event->state->is_captured) return told(cudaErrorCapturedEvent);
    if (is_reached(*event->state, event->state->recorded)) return cudaSuccess;
    cudaStreamQuery(event->state->stream); /* as there */
    return cudaErrorNotReady;
}

/* Nothing is timed here: a difference of work, not of time. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    *ms = 1;
    if (!start || !end) return told(cudaErrorInvalidResourceHandle);
    return told(is_reached(*end->state, end->state->recorded) ? usable() : cudaErrorNotReady);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!stream || !exists(stream) || captured) return told(cudaErrorStreamCaptureUnsupported);
    if (mode != cudaStreamCaptureModeThreadLocal) emulated_defect("a capture is emulated in the thread-local mode only");
    captured = stream;
    capture = new CUgraph_st;
    if (++n_captures == setting("EMULATED_FAIL_CAPTURE", 0)) capture->is_valid = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = NULL;
    if (!captured || real(stream) != captured) return told(cudaErrorStreamCaptureUnmatched);
    captured = NULL;
    if (capture->is_valid) {
        *graph = capture;
        return told(usable());
    }
    delete capture;
    return told(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
    cudaError_t rc = usable();
    if (rc == cudaSuccess) *executable = new CUgraphExec_st(*graph);
    return told(rc);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    cudaError_t rc = may_queue(stream);
    if (rc != cudaSuccess) return told(rc);
    if (!executable || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
    if (captured && real(stream) == captured) emulated_defect("a graph within a graph is not emulated");
    for (work *w : executable->parts) queue(stream, w->copy());
    return told(usable());
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    delete executable;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

} // extern "C"

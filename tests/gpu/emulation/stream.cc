/*
 * Streams are queues of work. EMULATED_LAZY=0: work is done when it is asked for. 1: as late as a GPU may do it, that is when the host waits for
 * it, or something it waits for; so what forgets to wait reads what is not there yet. More: like 1, but at each call a random stream may do
 * some of its work, drawn from that number; so what forgets that a GPU may be fast is found too.
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
    cudaStream_t stream = NULL; /* of the last recording */
};

struct CUevent_st {
    std::shared_ptr<event_state> state = std::make_shared<event_state>();
};

struct CUstream_st {
    std::deque<work *> queue;
    bool is_running = false;
};

static CUstream_st default_stream;
static std::vector<cudaStream_t> streams = {&default_stream};
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
    void run() override
    {
        if (fails_here()) fail_for_good((cudaError_t)setting("EMULATED_FAIL_WITH", cudaErrorIllegalAddress));
        else if (usable() == cudaSuccess) run_grid(g, *call);
        delete call;
    }
};

void queue(cudaStream_t stream, work *w)
{
    if (lazy < 0) lazy = setting("EMULATED_LAZY", 0);
    stream = real(stream);
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
    cudaError_t rc = usable();
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
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!exists(stream)) return told(cudaErrorInvalidResourceHandle);
    run_all(real(stream));
    close_memory();
    return told(usable());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t rc = usable();
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
    cudaError_t rc = usable();
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
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!event || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
    record_work *w = new record_work;
    w->event = event->state;
    w->recording = ++event->state->recorded;
    event->state->stream = real(stream);
    queue(stream, w);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!event || !exists(stream)) return told(cudaErrorInvalidResourceHandle);
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
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!event) return told(cudaErrorInvalidResourceHandle);
    open_memory();
    while (!run_until(*event->state, event->state->recorded, event->state->stream)) sched_yield();
    close_memory();
    return told(usable());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t rc = usable();
    if (rc != cudaSuccess) return told(rc);
    if (!event) return told(cudaErrorInvalidResourceHandle);
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

} // extern "C"

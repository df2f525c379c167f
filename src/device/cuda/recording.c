/*
 * Calls that come again, recorded as a CUDA graph: stream capture notes kernels, copies and clears with their arguments instead of doing them. Before that
 * they are done once as they are, because the first call of a kernel or a library's may load code, choose an algorithm or take memory, which
 * must not happen while calls are noted. No other thread may ask the device for work meanwhile: it would be noted, too.
 */
#include "device/cuda/cuda_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"

struct sgc_recording {
    cudaGraphExec_t graph;   /* owned; NULL: the calls were made once */
    int64_t n_scratches;     /* of the device when it was recorded    */
};

static void drop_graph(sgc_recording *r)
{
    if (r->graph) cudaGraphExecDestroy(r->graph); /* CUDA lets it end first if it is under way */
    r->graph = NULL;
}

/* False: refusal says what CUDA or a library has against it. Only this thread is kept from calls that do not go together with recording. */
static bool record(sgc_device *d, sgc_recording *r, void (*calls)(void *arg), void *arg)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    cudaGraph_t graph = NULL;
    cuda->refusal[0] = '\0';
    d->is_recording = true;
    if (sgc_cuda_check(d, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture")) {
        calls(arg);
        sgc_cuda_check(d, cudaStreamEndCapture(cuda->stream, &graph), "cudaStreamEndCapture");
    }
    if (!cuda->refusal[0]) sgc_cuda_check(d, cudaGraphInstantiate(&r->graph, graph, 0), "cudaGraphInstantiate");
    if (graph) cudaGraphDestroy(graph);
    d->is_recording = false;
    r->n_scratches = cuda->n_scratches;
    if (!cuda->refusal[0]) return true;
    r->graph = NULL;
    return false;
}

/* Has the device itself failed, so that everything is refused? */
static bool is_broken(sgc_device *d)
{
    cudaError_t rc = cudaStreamQuery(sgc_cuda_of(d)->stream);
    if (rc != cudaErrorNotReady) return !sgc_cuda_check(d, rc, "cudaStreamQuery");
    cudaGetLastError();
    return false;
}

static void give_up(sgc_device *d)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    cuda->graphs = false;
    if (is_broken(d)) return;
    sgc_log_warning("GPU %d (%s) of node %s: the work of an update cannot be recorded as CUDA graphs and is launched call by call from here on: %s",
                    cuda->ordinal, cuda->name, sgc_node_name(), cuda->refusal);
}

void sgc_cuda_repeat(sgc_device *d, sgc_recording **slot, void (*calls)(void *arg), void *arg)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    sgc_recording *r = *slot;
    if (!cuda->graphs || cuda->failed || d->is_recording || !r) {
        calls(arg);
        if (!r && cuda->graphs) *slot = calloc(1, sizeof(*r)); /* without memory they stay new */
        return;
    }
    if (r->n_scratches != cuda->n_scratches) drop_graph(r);
    if (!r->graph && !record(d, r, calls, arg)) {
        give_up(d);
        calls(arg);
        return;
    }
    sgc_cuda_check(d, cudaGraphLaunch(r->graph, cuda->stream), "cudaGraphLaunch");
}

void sgc_cuda_forget(sgc_device *d, sgc_recording *r)
{
    cudaSetDevice(sgc_cuda_of(d)->ordinal);
    drop_graph(r);
    free(r);
}

/* Memory of a GPU, copies to and from it, and marks. Everything is queued on the device's one stream, so nothing here waits but what must. */
#include "device/cuda/cuda_impl.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct sgc_mark {
    cudaEvent_t event; /* owned */
};

/* CUDA remembers the device by thread, and a checkpoint's thread comes here, too. */
static void use(const sgc_device *d) { cudaSetDevice(sgc_cuda_of(d)->ordinal); }

/* Until the event, or without one the stream, has been reached. What it waits for may hang for ever with a dead peer: somebody watches that. */
static sgc_status wait_for(sgc_device *d, cudaEvent_t event)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    sgc_status st = SGC_OK;
    cudaError_t rc;
    if (!d->watch) {
        if (event) sgc_cuda_check(d, cudaEventSynchronize(event), "cudaEventSynchronize");
        else sgc_cuda_check(d, cudaStreamSynchronize(cuda->stream), "cudaStreamSynchronize");
        return SGC_OK;
    }
    for (int n = 0; (rc = event ? cudaEventQuery(event) : cudaStreamQuery(cuda->stream)) == cudaErrorNotReady; n++) {
        cudaGetLastError(); /* that is no error, but the next launch would report it */
        if ((st = d->watch(d->watched)) != SGC_OK) return st;
        if (n > 1000) nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    sgc_cuda_check(d, rc, event ? "cudaEventQuery" : "cudaStreamQuery");
    return SGC_OK;
}

/* Missing memory is the caller's to tell; anything else is a failure of the device. */
static bool is_given(sgc_device *d, cudaError_t rc, const char *what)
{
    if (rc == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* or the next launch would report it */
        return false;
    }
    return sgc_cuda_check(d, rc, what);
}

static void clear(sgc_device *d, void *p, size_t bytes)
{
    sgc_cuda_check(d, cudaMemsetAsync(p, 0, bytes, sgc_cuda_of(d)->stream), "cudaMemsetAsync");
}

static void *alloc(sgc_device *d, size_t bytes)
{
    void *p = NULL;
    use(d);
    if (!is_given(d, cudaMalloc(&p, bytes ? bytes : 1), "cudaMalloc")) return NULL;
    if (bytes) clear(d, p, bytes);
    return p;
}

static void free_memory(sgc_device *d, void *p)
{
    use(d);
    wait_for(d, NULL);
    sgc_cuda_check(d, cudaFree(p), "cudaFree");
}

static void *alloc_staging(sgc_device *d, size_t bytes)
{
    void *p = NULL;
    use(d);
    if (!is_given(d, cudaMallocHost(&p, bytes ? bytes : 1), "cudaMallocHost")) return NULL;
    memset(p, 0, bytes);
    return p;
}

static void free_staging(sgc_device *d, void *p)
{
    use(d);
    wait_for(d, NULL);
    sgc_cuda_check(d, cudaFreeHost(p), "cudaFreeHost");
}

static size_t available(sgc_device *d)
{
    size_t n_free = 0, n_total = 0;
    use(d);
    return sgc_cuda_check(d, cudaMemGetInfo(&n_free, &n_total), "cudaMemGetInfo") ? n_free : 0;
}

static void copy(sgc_device *d, void *to, const void *from, size_t bytes)
{
    sgc_cuda_check(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, sgc_cuda_of(d)->stream), "cudaMemcpyAsync (device)");
}

static void upload(sgc_device *d, void *to, const void *staging, size_t bytes)
{
    sgc_cuda_check(d, cudaMemcpyAsync(to, staging, bytes, cudaMemcpyHostToDevice, sgc_cuda_of(d)->stream), "cudaMemcpyAsync (to the device)");
}

static void download(sgc_device *d, void *staging, const void *from, size_t bytes)
{
    sgc_cuda_check(d, cudaMemcpyAsync(staging, from, bytes, cudaMemcpyDeviceToHost, sgc_cuda_of(d)->stream), "cudaMemcpyAsync (from the device)");
}

static sgc_mark *mark_make(sgc_device *d)
{
    sgc_mark *m = malloc(sizeof(*m));
    use(d);
    if (m && is_given(d, cudaEventCreateWithFlags(&m->event, cudaEventDisableTiming), "cudaEventCreateWithFlags")) return m;
    free(m);
    return NULL;
}

static void mark_free(sgc_device *d, sgc_mark *m)
{
    sgc_cuda_check(d, cudaEventDestroy(m->event), "cudaEventDestroy");
    free(m);
}

static void mark_set(sgc_device *d, sgc_mark *m)
{
    sgc_cuda_check(d, cudaEventRecord(m->event, sgc_cuda_of(d)->stream), "cudaEventRecord");
}

/* An event that was never recorded counts as reached. */
static sgc_status mark_wait(sgc_device *d, sgc_mark *m)
{
    sgc_status st = wait_for(d, m->event);
    return st == SGC_OK ? sgc_cuda_status(d) : st;
}

static sgc_status finish(sgc_device *d)
{
    sgc_status st = wait_for(d, NULL);
    return st == SGC_OK ? sgc_cuda_status(d) : st;
}

static void *stream(sgc_device *d) { return sgc_cuda_of(d)->stream; }

void *sgc_cuda_scratch(sgc_device *d, size_t bytes)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    if (bytes <= cuda->scratch_bytes) return cuda->scratch;
    if (d->is_recording) {
        sgc_cuda_fail(d, "scratch memory of a kernel", "not there yet");
        return NULL;
    }
    sgc_device_free(d, cuda->scratch);
    cuda->scratch_bytes = 0;
    cuda->n_scratches++;
    cuda->scratch = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes);
    if (cuda->scratch) cuda->scratch_bytes = bytes;
    else sgc_cuda_fail(d, "scratch memory of a kernel", sgc_err_message());
    return cuda->scratch;
}

size_t sgc_cuda_scratch_bytes(const sgc_device *d, const sgc_attention_shape *s, int64_t widest)
{
    (void)d;
    const int64_t N = s->B * s->T;
    const size_t of_training[] = {sgc_cuda_embedding_scratch(N, s->C), sgc_cuda_layer_norm_scratch(N, s->C), sgc_cuda_bias_scratch(N, widest),
                                  (size_t)(s->H * N) * sizeof(float) /* a number for each row of attention */};
    size_t most = (size_t)widest * sizeof(float); /* a bias, or its gradient */
    for (size_t i = 0; s->backward && i < sizeof(of_training) / sizeof(of_training[0]); i++)
        if (of_training[i] > most) most = of_training[i];
    return most;
}

static sgc_status reserve(sgc_device *d, size_t scratch_bytes)
{
    return sgc_cuda_scratch(d, scratch_bytes) ? SGC_OK : SGC_ENOMEM;
}

const sgc_device_memory sgc_cuda_memory = {
    .alloc = alloc,
    .free = free_memory,
    .alloc_staging = alloc_staging,
    .free_staging = free_staging,
    .available = available,
    .copy = copy,
    .clear = clear,
    .upload = upload,
    .download = download,
    .mark_make = mark_make,
    .mark_free = mark_free,
    .mark_set = mark_set,
    .mark_wait = mark_wait,
    .finish = finish,
    .reserve = reserve,
    .stream = stream,
    .repeat = sgc_cuda_repeat,
    .forget = sgc_cuda_forget,
};

/*
 * Cross entropy and its gradient: a block per row. Maximum and sum of exponentials are made in one pass; what of the row fits into shared memory
 * stays there for the second pass, which writes the gradient. On GPUs of data centres that is all of GPT-2's 50257 logits or most, so they are read once.
 */
#include "device/cuda/elements.cuh"

#include <float.h>
#include <math.h>

enum {
    ROW_THREADS = 1024,
    STATIC_SHARED = 4096, /* more than this kernel has of shared memory beside the row */
    ROW_BATCH = 4         /* accesses that a thread has on their way at once */
};

/* Of the elements that a thread has seen: sum of exp(x - max), and of x. */
struct exp_sum {
    float max, sum, total;
    template <int W> __device__ __forceinline__ void take(const float (&x)[W])
    {
        float largest = x[0]; /* a NaN that is missed here comes back in the sum */
#pragma unroll
        for (int j = 1; j < W; j++) largest = fmaxf(largest, x[j]);
        if (largest > max) {
            sum *= expf(max - largest);
            max = largest;
        }
#pragma unroll
        for (int j = 0; j < W; j++) {
            sum += expf(x[j] - max);
            total += x[j];
        }
    }
};

/* How a gradient is made of exp(x - max). */
struct logit_gradient {
    float factor, spread;
    double of_target; /* the target's own: a difference of nearly equal numbers, made in double */
};

/* Elements v .. v + W - 1 of a row; `target` as counted from v. */
template <typename Value, int W>
static __device__ __forceinline__ void put_gradient(Value *out, const float (&x)[W], float max, const logit_gradient &g, int64_t target)
{
    float y[W];
#pragma unroll
    for (int j = 0; j < W; j++) y[j] = target == j ? (float)g.of_target : fmaf(expf(x[j] - max), g.factor, g.spread);
    store_n(out, y);
}

/*
 * A row begins anywhere, but arrays do so at whole accesses: the row's accesses of four elements are counted from the first that is aligned, and the
 * elements before (n_before) and after are done one by one. vectors: else all are.
 */
template <typename Value>
static __global__ void __launch_bounds__(ROW_THREADS)
    cross_entropy(double *loss, Value *dlogits, const float *logits, const int32_t *target_of, const int64_t V, const int64_t ld, const double smoothing,
                  const double *scale_at, const bool vectors, const int64_t n_kept)
{
    SGC_DYNAMIC_SHARED(float, kept); /* the first n_kept accesses */
    const int64_t n = blockIdx.x, target = target_of[n];
    const int thread = (int)threadIdx.x, n_threads = (int)blockDim.x;
    const int64_t until_aligned = (4 - n * ld % 4) % 4, n_before = vectors && until_aligned < V ? until_aligned : V, n_packs = (V - n_before) / 4;
    const int64_t n_single = V - 4 * n_packs;
    logits += n * ld;
    if (dlogits) dlogits += n * ld;
    const float *packs = logits + n_before;

    if (target == -100) {
        const float zeros[4] = {0, 0, 0, 0}, zero[1] = {0};
        if (thread == 0) loss[n] = 0;
        if (!dlogits) return;
        for (int64_t i = thread; i < n_packs; i += n_threads) store_n(dlogits + n_before + 4 * i, zeros);
        for (int64_t i = thread; i < n_single; i += n_threads) store_n(dlogits + (i < n_before ? i : i + 4 * n_packs), zero);
        return;
    }

    const double of_target = logits[target];
    exp_sum s = {-FLT_MAX, 0, 0};
    for (int64_t first = thread; first < n_packs; first += ROW_BATCH * n_threads) {
        float x[ROW_BATCH][4];
#pragma unroll
        for (int k = 0; k < ROW_BATCH; k++)
            if (first + k * n_threads < n_packs) load_n(packs + 4 * (first + k * n_threads), x[k]);
#pragma unroll
        for (int k = 0; k < ROW_BATCH; k++) {
            const int64_t i = first + k * n_threads;
            if (i >= n_packs) break;
            if (i < n_kept) store_n(kept + 4 * i, x[k]);
            s.take(x[k]);
        }
    }
    for (int64_t i = thread; i < n_single; i += n_threads) {
        const float x[1] = {logits[i < n_before ? i : i + 4 * n_packs]};
        s.take(x);
    }
    const float max = block_max(s.max);
    const double sum = block_sum((double)(s.sum * expf(s.max - max))), total = smoothing != 0 ? block_sum((double)s.total) : 0;
    if (thread == 0) {
        const double lse = max + log(sum);
        loss[n] = (1 - smoothing) * (lse - of_target) + (smoothing != 0 ? smoothing * (lse - total / (double)V) : 0);
    }
    if (!dlogits) return;

    const double scale = *scale_at, exp_of_target = expf((float)of_target - max);
    const logit_gradient g = {(float)(scale / sum), (float)(-scale * smoothing / (double)V),
                              scale * (exp_of_target / sum - (1 - smoothing) - smoothing / (double)V)};
    __syncthreads(); /* the gradient may be written where the row was: all have read the target's logit */
    for (int64_t i = thread; i < n_packs; i += n_threads) {
        float x[4];
        if (i < n_kept) load_n(kept + 4 * i, x);
        else load_n(packs + 4 * i, x);
        put_gradient(dlogits + n_before + 4 * i, x, max, g, target - n_before - 4 * i);
    }
    for (int64_t i = thread; i < n_single; i += n_threads) {
        const int64_t v = i < n_before ? i : i + 4 * n_packs;
        const float x[1] = {logits[v]};
        put_gradient(dlogits + v, x, max, g, target - v);
    }
}

template <typename Value>
static void run(sgc_device *d, double *loss, void *dlogits_, const void *logits_, const int32_t *target, int64_t N, int64_t V, int64_t ld,
                double smoothing, const double *scale)
{
    Value *dlogits = (Value *)dlogits_;
    const float *logits = (const float *)logits_;
    const bool vectors = fits_vector(dlogits, 4) && fits_vector(logits, 4);
    const int64_t n_packs = vectors ? V / 4 : 0, most_threads = divide_up(vectors ? n_packs : V, WARP) * WARP;
    const unsigned n_threads = most_threads < WARP ? (unsigned)WARP : most_threads < ROW_THREADS ? (unsigned)most_threads : (unsigned)ROW_THREADS;
    int shared_bytes = 0;
    if (dlogits && !sgc_cuda_check(d, cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, sgc_cuda_of(d)->ordinal),
                                   "cudaDeviceGetAttribute")) return;
    const int64_t n_fitting = shared_bytes > STATIC_SHARED ? (shared_bytes - STATIC_SHARED) / 16 : 0, n_kept = n_fitting < n_packs ? n_fitting : n_packs;
    const size_t kept_bytes = n_kept > 0 ? (size_t)n_kept * 16 : 16;
    SGC_LAUNCH(d, cross_entropy<Value>, (unsigned)N, n_threads, kept_bytes, loss, dlogits, logits, target, V, ld, smoothing, scale, vectors, n_kept);
}

void sgc_cuda_cross_entropy(sgc_device *d, double *loss, void *dlogits, const void *logits, const int32_t *target, int64_t N, int64_t V,
                            int64_t ld, double smoothing, const double *scale)
{
    if (N == 0) return;
    SGC_WITH_VALUE(d, run<Value>(d, loss, dlogits, logits, target, N, V, ld, smoothing, scale));
}

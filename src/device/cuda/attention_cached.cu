/*
 * Attention of new positions to a cache of keys and values, for decoding: a block to a query. Keys and values of the new positions are read where
 * they came from, so the blocks that append them to the cache need not be waited for.
 */
#include "device/cuda/attention.cuh"

#include <math.h>

enum { CACHED_THREADS = 256, KEY_LANES = 8 };

typedef struct cached {
    void *y, *cache_k, *cache_v; /* caches: [B, capacity, C] */
    const void *qkv;             /* [B, T, 3C] */
    int64_t T, C, H, D, position, capacity;
} cached;

/* Part of the product of q with a row of keys: that of one of KEY_LANES lanes. */
template <typename V> static __device__ __forceinline__ float part_of_product(const float *q, const V *k, int D, int lane)
{
    float sum = 0;
    if (D % 8 == 0) {
        for (int c = lane * 8; c < D; c += KEY_LANES * 8) {
            float x[8];
            load8(k + c, x);
#pragma unroll
            for (int n = 0; n < 8; n++) sum = fmaf(q[c + n], x[n], sum);
        }
    } else {
        for (int c = lane; c < D; c += KEY_LANES) sum = fmaf(q[c], to_float(k[c]), sum);
    }
    return sum;
}

template <typename V> static __global__ void __launch_bounds__(CACHED_THREADS) cached_kernel(const cached a)
{
    SGC_SHARED(float, q, [ATTENTION_MAX_HEAD]);
    SGC_SHARED(float, weight, [CACHED_THREADS]); /* of a chunk of as many keys */
    SGC_SHARED(float, part, [CACHED_THREADS]);
    const int thread = threadIdx.x, D = (int)a.D;
    const int64_t h = blockIdx.x % a.H, t = blockIdx.x / a.H % a.T, b = blockIdx.x / a.H / a.T, n_keys = a.position + t + 1;
    const V *new_k = (const V *)a.qkv + b * a.T * 3 * a.C + h * a.D + a.C, *row = new_k - a.C + t * 3 * a.C; /* new_k: of position 0 of the new ones */
    V *cache_k = (V *)a.cache_k + b * a.capacity * a.C + h * a.D, *cache_v = (V *)a.cache_v + b * a.capacity * a.C + h * a.D;
    const float scale = LOG2_E / sqrtf((float)D);
    if (thread < D) {
        q[thread] = to_float(row[thread]) * scale;
        cache_k[(a.position + t) * a.C + thread] = row[a.C + thread];
        cache_v[(a.position + t) * a.C + thread] = row[2 * a.C + thread];
    }
    /* Columns of the output by threads, and of these as many groups as there are: each sums the keys of its number. */
    const int n_groups = CACHED_THREADS / D, group = thread / D, column = thread % D;
    float max = -INFINITY, sum = 0, out = 0;
    for (int64_t first = 0; first < n_keys; first += CACHED_THREADS) {
        const int n = n_keys - first < CACHED_THREADS ? (int)(n_keys - first) : (int)CACHED_THREADS;
        __syncthreads(); /* q is there, the chunk before has been read */
        for (int k = thread / KEY_LANES; k < CACHED_THREADS; k += CACHED_THREADS / KEY_LANES) { /* all lanes stay, for the exchange */
            const int64_t j = first + k;
            float s = 0;
            if (k < n) s = part_of_product(q, j < a.position ? cache_k + j * a.C : new_k + (j - a.position) * 3 * a.C, D, thread % KEY_LANES);
#pragma unroll
            for (int step = KEY_LANES / 2; step > 0; step /= 2) s += __shfl_xor_sync(ALL_LANES, s, step);
            if (thread % KEY_LANES == 0) weight[k] = k < n ? s : -INFINITY;
        }
        __syncthreads();
        const float score = weight[thread], largest = fmaxf(max, block_max(score)), rescale = exp2f(max - largest), w = exp2f(score - largest);
        max = largest;
        sum = sum * rescale + w;
        out *= rescale;
        weight[thread] = w; /* read by this thread alone since the barrier */
        __syncthreads();
        if (group < n_groups)
            for (int k = group; k < n; k += n_groups) {
                const int64_t j = first + k;
                const V *v = j < a.position ? cache_v + j * a.C : new_k + a.C + (j - a.position) * 3 * a.C;
                out = fmaf(weight[k], to_float(v[column]), out);
            }
    }
    const float total = block_sum(sum);
    part[thread] = out;
    __syncthreads();
    if (thread >= D) return;
    for (int k = 1; k < n_groups; k++) out += part[k * D + thread];
    ((V *)a.y)[(b * a.T + t) * a.C + h * a.D + thread] = from_float<V>(out / total);
}

void sgc_cuda_attention_cached(sgc_device *d, void *y, void *cache_k, void *cache_v, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H,
                               int64_t position, int64_t capacity)
{
    if (B == 0 || T == 0 || !sgc_attention_is_served(d, C / H)) return;
    cached a = {};
    a.y = y, a.cache_k = cache_k, a.cache_v = cache_v, a.qkv = qkv;
    a.T = T, a.C = C, a.H = H, a.D = C / H, a.position = position, a.capacity = capacity;
    const unsigned blocks = (unsigned)(B * T * H);
    if (d->ops->value == SGC_F32) SGC_LAUNCH(d, (cached_kernel<float>), blocks, CACHED_THREADS, 0, a);
    else if (d->ops->value == SGC_BF16) SGC_LAUNCH(d, (cached_kernel<__nv_bfloat16>), blocks, CACHED_THREADS, 0, a);
    else SGC_LAUNCH(d, (cached_kernel<__half>), blocks, CACHED_THREADS, 0, a);
}

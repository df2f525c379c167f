/*
 * Sums over the parts of all ranks, each element along one neighbour-first binary tree: the bits are those of sgc_tree_sum, whatever the
 * number of blocks. A thread makes the sums of one vector of elements: it reads four parts at a time, and keeps sums of 4, 8, 16, ... parts in
 * registers, as a binary counter does.
 */
#include "device/cuda/types.cuh"

#include "comm/nccl_impl.h"

enum { THREADS = 256, LEAF = 4 };

template <int V, typename T> __device__ __forceinline__ void load(const T *p, float (&x)[V])
{
    if constexpr (V == 1) x[0] = to_float(*p);
    else if constexpr (V == 4) load4(p, x);
    else load8(p, x);
}

template <int V> __device__ __forceinline__ void store(float *p, const float (&x)[V])
{
    if constexpr (V == 1) *p = x[0];
    else if constexpr (V == 4) store4(p, x);
    else store8(p, x);
}

template <int V> __device__ __forceinline__ void add(float (&x)[V], const float (&y)[V]) /* x comes first in the tree */
{
#pragma unroll
    for (int v = 0; v < V; v++) x[v] = __fadd_rn(x[v], y[v]);
}

template <typename T, int V, int LEVELS> __global__ void __launch_bounds__(THREADS) sum_parts(const sgc_parts p)
{
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * V, segment = blockIdx.y;
    if (i >= p.n) return;
    const T *own = static_cast<const T *>(p.own) + segment * p.own_step + i;
    const T *others = static_cast<const T *>(p.others) + segment * p.others_step + i;
    auto part = [&](int j) { return j == p.own_index ? own : others + (j < p.own_index ? j : j - 1) * p.other_size; };

    float sums[LEVELS][V]; /* of LEAF * 2^level parts */
    const int n_leaves = (p.n_parts + LEAF - 1) / LEAF;
    for (int leaf = 0; leaf < n_leaves; leaf++) {
        const int first = leaf * LEAF, n = p.n_parts - first < LEAF ? p.n_parts - first : LEAF;
        float x[LEAF][V];
        load<V>(part(first), x[0]);
        if (n > 1) load<V>(part(first + 1), x[1]);
        if (n > 2) load<V>(part(first + 2), x[2]);
        if (n > 3) load<V>(part(first + 3), x[3]);
        if (n > 1) add<V>(x[0], x[1]);
        if (n > 3) add<V>(x[2], x[3]);
        if (n > 2) add<V>(x[0], x[2]);
        bool carries = true;
#pragma unroll
        for (int level = 0; level < LEVELS; level++) {
            if (!carries) continue;
            carries = leaf >> level & 1;
            if (carries) {
                add<V>(sums[level], x[0]);
#pragma unroll
                for (int v = 0; v < V; v++) x[0][v] = sums[level][v];
            } else {
#pragma unroll
                for (int v = 0; v < V; v++) sums[level][v] = x[0][v];
            }
        }
    }
    /* What is left joins from the shortest sum on, which is the last of the tree. */
    float total[V];
    bool has_total = false;
#pragma unroll
    for (int level = 0; level < LEVELS; level++) {
        if (!(n_leaves >> level & 1)) continue;
        if (has_total) add<V>(sums[level], total);
#pragma unroll
        for (int v = 0; v < V; v++) total[v] = sums[level][v];
        has_total = true;
    }
    store<V>(p.sum + segment * p.sum_step + i, total);
}

template <typename T, int V, int LEVELS> static void launch(sgc_device *d, cudaStream_t stream, const sgc_parts &p)
{
    const int64_t n_vectors = (p.n + V - 1) / V;
    const dim3 grid((unsigned)((n_vectors + THREADS - 1) / THREADS), (unsigned)p.n_segments);
    SGC_LAUNCH_ON(d, stream, (sum_parts<T, V, LEVELS>), grid, THREADS, 0, p);
}

/* No more levels than 4, 12, 60, 4092 parts need: they are registers. */
template <typename T, int V> static void choose_levels(sgc_device *d, cudaStream_t stream, const sgc_parts &p)
{
    const int n_leaves = (p.n_parts + LEAF - 1) / LEAF;
    if (n_leaves < 2) launch<T, V, 1>(d, stream, p);
    else if (n_leaves < 4) launch<T, V, 2>(d, stream, p);
    else if (n_leaves < 16) launch<T, V, 4>(d, stream, p);
    else if (n_leaves < 1024) launch<T, V, 10>(d, stream, p);
    else launch<T, 1, 28>(d, stream, p);
}

/* Vectors of 128 bits where every part and segment starts on such a boundary. */
template <typename T> static void choose(sgc_device *d, cudaStream_t stream, const sgc_parts &p)
{
    enum { V = 16 / sizeof(T) };
    const bool fits = is_aligned(p.sum, 16) && is_aligned(p.own, 16) && (p.n_parts == 1 || is_aligned(p.others, 16));
    if (fits && p.n % V == 0 && p.sum_step % V == 0 && p.own_step % V == 0 && p.others_step % V == 0 && p.other_size % V == 0) choose_levels<T, V>(d, stream, p);
    else choose_levels<T, 1>(d, stream, p);
}

extern "C" void sgc_nccl_sum(sgc_device *d, cudaStream_t stream, const sgc_parts *p)
{
    if (p->type == SGC_F32) choose<float>(d, stream, *p);
    else if (p->type == SGC_BF16) choose<__nv_bfloat16>(d, stream, *p);
    else choose<__half>(d, stream, *p);
}

/*
 * The backward pass of attention on tensor cores, as two kernels: one has a block of queries and sums their gradients over the keys, the other a
 * block of keys and values and sums theirs over the queries. So weights and their gradients are made twice (7 products instead of 5), but every
 * sum is made by one warp, in one order, and nothing is added to memory. The rows of the second are keys, that is, its weights are transposed,
 * so that in both kernels weights go from registers into the products that sum them up. The first also makes the mean gradients of
 * the weights (delta), for both. Tiles of the other side come in two stages, one on its way while the other is used.
 * Source: FlashAttention-2, arXiv 2307.08691, section 3.1.2.
 */
#include "device/cuda/attention_tile.cuh"

#include <math.h>

/* Of a block: rows are 16 * M for each of four warps; tiles of the other side have TILE rows, which the second kernel takes PART at a time. The sums
 * and the weights at hand of a thread together are 192 numbers. */
template <int D> struct dq_shape { enum { M = 2, TILE = D == 64 ? 64 : 32, ROWS = 4 * 16 * M }; };
template <int D> struct dkv_shape { enum { M = D == 64 ? 2 : 1, TILE = 64, PART = D == 64 ? 32 : 64, ROWS = 4 * 16 * M }; };

template <int D> static constexpr size_t dq_shared(void)
{
    return (size_t)(2 * dq_shape<D>::ROWS + 4 * dq_shape<D>::TILE) * D * 2 + dq_shape<D>::ROWS * sizeof(float);
}
template <int D> static constexpr size_t dkv_shared(void)
{
    return (size_t)(2 * dkv_shape<D>::ROWS + 4 * dkv_shape<D>::TILE) * D * 2 + 4 * dkv_shape<D>::TILE * sizeof(float);
}

/* What a block finds where. */
template <typename V, int D> struct place {
    int64_t b, h, at_lse;
    head<V> q, k, v, dy;
    const V *y;
    V *dq; /* of the head; those of keys and values are C and 2 C further */
    int block;
};

template <typename V, int D> static __device__ __forceinline__ place<V, D> place_of(const attention &a, int n_blocks)
{
    place<V, D> p;
    const int64_t head_number = blockIdx.x / n_blocks;
    p.block = (int)(blockIdx.x % n_blocks);
    p.b = head_number / a.H, p.h = head_number % a.H, p.at_lse = head_number * a.T;
    const int64_t at = p.b * a.T * 3 * a.C + p.h * D;
    const V *first = (const V *)a.qkv + at;
    p.q = {first, 3 * a.C, (int)a.T}, p.k = {first + a.C, 3 * a.C, (int)a.T}, p.v = {first + 2 * a.C, 3 * a.C, (int)a.T};
    p.dy = {(const V *)a.dy + p.b * a.T * a.C + p.h * D, a.C, (int)a.T};
    p.y = (const V *)a.y + p.b * a.T * a.C + p.h * D;
    p.dq = (V *)a.dqkv + at;
    return p;
}

/* The mean gradients of the weights of a warp's queries from i0, which are rows `own` of the tile of dys: to delta for themselves, and for
 * the other kernel. n: how many of the queries are there. */
template <typename V, int D, int ROWS>
static __device__ __forceinline__ void make_delta(float *delta, float *global_delta, const uint4 (&y)[ROWS * D / 8 / WARP], const char *dys, int own, int n)
{
    constexpr int PIECES = D / 8;
    const int lane = threadIdx.x % WARP;
#pragma unroll
    for (int k = 0; k < ROWS * PIECES / WARP; k++) {
        const int row = (k * WARP + lane) / PIECES;
        float p[8], q[8], sum = 0;
        load8((const V *)&y[k], p);
        load8((const V *)(dys + in_tile<D>(own + row, lane % PIECES)), q);
#pragma unroll
        for (int c = 0; c < 8; c++) sum += p[c] * q[c];
#pragma unroll
        for (int step = PIECES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
        if (lane % PIECES == 0) {
            delta[row] = sum;
            if (row < n) global_delta[row] = sum;
        }
    }
    __syncwarp();
}

template <typename V, int D, bool DROPS> static __global__ void __launch_bounds__(MMA_THREADS, 2) mma_dq_kernel(const attention a)
{
    enum { M = dq_shape<D>::M, TILE = dq_shape<D>::TILE, ROWS = dq_shape<D>::ROWS, TILE_BYTES = TILE * D * 2 };
    SGC_DYNAMIC_SHARED(char, queries);
    char *dys = queries + ROWS * D * 2, *stages = dys + ROWS * D * 2; /* a stage: keys, values */
    const int T = (int)a.T, n_blocks = (T + ROWS - 1) / ROWS, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const place<V, D> p = place_of<V, D>(a, n_blocks);
    const int i0 = (n_blocks - 1 - p.block) * ROWS, own = warp * M * 16, own_i0 = i0 + own; /* the longest sums begin first */
    const int64_t sample = DROPS ? a.sample[p.b] : 0;
    const int end = T < i0 + ROWS ? T : i0 + ROWS, n_tiles = (end + TILE - 1) / TILE;

    load_tile<V, D, ROWS, MMA_THREADS>(queries, p.q, i0);
    load_tile<V, D, ROWS, MMA_THREADS>(dys, p.dy, i0);
    load_tile<V, D, TILE, MMA_THREADS>(stages, p.k, 0);
    load_tile<V, D, TILE, MMA_THREADS>(stages + TILE_BYTES, p.v, 0);
    copies_commit();

    const float scale = LOG2_E / sqrtf((float)D);
    float lse[M][2], delta[M][2], dq[M][D / 8][4];
    {
        constexpr int OWN = M * 16, PIECES = D / 8;
        float *own_delta = (float *)(stages + 4 * TILE_BYTES) + own;
        uint4 y[OWN * PIECES / WARP]; /* on its way while the tiles are */
#pragma unroll
        for (int k = 0; k < OWN * PIECES / WARP; k++) {
            const int i = own_i0 + (k * WARP + lane) / PIECES;
            y[k] = i < T ? *(const uint4 *)(p.y + i * a.C + lane % PIECES * 8) : make_uint4(0, 0, 0, 0);
        }
        copies_wait<0>();
        __syncthreads();
        make_delta<V, D, OWN>(own_delta, a.delta + p.at_lse + own_i0, y, dys, own, T - own_i0);
#pragma unroll
        for (int row = 0; row < M * 2; row++) {
            const int i = own_i0 + row * 8 + g;
            lse[row / 2][row % 2] = i < T ? a.lse[p.at_lse + i] * LOG2_E : 0;
            delta[row / 2][row % 2] = own_delta[row * 8 + g];
        }
    }
    set_zero(dq);

    for (int tile = 0; tile < n_tiles; tile++) {
        const int j0 = tile * TILE;
        const char *keys = stages + tile % 2 * 2 * TILE_BYTES, *values = keys + TILE_BYTES;
        copies_wait<0>();
        __syncthreads(); /* the tiles are there, and all have used those of the other stage */
        if (tile + 1 < n_tiles) {
            char *next = stages + (tile + 1) % 2 * 2 * TILE_BYTES;
            load_tile<V, D, TILE, MMA_THREADS>(next, p.k, j0 + TILE);
            load_tile<V, D, TILE, MMA_THREADS>(next + TILE_BYTES, p.v, j0 + TILE);
            copies_commit();
        }
        if (j0 > own_i0 + M * 16 - 1) continue; /* none of these keys is seen by this warp's queries */
        const bool is_cut = j0 + TILE - 1 > own_i0;
        float s[M][TILE / 8][4], ds[M][TILE / 8][4];
        set_zero(s);
        set_zero(ds);
        multiply_rows<V, D, M, TILE>(s, queries, own, keys, 0);
        multiply_rows<V, D, M, TILE>(ds, dys, own, values, 0);
        if (is_cut) {
#pragma unroll
            for (int k = 0; k < M * TILE / 8 * 4; k++) {
                const int m = k / (TILE / 8 * 4), n = k / 4 % (TILE / 8), e = k % 4;
                if (j0 + 8 * n + 2 * t + e % 2 > own_i0 + 16 * m + 8 * (e / 2) + g) s[m][n][e] = -INFINITY;
            }
        }
#pragma unroll
        for (int m = 0; m < M; m++) {
            const uint32_t kept = DROPS ? kept_of_queries<TILE / 8>(a, p.h * a.T * a.T, own_i0 + 16 * m, j0, sample) : ~0u;
#pragma unroll
            for (int k = 0; k < TILE / 8 * 4; k++) {
                const int n = k / 4, e = k % 4, upper = e / 2;
                const float weight = exp2_fast(fmaf(s[m][n][e], scale, -lse[m][upper]));
                float dweight = ds[m][n][e];
                if (DROPS) dweight = kept >> k & 1 ? dweight * a.drop.scale : 0;
                ds[m][n][e] = weight * (dweight - delta[m][upper]);
            }
        }
        add_product<V, D, M, TILE>(dq, ds, keys, 0);
    }

    const float factor = 1 / sqrtf((float)D), factors[2][2] = {{factor, factor}, {factor, factor}};
    put_rows<V, D, M>(p.dq, 3 * a.C, own_i0, T, dq, factors, queries + own * D * 2);
}

/* Logarithms of sums and mean gradients of the weights of queries i0.., on their way to stats. */
template <int TILE> static __device__ __forceinline__ void load_stats(float *stats, const attention &a, int64_t at_lse, int i0)
{
    static_assert(2 * TILE == MMA_THREADS, "one number to a thread");
    const int row = threadIdx.x % TILE;
    const bool is_there = i0 + row < a.T;
    const float *from = (threadIdx.x < TILE ? a.lse : a.delta) + at_lse;
    copy4_async(stats + threadIdx.x, is_there ? from + i0 + row : from, is_there);
}

template <typename V, int D, bool DROPS> static __global__ void __launch_bounds__(MMA_THREADS, 2) mma_dkv_kernel(const attention a)
{
    enum { M = dkv_shape<D>::M, TILE = dkv_shape<D>::TILE, PART = dkv_shape<D>::PART, ROWS = dkv_shape<D>::ROWS, TILE_BYTES = TILE * D * 2 };
    SGC_DYNAMIC_SHARED(char, keys);
    char *values = keys + ROWS * D * 2, *stages = values + ROWS * D * 2; /* a stage: queries, gradients of their outputs */
    float *stats = (float *)(stages + 4 * TILE_BYTES);                   /* and for each of them [2][TILE] */
    const int T = (int)a.T, n_blocks = (T + ROWS - 1) / ROWS, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const place<V, D> p = place_of<V, D>(a, n_blocks);
    const int j0 = p.block * ROWS, own = warp * M * 16, own_j0 = j0 + own, n_tiles = (T - j0 + TILE - 1) / TILE;
    const int64_t sample = DROPS ? a.sample[p.b] : 0;

    load_tile<V, D, ROWS, MMA_THREADS>(keys, p.k, j0);
    load_tile<V, D, ROWS, MMA_THREADS>(values, p.v, j0);
    load_tile<V, D, TILE, MMA_THREADS>(stages, p.q, j0);
    load_tile<V, D, TILE, MMA_THREADS>(stages + TILE_BYTES, p.dy, j0);
    load_stats<TILE>(stats, a, p.at_lse, j0);
    copies_commit();

    const float scale = LOG2_E / sqrtf((float)D);
    float dk[M][D / 8][4], dv[M][D / 8][4];
    set_zero(dk);
    set_zero(dv);

    for (int tile = 0; tile < n_tiles; tile++) {
        const int tile_i0 = j0 + tile * TILE;
        const char *queries = stages + tile % 2 * 2 * TILE_BYTES, *dys = queries + TILE_BYTES;
        const float *lse = stats + tile % 2 * 2 * TILE, *delta = lse + TILE;
        copies_wait<0>();
        __syncthreads(); /* the tiles are there, and all have used those of the other stage */
        if (tile + 1 < n_tiles) {
            char *next = stages + (tile + 1) % 2 * 2 * TILE_BYTES;
            load_tile<V, D, TILE, MMA_THREADS>(next, p.q, tile_i0 + TILE);
            load_tile<V, D, TILE, MMA_THREADS>(next + TILE_BYTES, p.dy, tile_i0 + TILE);
            load_stats<TILE>(stats + (tile + 1) % 2 * 2 * TILE, a, p.at_lse, tile_i0 + TILE);
            copies_commit();
        }
#pragma unroll 1
        for (int part = 0; part < TILE; part += PART) {
            const int i0 = tile_i0 + part;
            if (i0 + PART - 1 < own_j0) continue; /* none of these queries sees this warp's keys */
            const bool is_cut = i0 < own_j0 + M * 16 - 1;
            float s[M][PART / 8][4], ds[M][PART / 8][4];
            set_zero(s);
            set_zero(ds);
            multiply_rows<V, D, M, PART>(s, keys, own, queries, part);
            multiply_rows<V, D, M, PART>(ds, values, own, dys, part);
            if (is_cut) {
#pragma unroll
                for (int k = 0; k < M * PART / 8 * 4; k++) {
                    const int m = k / (PART / 8 * 4), n = k / 4 % (PART / 8), e = k % 4;
                    if (own_j0 + 16 * m + 8 * (e / 2) + g > i0 + 8 * n + 2 * t + e % 2) s[m][n][e] = -INFINITY;
                }
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                const uint32_t kept = DROPS ? kept_of_keys<PART / 8>(a, p.h * a.T * a.T, i0, own_j0 + 16 * m, sample) : ~0u;
#pragma unroll
                for (int n = 0; n < PART / 8; n++) {
                    const float2 log_sum = *(const float2 *)(lse + part + 8 * n + 2 * t), mean = *(const float2 *)(delta + part + 8 * n + 2 * t);
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const float weight = exp2_fast(fmaf(s[m][n][e], scale, -LOG2_E * (e % 2 ? log_sum.y : log_sum.x)));
                        float dweight = ds[m][n][e];
                        const bool is_kept = !DROPS || (kept >> (4 * n + e) & 1);
                        if (DROPS) dweight = is_kept ? dweight * a.drop.scale : 0;
                        s[m][n][e] = is_kept ? weight : 0;
                        ds[m][n][e] = weight * (dweight - (e % 2 ? mean.y : mean.x));
                    }
                }
            }
            add_product<V, D, M, PART>(dv, s, dys, part);
            add_product<V, D, M, PART>(dk, ds, queries, part);
        }
    }

    const float factor = 1 / sqrtf((float)D), scaling = a.drop.scale, factors[2][2] = {{factor, factor}, {factor, factor}};
    const float scalings[2][2] = {{scaling, scaling}, {scaling, scaling}};
    put_rows<V, D, M>(p.dq + a.C, 3 * a.C, own_j0, T, dk, factors, keys + own * D * 2);
    put_rows<V, D, M>(p.dq + 2 * a.C, 3 * a.C, own_j0, T, dv, scalings, keys + own * D * 2);
}

template <typename V, int D, bool DROPS> static void launch_two(sgc_device *d, const attention &a)
{
    const unsigned heads = (unsigned)(a.B * a.H), T = (unsigned)a.T;
    SGC_LAUNCH(d, (mma_dq_kernel<V, D, DROPS>), (T + dq_shape<D>::ROWS - 1) / dq_shape<D>::ROWS * heads, MMA_THREADS, dq_shared<D>(), a);
    SGC_LAUNCH(d, (mma_dkv_kernel<V, D, DROPS>), (T + dkv_shape<D>::ROWS - 1) / dkv_shape<D>::ROWS * heads, MMA_THREADS, dkv_shared<D>(), a);
}

template <typename V, int D> static void launch(sgc_device *d, const attention &a)
{
    a.drop.threshold ? launch_two<V, D, true>(d, a) : launch_two<V, D, false>(d, a);
}

void sgc_attention_mma_backward(sgc_device *d, const attention *a)
{
    if (d->ops->value == SGC_BF16) a->D == 64 ? launch<__nv_bfloat16, 64>(d, *a) : launch<__nv_bfloat16, 128>(d, *a);
    else a->D == 64 ? launch<__half, 64>(d, *a) : launch<__half, 128>(d, *a);
}

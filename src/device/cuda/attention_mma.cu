/*
 * The forward pass of attention on tensor cores. A block has 128 queries of a head, a warp 32; keys and values come in tiles of 64, the tiles of
 * keys and of values in turn through a ring of three places, so that two are on their way while one is used.
 * Source: FlashAttention-2, arXiv 2307.08691, algorithm 1.
 */
#include "device/cuda/attention_tile.cuh"

#include <math.h>

enum {
    QUERIES = 128,
    KEYS = 64,
    FORWARD_M = 2,
    WARP_QUERIES = FORWARD_M * 16,
    RING = 3,
};

template <int D> static constexpr size_t forward_shared(void) { return (size_t)(QUERIES + RING * KEYS) * D * 2; }

/* Weights of 32 queries and 64 keys as powers of two below the largest so far; what was summed up before is scaled if that has changed. */
template <int D>
static __device__ __forceinline__ void soften(float (&s)[FORWARD_M][KEYS / 8][4], float (&out)[FORWARD_M][D / 8][4], float (&max)[FORWARD_M][2],
                                              float (&sum)[FORWARD_M][2], float scale)
{
    float rescale[FORWARD_M][2];
    bool changed = false;
#pragma unroll
    for (int row = 0; row < FORWARD_M * 2; row++) {
        const int m = row / 2, upper = row % 2;
        float largest = max[m][upper];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) largest = fmaxf(largest, fmaxf(s[m][n][2 * upper], s[m][n][2 * upper + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
        rescale[m][upper] = exp2_fast((max[m][upper] - largest) * scale);
        changed |= largest != max[m][upper];
        max[m][upper] = largest;
    }
    if (__any_sync(ALL_LANES, changed)) {
#pragma unroll
        for (int row = 0; row < FORWARD_M * 2; row++) {
            const int m = row / 2, upper = row % 2;
            sum[m][upper] *= rescale[m][upper];
#pragma unroll
            for (int n = 0; n < D / 8; n++) out[m][n][2 * upper] *= rescale[m][upper], out[m][n][2 * upper + 1] *= rescale[m][upper];
        }
    }
#pragma unroll
    for (int row = 0; row < FORWARD_M * 2; row++) {
        const int m = row / 2, upper = row % 2;
        const float shift = -max[m][upper] * scale;
#pragma unroll
        for (int n = 0; n < KEYS / 8 * 2; n++) {
            float *x = &s[m][n / 2][2 * upper + n % 2];
            *x = exp2_fast(fmaf(*x, scale, shift));
            sum[m][upper] += *x;
        }
    }
}

template <typename V, int D, bool DROPS> static __global__ void __launch_bounds__(MMA_THREADS, 2) mma_forward_kernel(const attention a)
{
    constexpr int TILE_BYTES = KEYS * D * 2;
    SGC_DYNAMIC_SHARED(char, queries);
    char *ring = queries + QUERIES * D * 2;
    const int T = (int)a.T, n_blocks = (T + QUERIES - 1) / QUERIES, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int64_t head_number = blockIdx.x / n_blocks, b = head_number / a.H, h = head_number % a.H;
    const int i0 = (n_blocks - 1 - (int)(blockIdx.x % n_blocks)) * QUERIES, own_i0 = i0 + warp * WARP_QUERIES; /* the longest sums begin first */
    const V *first = (const V *)a.qkv + b * a.T * 3 * a.C + h * D;
    const head<V> q = {first, 3 * a.C, T}, k = {first + a.C, 3 * a.C, T}, v = {first + 2 * a.C, 3 * a.C, T};
    const int64_t sample = DROPS ? a.sample[b] : 0;
    const int end = T < i0 + QUERIES ? T : i0 + QUERIES, n_tiles = (end + KEYS - 1) / KEYS;

    load_tile<V, D, QUERIES, MMA_THREADS>(queries, q, i0);
    load_tile<V, D, KEYS, MMA_THREADS>(ring, k, 0);
    copies_commit();
    load_tile<V, D, KEYS, MMA_THREADS>(ring + TILE_BYTES, v, 0);
    copies_commit();

    const float scale = LOG2_E / sqrtf((float)D);
    float max[FORWARD_M][2], sum[FORWARD_M][2], out[FORWARD_M][D / 8][4];
#pragma unroll
    for (int row = 0; row < FORWARD_M * 2; row++) max[row / 2][row % 2] = -INFINITY, sum[row / 2][row % 2] = 0;
    set_zero(out);

    int place = 0; /* of the ring, of the tile to use */
    for (int tile = 0; tile < n_tiles; tile++) {
        const int j0 = tile * KEYS;
        const bool is_seen = j0 <= own_i0 + WARP_QUERIES - 1; /* by any query of this warp */
        float s[FORWARD_M][KEYS / 8][4];

        copies_wait<1>();
        __syncthreads(); /* the keys are there, and all have used the values before, whose place is taken next */
        int next = place == 0 ? RING - 1 : place - 1;
        if (tile + 1 < n_tiles) load_tile<V, D, KEYS, MMA_THREADS>(ring + next * TILE_BYTES, k, j0 + KEYS);
        copies_commit();
        if (is_seen) {
            set_zero(s);
            multiply_rows<V, D, FORWARD_M, KEYS>(s, queries, warp * WARP_QUERIES, ring + place * TILE_BYTES, 0);
            if (j0 + KEYS - 1 > own_i0) {
#pragma unroll
                for (int n = 0; n < FORWARD_M * KEYS / 8 * 4; n++) {
                    const int m = n / (KEYS / 8 * 4), c = n / 4 % (KEYS / 8), e = n % 4;
                    if (j0 + 8 * c + 2 * t + e % 2 > own_i0 + 16 * m + g + e / 2 * 8) s[m][c][e] = -INFINITY;
                }
            }
            soften<D>(s, out, max, sum, scale);
            if (DROPS) {
#pragma unroll
                for (int m = 0; m < FORWARD_M; m++) {
                    const uint32_t kept = kept_of_queries<KEYS / 8>(a, h * a.T * a.T, own_i0 + 16 * m, j0, sample);
#pragma unroll
                    for (int n = 0; n < KEYS / 8 * 4; n++)
                        if (!(kept >> n & 1)) s[m][n / 4][n % 4] = 0;
                }
            }
        }
        next = place;
        place = place == RING - 1 ? 0 : place + 1;

        copies_wait<1>();
        __syncthreads(); /* the values are there, and all have used the keys */
        if (tile + 1 < n_tiles) load_tile<V, D, KEYS, MMA_THREADS>(ring + next * TILE_BYTES, v, j0 + KEYS);
        copies_commit();
        if (is_seen) add_product<V, D, FORWARD_M, KEYS>(out, s, ring + place * TILE_BYTES, 0);
        place = place == RING - 1 ? 0 : place + 1;
    }

    float factor[FORWARD_M][2];
#pragma unroll
    for (int row = 0; row < FORWARD_M * 2; row++) {
        const int m = row / 2, upper = row % 2, i = own_i0 + 16 * m + 8 * upper + g;
        float total = sum[m][upper];
        total += __shfl_xor_sync(ALL_LANES, total, 1);
        total += __shfl_xor_sync(ALL_LANES, total, 2);
        factor[m][upper] = a.drop.scale / total;
        if (t == 0 && i < T) a.lse[head_number * T + i] = LN_2 * fmaf(max[m][upper], scale, log2f(total));
    }
    put_rows<V, D, FORWARD_M>((V *)a.y + b * a.T * a.C + h * D, a.C, own_i0, T, out, factor, queries + warp * WARP_QUERIES * D * 2);
}

template <typename V, int D> static void launch(sgc_device *d, const attention &a)
{
    const unsigned blocks = (unsigned)((a.T + QUERIES - 1) / QUERIES * a.B * a.H);
    if (a.drop.threshold) SGC_LAUNCH(d, (mma_forward_kernel<V, D, true>), blocks, MMA_THREADS, forward_shared<D>(), a);
    else SGC_LAUNCH(d, (mma_forward_kernel<V, D, false>), blocks, MMA_THREADS, forward_shared<D>(), a);
}

void sgc_attention_mma_forward(sgc_device *d, const attention *a)
{
    if (d->ops->value == SGC_BF16) a->D == 64 ? launch<__nv_bfloat16, 64>(d, *a) : launch<__nv_bfloat16, 128>(d, *a);
    else a->D == 64 ? launch<__half, 64>(d, *a) : launch<__half, 128>(d, *a);
}

/*
 * Attention with any head size up to 256 and any type of values, in float arithmetic. Products are made in tiles of 64 queries by 64 keys: a block
 * of 16 x 16 threads, of which each holds 4 x 4 numbers, or that for every 64 columns of the head. Every tile of queries (or keys) is
 * summed over the tiles of keys (queries) in their order, by one block alone.
 */
#include "device/cuda/attention.cuh"

#include <math.h>

enum {
    TILE = 64,
    SIDE = 4,                 /* numbers of a thread in each direction */
    PLAIN_THREADS = TILE / SIDE * (TILE / SIDE),
    CHUNK = 32,               /* columns of the head that are held of both factors of a tile */
    PITCH = TILE + 4,         /* so that rows written one below the other lie in other banks, and rows are aligned to 16 bytes */
    SHARED_FLOATS = 2 * CHUNK * PITCH + TILE * PITCH,
};

/* Rows of one head: row r begins at first + r * stride, and there are n of them. */
template <typename V> struct head_rows {
    const V *first;
    int64_t stride, n;
};

template <typename V> static __device__ head_rows<V> rows_of(const void *base, int64_t at, int64_t stride, int64_t n)
{
    return {(const V *)base + at, stride, n};
}

/* chunk[c][r] = column first_column + c of row first + r, zero beyond the end. A warp takes 4 rows of 8 columns, which is all banks. */
template <typename V> static __device__ void load_chunk(float *chunk, const head_rows<V> &m, int64_t first, int first_column, int D)
{
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
#pragma unroll
    for (int k = 0; k < TILE * CHUNK / PLAIN_THREADS; k++) {
        const int r = warp * 8 + k / 4 * 4 + lane / 8, c = k % 4 * 8 + lane % 8;
        const bool is_there = first + r < m.n && first_column + c < D;
        chunk[c * PITCH + r] = is_there ? to_float(m.first[(first + r) * m.stride + first_column + c]) : 0;
    }
}

/* s[x][y] = row a0 + 4 ty + x of a times row b0 + 4 tx + y of b */
template <typename V>
static __device__ void multiply_rows(float (&s)[SIDE][SIDE], const head_rows<V> &a, int64_t a0, const head_rows<V> &b, int64_t b0, int D, float *chunks)
{
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE);
    float *left = chunks, *right = chunks + CHUNK * PITCH;
#pragma unroll
    for (int k = 0; k < SIDE * SIDE; k++) s[k / SIDE][k % SIDE] = 0;
#pragma unroll 1
    for (int column = 0; column < D; column += CHUNK) {
        __syncthreads(); /* the chunks before have been read */
        load_chunk(left, a, a0, column, D);
        load_chunk(right, b, b0, column, D);
        __syncthreads();
#pragma unroll 4
        for (int c = 0; c < CHUNK; c++) {
            float x[SIDE], y[SIDE];
            load4(left + c * PITCH + ty * SIDE, x);
            load4(right + c * PITCH + tx * SIDE, y);
#pragma unroll
            for (int k = 0; k < SIDE * SIDE; k++) s[k / SIDE][k % SIDE] = fmaf(x[k / SIDE], y[k % SIDE], s[k / SIDE][k % SIDE]);
        }
    }
}

/* weights[column][row] = s, to be the left factor of add_product. */
static __device__ void put_weights(float *weights, const float (&s)[SIDE][SIDE])
{
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE);
    __syncthreads(); /* the weights before have been read */
#pragma unroll
    for (int y = 0; y < SIDE; y++) {
        const float column[SIDE] = {s[0][y], s[1][y], s[2][y], s[3][y]};
        store4(weights + (tx * SIDE + y) * PITCH + ty * SIDE, column);
    }
}

/* out[n][x][y], of row 4 ty + x and column 64 n + 4 tx + y, += weights (after put_weights) times rows b0.. of b. chunk: [TILE][TILE] */
template <typename V, int SLICES>
static __device__ void add_product(float (&out)[SLICES][SIDE][SIDE], const float *weights, const head_rows<V> &b, int64_t b0, int D, float *chunk)
{
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE);
#pragma unroll
    for (int n = 0; n < SLICES; n++) {
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < TILE * TILE / PLAIN_THREADS; k++) {
            const int at = k * PLAIN_THREADS + threadIdx.x, r = at / TILE, c = n * TILE + at % TILE;
            chunk[at] = b0 + r < b.n && c < D ? to_float(b.first[(b0 + r) * b.stride + c]) : 0;
        }
        __syncthreads();
#pragma unroll 4
        for (int r = 0; r < TILE; r++) {
            float x[SIDE], y[SIDE];
            load4(weights + r * PITCH + ty * SIDE, x);
            load4(chunk + r * TILE + tx * SIDE, y);
#pragma unroll
            for (int k = 0; k < SIDE * SIDE; k++) out[n][k / SIDE][k % SIDE] = fmaf(x[k / SIDE], y[k % SIDE], out[n][k / SIDE][k % SIDE]);
        }
    }
}

/* Rows first.. of the result, multiplied by a factor of each. */
template <typename V, int SLICES>
static __device__ void put_rows(V *rows, int64_t stride, int64_t first, int64_t n, int D, const float (&out)[SLICES][SIDE][SIDE], const float (&factor)[SIDE])
{
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE);
#pragma unroll
    for (int k = 0; k < SLICES * SIDE * SIDE; k++) {
        const int slice = k / (SIDE * SIDE), x = k / SIDE % SIDE, y = k % SIDE, c = slice * TILE + tx * SIDE + y;
        const int64_t r = first + ty * SIDE + x;
        if (r < n && c < D) rows[r * stride + c] = from_float<V>(out[slice][x][y] * factor[x]);
    }
}

/* Over the threads that hold the numbers of the same rows. */
static __device__ __forceinline__ float sum_of_row(float x)
{
#pragma unroll
    for (int step = TILE / SIDE / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}
static __device__ __forceinline__ float max_of_row(float x)
{
#pragma unroll
    for (int step = TILE / SIDE / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

/* The head and tile of a block: the tiles with the longest sums first. */
struct place {
    int64_t b, h, tile;
    int64_t at_qkv, at_y, at_lse; /* where the head's arrays begin */
};

static __device__ place place_of(const attention &a, bool last_first)
{
    const int64_t n_tiles = (a.T + TILE - 1) / TILE, head = blockIdx.x / n_tiles, tile = blockIdx.x % n_tiles;
    place p;
    p.b = head / a.H, p.h = head % a.H, p.tile = last_first ? n_tiles - 1 - tile : tile;
    p.at_qkv = p.b * a.T * 3 * a.C + p.h * a.D, p.at_y = p.b * a.T * a.C + p.h * a.D, p.at_lse = head * a.T;
    return p;
}

/* Bit SIDE * m + n is set if the weight of query i + m and key j + n is kept. */
static __device__ uint32_t kept_of_tile(const attention &a, int64_t h, int64_t i, int64_t j, int64_t sample)
{
    if (!a.drop.threshold) return ~0u;
    uint32_t bits = 0;
#pragma unroll 1
    for (int m = 0; m < SIDE; m++) bits |= kept_4(a.drop, (uint64_t)((h * a.T + i + m) * a.T + j), sample) << m * SIDE;
    return bits;
}

template <typename V, int SLICES>
static __global__ void __launch_bounds__(PLAIN_THREADS) forward_kernel(const attention a)
{
    SGC_DYNAMIC_SHARED(float, chunks);
    float *weights = chunks + 2 * CHUNK * PITCH;
    const place p = place_of(a, true);
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE), D = (int)a.D;
    const head_rows<V> q = rows_of<V>(a.qkv, p.at_qkv, 3 * a.C, a.T), k = rows_of<V>(a.qkv, p.at_qkv + a.C, 3 * a.C, a.T),
                       v = rows_of<V>(a.qkv, p.at_qkv + 2 * a.C, 3 * a.C, a.T);
    const int64_t i0 = p.tile * TILE, sample = a.drop.threshold ? a.sample[p.b] : 0;
    const float scale = LOG2_E / sqrtf((float)D); /* exponentials are powers of two */
    float max[SIDE], sum[SIDE], out[SLICES][SIDE][SIDE];
#pragma unroll
    for (int x = 0; x < SIDE; x++) max[x] = -INFINITY, sum[x] = 0;
#pragma unroll
    for (int n = 0; n < SLICES * SIDE * SIDE; n++) out[n / (SIDE * SIDE)][n / SIDE % SIDE][n % SIDE] = 0;
    for (int64_t j0 = 0; j0 <= i0; j0 += TILE) {
        float s[SIDE][SIDE];
        const uint32_t kept = kept_of_tile(a, p.h, i0 + ty * SIDE, j0 + tx * SIDE, sample);
        multiply_rows(s, q, i0, k, j0, D, chunks);
#pragma unroll
        for (int x = 0; x < SIDE; x++) {
            const int64_t i = i0 + ty * SIDE + x, j = j0 + tx * SIDE;
            float largest = -INFINITY;
#pragma unroll
            for (int y = 0; y < SIDE; y++) {
                if (j + y > i) s[x][y] = -INFINITY;
                largest = fmaxf(largest, s[x][y]);
            }
            largest = fmaxf(max[x], max_of_row(largest) * scale);
            const float rescale = exp2f(max[x] - largest);
            max[x] = largest;
            sum[x] *= rescale;
#pragma unroll
            for (int n = 0; n < SLICES * SIDE; n++) out[n / SIDE][x][n % SIDE] *= rescale;
#pragma unroll
            for (int y = 0; y < SIDE; y++) {
                const float weight = exp2f(fmaf(s[x][y], scale, -largest));
                sum[x] += weight;
                s[x][y] = kept >> (x * SIDE + y) & 1 ? weight : 0;
            }
        }
        put_weights(weights, s);
        add_product(out, weights, v, j0, D, chunks);
    }
    float factor[SIDE];
#pragma unroll
    for (int x = 0; x < SIDE; x++) {
        const float total = sum_of_row(sum[x]);
        const int64_t i = i0 + ty * SIDE + x;
        factor[x] = a.drop.scale / total;
        if (tx == 0 && i < a.T) a.lse[p.at_lse + i] = LN_2 * (max[x] + log2f(total));
    }
    put_rows((V *)a.y + p.at_y, a.C, i0, a.T, D, out, factor);
}

/* A group of lanes to a head of a position. */
enum { DELTA_LANES = 8, DELTA_THREADS = 256 };

template <typename V>
static __global__ void __launch_bounds__(DELTA_THREADS) delta_kernel(const attention a)
{
    const int64_t row = ((int64_t)blockIdx.x * DELTA_THREADS + threadIdx.x) / DELTA_LANES, at = row / a.H, h = row % a.H; /* at: b * T + t */
    const int lane = threadIdx.x % DELTA_LANES;
    const bool is_there = row < a.B * a.T * a.H;
    float sum = 0;
    if (is_there) {
        const V *dy = (const V *)a.dy + at * a.C + h * a.D, *y = (const V *)a.y + at * a.C + h * a.D;
        if (a.D % 8 == 0) {
            for (int64_t c = lane * 8; c < a.D; c += DELTA_LANES * 8) {
                float p[8], q[8];
                load8(dy + c, p);
                load8(y + c, q);
#pragma unroll
                for (int k = 0; k < 8; k++) sum += p[k] * q[k];
            }
        } else {
            for (int64_t c = lane; c < a.D; c += DELTA_LANES) sum += to_float(dy[c]) * to_float(y[c]);
        }
    }
#pragma unroll
    for (int step = DELTA_LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    if (is_there && lane == 0) a.delta[(at / a.T * a.H + h) * a.T + at % a.T] = sum;
}

/* The weight of query i and key j before and after dropout, and the derivative of the loss by its score over 1/sqrt(D). */
static __device__ __forceinline__ void differentiate(const attention &a, float score, float dweight, float lse, float delta, bool is_seen, bool is_kept,
                                                     float *weight, float *dscore)
{
    const float p = is_seen ? exp2f(fmaf(score, LOG2_E / sqrtf((float)a.D), -LOG2_E * lse)) : 0;
    *weight = is_kept ? p * a.drop.scale : 0;
    *dscore = p * ((is_kept ? dweight * a.drop.scale : 0) - delta);
}

template <typename V, int SLICES>
static __global__ void __launch_bounds__(PLAIN_THREADS) dq_kernel(const attention a)
{
    SGC_DYNAMIC_SHARED(float, chunks);
    float *weights = chunks + 2 * CHUNK * PITCH;
    const place p = place_of(a, true);
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE), D = (int)a.D;
    const head_rows<V> q = rows_of<V>(a.qkv, p.at_qkv, 3 * a.C, a.T), k = rows_of<V>(a.qkv, p.at_qkv + a.C, 3 * a.C, a.T),
                       v = rows_of<V>(a.qkv, p.at_qkv + 2 * a.C, 3 * a.C, a.T), dy = rows_of<V>(a.dy, p.at_y, a.C, a.T);
    const int64_t i0 = p.tile * TILE, sample = a.drop.threshold ? a.sample[p.b] : 0;
    float lse[SIDE], delta[SIDE], out[SLICES][SIDE][SIDE];
#pragma unroll
    for (int x = 0; x < SIDE; x++) {
        const int64_t i = i0 + ty * SIDE + x;
        lse[x] = i < a.T ? a.lse[p.at_lse + i] : 0;
        delta[x] = i < a.T ? a.delta[p.at_lse + i] : 0;
    }
#pragma unroll
    for (int n = 0; n < SLICES * SIDE * SIDE; n++) out[n / (SIDE * SIDE)][n / SIDE % SIDE][n % SIDE] = 0;
    for (int64_t j0 = 0; j0 <= i0; j0 += TILE) {
        float s[SIDE][SIDE], ds[SIDE][SIDE];
        const uint32_t kept = kept_of_tile(a, p.h, i0 + ty * SIDE, j0 + tx * SIDE, sample);
        multiply_rows(s, q, i0, k, j0, D, chunks);
        multiply_rows(ds, dy, i0, v, j0, D, chunks);
#pragma unroll
        for (int x = 0; x < SIDE; x++) {
            const int64_t i = i0 + ty * SIDE + x, j = j0 + tx * SIDE;
#pragma unroll
            for (int y = 0; y < SIDE; y++)
                differentiate(a, s[x][y], ds[x][y], lse[x], delta[x], j + y <= i, kept >> (x * SIDE + y) & 1, &s[x][y], &ds[x][y]);
        }
        put_weights(weights, ds);
        add_product(out, weights, k, j0, D, chunks);
    }
    const float scale = 1 / sqrtf((float)D), factor[SIDE] = {scale, scale, scale, scale};
    put_rows((V *)a.dqkv + p.at_qkv, 3 * a.C, i0, a.T, D, out, factor);
}

/* A block has keys as rows and queries as columns. */
template <typename V, int SLICES>
static __global__ void __launch_bounds__(PLAIN_THREADS) dkv_kernel(const attention a)
{
    SGC_DYNAMIC_SHARED(float, chunks);
    float *weights = chunks + 2 * CHUNK * PITCH;
    const place p = place_of(a, false);
    const int tx = threadIdx.x % (TILE / SIDE), ty = threadIdx.x / (TILE / SIDE), D = (int)a.D;
    const head_rows<V> q = rows_of<V>(a.qkv, p.at_qkv, 3 * a.C, a.T), k = rows_of<V>(a.qkv, p.at_qkv + a.C, 3 * a.C, a.T),
                       v = rows_of<V>(a.qkv, p.at_qkv + 2 * a.C, 3 * a.C, a.T), dy = rows_of<V>(a.dy, p.at_y, a.C, a.T);
    const int64_t j0 = p.tile * TILE, j = j0 + ty * SIDE, sample = a.drop.threshold ? a.sample[p.b] : 0;
    float dk[SLICES][SIDE][SIDE], dv[SLICES][SIDE][SIDE];
#pragma unroll
    for (int n = 0; n < SLICES * SIDE * SIDE; n++)
        dk[n / (SIDE * SIDE)][n / SIDE % SIDE][n % SIDE] = dv[n / (SIDE * SIDE)][n / SIDE % SIDE][n % SIDE] = 0;
    for (int64_t i0 = j0; i0 < a.T; i0 += TILE) {
        float s[SIDE][SIDE], ds[SIDE][SIDE];
        const uint32_t kept = kept_of_tile(a, p.h, i0 + tx * SIDE, j, sample);
        multiply_rows(s, k, j0, q, i0, D, chunks);
        multiply_rows(ds, v, j0, dy, i0, D, chunks);
#pragma unroll
        for (int y = 0; y < SIDE; y++) {
            const int64_t i = i0 + tx * SIDE + y;
            const bool is_there = i < a.T;
            const float lse = is_there ? a.lse[p.at_lse + i] : 0, delta = is_there ? a.delta[p.at_lse + i] : 0;
#pragma unroll
            for (int x = 0; x < SIDE; x++)
                differentiate(a, s[x][y], ds[x][y], lse, delta, is_there && j + x <= i, kept >> (y * SIDE + x) & 1, &s[x][y], &ds[x][y]);
        }
        put_weights(weights, s);
        add_product(dv, weights, dy, i0, D, chunks);
        put_weights(weights, ds);
        add_product(dk, weights, q, i0, D, chunks);
    }
    const float scale = 1 / sqrtf((float)D), factor[SIDE] = {scale, scale, scale, scale}, one[SIDE] = {1, 1, 1, 1};
    put_rows((V *)a.dqkv + p.at_qkv + a.C, 3 * a.C, j0, a.T, D, dk, factor);
    put_rows((V *)a.dqkv + p.at_qkv + 2 * a.C, 3 * a.C, j0, a.T, D, dv, one);
}

enum pass { FORWARD, BACKWARD };

template <typename V, int SLICES> static void launch(sgc_device *d, const attention &a, enum pass pass)
{
    const unsigned blocks = (unsigned)((a.T + TILE - 1) / TILE * a.B * a.H);
    const size_t bytes = SHARED_FLOATS * sizeof(float);
    if (pass == FORWARD) {
        SGC_LAUNCH(d, (forward_kernel<V, SLICES>), blocks, PLAIN_THREADS, bytes, a);
    } else {
        SGC_LAUNCH(d, (delta_kernel<V>), (unsigned)((a.B * a.T * a.H * DELTA_LANES + DELTA_THREADS - 1) / DELTA_THREADS), DELTA_THREADS, 0, a);
        SGC_LAUNCH(d, (dq_kernel<V, SLICES>), blocks, PLAIN_THREADS, bytes, a);
        SGC_LAUNCH(d, (dkv_kernel<V, SLICES>), blocks, PLAIN_THREADS, bytes, a);
    }
}

template <typename V> static void launch_typed(sgc_device *d, const attention &a, enum pass pass)
{
    if (a.D <= TILE) launch<V, 1>(d, a, pass);
    else if (a.D <= 2 * TILE) launch<V, 2>(d, a, pass);
    else launch<V, 4>(d, a, pass);
}

static void launch_any(sgc_device *d, const attention &a, enum pass pass)
{
    if (d->ops->value == SGC_F32) launch_typed<float>(d, a, pass);
    else if (d->ops->value == SGC_BF16) launch_typed<__nv_bfloat16>(d, a, pass);
    else launch_typed<__half>(d, a, pass);
}

void sgc_attention_plain_forward(sgc_device *d, const attention *a) { launch_any(d, *a, FORWARD); }
void sgc_attention_plain_backward(sgc_device *d, const attention *a) { launch_any(d, *a, BACKWARD); }

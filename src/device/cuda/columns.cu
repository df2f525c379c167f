/* Sums down columns; a bias, and its gradient. */
#include "device/cuda/columns.cuh"

#include "device/cuda/elements.cuh"

enum {
    SLOTS = 8, /* threads that share the rows of a group */
    BATCH = 4, /* rows that a thread loads at once */
    BIAS_THREADS = 256,
};

/* Block x: a group of rows; block y: 32 * W columns, W of a thread. */
template <typename Value, int W, bool NORMALIZED>
static __global__ void __launch_bounds__(WARP *SLOTS)
    column_sums(float *groups, const Value *dy, const Value *x, const float *mean, const float *rstd, const int64_t N, const int64_t C)
{
    SGC_SHARED(float, sums, [SLOTS][W][WARP]);
    const int64_t column = ((int64_t)blockIdx.y * WARP + threadIdx.x) * W, first = (int64_t)blockIdx.x * COLUMN_ROWS + threadIdx.y;
    float sum[W], dot[W];
#pragma unroll
    for (int j = 0; j < W; j++) sum[j] = dot[j] = 0;
    if (column < C) {
        for (int k = 0; k < COLUMN_ROWS / SLOTS; k += BATCH) {
            loaded<Value, W> a[BATCH], b[BATCH];
            float m[BATCH], r[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; i++) { /* all loads first, so that they are on their way together */
                const int64_t n = first + (k + i) * SLOTS;
                if (n < N) {
                    load_raw(dy + n * C + column, a[i]);
                    if (NORMALIZED) load_raw(x + n * C + column, b[i]), m[i] = mean[n], r[i] = rstd[n];
                } else {
                    clear_raw(a[i]);
                    if (NORMALIZED) clear_raw(b[i]), m[i] = r[i] = 0;
                }
            }
#pragma unroll
            for (int i = 0; i < BATCH; i++) {
                float gradient[W], in[W];
                unpack_n(a[i], gradient);
                if (NORMALIZED) unpack_n(b[i], in);
#pragma unroll
                for (int j = 0; j < W; j++) {
                    sum[j] += gradient[j];
                    if (NORMALIZED) dot[j] = fmaf(gradient[j], (in[j] - m[i]) * r[i], dot[j]);
                }
            }
        }
    }
    groups += (int64_t)blockIdx.x * (NORMALIZED ? 2 : 1) * C;
#pragma unroll
    for (int part = NORMALIZED ? 0 : 1; part < 2; part++) {
        __syncthreads(); /* what was there has been read */
#pragma unroll
        for (int j = 0; j < W; j++) sums[threadIdx.y][j][threadIdx.x] = part == 0 ? dot[j] : sum[j];
        __syncthreads();
        for (int j = threadIdx.y; j < W; j += SLOTS) {
            float total = 0;
#pragma unroll
            for (int slot = 0; slot < SLOTS; slot++) total += sums[slot][j][threadIdx.x];
            if (column < C) groups[column + j] = total;
        }
        groups += C;
    }
}

template <typename Value, int W, bool NORMALIZED>
static void run_column_sums(sgc_device *d, float *groups, const void *dy, const void *x, const float *mean, const float *rstd, int64_t N, int64_t C)
{
    const dim3 grid((unsigned)divide_up(N, COLUMN_ROWS), (unsigned)divide_up(C, WARP * W));
    SGC_LAUNCH(d, (column_sums<Value, W, NORMALIZED>), grid, dim3(WARP, SLOTS), 0, groups, (const Value *)dy, (const Value *)x, mean, rstd, N, C);
}

template <typename Value>
static void choose_column_sums(sgc_device *d, float *groups, const void *dy, const void *x, const float *mean, const float *rstd, int64_t N, int64_t C)
{
    enum { W = vector_of<Value>::WIDTH };
    const bool vectors = C % W == 0 && fits_vector((const Value *)dy, W) && fits_vector((const Value *)x, W);
    if (vectors) {
        if (x) run_column_sums<Value, W, true>(d, groups, dy, x, mean, rstd, N, C);
        else run_column_sums<Value, W, false>(d, groups, dy, x, mean, rstd, N, C);
    } else {
        if (x) run_column_sums<Value, 1, true>(d, groups, dy, x, mean, rstd, N, C);
        else run_column_sums<Value, 1, false>(d, groups, dy, x, mean, rstd, N, C);
    }
}

void sgc_cuda_column_sums(sgc_device *d, float *groups, const void *dy, const void *x, const float *mean, const float *rstd, int64_t N, int64_t C)
{
    SGC_WITH_VALUE(d, choose_column_sums<Value>(d, groups, dy, x, mean, rstd, N, C));
}

/* Threads [32, 32]: 32 columns, and as many slots that share the groups. n_columns: of out and next together. */
static __global__ void __launch_bounds__(WARP *WARP)
    add_groups(float *out, float *next, const float *groups, const int64_t n_groups, const int64_t C, const int64_t n_columns)
{
    SGC_SHARED(float, sums, [WARP][WARP + 1]);
    int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x;
    float sum = 0;
    if (column < n_columns) {
#pragma unroll 4
        for (int64_t i = threadIdx.y; i < n_groups; i += WARP) sum += groups[i * n_columns + column];
    }
    sums[threadIdx.x][threadIdx.y] = sum;
    __syncthreads();
    sum = warp_sum(sums[threadIdx.y][threadIdx.x]);
    column = (int64_t)blockIdx.x * WARP + threadIdx.y;
    if (threadIdx.x != 0 || column >= n_columns) return;
    if (column < C) out[column] += sum;
    else next[column - C] += sum;
}

void sgc_cuda_add_groups(sgc_device *d, float *out, float *next, const float *groups, int64_t n_groups, int64_t C)
{
    const int64_t n_columns = next ? 2 * C : C;
    SGC_LAUNCH(d, add_groups, (unsigned)divide_up(n_columns, WARP), dim3(WARP, WARP), 0, out, next, groups, n_groups, C, n_columns);
}

/* A block per row. */
template <typename Result, typename Value>
static __global__ void __launch_bounds__(BIAS_THREADS) add_bias(Result *c, const Value *bias, const int64_t ldc, const int64_t n)
{
    c += blockIdx.x * ldc;
    for (int64_t i = threadIdx.x; i < n; i += BIAS_THREADS) c[i] = from_float<Result>(to_float(c[i]) + to_float(bias[i]));
}

void sgc_cuda_add_bias(sgc_device *d, void *c, bool c_is_wide, int64_t ldc, const void *bias, int64_t m, int64_t n)
{
    if (m == 0 || n == 0) return;
    if (c_is_wide) SGC_WITH_VALUE(d, SGC_LAUNCH(d, (add_bias<float, Value>), (unsigned)m, BIAS_THREADS, 0, (float *)c, (const Value *)bias, ldc, n));
    else SGC_WITH_VALUE(d, SGC_LAUNCH(d, (add_bias<Value, Value>), (unsigned)m, BIAS_THREADS, 0, (Value *)c, (const Value *)bias, ldc, n));
}

size_t sgc_cuda_bias_scratch(int64_t N, int64_t C) { return (size_t)(divide_up(N, COLUMN_ROWS) * C) * sizeof(float); }

void sgc_cuda_bias_backward(sgc_device *d, float *db, const void *dy, int64_t N, int64_t C)
{
    const int64_t n_groups = divide_up(N, COLUMN_ROWS);
    if (N == 0 || C == 0) return;
    float *groups = (float *)sgc_cuda_scratch(d, sgc_cuda_bias_scratch(N, C));
    if (!groups) return;
    sgc_cuda_column_sums(d, groups, dy, NULL, NULL, NULL, N, C);
    sgc_cuda_add_groups(d, db, NULL, groups, n_groups, C);
}

/*
 * Layer norm and the gradient of a bias: rows are cut among threads. Sums down the rows are made for blocks of rows first, then over the blocks, so that
 * they do not depend on the threads and rounding does not grow with the number of rows.
 */
#include "device/cpu/cpu_impl.h"

enum { ROWS = 64 };

static int64_t n_blocks_of(int64_t N) { return (N + ROWS - 1) / ROWS; }
static int64_t rows_of(int64_t N, int64_t first) { return N - first < ROWS ? N - first : ROWS; }

/* out [C] += the sum of the blocks' rows of sums */
static void add_blocks(const sgc_simd *simd, float *out, const float *sums, int64_t n_blocks, int64_t stride, int64_t C)
{
#pragma omp for schedule(static)
    for (int64_t c = 0; c < C; c += SGC_CPU_COLUMNS) simd->add_rows(out + c, sums + c, n_blocks, stride, C - c < SGC_CPU_COLUMNS ? C - c : SGC_CPU_COLUMNS);
}

void sgc_cpu_layer_norm_forward(sgc_device *d, void *y, void *mean_, void *rstd_, const void *x, const void *w, const void *b, int64_t N, int64_t C,
                                double epsilon)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *mean = mean_, *rstd = rstd_;
#pragma omp parallel for schedule(static) if (N * C >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < N; n++)
        simd->layer_norm_forward(sgc_cpu_at(d, y, n * C), mean + n, rstd + n, sgc_cpu_at(d, x, n * C), w, b, 1, C, epsilon);
}

void sgc_cpu_layer_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w,
                                 const void *mean_, const void *rstd_, int64_t N, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *mean = mean_, *rstd = rstd_;
    const int64_t n_blocks = n_blocks_of(N);
    float *sums = sgc_cpu_scratch(d, n_blocks * 2 * C); /* of dw, and of db, of a block */
#pragma omp parallel if (N * C >= 2 * SGC_CPU_PIECE)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_blocks; i++) {
            int64_t n = i * ROWS;
            float *of_block = sums + i * 2 * C;
            simd->layer_norm_backward(sgc_cpu_at(d, dx, n * C), add_dx, of_block, of_block + C, sgc_cpu_at(d, dy, n * C), sgc_cpu_at(d, x, n * C), w,
                                      mean + n, rstd + n, rows_of(N, n), C);
        }
        add_blocks(simd, dw, sums, n_blocks, 2 * C, C);
        add_blocks(simd, db, sums + C, n_blocks, 2 * C, C);
    }
}

void sgc_cpu_bias_backward(sgc_device *d, void *db, const void *dy, int64_t N, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const int64_t n_blocks = n_blocks_of(N);
    float *sums = sgc_cpu_scratch(d, n_blocks * C);
#pragma omp parallel if (N * C >= 2 * SGC_CPU_PIECE)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_blocks; i++) simd->column_sums(sums + i * C, sgc_cpu_at(d, dy, i * ROWS * C), rows_of(N, i * ROWS), C);
        add_blocks(simd, db, sums, n_blocks, C, C);
    }
}

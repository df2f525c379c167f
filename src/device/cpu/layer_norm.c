/*
 * Layer norm, with the residual sum before it, and the gradient of a bias: rows are cut among threads. Sums down the rows are made for blocks of
 * rows first, then over the blocks, so that they do not depend on the threads and rounding does not grow with the number of rows.
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

/* Where nothing is dropped, there need be no samples. */
static int64_t sample_of(const sgc_dropout *drop, int64_t b) { return drop->p == 0 ? 0 : drop->sample[b]; }

/* A row is normalized while it is in the cache. */
void sgc_cpu_residual_norm_forward(sgc_device *d, void *z, void *y, void *mean_, void *rstd_, const void *x, const void *r, const void *w, const void *b,
                                   int64_t B, int64_t T, int64_t C, double epsilon, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const uint32_t threshold = sgc_cpu_dropout_threshold(drop->p);
    const float scale = sgc_cpu_dropout_scale(drop->p);
    float *mean = mean_, *rstd = rstd_;
#pragma omp parallel for schedule(static) if (B * T * C >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < B * T; n++) {
        void *row = sgc_cpu_at(d, z, n * C);
        simd->residual(row, sgc_cpu_at(d, x, n * C), sgc_cpu_at(d, r, n * C), n % T * C, C, *drop->key, drop->stream, sample_of(drop, n / T), threshold, scale);
        simd->layer_norm_forward(sgc_cpu_at(d, y, n * C), mean + n, rstd + n, row, w, b, 1, C, epsilon);
    }
}

/* dr: NULL, or the dropout of dx, in which T rows are a sample; made when a block of dx is, and still in the cache. */
static void backward(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w, const float *mean,
                     const float *rstd, int64_t N, int64_t T, int64_t C, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const int64_t n_blocks = n_blocks_of(N);
    float *sums = sgc_cpu_scratch(d, n_blocks * 2 * C); /* of dw, and of db, of a block */
#pragma omp parallel if (N * C >= 2 * SGC_CPU_PIECE)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n_blocks; i++) {
            int64_t n = i * ROWS, end = n + rows_of(N, n);
            float *of_block = sums + i * 2 * C;
            simd->layer_norm_backward(sgc_cpu_at(d, dx, n * C), add_dx, of_block, of_block + C, sgc_cpu_at(d, dy, n * C), sgc_cpu_at(d, x, n * C), w,
                                      mean + n, rstd + n, end - n, C);
            for (; dr && n < end; n++)
                simd->dropout(sgc_cpu_at(d, dr, n * C), sgc_cpu_at(d, dx, n * C), n % T * C, C, *drop->key, drop->stream, sample_of(drop, n / T),
                              sgc_cpu_dropout_threshold(drop->p), sgc_cpu_dropout_scale(drop->p));
        }
        add_blocks(simd, dw, sums, n_blocks, 2 * C, C);
        add_blocks(simd, db, sums + C, n_blocks, 2 * C, C);
    }
}

void sgc_cpu_layer_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w,
                                 const void *mean, const void *rstd, int64_t N, int64_t C)
{
    backward(d, dx, add_dx, NULL, dw, db, dy, x, w, mean, rstd, N, N, C, NULL);
}

void sgc_cpu_residual_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w,
                                    const void *mean, const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop)
{
    backward(d, dx, add_dx, dr, dw, db, dy, x, w, mean, rstd, B * T, T, C, drop);
}

void sgc_cpu_bias_backward(sgc_device *d, float *db, const void *dy, int64_t N, int64_t C)
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

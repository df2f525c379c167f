/* Layer norm and the gradient of a bias: rows are cut among threads, sums down the rows by columns. */
#include "device/cpu/cpu_impl.h"

void sgc_cpu_layer_norm_forward(sgc_device *d, void *y_, void *mean_, void *rstd_, const void *x_, const void *w, const void *b, int64_t N, int64_t C,
                                double epsilon)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *y = y_, *mean = mean_, *rstd = rstd_;
    const float *x = x_;
#pragma omp parallel for schedule(static) if (N * C >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < N; n++) simd->layer_norm_forward(y + n * C, mean + n, rstd + n, x + n * C, w, b, 1, C, epsilon);
}

void sgc_cpu_layer_norm_backward(sgc_device *d, void *dx_, bool add_dx, void *dw_, void *db_, const void *dy_, const void *x_, const void *w,
                                 const void *mean_, const void *rstd_, int64_t N, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *dx = dx_, *dw = dw_, *db = db_;
    const float *dy = dy_, *x = x_, *mean = mean_, *rstd = rstd_;
#pragma omp parallel if (N * C >= 2 * SGC_CPU_PIECE)
    {
#pragma omp for schedule(static)
        for (int64_t c = 0; c < C; c += SGC_CPU_COLUMNS)
            simd->layer_norm_columns(dw + c, db + c, dy + c, x + c, mean, rstd, N, C, C - c < SGC_CPU_COLUMNS ? C - c : SGC_CPU_COLUMNS);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++) simd->layer_norm_backward(dx + n * C, add_dx, dy + n * C, x + n * C, w, mean + n, rstd + n, 1, C);
    }
}

void sgc_cpu_bias_backward(sgc_device *d, void *db_, const void *dy_, int64_t N, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *db = db_;
    const float *dy = dy_;
#pragma omp parallel for schedule(static) if (N * C >= 2 * SGC_CPU_PIECE)
    for (int64_t c = 0; c < C; c += SGC_CPU_COLUMNS) simd->column_sums(db + c, dy + c, N, C, C - c < SGC_CPU_COLUMNS ? C - c : SGC_CPU_COLUMNS);
}

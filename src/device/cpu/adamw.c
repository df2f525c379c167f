/* The AdamW update of a range, the square sums that its clipping needs, and rounding to values. */
#include <math.h>

#include "device/cpu/cpu_impl.h"

void sgc_cpu_adamw(sgc_device *d, void *values, void *p_, void *m_, void *v_, const void *g, sgc_dtype g_type, int64_t n, double weight_decay,
                   const sgc_adamw *a)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *p = p_, *m = m_, *v = v_;
    const bool g_is_wide = g_type == d->ops->wide;
    const size_t g_bytes = sgc_dtype_bytes(g_type);
    const sgc_adamw_factors factors = {
        .decay = (float)(1 - a->learning_rate * weight_decay),
        .beta1 = (float)a->beta1,
        .one_minus_beta1 = (float)(1 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1 - a->beta2),
        .root_correction2 = (float)sqrt(1 - pow(a->beta2, (double)a->t)),
        .epsilon = (float)a->epsilon,
        .step_size = (float)(a->learning_rate / (1 - pow(a->beta1, (double)a->t))),
        .grad_scale = (float)a->grad_scale,
    };
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE)
        simd->adamw(values ? sgc_cpu_at(d, values, i) : NULL, p + i, m + i, v + i, (const char *)g + (size_t)i * g_bytes, g_is_wide,
                    sgc_cpu_piece(n, i), &factors);
}

void sgc_cpu_block_square_sums(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const size_t block_bytes = (size_t)block * sgc_dtype_bytes(x_type);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n / block; i++) out[i] = simd->square_sum((const char *)x + (size_t)i * block_bytes, x_type == d->ops->wide, block);
}

void sgc_cpu_narrow(sgc_device *d, void *values, const void *wide_, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *wide = wide_;
    /* In place, values from i on stand where numbers from i / 2 on have been: these must be done. */
    for (int64_t first = 0, end = values == wide_ ? SGC_CPU_PIECE : n; first < n; first = end, end = 2 * end < n ? 2 * end : n) {
        if (end > n) end = n;
#pragma omp parallel for schedule(static) if (end - first >= 2 * SGC_CPU_PIECE)
        for (int64_t i = first; i < end; i += SGC_CPU_PIECE) simd->narrow(sgc_cpu_at(d, values, i), wide + i, sgc_cpu_piece(end, i));
    }
}

void sgc_cpu_add_into(sgc_device *d, void *sum_, const void *x_, int64_t n)
{
    (void)d;
    float *restrict sum = sum_;
    const float *restrict x = x_;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

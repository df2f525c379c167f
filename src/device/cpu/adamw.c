/* The AdamW update of a range, and the square sums that its clipping needs. */
#include <math.h>
#include <string.h>

#include "device/cpu/cpu_impl.h"

void sgc_cpu_narrow(sgc_device *d, void *values, const void *wide, int64_t n)
{
    (void)d;
    memcpy(values, wide, (size_t)n * sizeof(float));
}

void sgc_cpu_adamw(sgc_device *d, void *values, void *p_, void *m_, void *v_, const void *g_, sgc_dtype g_type, int64_t n, double weight_decay,
                   const sgc_adamw *a)
{
    (void)g_type;
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *p = p_, *m = m_, *v = v_;
    const float *g = g_;
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
        simd->adamw(p + i, m + i, v + i, g + i, n - i < SGC_CPU_PIECE ? n - i : SGC_CPU_PIECE, &factors);
    if (values) sgc_cpu_narrow(d, values, p, n);
}

void sgc_cpu_block_square_sums(sgc_device *d, double *out, const void *x_, sgc_dtype x_type, int64_t n, int64_t block)
{
    (void)x_type;
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *x = x_;
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n / block; i++) out[i] = simd->square_sum(x + i * block, block);
}

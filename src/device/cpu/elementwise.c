/* Activations, sums and dropout: cut into pieces of elements. */
#include <string.h>

#include "device/cpu/cpu_impl.h"

void sgc_cpu_activation_forward(sgc_device *d, int kind, void *y, const void *x, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->activation_forward(kind, sgc_cpu_at(d, y, i), sgc_cpu_at(d, x, i), sgc_cpu_piece(n, i));
}

void sgc_cpu_activation_backward(sgc_device *d, int kind, void *dx, const void *dy, const void *x, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE)
        simd->activation_backward(kind, sgc_cpu_at(d, dx, i), sgc_cpu_at(d, dy, i), sgc_cpu_at(d, x, i), sgc_cpu_piece(n, i));
}

void sgc_cpu_add(sgc_device *d, void *z, const void *x, const void *y, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->add(sgc_cpu_at(d, z, i), sgc_cpu_at(d, x, i), sgc_cpu_at(d, y, i), sgc_cpu_piece(n, i));
}

void sgc_cpu_dropout(sgc_device *d, void *y, const void *x, int64_t B, int64_t n_per_sample, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    if (drop->p == 0) {
        if (y != x) memcpy(y, x, (size_t)(B * n_per_sample) * sgc_dtype_bytes(d->ops->value));
        return;
    }
    const uint32_t threshold = sgc_cpu_dropout_threshold(drop->p);
    const float scale = sgc_cpu_dropout_scale(drop->p);
#pragma omp parallel for collapse(2) schedule(static) if (B * n_per_sample >= 2 * SGC_CPU_PIECE)
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < n_per_sample; i += SGC_CPU_PIECE) {
            int64_t at = b * n_per_sample + i;
            simd->dropout(sgc_cpu_at(d, y, at), sgc_cpu_at(d, x, at), i, sgc_cpu_piece(n_per_sample, i), *drop->key, drop->stream, drop->sample[b],
                          threshold, scale);
        }
}

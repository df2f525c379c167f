/* Activations, sums and dropout: cut into pieces of elements. */
#include <string.h>

#include "device/cpu/cpu_impl.h"

static int64_t piece(int64_t n, int64_t first) { return n - first < SGC_CPU_PIECE ? n - first : SGC_CPU_PIECE; }

void sgc_cpu_activation_forward(sgc_device *d, int kind, void *y_, const void *x_, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *y = y_;
    const float *x = x_;
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->activation_forward(kind, y + i, x + i, piece(n, i));
}

void sgc_cpu_activation_backward(sgc_device *d, int kind, void *dx_, const void *dy_, const void *x_, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *dx = dx_;
    const float *dy = dy_, *x = x_;
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->activation_backward(kind, dx + i, dy + i, x + i, piece(n, i));
}

void sgc_cpu_add(sgc_device *d, void *z_, const void *x_, const void *y_, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *z = z_;
    const float *x = x_, *y = y_;
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->add(z + i, x + i, y + i, piece(n, i));
}

void sgc_cpu_dropout(sgc_device *d, void *y_, const void *x_, int64_t B, int64_t n_per_sample, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *y = y_;
    const float *x = x_;
    if (drop->p == 0) {
        if (y != x) memcpy(y, x, (size_t)(B * n_per_sample) * sizeof(*y));
        return;
    }
    const uint32_t threshold = sgc_cpu_dropout_threshold(drop->p);
    const float scale = sgc_cpu_dropout_scale(drop->p);
#pragma omp parallel for collapse(2) schedule(static) if (B * n_per_sample >= 2 * SGC_CPU_PIECE)
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < n_per_sample; i += SGC_CPU_PIECE) {
            int64_t at = b * n_per_sample + i;
            simd->dropout(y + at, x + at, i, piece(n_per_sample, i), drop->key, drop->stream, drop->sample[b], threshold, scale);
        }
}

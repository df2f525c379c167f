/* Embedding: rows are cut among threads in the forward pass, columns in the backward pass, where equal tokens add to one row. */
#include "device/cpu/cpu_impl.h"

void sgc_cpu_embedding_forward(sgc_device *d, void *x_, const int32_t *token, const void *wte_, const void *wpe_, int64_t B, int64_t T, int64_t C,
                               int64_t position)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *x = x_;
    const float *wte = wte_, *wpe = wpe_;
#pragma omp parallel for schedule(static) if (B * T * C >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < B * T; n++) simd->add(x + n * C, wte + token[n] * C, wpe + (position + n % T) * C, C);
}

void sgc_cpu_embedding_backward(sgc_device *d, void *dwte_, void *dwpe_, const void *dx_, const int32_t *token, int64_t B, int64_t T, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *dwte = dwte_, *dwpe = dwpe_;
    const float *dx = dx_;
#pragma omp parallel for schedule(static) if (B * T * C >= 2 * SGC_CPU_PIECE)
    for (int64_t c = 0; c < C; c += SGC_CPU_COLUMNS)
        for (int64_t n = 0; n < B * T; n++) {
            int64_t width = C - c < SGC_CPU_COLUMNS ? C - c : SGC_CPU_COLUMNS;
            float *to = dwte + token[n] * C + c, *position = dwpe + n % T * C + c;
            simd->add(to, to, dx + n * C + c, width);
            simd->add(position, position, dx + n * C + c, width);
        }
}

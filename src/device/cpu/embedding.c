/* Embedding: rows are cut among threads in the forward pass, columns in the backward pass, where equal tokens add to one row. */
#include "device/cpu/cpu_impl.h"

void sgc_cpu_embedding_forward(sgc_device *d, void *x, const int32_t *token, const void *wte, const void *wpe, int64_t B, int64_t T, int64_t C,
                               int64_t position)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (B * T * C >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < B * T; n++)
        simd->add(sgc_cpu_at(d, x, n * C), sgc_cpu_at(d, wte, token[n] * C), sgc_cpu_at(d, wpe, (position + n % T) * C), C);
}

void sgc_cpu_embedding_backward(sgc_device *d, void *dwte_, void *dwpe_, const void *dx, const int32_t *token, int64_t B, int64_t T, int64_t C)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *dwte = dwte_, *dwpe = dwpe_;
#pragma omp parallel for schedule(static) if (B * T * C >= 2 * SGC_CPU_PIECE)
    for (int64_t c = 0; c < C; c += SGC_CPU_COLUMNS)
        for (int64_t n = 0; n < B * T; n++) {
            int64_t width = C - c < SGC_CPU_COLUMNS ? C - c : SGC_CPU_COLUMNS;
            simd->add_to_wide(dwte + token[n] * C + c, sgc_cpu_at(d, dx, n * C + c), width);
            simd->add_to_wide(dwpe + n % T * C + c, sgc_cpu_at(d, dx, n * C + c), width);
        }
}

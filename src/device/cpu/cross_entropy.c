/* Cross entropy: rows are cut among threads. */
#include "device/cpu/cpu_impl.h"

void sgc_cpu_cross_entropy(sgc_device *d, double *loss, void *logits_, bool with_gradient, const int32_t *target, int64_t N, int64_t V,
                           double smoothing, double scale)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *logits = logits_;
#pragma omp parallel for schedule(static) if (N * V >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < N; n++) simd->cross_entropy(loss + n, logits + n * V, with_gradient, target + n, 1, V, smoothing, scale);
}

/* Cross entropy: rows are cut among threads. */
#include "device/cpu/cpu_impl.h"

void sgc_cpu_cross_entropy(sgc_device *d, double *loss, void *dlogits_, const void *logits_, const int32_t *target, int64_t N, int64_t V,
                           double smoothing, double scale)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *dlogits = dlogits_;
    const float *logits = logits_;
#pragma omp parallel for schedule(static) if (N * V >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < N; n++) simd->cross_entropy(loss + n, dlogits ? dlogits + n * V : NULL, logits + n * V, target[n], V, smoothing, scale);
}

/* Cross entropy: rows are cut among threads. */
#include <omp.h>

#include "device/cpu/cpu_impl.h"

void sgc_cpu_cross_entropy(sgc_device *d, double *loss, void *dlogits, const void *logits_, const int32_t *target, int64_t N, int64_t V,
                           int64_t ld, double smoothing, const double *scale)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *logits = logits_;
    const bool of_floats = d->ops->value == d->ops->wide; /* exponentials wait where the gradient goes */
    const int64_t gradient_ld = dlogits == logits_ ? ld * (int64_t)(sizeof(*logits) / sgc_dtype_bytes(d->ops->value)) : ld;
    const int n_threads = omp_get_max_threads();
    const int64_t n_scratch = (V + 15) / 16 * 16;
    float *scratch = dlogits && !of_floats ? sgc_cpu_scratch(d, n_threads * n_scratch) : NULL;
#pragma omp parallel for schedule(static) num_threads(n_threads) if (N * V >= 2 * SGC_CPU_PIECE)
    for (int64_t n = 0; n < N; n++) {
        void *gradient = dlogits ? sgc_cpu_at(d, dlogits, n * gradient_ld) : NULL;
        float *exps = scratch ? scratch + omp_get_thread_num() * n_scratch : gradient;
        simd->cross_entropy(loss + n, gradient, logits + n * ld, exps, target[n], V, smoothing, dlogits ? *scale : 0);
    }
}

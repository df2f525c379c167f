#include "device/cuda/types.cuh"

template <typename T> static __global__ void widen(float *wide, const T *values, int64_t n)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) wide[i] = to_float(values[i]);
}

extern "C" void sgc_cuda_widen(sgc_device *d, float *wide, const void *values, int64_t n)
{
    const int block = 256;
    const unsigned grid = (unsigned)((n + block - 1) / block);
    if (n == 0) return;
    if (d->ops->value == SGC_BF16) SGC_LAUNCH(d, (widen<__nv_bfloat16>), grid, block, 0, wide, (const __nv_bfloat16 *)values, n);
    else SGC_LAUNCH(d, (widen<__half>), grid, block, 0, wide, (const __half *)values, n);
}

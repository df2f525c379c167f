/*
 * How kernels are launched and declare shared memory. Kernels use these and neither <<<>>> nor __shared__, because tests/gpu compiles them
 * with a C++ compiler too, and runs them on machines without a GPU.
 *     SGC_LAUNCH(d, kernel, grid, block, shared_bytes, args...)      on the device's stream; a template goes in parentheses: (k<float, 64>)
 *     SGC_LAUNCH_ON(d, stream, kernel, grid, block, shared_bytes, args...)
 *     SGC_SHARED(float, sums, [32]);                                 inside a kernel or device function: float sums[32]
 *     SGC_DYNAMIC_SHARED(float, tile);                               float *tile: the shared_bytes of the launch, aligned to 128 bytes
 * A failed launch is kept like every failure of the device.
 */
#ifndef SGC_DEVICE_CUDA_LAUNCH_H
#define SGC_DEVICE_CUDA_LAUNCH_H

#include "device/cuda/cuda_impl.h"

/* Blocks get 48 KiB without asking, declared and of the launch together; no kernel that has so little of the launch declares more than 8 KiB. */
enum { SGC_SHARED_WITHOUT_ASKING = 40 * 1024 };

#ifdef __CUDACC__

template <typename Kernel> static inline void sgc_cuda_allow_shared(sgc_device *d, Kernel *kernel, size_t shared_bytes, const char *name)
{
    if (shared_bytes > SGC_SHARED_WITHOUT_ASKING)
        sgc_cuda_check(d, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes), name);
}

#define SGC_LAUNCH_ON(d, stream, kernel, grid, block, shared_bytes, ...) \
    do { \
        sgc_cuda_allow_shared(d, kernel, shared_bytes, #kernel); \
        kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__); \
        sgc_cuda_check(d, cudaPeekAtLastError(), #kernel); \
    } while (0)
#define SGC_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define SGC_DYNAMIC_SHARED(type, name) \
    extern __shared__ __align__(128) unsigned char sgc_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(sgc_dynamic_shared)

#else

#include "launch_emulated.h" /* of tests/gpu/emulation: the same macros */

#endif

#define SGC_LAUNCH(d, kernel, grid, block, shared_bytes, ...) SGC_LAUNCH_ON(d, sgc_cuda_of(d)->stream, kernel, grid, block, shared_bytes, __VA_ARGS__)

#endif

/*
 * Element types of the kernels: float, __nv_bfloat16 and __half, computed with as floats. Loads and stores of up to 128 bits, and sums over
 * a warp or a block in an order that depends on nothing but the number of threads.
 */
#ifndef SGC_DEVICE_CUDA_TYPES_CUH
#define SGC_DEVICE_CUDA_TYPES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include "device/cuda/launch.h"

enum { WARP = 32 };
static constexpr unsigned ALL_LANES = 0xffffffffu;

static __device__ __forceinline__ float to_float(float x) { return x; }
static __device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ float to_float(__half x) { return __half2float(x); }

/* To nearest, ties to even. */
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ __half from_float<__half>(float x) { return __float2half_rn(x); }

/* Words of memory as pairs of 16-bit elements: the lower half is the first. */
template <typename T> __device__ __forceinline__ float2 unpack2(uint32_t word);
template <> __device__ __forceinline__ float2 unpack2<__nv_bfloat16>(uint32_t word)
{
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack2<__half>(uint32_t word)
{
    return __half22float2(*reinterpret_cast<const __half2 *>(&word));
}
template <typename T> __device__ __forceinline__ uint32_t pack2(float first, float second);
template <> __device__ __forceinline__ uint32_t pack2<__nv_bfloat16>(float first, float second)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const uint32_t *>(&pair);
}
template <> __device__ __forceinline__ uint32_t pack2<__half>(float first, float second)
{
    __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

static __host__ __device__ __forceinline__ bool is_aligned(const void *p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

/* Eight elements from p, which is aligned to 16 bytes: two loads for floats, one for the others. */
static __device__ __forceinline__ void load8(const float *p, float (&x)[8])
{
    const float4 a = reinterpret_cast<const float4 *>(p)[0], b = reinterpret_cast<const float4 *>(p)[1];
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}
template <typename T> __device__ __forceinline__ void load8(const T *p, float (&x)[8])
{
    const uint4 words = *reinterpret_cast<const uint4 *>(p);
    const float2 a = unpack2<T>(words.x), b = unpack2<T>(words.y), c = unpack2<T>(words.z), d = unpack2<T>(words.w);
    x[0] = a.x, x[1] = a.y, x[2] = b.x, x[3] = b.y, x[4] = c.x, x[5] = c.y, x[6] = d.x, x[7] = d.y;
}
static __device__ __forceinline__ void store8(float *p, const float (&x)[8])
{
    reinterpret_cast<float4 *>(p)[0] = make_float4(x[0], x[1], x[2], x[3]);
    reinterpret_cast<float4 *>(p)[1] = make_float4(x[4], x[5], x[6], x[7]);
}
template <typename T> __device__ __forceinline__ void store8(T *p, const float (&x)[8])
{
    *reinterpret_cast<uint4 *>(p) = make_uint4(pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]), pack2<T>(x[4], x[5]), pack2<T>(x[6], x[7]));
}

/* Four elements: one load or store of 16 bytes for floats, of 8 for the others. */
static __device__ __forceinline__ void load4(const float *p, float (&x)[4])
{
    const float4 a = *reinterpret_cast<const float4 *>(p);
    x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
}
template <typename T> __device__ __forceinline__ void load4(const T *p, float (&x)[4])
{
    const uint2 words = *reinterpret_cast<const uint2 *>(p);
    const float2 a = unpack2<T>(words.x), b = unpack2<T>(words.y);
    x[0] = a.x, x[1] = a.y, x[2] = b.x, x[3] = b.y;
}
static __device__ __forceinline__ void store4(float *p, const float (&x)[4]) { *reinterpret_cast<float4 *>(p) = make_float4(x[0], x[1], x[2], x[3]); }
template <typename T> __device__ __forceinline__ void store4(T *p, const float (&x)[4])
{
    *reinterpret_cast<uint2 *>(p) = make_uint2(pack2<T>(x[0], x[1]), pack2<T>(x[2], x[3]));
}

/* Over the 32 lanes of a warp, all of which take part and get the result. Partners add the same two numbers, so all lanes have the same bits. */
template <typename T> __device__ __forceinline__ T warp_sum(T x)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}
template <typename T> __device__ __forceinline__ T warp_max(T x) /* a NaN may be lost */
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, x, step);
        x = x < other ? other : x;
    }
    return x;
}

/* Over all threads of a block of one dimension, a multiple of 32; all take part and get the result. */
template <typename T> __device__ __forceinline__ T block_sum(T x)
{
    SGC_SHARED(T, sums, [WARP]);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, n_warps = (int)blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads(); /* an earlier call has been read */
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    return warp_sum(lane < n_warps ? sums[lane] : T(0));
}
template <typename T> __device__ __forceinline__ T block_max(T x)
{
    SGC_SHARED(T, largest, [WARP]);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, n_warps = (int)blockDim.x / WARP;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) largest[warp] = x;
    __syncthreads();
    return warp_max(largest[lane < n_warps ? lane : 0]);
}

#endif

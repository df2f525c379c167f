/*
 * Loops over elements that do not know each other: arithmetic in float, 128-bit accesses where pointers allow. What is done with an element is a
 * struct, here one with two inputs:
 *     struct product {
 *         enum { WIDTH = 4 };                                                      elements of one access
 *         template <int W> struct input { loaded<float, W> x, y; };
 *         template <int W> __device__ void read(int64_t i, input<W> &in) const;    elements i .. i + W - 1
 *         template <int W> __device__ void write(int64_t i, const input<W> &in) const;
 *     };
 * Outputs may be inputs, element by element: each is read and written by one thread. W is WIDTH or 1; results must not depend on it, so what may
 * be contracted to a fused multiply and add in two ways is written with intrinsics.
 */
#ifndef SGC_DEVICE_CUDA_ELEMENTS_CUH
#define SGC_DEVICE_CUDA_ELEMENTS_CUH

#include "device/cuda/types.cuh"

/* Runs a statement with the type of the device's values as `Value`. */
#define SGC_WITH_VALUE(d, ...) \
    do { \
        switch ((d)->ops->value) { \
        case SGC_F32: { using Value = float; __VA_ARGS__; } break; \
        case SGC_BF16: { using Value = __nv_bfloat16; __VA_ARGS__; } break; \
        case SGC_F16: { using Value = __half; __VA_ARGS__; } break; \
        case SGC_F64: break; /* of no such device */ \
        } \
    } while (0)

/* Elements of 128 bits. */
template <typename T> struct vector_of { enum { WIDTH = 16 / sizeof(T) }; };

template <typename T> static __device__ __forceinline__ void load_n(const T *p, float (&x)[1]) { x[0] = to_float(*p); }
template <typename T> static __device__ __forceinline__ void load_n(const T *p, float (&x)[4]) { load4(p, x); }
template <typename T> static __device__ __forceinline__ void load_n(const T *p, float (&x)[8]) { load8(p, x); }
template <typename T> static __device__ __forceinline__ void store_n(T *p, const float (&x)[1]) { *p = from_float<T>(x[0]); }
template <typename T> static __device__ __forceinline__ void store_n(T *p, const float (&x)[4]) { store4(p, x); }
template <typename T> static __device__ __forceinline__ void store_n(T *p, const float (&x)[8]) { store8(p, x); }

/* W elements as they lie in memory, which takes half the registers of 16-bit elements' floats. */
template <typename T, int W> struct __align__(W * sizeof(T)) loaded { T at[W]; };

template <typename T, int W> static __device__ __forceinline__ void load_raw(const T *p, loaded<T, W> &x)
{
    x = *reinterpret_cast<const loaded<T, W> *>(p);
}
template <typename T, int W> static __device__ __forceinline__ void store_raw(T *p, const loaded<T, W> &x) { *reinterpret_cast<loaded<T, W> *>(p) = x; }
template <typename T, int W> static __device__ __forceinline__ void unpack_n(const loaded<T, W> &x, float (&out)[W]) { load_n(x.at, out); }
template <typename T, int W> static __device__ __forceinline__ void clear_raw(loaded<T, W> &x)
{
#pragma unroll
    for (int j = 0; j < W; j++) x.at[j] = from_float<T>(0);
}

template <int W> static __device__ __forceinline__ void clear_n(float (&x)[W])
{
#pragma unroll
    for (int j = 0; j < W; j++) x[j] = 0;
}

/* Can elements of p be read W at a time? NULL can. */
template <typename T> static inline bool fits_vector(const T *p, int W) { return is_aligned(p, (size_t)W * sizeof(T) < 16 ? (size_t)W * sizeof(T) : 16); }

static inline int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

enum { ELEMENT_THREADS = 256, ELEMENT_UNROLL = 2 };

/* Loads of all accesses come first, so that they are on their way together. */
template <int W, typename Op> static __global__ void __launch_bounds__(ELEMENT_THREADS, 4) each_element(const Op op, const int64_t n)
{
    const int64_t first = ((int64_t)blockIdx.x * (ELEMENT_UNROLL * ELEMENT_THREADS) + threadIdx.x) * W;
    typename Op::template input<W> in[ELEMENT_UNROLL];
#pragma unroll
    for (int u = 0; u < ELEMENT_UNROLL; u++) {
        const int64_t i = first + (int64_t)u * ELEMENT_THREADS * W;
        if (i + W <= n) op.template read<W>(i, in[u]);
    }
#pragma unroll
    for (int u = 0; u < ELEMENT_UNROLL; u++) {
        int64_t i = first + (int64_t)u * ELEMENT_THREADS * W;
        if (i + W <= n) op.template write<W>(i, in[u]);
        else if (W > 1)
#pragma unroll 1 /* seldom run: small */
            for (; i < n; i++) {
                typename Op::template input<1> one;
                op.template read<1>(i, one);
                op.template write<1>(i, one);
            }
    }
}

/* Elements 0 .. n - 1; n_samples: blocks of the grid's second side, of which the struct makes what it wants. */
template <typename Op> static void run_each(sgc_device *d, const Op &op, int64_t n, int n_samples, bool vectors)
{
    const int64_t per_block = (int64_t)ELEMENT_UNROLL * ELEMENT_THREADS * (vectors ? (int)Op::WIDTH : 1);
    if (n == 0 || n_samples == 0) return;
    const dim3 grid((unsigned)divide_up(n, per_block), (unsigned)n_samples);
    if (vectors) SGC_LAUNCH(d, (each_element<Op::WIDTH, Op>), grid, ELEMENT_THREADS, 0, op, n);
    else SGC_LAUNCH(d, (each_element<1, Op>), grid, ELEMENT_THREADS, 0, op, n);
}

#endif

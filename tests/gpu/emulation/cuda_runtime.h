/* What CUDA gives to code in .cu files, for a C++ compiler of the host. Only what the kernels of stagecoach use. */
#ifndef EMULATED_CUDA_RUNTIME_H
#define EMULATED_CUDA_RUNTIME_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "block.h"
#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* Barriers and exchanges. */

static inline void __syncthreads(EMULATED_HERE) { emulated::barrier("__syncthreads", {file, line}); }
static inline int __syncthreads_count(int p, EMULATED_HERE) { return emulated::barrier_count("__syncthreads_count", p != 0, {file, line}); }
static inline int __syncthreads_or(int p, EMULATED_HERE) { return emulated::barrier_count("__syncthreads_or", p != 0, {file, line}) != 0; }
static inline int __syncthreads_and(int p, EMULATED_HERE) { return emulated::barrier_count("__syncthreads_and", p == 0, {file, line}) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_HERE)
{
    emulated::leave(emulated::meet("__syncwarp", mask, NULL, 0, {file, line}));
}

namespace emulated {

/* What lane `source` has brought. */
template <typename T> static inline T shuffle(const char *what, unsigned mask, T x, int source, place where)
{
    static_assert(sizeof(T) <= 8, "words of 64 bits at most");
    exchange *e = meet(what, mask, &x, sizeof(T), where);
    if (!(mask & 1u << source)) emulated_defect("%s at %s:%d: lane %d reads lane %d, which is not in the mask %08x", what, where.file, where.line, lane(), source, mask);
    memcpy((void *)&x, e->values[source], sizeof(T));
    leave(e);
    return x;
}

/* Calls combine(so far, next) with what all lanes of the mask bring, in their order. */
template <typename T, typename Combine> static inline T combined(const char *what, unsigned mask, T x, place where, Combine combine)
{
    exchange *e = meet(what, mask, &x, sizeof(T), where);
    bool first = true;
    for (int i = 0; i < N_LANES; i++) {
        if (!(mask & 1u << i)) continue;
        T other;
        memcpy(&other, e->values[i], sizeof(T));
        x = first ? other : combine(x, other);
        first = false;
    }
    leave(e);
    return x;
}

} // namespace emulated

template <typename T> static inline T __shfl_sync(unsigned mask, T x, int source, int width = 32, EMULATED_HERE)
{
    int first = emulated::lane() & ~(width - 1);
    return emulated::shuffle("__shfl_sync", mask, x, first | (source & (width - 1)), {file, line});
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned step, int width = 32, EMULATED_HERE)
{
    int own = emulated::lane(), first = own & ~(width - 1);
    return emulated::shuffle("__shfl_up_sync", mask, x, own - (int)step >= first ? own - (int)step : own, {file, line});
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T x, unsigned step, int width = 32, EMULATED_HERE)
{
    int own = emulated::lane(), end = (own & ~(width - 1)) + width;
    return emulated::shuffle("__shfl_down_sync", mask, x, own + (int)step < end ? own + (int)step : own, {file, line});
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32, EMULATED_HERE)
{
    int own = emulated::lane(), end = (own & ~(width - 1)) + width;
    return emulated::shuffle("__shfl_xor_sync", mask, x, (own ^ bits) < end ? own ^ bits : own, {file, line});
}
static inline unsigned __ballot_sync(unsigned mask, int p, EMULATED_HERE)
{
    return emulated::combined("__ballot_sync", mask, p ? 1u << emulated::lane() : 0u, {file, line}, [](unsigned a, unsigned b) { return a | b; });
}
static inline int __any_sync(unsigned mask, int p, EMULATED_HERE)
{
    return emulated::combined("__any_sync", mask, (int)(p != 0), {file, line}, [](int a, int b) { return a | b; });
}
static inline int __all_sync(unsigned mask, int p, EMULATED_HERE)
{
    return emulated::combined("__all_sync", mask, (int)(p != 0), {file, line}, [](int a, int b) { return a & b; });
}
template <typename T> static inline T __reduce_add_sync(unsigned mask, T x, EMULATED_HERE)
{
    return emulated::combined("__reduce_add_sync", mask, x, {file, line}, [](T a, T b) { return a + b; });
}
template <typename T> static inline T __reduce_min_sync(unsigned mask, T x, EMULATED_HERE)
{
    return emulated::combined("__reduce_min_sync", mask, x, {file, line}, [](T a, T b) { return a < b ? a : b; });
}
template <typename T> static inline T __reduce_max_sync(unsigned mask, T x, EMULATED_HERE)
{
    return emulated::combined("__reduce_max_sync", mask, x, {file, line}, [](T a, T b) { return a < b ? b : a; });
}
/* The lanes of the mask that bring the same. */
template <typename T> static inline unsigned __match_any_sync(unsigned mask, T x, EMULATED_HERE)
{
    emulated::exchange *e = emulated::meet("__match_any_sync", mask, &x, sizeof(T), {file, line});
    unsigned equal = 0;
    for (int i = 0; i < emulated::N_LANES; i++)
        if (mask & 1u << i && memcmp(e->values[i], &x, sizeof(T)) == 0) equal |= 1u << i;
    emulated::leave(e);
    return equal;
}
/* All lanes come to every exchange here, so all are active that are asked. */
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}

/* Memory. One thread runs at a time, so these cannot be interrupted. */

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline T __ldlu(const T *p) { return *p; }
template <typename T> static inline void __stcs(T *p, T x) { *p = x; }
template <typename T> static inline void __stcg(T *p, T x) { *p = x; }
template <typename T> static inline void __stwt(T *p, T x) { *p = x; }

template <typename T> static inline T atomicExch(T *p, T x) { T old = *p; *p = x; return old; }
template <typename T> static inline T atomicCAS(T *p, T expected, T x) { T old = *p; if (old == expected) *p = x; return old; }
static inline int atomicAdd(int *p, int x) { int old = *p; *p = old + x; return old; }
static inline unsigned atomicAdd(unsigned *p, unsigned x) { unsigned old = *p; *p = old + x; return old; }
static inline unsigned long long atomicAdd(unsigned long long *p, unsigned long long x) { unsigned long long old = *p; *p = old + x; return old; }
static inline int atomicMax(int *p, int x) { int old = *p; *p = old < x ? x : old; return old; }
static inline int atomicMin(int *p, int x) { int old = *p; *p = x < old ? x : old; return old; }
static inline unsigned atomicMax(unsigned *p, unsigned x) { unsigned old = *p; *p = old < x ? x : old; return old; }
static inline unsigned atomicMin(unsigned *p, unsigned x) { unsigned old = *p; *p = x < old ? x : old; return old; }
static inline unsigned atomicOr(unsigned *p, unsigned x) { unsigned old = *p; *p = old | x; return old; }
static inline int atomicOr(int *p, int x) { int old = *p; *p = old | x; return old; }
/* Counts up to `last` and begins again at 0. */
static inline unsigned atomicInc(unsigned *p, unsigned last) { unsigned old = *p; *p = old >= last ? 0 : old + 1; return old; }

/* Bits. */

template <typename To, typename From> static inline To emulated_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof(y));
    return y;
}
static inline int __float_as_int(float x) { return emulated_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return emulated_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return emulated_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return emulated_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return emulated_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return emulated_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) { return (unsigned)((((uint64_t)high << 32 | low) << (n & 31)) >> 32); }
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) { return (unsigned)(((uint64_t)high << 32 | low) >> (n & 31)); }

/* Arithmetic. What is a few ulps off on a GPU is so here, up or down as its bits happen to be. Macros: the C library has such names for itself. */

static inline float emulated_about(float exact, int most)
{
    const unsigned bits = __float_as_uint(exact);
    if (fabsf(exact) < 1e-37f || exact == 1 || !isfinite(exact)) return exact;
    return __uint_as_float(bits + bits * 2654435761u % (2 * (unsigned)most + 1) - (unsigned)most);
}
/* Sums on tensor cores, after every eight terms: what a float does not hold is cut off. */
static inline double emulated_cut(double sum)
{
    const float near = (float)sum;
    return fabs((double)near) > fabs(sum) ? nextafterf(near, 0) : near;
}
#define expf(x) emulated_about(expf(x), 2)
#define exp2f(x) emulated_about(exp2f(x), 2)
#define erff(x) emulated_about(erff(x), 2)
#define tanhf(x) emulated_about(tanhf(x), 2)
#define logf(x) emulated_about(logf(x), 1)
#define log2f(x) emulated_about(log2f(x), 1)

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frcp_rn(float x) { return 1 / x; }
static inline float __frsqrt_rn(float x) { return (float)(1 / sqrt((double)x)); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __dsqrt_rn(double x) { return sqrt(x); }
static inline float __fdividef(float a, float b) { return emulated_about(a / b, 2); }
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; }
static inline float rsqrtf(float x) { return __frsqrt_rn(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float __double2float_rn(double x) { return (float)x; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline int __float2int_rn(float x) { return (int)rintf(x); }

#define EMULATED_MIN_MAX(type) \
    static inline type min(type a, type b) { return b < a ? b : a; } \
    static inline type max(type a, type b) { return a < b ? b : a; }
EMULATED_MIN_MAX(int)
EMULATED_MIN_MAX(unsigned)
EMULATED_MIN_MAX(long)
EMULATED_MIN_MAX(unsigned long)
EMULATED_MIN_MAX(long long)
EMULATED_MIN_MAX(unsigned long long)
#undef EMULATED_MIN_MAX
/* As on a GPU, of a number and a NaN the number. */
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#endif

/* fp16 as CUDA names it: 1 bit sign, 5 exponent, 10 fraction. */
#ifndef EMULATED_CUDA_FP16_H
#define EMULATED_CUDA_FP16_H

#include "cuda_runtime.h"

struct __half { unsigned short bits; };
typedef __half half;
struct alignas(4) __half2 { __half x, y; };
typedef __half2 half2;

static inline float __half2float(__half a)
{
    const unsigned sign = (unsigned)(a.bits & 0x8000) << 16, rest = a.bits & 0x7fff;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest < 0x400) return __uint_as_float(sign | __float_as_uint((float)rest * 0x1p-24f)); /* denormal */
    return __uint_as_float(sign | ((rest << 13) + (112u << 23)));
}
/* To nearest, ties to even; what is too large becomes infinite, a NaN 0x7fff as on a GPU. */
static inline __half __float2half_rn(float x)
{
    const unsigned u = __float_as_uint(x), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
    if (rest > 0x7f800000) return {0x7fff};
    if (rest >= 0x477ff000) return {(unsigned short)(sign | 0x7c00)};                       /* 65520 and more */
    if (rest < 0x38800000) return {(unsigned short)(sign | (unsigned)rintf(fabsf(x) * 0x1p24f))}; /* below 2^-14: steps of 2^-24 */
    return {(unsigned short)(sign | (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13)};
}
static inline __half __float2half(float x) { return __float2half_rn(x); }
static inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
static inline __half2 __float22half2_rn(float2 a) { return __floats2half2_rn(a.x, a.y); }
static inline float2 __half22float2(__half2 a) { return {__half2float(a.x), __half2float(a.y)}; }
static inline float __low2float(__half2 a) { return __half2float(a.x); }
static inline float __high2float(__half2 a) { return __half2float(a.y); }
static inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
static inline unsigned short __half_as_ushort(__half a) { return a.bits; }
static inline __half __ushort_as_half(unsigned short bits) { return {bits}; }

#endif

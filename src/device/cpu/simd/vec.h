/*
 * Vectors of float for the hot loops. The files simd_*.c include this one once each, with V_BYTES 16, 32 or 64 and the
 * instruction set switched on. The vectors are those of GNU C; instructions that it has no
 * operator for are macros here. Multiplications and additions are fused where V_FMA says so and nowhere else
 * (-ffp-contract=off), and a tail runs through the same code as a full vector: so a result does not depend on the place of
 * its element.
 *
 * The functions of mathematics reduce their argument and evaluate a polynomial (Cody and Waite, Software Manual for the
 * Elementary Functions, 1980; the division into a power of two and a rest as in the Cephes library of S. Moshier). The
 * coefficients are minimax fits of our own, by iteratively reweighted least squares (Lawson) on 4000 Chebyshev points.
 */
#ifndef SGC_DEVICE_CPU_SIMD_VEC_H
#define SGC_DEVICE_CPU_SIMD_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/dtype.h"
#include "base/philox.h"

#define V_N ((int)(V_BYTES / sizeof(float)))
#define V_INLINE static inline __attribute__((always_inline, unused))

typedef float vf __attribute__((vector_size(V_BYTES)));
typedef int32_t vi __attribute__((vector_size(V_BYTES)));
typedef uint32_t vu __attribute__((vector_size(V_BYTES)));
typedef uint64_t vq __attribute__((vector_size(V_BYTES)));
typedef double vd __attribute__((vector_size(V_BYTES)));
typedef float vf_half __attribute__((vector_size(V_BYTES / 2)));
typedef uint16_t vh __attribute__((vector_size(V_BYTES / 2))); /* of bf16 */

#ifdef __clang__
#define V_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define V_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

/* Before a loop of few turns whose arrays are to live in registers. */
#ifdef __clang__
#define V_UNROLL _Pragma("clang loop unroll(full)")
#else
#define V_UNROLL _Pragma("GCC unroll 16")
#endif

/* V_MUL32: products of the low halves of 64-bit lanes. V_MAX(a, b) and V_MIN(a, b) are b where either is NaN. */
#if V_BYTES == 64
#include <immintrin.h>
#define V_FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define V_SQRT(a) ((vf)_mm512_sqrt_ps((__m512)(a)))
#define V_MAX(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define V_MIN(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define V_MUL32(a, b) ((vq)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define V_LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif V_BYTES == 32
#include <immintrin.h>
#define V_FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define V_SQRT(a) ((vf)_mm256_sqrt_ps((__m256)(a)))
#define V_MAX(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define V_MIN(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define V_MUL32(a, b) ((vq)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define V_LANES 0, 1, 2, 3, 4, 5, 6, 7
#else
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 4, 1, 5)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 2, 6, 3, 7)
#define V_LANES 0, 1, 2, 3
#ifdef __SSE2__
#include <immintrin.h>
#define V_SQRT(a) ((vf)_mm_sqrt_ps((__m128)(a)))
#define V_MAX(a, b) ((vf)_mm_max_ps((__m128)(a), (__m128)(b)))
#define V_MIN(a, b) ((vf)_mm_min_ps((__m128)(a), (__m128)(b)))
#define V_MUL32(a, b) ((vq)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#else
V_INLINE vf v_sqrt_lanes(vf a)
{
    for (int i = 0; i < V_N; i++) a[i] = sqrtf(a[i]);
    return a;
}
V_INLINE vf v_max_lanes(vf a, vf b)
{
    for (int i = 0; i < V_N; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
V_INLINE vf v_min_lanes(vf a, vf b)
{
    for (int i = 0; i < V_N; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
#define V_SQRT(a) v_sqrt_lanes(a)
#define V_MAX(a, b) v_max_lanes(a, b)
#define V_MIN(a, b) v_min_lanes(a, b)
#define V_MUL32(a, b) (((a) & 0xffffffffu) * ((b) & 0xffffffffu))
#endif
#ifdef __FP_FAST_FMAF /* every CPU of the architecture has it, as on 64-bit ARM */
V_INLINE vf v_fma_lanes(vf a, vf b, vf c)
{
    for (int i = 0; i < V_N; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
}
#define V_FMA(a, b, c) v_fma_lanes(a, b, c)
#else
#define V_FMA(a, b, c) ((a) * (b) + (c))
#endif
#endif

V_INLINE vf v_set(float x) { return x - (vf){0}; }

V_INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof(v));
    return v;
}

V_INLINE void v_store(float *p, vf v) { memcpy(p, &v, sizeof(v)); }

/* bf16: widened exactly, narrowed to nearest even as sgc_float_to_bf16 does. The instruction for the latter takes denormals for zeros; as results
 * are to be the same at every instruction set, it is only used where there are none. */
V_INLINE vf v_widen(vh h)
{
#if V_BYTES == 64
    return (vf)((vu)_mm512_cvtepu16_epi32((__m256i)h) << 16);
#elif V_BYTES == 32
    return (vf)((vu)_mm256_cvtepu16_epi32((__m128i)h) << 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

V_INLINE vh v_narrow(vf v)
{
#if V_PAIR == 2
    enum { DENORMAL = 0x20 };
    if (__builtin_expect(_mm512_fpclass_ps_mask((__m512)v, DENORMAL) == 0, 1)) return (vh)_mm512_cvtneps_pbh((__m512)v);
#endif
    vu bits = (vu)v, rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
#if V_BYTES == 64
    __mmask16 is_nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    __m512i kept = _mm512_mask_or_epi32((__m512i)rounded, is_nan, (__m512i)bits, _mm512_set1_epi32(0x400000));
    return (vh)_mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
#else
    vu is_nan = (vu)(v != v), upper = ((is_nan & (bits | 0x400000u)) | (~is_nan & rounded)) >> 16;
#if V_BYTES == 32
    __m256i packed = _mm256_packus_epi32((__m256i)upper, (__m256i)upper);
    return (vh)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
#else
    return __builtin_convertvector(upper, vh);
#endif
#endif
}

V_INLINE vf v_load_bf16(const sgc_bf16 *p)
{
    vh h;
    memcpy(&h, p, sizeof(h));
    return v_widen(h);
}

V_INLINE void v_store_bf16(sgc_bf16 *p, vf v)
{
    vh h = v_narrow(v);
    memcpy(p, &h, sizeof(h));
}

/* The first n of V_N elements, zeros behind. */
V_INLINE vf v_load_n(const float *p, int64_t n)
{
    if (n >= V_N) return v_load(p);
    float lane[V_N] = {0};
    for (int64_t i = 0; i < n; i++) lane[i] = p[i];
    return v_load(lane);
}

V_INLINE void v_store_n(float *p, vf v, int64_t n)
{
    if (n >= V_N) {
        v_store(p, v);
        return;
    }
    float lane[V_N];
    v_store(lane, v);
    for (int64_t i = 0; i < n; i++) p[i] = lane[i];
}

V_INLINE vf v_load_bf16_n(const sgc_bf16 *p, int64_t n)
{
    if (n >= V_N) return v_load_bf16(p);
    sgc_bf16 lane[V_N] = {0};
    for (int64_t i = 0; i < n; i++) lane[i] = p[i];
    return v_load_bf16(lane);
}

V_INLINE void v_store_bf16_n(sgc_bf16 *p, vf v, int64_t n)
{
    if (n >= V_N) {
        v_store_bf16(p, v);
        return;
    }
    sgc_bf16 lane[V_N];
    v_store_bf16(lane, v);
    for (int64_t i = 0; i < n; i++) p[i] = lane[i];
}

/* Loads and stores by the type of the pointer, for code that is compiled once per type of values. */
#define V_BY_TYPE(p, of_float, of_bf16) \
    _Generic((p), float *: of_float, const float *: of_float, sgc_bf16 *: of_bf16, const sgc_bf16 *: of_bf16)
#define V_GET(p, n) V_BY_TYPE(p, v_load_n, v_load_bf16_n)(p, n)
#define V_PUT(p, v, n) V_BY_TYPE(p, v_store_n, v_store_bf16_n)(p, v, n)

/* A body for each whole vector of n elements from i on, where k is the constant V_N, and once for the k elements that are left. */
#define V_EACH(i, n, ...)                    \
    do {                                     \
        int64_t i = 0;                       \
        for (; i + V_N <= (n); i += V_N) {   \
            enum { k = V_N };                \
            __VA_ARGS__;                     \
        }                                    \
        if (i < (n)) {                       \
            const int64_t k = (n) - i;       \
            __VA_ARGS__;                     \
        }                                    \
    } while (0)

V_INLINE vf v_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
V_INLINE vf v_first_n(vf x, int64_t n) { return n >= V_N ? x : v_select((vi){V_LANES} < (int32_t)n, x, v_set(0)); } /* zeros behind */
V_INLINE vf v_abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
V_INLINE vf v_copy_sign(vf x, vf sign) { return (vf)(((vi)x & 0x7fffffff) | ((vi)sign & (int32_t)0x80000000)); }

/* Sum and maximum over the lanes, halves first. */
typedef float v4 __attribute__((vector_size(16)));
V_INLINE float v_sum_4(v4 v)
{
    float a = v[0] + v[2], b = v[1] + v[3];
    return a + b;
}

V_INLINE float v_max_4(v4 v) /* NaN in a lane may or may not be seen */
{
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
}

#if V_BYTES == 64
V_INLINE float v_sum(vf v)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    return v_sum_4((v4)_mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}
V_INLINE float v_max_of(vf v)
{
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
    return v_max_4((v4)_mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}
#elif V_BYTES == 32
V_INLINE float v_sum(vf v) { return v_sum_4((v4)_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1))); }
V_INLINE float v_max_of(vf v) { return v_max_4((v4)_mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1))); }
#else
V_INLINE float v_sum(vf v) { return v_sum_4(v); }
V_INLINE float v_max_of(vf v) { return v_max_4(v); }
#endif

/* The two halves of a vector as doubles. */
V_INLINE void v_to_double(vf v, vd *low, vd *high)
{
    vf_half half[2];
    memcpy(half, &v, sizeof(v));
    *low = __builtin_convertvector(half[0], vd);
    *high = __builtin_convertvector(half[1], vd);
}

V_INLINE double v_sum_double(vd v)
{
    double lane[V_N / 2];
    memcpy(lane, &v, sizeof(v));
    for (int n = V_N / 4; n > 0; n /= 2)
        for (int i = 0; i < n; i++) lane[i] += lane[i + n];
    return lane[0];
}

/* exp(x), within 2 units in the last place; infinity above 88.73, 0 below -103.98, NaN of NaN. */
V_INLINE vf v_exp(vf x)
{
    x = V_MAX(v_set(-105.0f), V_MIN(v_set(105.0f), x)); /* a NaN stays */
    vf shifted = V_FMA(x, v_set(1.44269504f), v_set(0x1.8p23f)); /* rounds x / log(2) to an integer */
    vf n_float = shifted - 0x1.8p23f;
    vf r = V_FMA(n_float, v_set(-0x1.62e4p-1f), x); /* log(2) in two parts: the products with the first are exact */
    r = V_FMA(n_float, v_set(-0x1.7f7d1cp-20f), r);
    vf q = v_set(0x1.9f0810p-13f);
    q = V_FMA(q, r, v_set(0x1.6d8db0p-10f));
    q = V_FMA(q, r, v_set(0x1.111272p-7f));
    q = V_FMA(q, r, v_set(0x1.55548ep-5f));
    q = V_FMA(q, r, v_set(0x1.555554p-3f));
    q = V_FMA(q, r, v_set(0.5f));
    q = V_FMA(q, r * r, r) + 1.0f;
#if V_BYTES == 64
    return (vf)_mm512_scalef_ps((__m512)q, (__m512)n_float);
#else
    vi n = (vi)shifted - 0x4B400000, half = n >> 1; /* 2^n in two factors, for results near both ends of the range */
    return q * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
#endif
}

#if V_BYTES == 64
/* 2^x, within 3 units in the last place, in half the time of v_exp: for x up to 127, 0 below -150, NaN of NaN. */
V_INLINE vf v_exp2(vf x)
{
    x = V_MAX(v_set(-200.0f), x); /* a NaN stays */
    vf n = (x + 0x1.8p23f) - 0x1.8p23f, r = x - n, q = v_set(0x1.5bba14p-10f);
    q = V_FMA(q, r, v_set(0x1.3cea88p-7f));
    q = V_FMA(q, r, v_set(0x1.c6b752p-5f));
    q = V_FMA(q, r, v_set(0x1.ebf9bcp-3f));
    q = V_FMA(q, r, v_set(0x1.62e42ap-1f));
    q = V_FMA(q, r, v_set(1.0f));
    return (vf)_mm512_scalef_ps((__m512)q, (__m512)n);
}
#endif

V_INLINE vf v_sigmoid(vf x)
{
#if V_BYTES == 64
    /* a reciprocal of 14 bits and one step of Newton's: a third of the time of a division; the sum stays below 2^126, above which the
     * reciprocal would be a denormal */
    vf sum = 1.0f + v_exp(V_MIN(v_set(87.0f), -x)), r = (vf)_mm512_rcp14_ps((__m512)sum);
    return V_FMA(r, V_FMA(-sum, r, v_set(1)), r);
#else
    return 1.0f / (1.0f + v_exp(-x));
#endif
}

/* The same for what is rounded to bf16 afterwards: within a relative 2^-13, in two thirds of the time. */
V_INLINE vf v_sigmoid_coarse(vf x)
{
#if V_BYTES == 64
    x = V_MAX(v_set(-87.0f), V_MIN(v_set(87.0f), x)); /* a NaN stays */
    vf n = V_FMA(x, v_set(-1.44269504f), v_set(0x1.8p23f)) - 0x1.8p23f, r = V_FMA(x, v_set(-1.44269504f), -n), q = v_set(0x1.3997d4p-7f);
    q = V_FMA(q, r, v_set(0x1.ca1440p-5f));
    q = V_FMA(q, r, v_set(0x1.ec06dap-3f));
    q = V_FMA(q, r, v_set(0x1.62e0dcp-1f));
    q = V_FMA(q, r, v_set(0x1.ffffe8p-1f));
    return (vf)_mm512_rcp14_ps((__m512)(1.0f + (vf)_mm512_scalef_ps((__m512)q, (__m512)n)));
#else
    return v_sigmoid(x);
#endif
}

V_INLINE vf v_tanh(vf x)
{
    vf a = v_abs(x), z = x * x;
    vf q = v_set(-0.00571704516f);
    q = V_FMA(q, z, v_set(0.020650588f));
    q = V_FMA(q, z, v_set(-0.0537434965f));
    q = V_FMA(q, z, v_set(0.133314908f));
    q = V_FMA(q, z, v_set(-0.333332837f));
    vf small = V_FMA(q * z, x, x);
    vf large = v_copy_sign(1.0f - 2.0f / (v_exp(a + a) + 1.0f), x);
    return v_select(a < 0.625f, small, large);
}

V_INLINE vf v_erf(vf x)
{
    vf a = v_abs(x), z = x * x;
    vf q = v_set(-0.000566015369f);
    q = V_FMA(q, z, v_set(0.00492478907f));
    q = V_FMA(q, z, v_set(-0.0267177075f));
    q = V_FMA(q, z, v_set(0.112804115f));
    q = V_FMA(q, z, v_set(-0.376123548f));
    q = V_FMA(q, z, v_set(0.128379121f));
    vf small = V_FMA(q, x, x);
    vf b = v_select(a > 4.0f, v_set(4.0f), a); /* erf(4) rounds to 1 */
    vf l = v_set(0.000186379213f);           /* log(1 - erf(b)) */
    l = V_FMA(l, b, v_set(-0.00294765853f));
    l = V_FMA(l, b, v_set(0.0218380652f));
    l = V_FMA(l, b, v_set(-0.103106759f));
    l = V_FMA(l, b, v_set(-0.638144851f));
    l = V_FMA(l, b, v_set(-1.12708914f));
    l = V_FMA(l, b, v_set(-0.000341522828f));
    vf large = v_copy_sign(1.0f - v_exp(l), x);
    return v_select(a < 1.0f, small, large);
}

V_INLINE void v_mul_wide(vu x, uint32_t factor, vu *high, vu *low)
{
    vq f = (uint64_t)factor - (vq){0};
    vq even = V_MUL32((vq)x, f), odd = V_MUL32((vq)x >> 32, f);
    *high = (vu)((even >> 32) | (odd & 0xffffffff00000000u));
    *low = (vu)((even & 0xffffffffu) | (odd << 32));
}

/*
 * Dropout factors of 4 * V_N elements from block number `block` on (element 4 * block): 0 or `scale`. The layout of the random
 * numbers is that of sgc_dropout in device.h.
 */
V_INLINE void v_keep_factors(float *out, sgc_philox_key key, uint32_t stream, int64_t sample, uint64_t block, uint32_t threshold, float scale)
{
    uint32_t high = (uint32_t)(block >> 32);
    vu x0 = (vu){V_LANES} + (uint32_t)block;
    vu wrapped = (vu)(x0 < (uint32_t)block); /* all ones where the low word went over its end */
    vu x1 = ((high - wrapped) << 16) | stream;
    vu x2 = (uint32_t)(uint64_t)sample - (vu){0}, x3 = (uint32_t)((uint64_t)sample >> 32) - (vu){0};
    uint32_t k0 = key.k[0], k1 = key.k[1];
    for (int round = 0; round < 10; round++) {
        vu h0, l0, h1, l1;
        v_mul_wide(x0, 0xD2511F53u, &h0, &l0);
        v_mul_wide(x2, 0xCD9E8D57u, &h1, &l1);
        x0 = h1 ^ x1 ^ k0;
        x1 = l1;
        x2 = h0 ^ x3 ^ k1;
        x3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    vf zero = {0}, keep = v_set(scale);
    vf f0 = v_select((vi)(x0 < threshold), zero, keep), f1 = v_select((vi)(x1 < threshold), zero, keep);
    vf f2 = v_select((vi)(x2 < threshold), zero, keep), f3 = v_select((vi)(x3 < threshold), zero, keep);
    vf a0 = V_ZIP_LOW(f0, f2), a1 = V_ZIP_HIGH(f0, f2), b0 = V_ZIP_LOW(f1, f3), b1 = V_ZIP_HIGH(f1, f3);
    v_store(out, V_ZIP_LOW(a0, b0));
    v_store(out + V_N, V_ZIP_HIGH(a0, b0));
    v_store(out + 2 * V_N, V_ZIP_LOW(a1, b1));
    v_store(out + 3 * V_N, V_ZIP_HIGH(a1, b1));
}

#endif

/* The hot loops for bf16 with AVX-512 and its instructions for products of bf16. The headers of the system come first, so that none of
 * their functions needs it. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "conf/config.h"
#include "device/cpu/simd.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,fma")
#endif

#define V_BYTES 64
#define V_PAIR 2
#define SIMD_TABLE sgc_simd_avx512_dot
#include "device/cpu/simd/tables.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* The hot loops with AVX-512. The headers of the system come first, so that none of their functions needs it. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "conf/config.h"
#include "device/cpu/simd.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma")
#endif

#define V_BYTES 64
#define SIMD_TABLE sgc_simd_avx512
#include "device/cpu/simd/tables.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

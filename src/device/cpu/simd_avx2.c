/* The hot loops with AVX2. The headers of the system come first, so that none of their functions needs it. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "conf/config.h"
#include "device/cpu/simd.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define V_BYTES 32
#define SIMD_TABLE sgc_simd_avx2
#include "device/cpu/simd/tables.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11, doi 10.1145/2063384.2063405). */
#ifndef SGC_BASE_PHILOX_H
#define SGC_BASE_PHILOX_H

#include <stdint.h>

/* The same numbers on GPUs. */
#ifdef __CUDACC__
#define SGC_PHILOX_INLINE static inline __host__ __device__
#else
#define SGC_PHILOX_INLINE static inline
#endif

/* What a stream of numbers is for: no two purposes share a stream. */
typedef enum sgc_purpose { SGC_PURPOSE_INIT = 1, SGC_PURPOSE_DROPOUT, SGC_PURPOSE_DATA, SGC_PURPOSE_SAMPLE, SGC_PURPOSE_ID } sgc_purpose;

typedef struct sgc_philox_key { uint32_t k[2]; } sgc_philox_key;

/* A key from the run's seed and a purpose. */
static inline sgc_philox_key sgc_philox_make_key(uint64_t seed, sgc_purpose purpose)
{
    uint64_t z = seed + 0x9E3779B97F4A7C15u * (uint64_t)purpose; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (sgc_philox_key){{(uint32_t)z, (uint32_t)(z >> 32)}};
}

/* Four 32-bit numbers for the 128-bit counter c. */
SGC_PHILOX_INLINE void sgc_philox(const sgc_philox_key key, const uint32_t c[4], uint32_t out[4])
{
    uint32_t x0 = c[0], x1 = c[1], x2 = c[2], x3 = c[3], k0 = key.k[0], k1 = key.k[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)p1;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* A number in [0, 1) with 24 random bits. */
static inline float sgc_uniform(uint32_t r) { return (float)(r >> 8) * 0x1p-24f; }

/* Two standard normal numbers from two random words (Box-Muller, in double). */
void sgc_normal_pair(uint32_t r0, uint32_t r1, double out[2]);

/**
 * out[i] = mean + std * normal(first + i) for i in [0, n): element number e of the stream depends on
 * (seed, purpose, stream, e) alone, so that a rank can make any slice of a tensor by itself.
 */
void sgc_normal_fill(float *out, int64_t n, uint64_t seed, sgc_purpose purpose, uint32_t stream, int64_t first, double mean, double std);

#endif

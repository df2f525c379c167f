/* Which elements are dropped (sgc_dropout of device.h), as kernels ask it: four elements by one call of Philox. */
#ifndef SGC_DEVICE_CUDA_DROPOUT_CUH
#define SGC_DEVICE_CUDA_DROPOUT_CUH

#include <math.h>

#include "device/cuda/types.cuh"

typedef struct dropout_rule {
    const sgc_philox_key *key;
    uint32_t stream, threshold; /* an element whose word is below the threshold is dropped; 0: none is */
    float scale;                /* of what is kept */
} dropout_rule;

static inline dropout_rule dropout_rule_of(const sgc_dropout *drop)
{
    dropout_rule rule = {drop->key, drop->stream, (uint32_t)ceil(drop->p * 0x1p32), (float)(1 / (1 - drop->p))};
    return rule;
}

/* Bit k is set if element 4 * block + k of a sample is kept. */
static __device__ __forceinline__ uint32_t kept_of_block(const dropout_rule &rule, int64_t sample, uint64_t block)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) << 16 | rule.stream, (uint32_t)sample, (uint32_t)((uint64_t)sample >> 32)};
    const sgc_philox_key key = {{__ldg(&rule.key->k[0]), __ldg(&rule.key->k[1])}};
    uint32_t random[4], kept = 0;
    sgc_philox(key, counter, random);
#pragma unroll
    for (int k = 0; k < 4; k++) kept |= (uint32_t)(random[k] >= rule.threshold) << k;
    return kept;
}

/* Dropout of W neighbouring elements of a sample from `first` on. W is 1, or they begin with a block. */
template <int W> static __device__ __forceinline__ void drop_n(const dropout_rule &rule, int64_t sample, int64_t first, float (&x)[W])
{
    uint32_t kept = 0;
#pragma unroll
    for (int j = 0; j < W; j += 4) kept |= kept_of_block(rule, sample, (uint64_t)(first + j) / 4) << j;
    if (W == 1) kept >>= first % 4;
#pragma unroll
    for (int j = 0; j < W; j++) x[j] = __fmul_rn(x[j], kept >> j & 1 ? rule.scale : 0.0f);
}

#endif

/*
 * Attention, for the attention*.cu files only: what a call is about, and which weights are dropped.
 * Letters as in device.h; i is a query's position, j a key's.
 */
#ifndef SGC_DEVICE_CUDA_ATTENTION_CUH
#define SGC_DEVICE_CUDA_ATTENTION_CUH

#include "device/cuda/cuda_impl.h"
#include "device/cuda/launch.h"
#include "device/cuda/types.cuh"

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

enum { ATTENTION_MAX_HEAD = 256 };

typedef struct attention_dropout { /* sgc_dropout, in numbers of the GPU */
    sgc_philox_key key;
    uint32_t stream, threshold;    /* a weight whose word is below the threshold is dropped; 0: none is */
    float scale;                   /* of the weights that are kept */
    const int64_t *sample;         /* [B] */
} attention_dropout;

typedef struct attention { /* one call; kernels take it by value */
    int64_t B, T, C, H, D;
    const void *qkv;          /* [B, T, 3C] */
    void *y;                  /* [B, T, C]; an input of the backward pass */
    float *lse;               /* [B, H, T]; likewise */
    const void *dy;           /* [B, T, C] */
    float *delta;             /* [B, H, T]: sums over a head of dy * y, which is the mean gradient of a query's weights */
    void *dqkv;               /* [B, T, 3C] */
    attention_dropout drop;
} attention;

/* False, and kept as a failure of the device: there are no kernels for heads of more than ATTENTION_MAX_HEAD. */
bool sgc_attention_is_served(sgc_device *d, int64_t D);

/* attention_mma.cu, attention_mma_backward.cu: 16-bit values, D 64 or 128, on tensor cores */
void sgc_attention_mma_forward(sgc_device *d, const attention *a);
void sgc_attention_mma_backward(sgc_device *d, const attention *a);
/* attention_plain.cu: any values and D */
void sgc_attention_plain_forward(sgc_device *d, const attention *a);
void sgc_attention_plain_backward(sgc_device *d, const attention *a);

/* The 16 bytes of random words that hold element 4 * block .. 4 * block + 3: bit k is set if the kth of them is kept. */
static __device__ __forceinline__ uint32_t kept_of_block(const attention_dropout &drop, uint64_t block, int64_t sample)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) << 16 | drop.stream, (uint32_t)sample, (uint32_t)((uint64_t)sample >> 32)};
    uint32_t random[4], bits = 0;
    sgc_philox(drop.key, counter, random);
#pragma unroll
    for (int k = 0; k < 4; k++) bits |= (uint32_t)(random[k] >= drop.threshold) << k;
    return bits;
}

/* Bit k is set if element e + k of the sample is kept, k < 4. Elements of a row share blocks of four only where T is a multiple of 4. */
static __device__ __forceinline__ uint32_t kept_4(const attention_dropout &drop, uint64_t e, int64_t sample)
{
    const uint32_t shift = (uint32_t)e & 3;
    uint32_t bits = kept_of_block(drop, e >> 2, sample);
    if (shift) bits = (bits >> shift | kept_of_block(drop, (e >> 2) + 1, sample) << (4 - shift)) & 15;
    return bits;
}

#endif

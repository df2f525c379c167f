/*
 * Attention, for the attention*.cu files only: what a call is about, and which weights are dropped.
 * Letters as in device.h; i is a query's position, j a key's.
 */
#ifndef SGC_DEVICE_CUDA_ATTENTION_CUH
#define SGC_DEVICE_CUDA_ATTENTION_CUH

#include "device/cuda/cuda_impl.h"
#include "device/cuda/dropout.cuh"
#include "device/cuda/launch.h"
#include "device/cuda/types.cuh"

#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

enum { ATTENTION_MAX_HEAD = 256 };

typedef struct attention { /* one call; kernels take it by value */
    int64_t B, T, C, H, D;
    const void *qkv;          /* [B, T, 3C] */
    void *y;                  /* [B, T, C]; an input of the backward pass */
    float *lse;               /* [B, H, T]; likewise */
    const void *dy;           /* [B, T, C] */
    float *delta;             /* [B, H, T]: sums over a head of dy * y, which is the mean gradient of a query's weights */
    void *dqkv;               /* [B, T, 3C] */
    dropout_rule drop;        /* of weights */
    const int64_t *sample;    /* [B], of the dropout */
} attention;

/* False, and kept as a failure of the device: there are no kernels for heads of more than ATTENTION_MAX_HEAD. */
bool sgc_attention_is_served(sgc_device *d, int64_t D);

/* attention_mma.cu, attention_mma_backward.cu: 16-bit values, D 64 or 128, on tensor cores */
void sgc_attention_mma_forward(sgc_device *d, const attention *a);
void sgc_attention_mma_backward(sgc_device *d, const attention *a);
/* attention_plain.cu: any values and D */
void sgc_attention_plain_forward(sgc_device *d, const attention *a);
void sgc_attention_plain_backward(sgc_device *d, const attention *a);

/* Bit k is set if element e + k of the sample is kept, k < 4. Elements of a row share blocks of four only where T is a multiple of 4. */
static __device__ __forceinline__ uint32_t kept_4(const dropout_rule &drop, uint64_t e, int64_t sample)
{
    const uint32_t shift = (uint32_t)e & 3;
    uint32_t bits = kept_of_block(drop, sample, e >> 2);
    if (shift) bits = (bits >> shift | kept_of_block(drop, sample, (e >> 2) + 1) << (4 - shift)) & 15;
    return bits;
}

#endif

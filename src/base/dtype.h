/* Element types of tensors and messages. bf16 is the upper half of a float, rounded to nearest even. */
#ifndef SGC_BASE_DTYPE_H
#define SGC_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum sgc_dtype { SGC_F32, SGC_BF16, SGC_F64 } sgc_dtype;
typedef uint16_t sgc_bf16;

static inline size_t sgc_dtype_bytes(sgc_dtype type) { return type == SGC_F32 ? 4 : type == SGC_BF16 ? 2 : 8; }

static inline float sgc_bf16_to_float(sgc_bf16 x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline sgc_bf16 sgc_float_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint32_t quiet_nan = (bits >> 16) | 0x40;
    return (sgc_bf16)((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

#endif

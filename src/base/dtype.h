/* Element types of tensors and messages. bf16 is the upper half of a float, rounded to nearest even. */
#ifndef SGC_BASE_DTYPE_H
#define SGC_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum sgc_dtype { SGC_F32, SGC_BF16, SGC_F16, SGC_F64 } sgc_dtype;
enum { SGC_N_STORED_DTYPES = SGC_F64 }; /* the first three: what a checkpoint may hold. A run writes SGC_F32, a converted one of weights may differ. */
typedef uint16_t sgc_bf16, sgc_f16;

static inline size_t sgc_dtype_bytes(sgc_dtype type) { return type == SGC_F32 ? 4 : type == SGC_F64 ? 8 : 2; }

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

/* Exact. Numbers below the normal ones come out right because they become normal floats. */
static inline float sgc_f16_to_float(sgc_f16 x)
{
    uint32_t bits = (uint32_t)(x & 0x7fff) << 13, sign = (uint32_t)(x & 0x8000) << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    f *= 0x1p112f; /* the exponent's bias is 127 instead of 15 */
    memcpy(&bits, &f, sizeof(bits));
    if ((x & 0x7c00) == 0x7c00) bits = 0x7f800000 | (uint32_t)(x & 0x3ff) << 13;
    bits |= sign;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* Of a stored type: "bfloat16"; and by that or its short name "bf16", false: unknown. */
const char *sgc_dtype_name(sgc_dtype type);
bool sgc_dtype_find(const char *name, sgc_dtype *type);
/* To nearest, ties to even; what is too large becomes infinite. bytes: [n * sgc_dtype_bytes], any alignment, or values itself. */
void sgc_dtype_pack(sgc_dtype type, const float *values, int64_t n, void *bytes);
/* bytes may be the end of values: [n] floats are written from the first on. */
void sgc_dtype_unpack(sgc_dtype type, const void *bytes, int64_t n, float *values);

#endif

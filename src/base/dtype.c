#include "base/dtype.h"

static const struct { const char *name, *option; } types[SGC_N_STORED_DTYPES] = {
    [SGC_F32] = {"float32", "fp32"}, [SGC_BF16] = {"bfloat16", "bf16"}, [SGC_F16] = {"float16", "fp16"},
};

const char *sgc_dtype_name(sgc_dtype type) { return types[type].name; }

bool sgc_dtype_find(const char *name, sgc_dtype *type)
{
    for (int t = 0; t < SGC_N_STORED_DTYPES; t++)
        if (strcmp(name, types[t].name) == 0 || strcmp(name, types[t].option) == 0) {
            *type = t;
            return true;
        }
    return false;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint16_t to_float16(float x)
{
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
    if (x != x) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x1ff));
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* from 2^16 on */
    if (a < 0x38800000) return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000)); /* below 2^-14; 0.5 has their spacing */
    a -= 0x38000000; /* the exponent's bias is 15 instead of 127 */
    return (uint16_t)(sign | (a + 0xfff + (a >> 13 & 1)) >> 13);
}

void sgc_dtype_pack(sgc_dtype type, const float *values, int64_t n, void *bytes)
{
    if (type == SGC_F32) {
        memmove(bytes, values, (size_t)n * sizeof(*values));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t half = type == SGC_BF16 ? sgc_float_to_bf16(values[i]) : to_float16(values[i]);
        memcpy((char *)bytes + 2 * i, &half, sizeof(half));
    }
}

void sgc_dtype_unpack(sgc_dtype type, const void *bytes, int64_t n, float *values)
{
    if (type == SGC_F32) {
        memmove(values, bytes, (size_t)n * sizeof(*values));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, (const char *)bytes + 2 * i, sizeof(half));
        float x = type == SGC_BF16 ? sgc_bf16_to_float(half) : sgc_f16_to_float(half);
        memcpy(values + i, &x, sizeof(x));
    }
}

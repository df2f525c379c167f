/* Element types of checkpoints. A run writes float32; a converted checkpoint of weights may have another. */
#ifndef SGC_CKPT_DTYPE_H
#define SGC_CKPT_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum sgc_dtype { SGC_FLOAT32, SGC_BFLOAT16, SGC_FLOAT16, SGC_N_DTYPES } sgc_dtype;
const char *sgc_dtype_name(sgc_dtype type);                 /* "bfloat16"                          */
int sgc_dtype_bytes(sgc_dtype type);
bool sgc_dtype_find(const char *name, sgc_dtype *type);     /* "bfloat16" or "bf16"; false: unknown */
/* To nearest, ties to even; what is too large becomes infinite. bytes: [n * sgc_dtype_bytes], any alignment, or values itself. */
void sgc_dtype_pack(sgc_dtype type, const float *values, int64_t n, void *bytes);
/* bytes may be the end of values: [n] floats are written from the first on. */
void sgc_dtype_unpack(sgc_dtype type, const void *bytes, int64_t n, float *values);

#endif

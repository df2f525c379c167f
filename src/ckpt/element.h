/* Element types of checkpoints. A run writes float32; a converted checkpoint of weights may have another. */
#ifndef SGC_CKPT_ELEMENT_H
#define SGC_CKPT_ELEMENT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum sgc_element { SGC_ELEMENT_FLOAT32, SGC_ELEMENT_BFLOAT16, SGC_ELEMENT_FLOAT16, SGC_N_ELEMENTS } sgc_element;
const char *sgc_element_name(sgc_element type);                 /* "bfloat16"                          */
int sgc_element_bytes(sgc_element type);
bool sgc_element_find(const char *name, sgc_element *type);     /* "bfloat16" or "bf16"; false: unknown */
/* To nearest, ties to even; what is too large becomes infinite. bytes: [n * sgc_element_bytes], any alignment, or values itself. */
void sgc_element_pack(sgc_element type, const float *values, int64_t n, void *bytes);
/* bytes may be the end of values: [n] floats are written from the first on. */
void sgc_element_unpack(sgc_element type, const void *bytes, int64_t n, float *values);

#endif

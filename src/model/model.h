/* Models: made from their options; the initial values and the places of their tensors. */
#ifndef SGC_MODEL_MODEL_H
#define SGC_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/config.h"
#include "graph/unit.h"

/**
 * Make a model from its options. Local.
 * @param vocab_size  of the tokenizer; used where options->vocab_size is 0.
 * @return SGC_ECONFIG with what does not fit (n_head must divide n_embd, ...).
 */
sgc_status sgc_model_make(sgc_model **m, const sgc_model_options *options, int64_t vocab_size);
void sgc_model_free(sgc_model *m);

/* Floating-point operations of forward and backward per token, in samples of T tokens: 6 for each parameter in a product, and causal attention. */
double sgc_model_flops_per_token(const sgc_model *m, int64_t T);

/* Initial values of the elements [first, first + n) of a unit's flat buffer (gaps and padding are 0). */
void sgc_unit_init_slice(const sgc_unit *u, uint64_t seed, int64_t first, int64_t n, float *out);

/* The tensor that holds element e of the flat buffer; NULL for gaps and padding. */
const sgc_param_spec *sgc_unit_param_at(const sgc_unit *u, int64_t e);

#endif

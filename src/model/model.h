/* Models: ordered lists of units. A unit is named parameters and a forward function. */
#ifndef SGC_MODEL_MODEL_H
#define SGC_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/config.h"
#include "graph/graph.h"

typedef enum sgc_init { SGC_INIT_ZEROS, SGC_INIT_ONES, SGC_INIT_NORMAL } sgc_init;

typedef struct sgc_param_spec {
    char name[96];            /* full name in the checkpoint: "h.0.attn.c_attn.weight"          */
    int n_dim;
    int64_t shape[SGC_MAX_DIM];
    int64_t n;                /* elements                                                       */
    int64_t offset;           /* first element in the unit's flat buffer                        */
    bool decay;               /* weight decay applies                                           */
    sgc_init init;
    double std;
    uint32_t stream;          /* number of the tensor in the model: stream of its initial values */
} sgc_param_spec;

struct sgc_unit {
    char name[64];            /* "embedding", "h.0", ..., "head": also the dataset name in shard files */
    int index;
    int layer;                /* number of the block, -1 outside blocks                          */
    int n_params;
    sgc_param_spec *params;   /* owned                                                           */
    int64_t n;                /* elements of the flat buffer, alignment gaps included            */
    int64_t n_parameters;     /* elements of its tensors                                         */
    int borrows;              /* unit whose parameter it also uses, -1: none                     */
    const sgc_model *model;
    sgc_tensor *(*forward)(sgc_graph *g, const sgc_unit *u, sgc_tensor *x); /* x is NULL for the first unit */
};

struct sgc_model {
    const char *type;
    sgc_model_options options; /* vocab_size resolved; strings are not used                       */
    int n_units;
    sgc_unit *units;           /* owned                                                           */
    int64_t n_parameters;
    int64_t n_embedding_parameters; /* those that total_flos leaves out                           */
    int64_t n_lookup_parameters;    /* those that are in no matrix product                         */
};

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

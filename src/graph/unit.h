/* Units and models as graphs and the engine see them: named parameters and a forward function each, in order. model/ makes them. */
#ifndef SGC_GRAPH_UNIT_H
#define SGC_GRAPH_UNIT_H

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

#endif

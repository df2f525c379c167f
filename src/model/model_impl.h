/* What an architecture's file uses to declare its units. */
#ifndef SGC_MODEL_MODEL_IMPL_H
#define SGC_MODEL_MODEL_IMPL_H

#include "model/model.h"

typedef sgc_tensor *(*sgc_unit_forward)(sgc_graph *g, const sgc_unit *u, sgc_tensor *x);

/* One architecture: adding a model is adding one file and one row. */
typedef struct sgc_architecture {
    const char *name;
    sgc_status (*declare)(sgc_model *m); /* checks the options and declares the units in order */
} sgc_architecture;
extern const sgc_architecture sgc_gpt2;

/* NULL out of memory, with the error recorded. The pointer is good until the next unit is added. */
sgc_unit *sgc_model_add_unit(sgc_model *m, const char *name, int layer, sgc_unit_forward forward);
/* d1 is used if n_dim is 2. Parameters of a unit follow one another in its flat buffer. */
sgc_status sgc_unit_add_param(sgc_unit *u, const char *name, sgc_init init, double std, bool decay, int n_dim, int64_t d0, int64_t d1);

/* After the last unit: places of the tensors in the flat buffers, and what is counted over all of them. */
sgc_status sgc_model_lay_out(sgc_model *m);

#endif

/* Inside of the engine. */
#ifndef SGC_ZERO_ZERO_IMPL_H
#define SGC_ZERO_ZERO_IMPL_H

#include "zero/schedule.h"
#include "zero/zero.h"

#define SGC_MAX_LEVELS 32

/* One unit's states. Pointers are into the engine's memory; which of them are whole is what the stage says. */
typedef struct sgc_zero_unit {
    const sgc_unit *unit;
    sgc_flat flat;
    float *values;         /* [n_padded] whole parameters, NULL at stage 3 while released      */
    float *slots[SGC_N_SLOTS]; /* [n_shard] this rank's shard of parameters and optimizer states */
    float *whole_slots[SGC_N_SLOTS]; /* [n_padded] where the stage keeps them whole, else NULL */
    float *gradients;      /* [n_padded] whole gradients, kept (stages 0, 1) or while a pass needs them */
    float *gradient_shard; /* [n_shard] the reduced gradient                                   */
    float *partial[SGC_MAX_LEVELS]; /* [n_shard] full_determinism: sums of 2^k micro-batches    */
    sgc_request *gather;   /* of parameters                                                    */
    sgc_request *reduce;   /* of gradients, or the gather of reduced ones at stage 0           */
} sgc_zero_unit;

struct sgc_zero {
    const sgc_model *model;
    sgc_device *device;
    sgc_group *group;
    const sgc_comm_ops *ops;
    sgc_zero_spec spec;
    sgc_zero_unit *units;
    int n_levels;          /* partial sums kept in full_determinism                            */
    sgc_pass training, evaluation;
    char *buffer;          /* gathered parameters, working gradients, arriving parts           */
    double *block_sums;    /* [blocks of the largest shard]                                    */
    float *parameters, *gradient_memory, *optimizer, *partial_memory; /* owned: what the units' pointers are into */
};

static inline bool sgc_zero_shards_states(const sgc_zero *z) { return z->spec.stage >= 1; }
static inline bool sgc_zero_shards_gradients(const sgc_zero *z) { return z->spec.stage >= 2; }
static inline bool sgc_zero_shards_parameters(const sgc_zero *z) { return z->spec.stage >= 3; }

/* Does every micro-batch reduce its gradients, or only the last of an update? */
static inline bool sgc_zero_reduces_each(const sgc_zero *z) { return sgc_zero_shards_gradients(z) || z->spec.full_determinism; }

#endif

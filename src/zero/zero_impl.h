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
    void *values;          /* [n_padded] whole parameters, NULL at stage 3 while released      */
    void *value_shard;     /* [n_shard] this rank's part of them                               */
    float *slots[SGC_N_SLOTS]; /* [n_shard] this rank's master weights and optimizer states     */
    float *whole_slots[SGC_N_SLOTS]; /* [n_padded] where the stage keeps them whole, else NULL */
    float *gradients;      /* [n_padded] what the backward adds to: kept, or pooled while a pass needs them */
    bool fresh;            /* the next backward call that writes a gradient replaces it        */
    void *whole_gradients; /* [n_padded] kept whole gradients of the engine's gradient type, else NULL */
    void *gradient_shard;  /* [n_shard] the reduced gradient, of that type                     */
    float *partial[SGC_MAX_LEVELS]; /* [n_shard] full_determinism: sums of 2^k micro-batches    */
    sgc_request *gather;   /* of parameters                                                    */
    sgc_request *reduce;   /* of gradients, or the gather of reduced ones at stage 0           */
    sgc_mirror block_sums; /* squares of the gradient shard, block by block: doubles           */
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
    sgc_update_part *parts; /* owned: of the unit whose update is asked for; room for those of any         */
    double next_progress_s; /* when messages are to be given a chance to move again              */
    bool (*aside)(void *arg); /* NULL: nothing else has messages                                         */
    void *aside_arg;          /* borrowed                                                                */
    char *parameters, *gradient_memory, *optimizer, *partial_memory; /* owned: what the units' pointers are into */
};

static inline bool sgc_zero_shards_states(const sgc_zero *z) { return z->spec.stage >= 1; }
static inline bool sgc_zero_shards_gradients(const sgc_zero *z) { return z->spec.stage >= 2; }
static inline bool sgc_zero_shards_parameters(const sgc_zero *z) { return z->spec.stage >= 3; }

/* Does every micro-batch reduce its gradients, or only the last of an update? */
static inline bool sgc_zero_reduces_each(const sgc_zero *z) { return sgc_zero_shards_gradients(z) || z->spec.full_determinism; }

/* Parameters are rounded copies of wide master weights. */
static inline bool sgc_zero_has_masters(const sgc_zero *z) { return z->device->ops->value != z->device->ops->wide; }
static inline sgc_dtype sgc_zero_value_type(const sgc_zero *z) { return z->device->ops->value; }
/* Gradients are kept rounded when nothing is added to them later. */
static inline bool sgc_zero_rounds_gradients(const sgc_zero *z)
{
    return sgc_zero_has_masters(z) && z->spec.n_micro == 1 && !z->spec.full_determinism;
}
static inline sgc_dtype sgc_zero_gradient_type(const sgc_zero *z) { return sgc_zero_rounds_gradients(z) ? z->device->ops->value : z->device->ops->wide; }
/* The backward adds to a pool, not to gradients that are kept. */
static inline bool sgc_zero_pools_gradients(const sgc_zero *z) { return sgc_zero_shards_gradients(z) || sgc_zero_rounds_gradients(z); }

/* Is the gradient of a unit rounded where it was added up, and stays there until the update? That of the last reduction, after which nothing else
 * wants its place in the buffer. It is usually the largest, of the embedding. */
static inline bool sgc_zero_rounds_in_place(const sgc_zero *z, const sgc_zero_unit *u)
{
    return sgc_zero_rounds_gradients(z) && z->device->ops->rounds_in_place && z->training.backflows[u->unit->index].last == z->training.n_times - 1;
}

/* This rank's part of a whole buffer of a unit. */
static inline void *sgc_zero_part(const sgc_zero *z, const sgc_zero_unit *u, void *whole, sgc_dtype type)
{
    return (char *)whole + (size_t)(sgc_group_rank(z->group) * u->flat.n_shard) * sgc_dtype_bytes(type);
}

#endif

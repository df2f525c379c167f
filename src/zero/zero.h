/*
 * The engine: units whose states are sharded by ZeRO (arXiv 1910.02054). One engine for stages 0 to 3; the stage only says which of
 * parameters, gradients and optimizer states are held whole or as this rank's shard.
 */
#ifndef SGC_ZERO_ZERO_H
#define SGC_ZERO_ZERO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/exact.h"
#include "base/mem.h"
#include "comm/comm.h"
#include "graph/graph.h"
#include "model/model.h"
#include "shard/flat.h"

typedef struct sgc_zero sgc_zero;

typedef enum sgc_slot { SGC_SLOT_MODEL, SGC_SLOT_EXP_AVG, SGC_SLOT_EXP_AVG_SQ, SGC_N_SLOTS } sgc_slot;
extern const char *const sgc_slot_path[SGC_N_SLOTS]; /* "model", "optimizer/exp_avg", "optimizer/exp_avg_sq" */

typedef struct sgc_zero_spec {
    int stage;
    int prefetch_units;
    bool full_determinism;    /* reduce every micro-batch along one tree over global micro-batches */
    bool inference;           /* parameters only: no gradients, no optimizer states                */
    int64_t n_micro;          /* micro-batches of an update (full_determinism: a power of two)      */
    sgc_dtype reduce_type;    /* what gradients travel as: SGC_F32, or SGC_BF16 on a device of bf16 values */
} sgc_zero_spec;

/*
 * Parameters and gradients are of the device's value type, or gradients of its wide type when an update has several micro-batches to add
 * up (always in full_determinism, where the number of ranks must not matter). Where the two types differ, there are wide master weights.
 * Collective. SGC_ENOMEM on any rank fails on all. SGC_ECONFIG: full_determinism with a world size or n_micro that is no power of two, or with
 * gradients that travel as bf16.
 */
sgc_status sgc_zero_make(sgc_zero **z, const sgc_model *model, sgc_device *device, sgc_group *group, const sgc_zero_spec *spec);
void sgc_zero_free(sgc_zero *z);
/* Local: the bytes by purpose that sgc_zero_make would take on each of `world` ranks. */
sgc_status sgc_zero_measure(const sgc_model *model, sgc_device *device, int world, const sgc_zero_spec *spec, size_t bytes[SGC_MEM_N_PURPOSES]);

/* Collective: initial weights from the seed. */
sgc_status sgc_zero_init_weights(sgc_zero *z, uint64_t seed);
/* This rank's shard of a slot of a unit: [flat.n_shard]; of parameters the master weights. Borrowed, in the device's memory. Written by a
 * reader of checkpoints, then sgc_zero_loaded. */
sgc_flat sgc_zero_flat(const sgc_zero *z, int unit);
float *sgc_zero_shard(sgc_zero *z, int unit, sgc_slot slot);
/* Does the host see the device's memory? */
bool sgc_zero_is_visible(const sgc_zero *z);
sgc_device *sgc_zero_device(const sgc_zero *z);
/* Collective: shards were changed from outside; makes whole copies again where the stage holds them. */
sgc_status sgc_zero_loaded(sgc_zero *z);

/* Called between the calls of a unit, about every millisecond, to let messages move that are not the engine's; its answer: there were some. NULL: none. */
void sgc_zero_bind_aside(sgc_zero *z, bool (*call)(void *arg), void *arg);

/* Collective: forward pass over all units; units are gathered ahead and released behind. */
sgc_status sgc_zero_forward(sgc_zero *z, sgc_graph *g);
/* Collective: forward and backward of micro-batch `micro` of n_micro; the gradients of a unit are reduced as soon as its backward is done. */
sgc_status sgc_zero_train_micro(sgc_zero *z, sgc_graph *g, int64_t micro);
/* Collective, after the last micro-batch: finish the reductions. square_sum: this rank's part of the squared global norm. */
sgc_status sgc_zero_finish_gradients(sgc_zero *z, sgc_exact *square_sum);
/* First element of this rank's gradient shards that is not finite: its tensor, or NULL. Local. */
sgc_status sgc_zero_nonfinite(sgc_zero *z, const sgc_param_spec **tensor);
/* Collective: AdamW on the shards; whole parameters are gathered again where the stage holds them. */
sgc_status sgc_zero_update(sgc_zero *z, const sgc_adamw *rule, double weight_decay);
/* Collective, instead of sgc_zero_update: forget the gradients of an update that is refused. */
sgc_status sgc_zero_drop_gradients(sgc_zero *z);

/* What a stage should cost by the paper, in elements and bytes, without padding. */
typedef struct sgc_zero_cost {
    double state_bytes, elements_per_update;
    double whole_bytes, sharded_bytes; /* of one parameter: state_bytes is whole_bytes P + sharded_bytes P/N */
    double in_place_bytes;             /* of gradients that are not among them, but in the communication buffer, in place of their sums */
} sgc_zero_cost;
sgc_zero_cost sgc_zero_formula(const sgc_zero *z);
/* The same with this model's padding, alignment, and units that need no second gather: what the counters must show exactly. */
sgc_zero_cost sgc_zero_expected(const sgc_zero *z);

#endif

/*
 * Graphs: a model's forward as a list of op calls, its derived backward, and a plan that places every activation in one arena.
 * A graph is built once for one shape and mode, then run unit by unit.
 */
#ifndef SGC_GRAPH_GRAPH_H
#define SGC_GRAPH_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "device/device.h"
#include "shard/flat.h"

typedef struct sgc_graph sgc_graph;
typedef struct sgc_tensor sgc_tensor;
typedef struct sgc_unit sgc_unit;
typedef struct sgc_model sgc_model;

typedef enum sgc_mode {
    SGC_TRAIN,  /* loss and gradients, dropout on                       */
    SGC_EVAL,   /* loss only                                            */
    SGC_DECODE  /* logits of the last position, with a key/value cache  */
} sgc_mode;

/* Ops for model code. Shapes: x [B*T, C] unless said. Failures (shape errors are bugs: assert; memory) surface in sgc_graph_build. */
sgc_tensor *sgc_param(sgc_graph *g, const sgc_unit *u, const char *name); /* by its name without the unit's prefix; borrowed ones by their full name */
sgc_tensor *sgc_op_embedding(sgc_graph *g, sgc_tensor *wte, sgc_tensor *wpe); /* of the graph's tokens -> [B*T, C] */
sgc_tensor *sgc_op_layer_norm(sgc_graph *g, sgc_tensor *x, sgc_tensor *w, sgc_tensor *b, double epsilon);
sgc_tensor *sgc_op_linear(sgc_graph *g, sgc_tensor *x, sgc_tensor *w, sgc_tensor *b); /* w [in, out], b [out] or NULL */
sgc_tensor *sgc_op_attention(sgc_graph *g, sgc_tensor *qkv, int64_t n_head, double dropout); /* causal; [B*T, 3C] -> [B*T, C] */
sgc_tensor *sgc_op_activation(sgc_graph *g, sgc_tensor *x, int kind);
sgc_tensor *sgc_op_add(sgc_graph *g, sgc_tensor *x, sgc_tensor *y);
sgc_tensor *sgc_op_dropout(sgc_graph *g, sgc_tensor *x, double p);
/* Output layer and causal language modelling loss, w [V, C]: position t is scored against label t + 1. In DECODE mode: logits [B*T, V]. */
sgc_tensor *sgc_op_lm_head(sgc_graph *g, sgc_tensor *x, sgc_tensor *w);

typedef struct sgc_graph_spec {
    sgc_mode mode;
    int64_t B, T;
    bool checkpointing;       /* TRAIN: recompute each unit's forward in its backward */
    double label_smoothing;   /* TRAIN only                                          */
    int64_t capacity;         /* DECODE: positions of the cache                      */
} sgc_graph_spec;

/* Build the graph of a model for one shape. Local. Nothing is computed and no tensor memory is taken. */
sgc_status sgc_graph_build(sgc_graph **g, const sgc_model *model, sgc_device *device, const sgc_graph_spec *spec);
void sgc_graph_free(sgc_graph *g);

/* Bytes that the arena needs; several graphs may take turns in one arena of the largest size (DECODE keeps its cache in it). */
size_t sgc_graph_arena_bytes(const sgc_graph *g);
/* Bytes that the device's kernels want for themselves beside the arena; all graphs of a device share them. */
size_t sgc_graph_scratch_bytes(const sgc_graph *g);
void sgc_graph_bind_arena(sgc_graph *g, void *arena); /* of sgc_device_alloc, or 64-byte aligned; borrowed */

/* Flat buffers of unit u, in the device's memory: values, and gradients (NULL outside TRAIN). Needed while u, or a unit that borrows from it, runs.
 * fresh: what stands in the tensors' gradients is not read but replaced; else it is added to. Gaps between tensors are left alone. */
void sgc_graph_bind_unit(sgc_graph *g, int unit, void *values, void *gradients, bool fresh);

typedef struct sgc_batch {   /* what changes from run to run */
    const int32_t *tokens;   /* [B, T]                                                     */
    const int32_t *labels;   /* [B, T], -100 is ignored; usually tokens; NULL in DECODE    */
    const int64_t *sample;   /* [B] global sample numbers (dropout); NULL outside TRAIN     */
    uint64_t seed;
    int64_t step;
    double scale;            /* factor on the gradient of the summed loss                  */
    int64_t position;        /* DECODE: number of positions already in the cache           */
} sgc_batch;
/* Copied with all that its pointers point to, which is the host's. SGC_EDEVICE. */
sgc_status sgc_graph_bind_batch(sgc_graph *g, const sgc_batch *batch);

/* call(arg) is made between the calls of a unit, on the thread that runs the graph, so that messages move while it computes. NULL: no calls. */
void sgc_graph_bind_between(sgc_graph *g, void (*call)(void *arg), void *arg);

void sgc_graph_forward(sgc_graph *g, int unit);
void sgc_graph_backward(sgc_graph *g, int unit); /* in reverse order of units, after all forwards */
/* After the forwards (EVAL) or the backward of the last unit (TRAIN), as soon as they are there: loss of each position, [B*T], 0 where ignored.
 * SGC_EDEVICE: something has failed on the device. */
sgc_status sgc_graph_losses(sgc_graph *g, const double **losses);
sgc_status sgc_graph_logits(sgc_graph *g, const void **logits); /* DECODE, after the forwards: [B*T, V] */

/* Does running unit u (forward, or backward) read parameter values of unit `owner`? Only then it must be gathered. */
bool sgc_graph_reads(const sgc_graph *g, bool backward, int unit, int owner);
/* Does the backward of unit u add to gradients of unit `owner`? */
bool sgc_graph_writes_gradient(const sgc_graph *g, int unit, int owner);

#endif

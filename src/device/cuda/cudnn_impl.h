/*
 * Attention by cuDNN, for src/device/cuda only. cuDNN is told what to compute as a graph of products and pointwise operations, in which its
 * engines recognise attention and compute it in one kernel, and it says which of its engines to take. cudnn_graph.c states the graphs, cudnn_plan.c
 * makes something that runs of them, cudnn_slices.c cuts the gradient into pieces, cudnn_attention.c is what the device calls.
 */
#ifndef SGC_DEVICE_CUDA_CUDNN_IMPL_H
#define SGC_DEVICE_CUDA_CUDNN_IMPL_H

#include <stdbool.h>

#include "base/dtype.h"
#include "device/cuda/cudnn_library.h"

/* Which memory a tensor of a graph is. */
enum {
    SGC_CUDNN_Q = 1, SGC_CUDNN_K, SGC_CUDNN_V, SGC_CUDNN_Y, SGC_CUDNN_LSE,
    SGC_CUDNN_DY, SGC_CUDNN_DQ, SGC_CUDNN_DK, SGC_CUDNN_DV,
    SGC_CUDNN_DELTA,          /* [B, H, T] floats that the gradient keeps for itself */
    SGC_CUDNN_SCALE, SGC_CUDNN_MASKED, SGC_CUDNN_ONE, /* one float each, of the host */
    SGC_CUDNN_VIRTUAL         /* from here on: of no memory                          */
};
enum { SGC_CUDNN_MOST_NODES = 32, SGC_CUDNN_MOST_DESCRIPTORS = 192 };

/* Causal attention of [B, T, 3, H, D] as device.h has it, or of some heads of one sample: H of those that a row holds. */
typedef struct sgc_cudnn_shape {
    int64_t B, T, H, D;
    int64_t C;                /* elements of all heads in a row of y; qkv has 3 * C */
    sgc_dtype value;          /* SGC_BF16 or SGC_F16 */
} sgc_cudnn_shape;

/* Where plans are made for: a GPU by its handle, or one that is not here by its properties. */
typedef struct sgc_cudnn_target {
    const sgc_cudnn *library;
    cudnnHandle_t handle;     /* NULL: by properties */
    cudnnBackendDescriptor_t properties; /* NULL: by the handle */
} sgc_cudnn_target;

typedef struct sgc_cudnn_graph {
    const sgc_cudnn_target *target;
    sgc_cudnn_shape shape;
    cudnnStatus_t rc;         /* the first that was no success; nothing is called after it */
    const char *what;         /* failed then */
    cudnnBackendDescriptor_t made[SGC_CUDNN_MOST_DESCRIPTORS]; /* owned */
    int n_made;
    cudnnBackendDescriptor_t nodes[SGC_CUDNN_MOST_NODES];      /* of those */
    int n_nodes;
    int64_t next_virtual;
    cudnnBackendDescriptor_t whole; /* of those: the graph itself */
} sgc_cudnn_graph;

/* What is tried is kept in the graph; to be freed in any case. */
void sgc_cudnn_graph_forward(sgc_cudnn_graph *g, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape);
void sgc_cudnn_graph_backward(sgc_cudnn_graph *g, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape);
void sgc_cudnn_graph_free(sgc_cudnn_graph *g);
/* A new descriptor of the graph's, and its attributes. NULL, and nothing done, after a failure. */
cudnnBackendDescriptor_t sgc_cudnn_make(sgc_cudnn_graph *g, cudnnBackendDescriptorType_t type, const char *what);
void sgc_cudnn_set(sgc_cudnn_graph *g, cudnnBackendDescriptor_t of, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *values);
void sgc_cudnn_finalize(sgc_cudnn_graph *g, cudnnBackendDescriptor_t d);

/* One that runs: the first that cuDNN's heuristic proposes and that gives the same bits every time. */
typedef struct sgc_cudnn_plan {
    sgc_cudnn_graph graph;    /* owned */
    cudnnBackendDescriptor_t execution; /* owned by the graph; NULL: there is none, and why: */
    size_t workspace_bytes;
    char none[256];
} sgc_cudnn_plan;

/* Local. The result is the same for equal shapes, GPUs and libraries. */
void sgc_cudnn_plan_make(sgc_cudnn_plan *p, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape, bool backward);
void sgc_cudnn_plan_free(sgc_cudnn_plan *p);
/* Queues the work on the handle's stream. uids and pointers: n of each. */
cudnnStatus_t sgc_cudnn_plan_run(const sgc_cudnn_plan *p, int n, const int64_t *uids, void *const *pointers, void *workspace);

enum { SGC_CUDNN_WORKSPACE_ALIGNMENT = 256 };

/* The gradient in slices, one after the other in the same memory: of some samples, or, where one sample needs too much, of some heads of one. */
typedef struct sgc_cudnn_slices {
    sgc_cudnn_shape whole;
    sgc_cudnn_plan plan;      /* owned: of a slice; without an execution the gradient is not to be had */
    sgc_cudnn_plan rest;      /* owned: of the last, where it is smaller */
    size_t bytes;             /* of memory for one slice */
} sgc_cudnn_slices;

/* Where the arrays of a call lie. */
typedef struct sgc_cudnn_gradient {
    const void *qkv, *y, *lse, *dy;
    void *dqkv;
    const float *masked;      /* one, of the host */
} sgc_cudnn_gradient;

/* What a slice may take: as much as a device with GPUs spends on a chunk of logits. Tests, whose shapes are small, set less. */
extern size_t sgc_cudnn_slice_bytes;

/* Local. As few slices as that allows, all of one size but for the last. If the smallest takes more, it is made all the same. */
void sgc_cudnn_slices_make(sgc_cudnn_slices *x, const sgc_cudnn_target *target, const sgc_cudnn_shape *whole);
void sgc_cudnn_slices_free(sgc_cudnn_slices *x);
int64_t sgc_cudnn_slices_count(const sgc_cudnn_slices *x);
/* Queues the work. memory: `bytes` of it, aligned to SGC_CUDNN_WORKSPACE_ALIGNMENT. */
cudnnStatus_t sgc_cudnn_slices_run(const sgc_cudnn_slices *x, const sgc_cudnn_gradient *at, char *memory);

#endif

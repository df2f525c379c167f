/* Inside of graphs: tensors, nodes, and what op definitions use to build and derive them. */
#ifndef SGC_GRAPH_GRAPH_IMPL_H
#define SGC_GRAPH_GRAPH_IMPL_H

#include "graph/unit.h"

typedef enum sgc_tensor_kind {
    SGC_TENSOR_PARAM,      /* in the flat buffer of its unit                                   */
    SGC_TENSOR_PARAM_GRAD, /* in the flat gradient buffer of its unit                          */
    SGC_TENSOR_ACTIVATION, /* placed in the arena for the nodes between first and last use     */
    SGC_TENSOR_STATE       /* at the start of the arena, kept from run to run                  */
} sgc_tensor_kind;

struct sgc_tensor {
    sgc_tensor_kind kind;
    int64_t rows, cols;    /* vectors: rows = 1                                                */
    size_t element_bytes;
    size_t bytes;
    int unit;              /* parameters: the owner                                            */
    size_t offset;         /* parameters: elements in the flat buffer; else: bytes in the arena */
    int first, last;       /* activations: first and last node that touches it, -1: none       */
    bool first_writer;     /* gradients of parameters: no call before adds to the same one     */
    bool keep;             /* read by the caller after the run: lives to the last node         */

    sgc_tensor *copy;      /* while deriving: of a repeated forward pass                       */
    sgc_tensor *grad;      /* while deriving: the gradient collected so far                    */
    int n_sharing;         /* of a gradient: tensors whose gradient it still is                */
};

#define SGC_MAX_IN 6
#define SGC_MAX_OUT 6

typedef struct sgc_node sgc_node;

/* What a call does, for the profile: floating-point operations of its matrix products (0: it has none), bytes of memory that it must touch. */
typedef struct sgc_work { double flop, bytes; } sgc_work;

/* One kind of call. Ops that no gradient flows through have no backward. */
typedef struct sgc_op {
    const char *name;
    void (*run)(const sgc_graph *g, const sgc_node *n); /* NULL: its work is done in the backward pass */
    void (*backward)(sgc_graph *g, const sgc_node *n);
    sgc_work (*work)(const sgc_graph *g, const sgc_node *n); /* where there is a run */
    void (*join)(sgc_graph *g, int node); /* NULL: never; makes one call of this and others, if they are there: see sgc_join */
    bool is_cheap;         /* done again in the backward pass rather than keeping its output   */
} sgc_op;

struct sgc_node {
    const sgc_op *op;
    sgc_tensor *in[SGC_MAX_IN], *out[SGC_MAX_OUT];
    bool add;              /* out[0] is added to                                               */
    bool recomputed;       /* a forward call repeated in the backward pass                     */
    int kind;              /* of an activation                                                 */
    int64_t n;             /* heads, or rows of a chunk                                        */
    double epsilon;
    double dropout;        /* probability, and                                                 */
    uint32_t stream;       /* its number in the model                                          */
};

/* Numbers that change from run to run. They are read from the device's memory, so that calls may be recorded. */
typedef struct sgc_factors {
    double scale;            /* of the gradient of the summed loss                             */
    sgc_philox_key dropout;
} sgc_factors;

/* A part of what is brought to the device before a run: where it is there, and on the host. */
typedef struct sgc_input { void *device, *host; size_t bytes; } sgc_input;

typedef struct sgc_node_range { int first, end; } sgc_node_range;

/* What the calls of a unit's run depend on, beside what they read. values, gradients, fresh: the unit's own, and of the unit that it borrows from; the
 * last two of a backward run only. */
typedef struct sgc_binding {
    const void *arena, *values[2], *gradients[2];
    bool fresh[2];
} sgc_binding;

enum { SGC_MAX_RECORDED = 4 };

/* Recordings of one run of a unit, forward or backward, one for each binding. */
typedef struct sgc_recorded {
    sgc_binding bindings[SGC_MAX_RECORDED];
    sgc_recording *recordings[SGC_MAX_RECORDED]; /* owned */
    int n;
} sgc_recorded;

struct sgc_graph {
    const sgc_model *model;
    sgc_device *device;
    sgc_graph_spec spec;
    sgc_batch batch;

    sgc_node *nodes;
    int n_nodes, nodes_capacity;
    sgc_tensor **tensors;  /* owned                                                            */
    int n_tensors, tensors_capacity;
    sgc_node_range *forward, *backward; /* of each unit                                        */
    sgc_recorded *recorded;             /* of each unit: forward, backward                     */
    void **values, **gradients;         /* bound flat buffers of each unit                     */
    bool *fresh;                        /* of each unit: gradients are replaced                */
    bool out_of_memory;
    uint32_t n_dropouts;
    size_t attention_bytes[2]; /* that attention and its gradient want lent                     */
    sgc_tensor *loss, *logits;
    sgc_mirror inputs;     /* all that follow, which travel together                            */
    sgc_input factors;     /* one sgc_factors                                                   */
    sgc_input tokens;      /* [B, T]                                                           */
    sgc_input targets;     /* [B, T] what each position is scored against; empty in DECODE     */
    sgc_input samples;     /* [B]; empty outside TRAIN                                         */
    void *result;          /* owned: losses or logits where the host does not see the arena    */
    sgc_mark *result_mark; /* owned: they have arrived                                         */

    void (*between)(void *arg);         /* NULL: nothing */
    void *between_arg;                  /* borrowed      */

    char *arena;
    size_t arena_bytes;
};

/* Building. All return a usable object even out of memory; sgc_graph_build then fails. */
sgc_tensor *sgc_tensor_new(sgc_graph *g, sgc_tensor_kind kind, int64_t rows, int64_t cols, size_t element_bytes);
sgc_tensor *sgc_values_new(sgc_graph *g, int64_t rows, int64_t cols); /* activations of the device's value type */
sgc_tensor *sgc_wide_new(sgc_graph *g, int64_t rows, int64_t cols);   /* and of its wide type                    */
sgc_tensor *sgc_tensor_like(sgc_graph *g, const sgc_tensor *t);
sgc_tensor *sgc_param_grad(sgc_graph *g, const sgc_tensor *param); /* NULL for NULL */
sgc_node *sgc_node_new(sgc_graph *g, const sgc_op *op);

/* Deriving. A gradient may be shared by several tensors (both addends of a sum); it is only written to when it is not. */
/* Where an op should put the gradient of t: *add tells whether to add. Call sgc_grad_done with the result after the node is emitted. */
sgc_tensor *sgc_grad_target(sgc_graph *g, sgc_tensor *t, bool *add);
void sgc_grad_done(sgc_graph *g, sgc_tensor *t, sgc_tensor *target);
/* The gradient of t is (also) `gradient` itself. */
void sgc_grad_share(sgc_graph *g, sgc_tensor *t, sgc_tensor *gradient);
void sgc_derive(sgc_graph *g);

/* The sum of two tensors as a node; used where gradients meet. */
void sgc_emit_add(sgc_graph *g, sgc_tensor *z, sgc_tensor *x, sgc_tensor *y);

/* When all calls are there: those that can be made in one become one. What they make stays the same, bit for bit; memory is gone through less often. */
void sgc_join(sgc_graph *g);
/* What joins look for; -1: none. The call before one, the last one before it that writes t, and how many read t. */
int sgc_node_before(const sgc_graph *g, int node);
int sgc_writer_before(const sgc_graph *g, int node, const sgc_tensor *t);
int sgc_n_readers(const sgc_graph *g, const sgc_tensor *t);
void sgc_node_drop(sgc_graph *g, int node); /* it is part of another one now */

sgc_status sgc_plan_memory(sgc_graph *g);

/* Memory of a graph beside the arena, once it is planned; SGC_ENOMEM. */
sgc_status sgc_graph_batch_make(sgc_graph *g);
void sgc_graph_batch_free(sgc_graph *g);
/* After the calls that make it: the result sets out for the host. */
void sgc_graph_fetch_result(const sgc_graph *g);

/* recorded.c: calls(arg) makes the calls of a unit's run, forward or backward. */
void sgc_graph_repeat(sgc_graph *g, int unit, bool backward, void (*calls)(void *arg), void *arg);
void sgc_graph_forget(sgc_graph *g);

sgc_dropout sgc_dropout_of(const sgc_graph *g, const sgc_node *n);
/* Running: where a tensor is. NULL for NULL. */
void *sgc_at(const sgc_graph *g, const sgc_tensor *t);
/* Long calls give others a turn between their parts, as the graph does between calls. */
void sgc_graph_between(const sgc_graph *g);

/* Work of a call that reads its inputs and writes its outputs once: no product, and one of 2 m n k operations. */
sgc_work sgc_work_touch(const sgc_graph *g, const sgc_node *n);
sgc_work sgc_work_product(const sgc_graph *g, const sgc_node *n, double m, double n_columns, double k);
/* Does a call add to this gradient of a parameter (or write it first)? */
bool sgc_adds(const sgc_graph *g, const sgc_tensor *gradient);
/* The same for kernels that can only add: where it is, set to zero if it is written first. NULL for NULL. */
void *sgc_at_adding(const sgc_graph *g, const sgc_tensor *gradient);

#endif

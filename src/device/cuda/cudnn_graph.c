/*
 * Attention and its gradient as graphs of operations. Which graphs the engines recognise is told by NVIDIA's cudnn-frontend, whose two nodes of scaled
 * dot-product attention these follow, operation by operation: another one that computes the same would find no engine.
 *
 * The gradient of q is made as one product of a whole matrix [T, T] of every head, which cuDNN keeps in its workspace, and not summed up tile by
 * tile in the order in which tiles happen to be done: that takes more memory, and gives the same bits every time.
 */
#include "device/cuda/cudnn_impl.h"

#include <assert.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

static bool is_well(sgc_cudnn_graph *g, cudnnStatus_t rc, const char *what)
{
    if (rc == CUDNN_STATUS_SUCCESS) return true;
    g->rc = rc;
    g->what = what;
    return false;
}

descriptor sgc_cudnn_make(sgc_cudnn_graph *g, cudnnBackendDescriptorType_t type, const char *what)
{
    descriptor d = NULL;
    if (g->rc != CUDNN_STATUS_SUCCESS) return NULL;
    g->what = what;
    assert(g->n_made < SGC_CUDNN_MOST_DESCRIPTORS);
    if (!is_well(g, g->target->library->BackendCreateDescriptor(type, &d), what)) return NULL;
    return g->made[g->n_made++] = d;
}

void sgc_cudnn_set(sgc_cudnn_graph *g, descriptor of, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (g->rc == CUDNN_STATUS_SUCCESS) is_well(g, g->target->library->BackendSetAttribute(of, name, type, n, values), g->what);
}

void sgc_cudnn_finalize(sgc_cudnn_graph *g, descriptor d)
{
    if (g->rc == CUDNN_STATUS_SUCCESS) is_well(g, g->target->library->BackendFinalize(d), g->what);
}

static void set_descriptor(sgc_cudnn_graph *g, descriptor of, cudnnBackendAttributeName_t name, descriptor value)
{
    if (value) sgc_cudnn_set(g, of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void set_type(sgc_cudnn_graph *g, descriptor of, cudnnBackendAttributeName_t name, cudnnDataType_t type)
{
    sgc_cudnn_set(g, of, name, CUDNN_TYPE_DATA_TYPE, 1, &type);
}

/* ---- tensors: always four sides, of which the first two are B and H */
typedef struct sides { int64_t n[4], stride[4]; } sides;

static descriptor tensor(sgc_cudnn_graph *g, int64_t uid, cudnnDataType_t type, sides s)
{
    const int64_t alignment = 16;
    const bool is_virtual = uid >= SGC_CUDNN_VIRTUAL, is_by_value = uid == SGC_CUDNN_SCALE || uid == SGC_CUDNN_MASKED || uid == SGC_CUDNN_ONE;
    descriptor d = sgc_cudnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
    set_type(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, s.n);
    sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, s.stride);
    sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (is_virtual) sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    if (is_by_value) sgc_cudnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &is_by_value);
    sgc_cudnn_finalize(g, d);
    return d;
}

static cudnnDataType_t value_type(const sgc_cudnn_graph *g) { return g->shape.value == SGC_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF; }

/* Rows of all heads: `row` elements from one position to the next; and the same with the last two sides exchanged. */
static sides rows(const sgc_cudnn_graph *g, int64_t row)
{
    const sgc_cudnn_shape *s = &g->shape;
    return (sides){{s->B, s->H, s->T, s->D}, {s->T * row, s->D, row, 1}};
}
static sides columns(const sgc_cudnn_graph *g, int64_t row)
{
    const sgc_cudnn_shape *s = &g->shape;
    return (sides){{s->B, s->H, s->D, s->T}, {s->T * row, s->D, 1, row}};
}
/* [T, T] of every head, the same with the sides exchanged, one number of every row, and one number. */
static sides square(const sgc_cudnn_graph *g)
{
    const sgc_cudnn_shape *s = &g->shape;
    return (sides){{s->B, s->H, s->T, s->T}, {s->H * s->T * s->T, s->T * s->T, s->T, 1}};
}
static sides square_exchanged(const sgc_cudnn_graph *g)
{
    const sgc_cudnn_shape *s = &g->shape;
    return (sides){{s->B, s->H, s->T, s->T}, {s->H * s->T * s->T, s->T * s->T, 1, s->T}};
}
static sides column(const sgc_cudnn_graph *g)
{
    const sgc_cudnn_shape *s = &g->shape;
    return (sides){{s->B, s->H, s->T, 1}, {s->H * s->T, s->T, 1, 1}};
}
static sides one(void) { return (sides){{1, 1, 1, 1}, {1, 1, 1, 1}}; }

static descriptor number(sgc_cudnn_graph *g, int64_t uid) { return tensor(g, uid, CUDNN_DATA_FLOAT, one()); }
static descriptor between(sgc_cudnn_graph *g, cudnnDataType_t type, sides s) { return tensor(g, g->next_virtual++, type, s); }
static descriptor floats(sgc_cudnn_graph *g, sides s) { return between(g, CUDNN_DATA_FLOAT, s); }

/* ---- nodes: each returns its last argument, where its result is */
static void add_node(sgc_cudnn_graph *g, descriptor node)
{
    sgc_cudnn_finalize(g, node);
    if (g->rc == CUDNN_STATUS_SUCCESS) g->nodes[g->n_nodes++] = node;
}

static descriptor product(sgc_cudnn_graph *g, descriptor a, descriptor b, descriptor c)
{
    descriptor rule = sgc_cudnn_make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "a product");
    set_type(g, rule, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    sgc_cudnn_finalize(g, rule);
    descriptor node = sgc_cudnn_make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "a product");
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_MATMUL_DESC, rule);
    add_node(g, node);
    return c;
}

typedef struct pointwise {
    cudnnPointwiseMode_t mode;
    cudnnDataType_t precision;
    int64_t axis;            /* of CUDNN_POINTWISE_GEN_INDEX */
    descriptor x, b, t;      /* NULL: it has no such */
} pointwise;

static descriptor apply(sgc_cudnn_graph *g, pointwise p, descriptor y)
{
    descriptor rule = sgc_cudnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise operation");
    sgc_cudnn_set(g, rule, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &p.mode);
    set_type(g, rule, CUDNN_ATTR_POINTWISE_MATH_PREC, p.precision);
    if (p.mode == CUDNN_POINTWISE_GEN_INDEX) sgc_cudnn_set(g, rule, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &p.axis);
    sgc_cudnn_finalize(g, rule);
    descriptor node = sgc_cudnn_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise operation");
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, rule);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, p.x);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, p.b);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, p.t);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add_node(g, node);
    return y;
}

static descriptor of_one(sgc_cudnn_graph *g, cudnnPointwiseMode_t mode, descriptor x, descriptor y)
{
    return apply(g, (pointwise){.mode = mode, .precision = CUDNN_DATA_FLOAT, .x = x}, y);
}

static descriptor of_two(sgc_cudnn_graph *g, cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y)
{
    return apply(g, (pointwise){.mode = mode, .precision = CUDNN_DATA_FLOAT, .x = x, .b = b}, y);
}

static descriptor reduce(sgc_cudnn_graph *g, cudnnReduceTensorOp_t mode, descriptor x, descriptor y)
{
    descriptor rule = sgc_cudnn_make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "a reduction");
    sgc_cudnn_set(g, rule, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    set_type(g, rule, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    sgc_cudnn_finalize(g, rule);
    descriptor node = sgc_cudnn_make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "a reduction");
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_REDUCTION_DESC, rule);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add_node(g, node);
    return y;
}

static descriptor reshape(sgc_cudnn_graph *g, descriptor x, descriptor y)
{
    descriptor node = sgc_cudnn_make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "a reshape");
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set_descriptor(g, node, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add_node(g, node);
    return y;
}

/* Scores of keys beyond the query's position become what SGC_CUDNN_MASKED is: minus infinity. */
static descriptor mask(sgc_cudnn_graph *g, descriptor scores)
{
    descriptor query = apply(g, (pointwise){.mode = CUDNN_POINTWISE_GEN_INDEX, .precision = CUDNN_DATA_FLOAT, .axis = 2, .x = scores},
                             between(g, CUDNN_DATA_INT32, square(g)));
    descriptor key = apply(g, (pointwise){.mode = CUDNN_POINTWISE_GEN_INDEX, .precision = CUDNN_DATA_FLOAT, .axis = 3, .x = scores},
                           between(g, CUDNN_DATA_INT32, square(g)));
    descriptor is_seen = apply(g, (pointwise){.mode = CUDNN_POINTWISE_CMP_GE, .precision = CUDNN_DATA_BOOLEAN, .x = query, .b = key},
                               between(g, CUDNN_DATA_BOOLEAN, square(g)));
    return apply(g, (pointwise){.mode = CUDNN_POINTWISE_BINARY_SELECT, .precision = CUDNN_DATA_FLOAT, .x = scores, .b = number(g, SGC_CUDNN_MASKED), .t = is_seen},
                 floats(g, square(g)));
}

static void begin(sgc_cudnn_graph *g, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape)
{
    memset(g, 0, sizeof(*g));
    g->target = target;
    g->shape = *shape;
    g->next_virtual = SGC_CUDNN_VIRTUAL;
}

static void end(sgc_cudnn_graph *g)
{
    descriptor d = sgc_cudnn_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
    if (g->target->handle) sgc_cudnn_set(g, d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->target->handle);
    sgc_cudnn_set(g, d, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_nodes, g->nodes);
    sgc_cudnn_finalize(g, d);
    g->whole = d;
}

void sgc_cudnn_graph_forward(sgc_cudnn_graph *g, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape)
{
    begin(g, target, shape);
    const cudnnDataType_t value = value_type(g);
    const int64_t C = shape->C;
    descriptor q = tensor(g, SGC_CUDNN_Q, value, rows(g, 3 * C)), k = tensor(g, SGC_CUDNN_K, value, columns(g, 3 * C));
    descriptor v = tensor(g, SGC_CUDNN_V, value, rows(g, 3 * C)), y = tensor(g, SGC_CUDNN_Y, value, rows(g, C));
    descriptor lse = tensor(g, SGC_CUDNN_LSE, CUDNN_DATA_FLOAT, column(g));

    descriptor s = product(g, q, k, floats(g, square(g)));
    s = of_two(g, CUDNN_POINTWISE_MUL, s, number(g, SGC_CUDNN_SCALE), floats(g, square(g)));
    s = mask(g, s);
    descriptor most = reduce(g, CUDNN_REDUCE_TENSOR_MAX, s, floats(g, column(g)));
    s = of_two(g, CUDNN_POINTWISE_SUB, s, most, floats(g, square(g)));
    s = of_one(g, CUDNN_POINTWISE_EXP, s, floats(g, square(g)));
    descriptor sum = reduce(g, CUDNN_REDUCE_TENSOR_ADD, s, floats(g, column(g)));
    descriptor log_sum = of_one(g, CUDNN_POINTWISE_LOG, sum, floats(g, column(g)));
    of_two(g, CUDNN_POINTWISE_ADD, most, log_sum, lse);
    s = of_two(g, CUDNN_POINTWISE_DIV, s, sum, between(g, value, square(g)));
    product(g, s, v, y);
    end(g);
}

void sgc_cudnn_graph_backward(sgc_cudnn_graph *g, const sgc_cudnn_target *target, const sgc_cudnn_shape *shape)
{
    begin(g, target, shape);
    const cudnnDataType_t value = value_type(g);
    const int64_t C = shape->C;
    descriptor q = tensor(g, SGC_CUDNN_Q, value, rows(g, 3 * C)), k = tensor(g, SGC_CUDNN_K, value, columns(g, 3 * C));
    descriptor v = tensor(g, SGC_CUDNN_V, value, columns(g, 3 * C)), y = tensor(g, SGC_CUDNN_Y, value, rows(g, C));
    descriptor dy = tensor(g, SGC_CUDNN_DY, value, rows(g, C)), lse = tensor(g, SGC_CUDNN_LSE, CUDNN_DATA_FLOAT, column(g));
    descriptor dq = tensor(g, SGC_CUDNN_DQ, value, rows(g, 3 * C)), dk = tensor(g, SGC_CUDNN_DK, value, rows(g, 3 * C));
    descriptor dv = tensor(g, SGC_CUDNN_DV, value, rows(g, 3 * C)), delta = tensor(g, SGC_CUDNN_DELTA, CUDNN_DATA_FLOAT, column(g));
    descriptor scale = number(g, SGC_CUDNN_SCALE);

    /* delta = sums over a head of dy * y */
    descriptor x = of_two(g, CUDNN_POINTWISE_MUL, dy, y, floats(g, rows(g, C)));
    x = reduce(g, CUDNN_REDUCE_TENSOR_ADD, x, floats(g, column(g)));
    of_two(g, CUDNN_POINTWISE_MUL, x, number(g, SGC_CUDNN_ONE), delta);

    /* the weights again; dv = weights' dy */
    descriptor p = product(g, q, k, floats(g, square(g)));
    p = of_two(g, CUDNN_POINTWISE_MUL, p, scale, floats(g, square(g)));
    p = of_two(g, CUDNN_POINTWISE_SUB, p, lse, floats(g, square(g)));
    p = mask(g, p);
    p = of_one(g, CUDNN_POINTWISE_EXP, p, floats(g, square(g)));
    product(g, reshape(g, p, between(g, value, square_exchanged(g))), dy, dv);

    /* ds = (dy v' - delta) * weights * scale; dk = ds' q; dq = ds k */
    descriptor ds = product(g, dy, v, floats(g, square(g)));
    ds = of_two(g, CUDNN_POINTWISE_SUB, ds, delta, floats(g, square(g)));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, p, floats(g, square(g)));
    ds = of_two(g, CUDNN_POINTWISE_MUL, ds, scale, floats(g, square(g)));
    product(g, reshape(g, ds, between(g, value, square_exchanged(g))), q, dk);
    product(g, ds, reshape(g, k, between(g, value, rows(g, 3 * C))), dq);
    end(g);
}

void sgc_cudnn_graph_free(sgc_cudnn_graph *g)
{
    while (g->n_made > 0) g->target->library->BackendDestroyDescriptor(g->made[--g->n_made]);
}

/*
 * The ops of matrices and elements: for each the call that model code makes, how it runs, and the nodes of its gradient.
 * Letters: B batch, T positions, N = B * T rows, C channels, V vocabulary.
 */
#include "graph/graph_impl.h"

#include <assert.h>

#define AT(t) sgc_at(g, (t))
#define ADDING(t) sgc_at_adding(g, (t))
#define OPS (g->device->ops)
#define DEVICE (g->device)

static int64_t n_rows(const sgc_graph *g) { return g->spec.B * g->spec.T; }

sgc_dropout sgc_dropout_of(const sgc_graph *g, const sgc_node *n)
{
    const sgc_factors *factors = g->factors.device;
    return (sgc_dropout){.p = n->dropout, .key = &factors->dropout, .stream = n->stream, .sample = g->samples.device};
}

/* Work: what the calls of the device must read and write, and the operations of their products. */

static double bytes_of(const sgc_tensor *t, bool is_added_to) { return t ? (double)t->bytes * (is_added_to ? 2 : 1) : 0; }

sgc_work sgc_work_touch(const sgc_graph *g, const sgc_node *n)
{
    (void)g;
    sgc_work w = {0};
    for (int k = 0; k < SGC_MAX_IN; k++)
        w.bytes += bytes_of(n->in[k], false);
    for (int k = 0; k < SGC_MAX_OUT; k++)
        w.bytes += bytes_of(n->out[k], n->out[k] && (n->out[k]->kind == SGC_TENSOR_PARAM_GRAD || (k == 0 && n->add)));
    return w;
}

sgc_work sgc_work_product(const sgc_graph *g, const sgc_node *n, double m, double n_columns, double k)
{
    sgc_work w = sgc_work_touch(g, n);
    w.flop = 2 * m * n_columns * k;
    return w;
}

/* Embedding: in wte, wpe; out x. */

static void embedding_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->embedding_forward(DEVICE, AT(n->out[0]), g->tokens.device, AT(n->in[0]), AT(n->in[1]), g->spec.B, g->spec.T, n->out[0]->cols,
                           g->batch.position);
}

static void embedding_gradient_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->embedding_backward(DEVICE, ADDING(n->out[0]), ADDING(n->out[1]), AT(n->in[0]), g->tokens.device, g->spec.B, g->spec.T, n->in[0]->cols);
}
static sgc_work embedding_gradient_work(const sgc_graph *g, const sgc_node *n) /* of the tables, the rows in use */
{
    (void)g;
    return (sgc_work){.bytes = bytes_of(n->in[0], false) + 4 * (double)(n->in[0]->rows * n->in[0]->cols) * (double)n->out[0]->element_bytes};
}
static const sgc_op embedding_gradient = {.name = "embedding_gradient", .run = embedding_gradient_run, .work = embedding_gradient_work};

static void embedding_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_node *d = sgc_node_new(g, &embedding_gradient);
    *d = (sgc_node){.op = d->op, .in = {n->out[0]->grad}, .out = {sgc_param_grad(g, n->in[0]), sgc_param_grad(g, n->in[1])}};
}
static sgc_work embedding_work(const sgc_graph *g, const sgc_node *n)
{
    (void)g;
    return (sgc_work){.bytes = 3 * bytes_of(n->out[0], false)};
}
static const sgc_op embedding = {.name = "embedding", .run = embedding_run, .backward = embedding_backward, .work = embedding_work};

sgc_tensor *sgc_op_embedding(sgc_graph *g, sgc_tensor *wte, sgc_tensor *wpe)
{
    assert(wte->cols == wpe->cols && g->spec.T <= wpe->rows);
    sgc_tensor *x = sgc_values_new(g, n_rows(g), wte->cols);
    sgc_node *n = sgc_node_new(g, &embedding);
    *n = (sgc_node){.op = n->op, .in = {wte, wpe}, .out = {x}};
    return x;
}

/* Linear: in x, w [in, out], b or NULL; out y, and where they are one call, the activation of y; then y may be NULL. */

static void linear_run(const sgc_graph *g, const sgc_node *n)
{
    const sgc_tensor *x = n->in[0], *w = n->in[1];
    OPS->matmul(DEVICE, &(sgc_matmul){.c = AT(n->out[0]), .a = AT(x), .b = AT(w), .bias = AT(n->in[2]), .m = x->rows, .n = w->cols, .k = w->rows,
                                      .activated = AT(n->out[1]), .activation = n->kind});
}

static void linear_input_gradient_run(const sgc_graph *g, const sgc_node *n) /* in dy, w, and what x is the activation of; out dx, or the gradient of that */
{
    const sgc_tensor *dy = n->in[0], *w = n->in[1];
    OPS->matmul(DEVICE, &(sgc_matmul){.c = AT(n->out[0]), .add = n->add, .a = AT(dy), .b = AT(w), .tb = true, .m = dy->rows, .n = w->rows, .k = w->cols,
                                      .slope_at = AT(n->in[2]), .activation = n->kind});
}
static sgc_work linear_input_gradient_work(const sgc_graph *g, const sgc_node *n)
{
    const sgc_tensor *dy = n->in[0], *w = n->in[1];
    return sgc_work_product(g, n, (double)dy->rows, (double)w->rows, (double)w->cols);
}
static const sgc_op linear_input_gradient = {.name = "linear_input_gradient", .run = linear_input_gradient_run, .work = linear_input_gradient_work};

static void linear_weight_gradient_run(const sgc_graph *g, const sgc_node *n) /* in x, dy; out dw, db */
{
    const sgc_tensor *x = n->in[0], *dy = n->in[1], *db = n->out[1];
    OPS->matmul(DEVICE, &(sgc_matmul){.c = AT(n->out[0]), .c_is_wide = true, .add = sgc_adds(g, n->out[0]), .a = AT(x), .ta = true, .b = AT(dy),
                                      .m = x->cols, .n = dy->cols, .k = x->rows, .sums = AT(db), .add_sums = db && sgc_adds(g, db)});
}
static sgc_work linear_weight_gradient_work(const sgc_graph *g, const sgc_node *n)
{
    const sgc_tensor *x = n->in[0], *dy = n->in[1];
    return sgc_work_product(g, n, (double)x->cols, (double)dy->cols, (double)x->rows);
}
static const sgc_op linear_weight_gradient = {.name = "linear_weight_gradient", .run = linear_weight_gradient_run, .work = linear_weight_gradient_work};

static void linear_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_tensor *dy = n->out[0]->grad;
    sgc_node *d = sgc_node_new(g, &linear_weight_gradient);
    *d = (sgc_node){.op = d->op, .in = {n->in[0], dy}, .out = {sgc_param_grad(g, n->in[1]), sgc_param_grad(g, n->in[2])}};
    bool add;
    sgc_tensor *dx = sgc_grad_target(g, n->in[0], &add);
    d = sgc_node_new(g, &linear_input_gradient);
    *d = (sgc_node){.op = d->op, .in = {dy, n->in[1]}, .out = {dx}, .add = add};
    sgc_grad_done(g, n->in[0], dx);
}
static sgc_work linear_work(const sgc_graph *g, const sgc_node *n)
{
    const sgc_tensor *x = n->in[0], *w = n->in[1];
    return sgc_work_product(g, n, (double)x->rows, (double)w->cols, (double)w->rows);
}
static const sgc_op linear = {.name = "linear", .run = linear_run, .backward = linear_backward, .work = linear_work};

sgc_tensor *sgc_op_linear(sgc_graph *g, sgc_tensor *x, sgc_tensor *w, sgc_tensor *b)
{
    assert(w->rows == x->cols && (!b || b->cols == w->cols));
    sgc_tensor *y = sgc_values_new(g, x->rows, w->cols);
    sgc_node *n = sgc_node_new(g, &linear);
    *n = (sgc_node){.op = n->op, .in = {x, w, b}, .out = {y}};
    return y;
}

/* Causal attention: in qkv; out y, lse, memory to lend. With a cache: in qkv, keys, values; out y. */

static sgc_tensor *lendable(sgc_graph *g, bool backward)
{
    const size_t bytes = g->attention_bytes[backward];
    return bytes ? sgc_tensor_new(g, SGC_TENSOR_ACTIVATION, 1, (int64_t)bytes, 1) : NULL;
}

static void lend(const sgc_graph *g, const sgc_tensor *t)
{
    g->device->lent = AT(t);
    g->device->lent_bytes = t ? t->bytes : 0;
}

static void attention_run(const sgc_graph *g, const sgc_node *n)
{
    sgc_dropout drop = sgc_dropout_of(g, n);
    lend(g, n->out[2]);
    OPS->attention_forward(DEVICE, AT(n->out[0]), AT(n->out[1]), AT(n->in[0]), g->spec.B, g->spec.T, n->out[0]->cols, n->n, &drop);
    lend(g, NULL);
}

static void attention_gradient_run(const sgc_graph *g, const sgc_node *n) /* in dy, y, lse, qkv; out dqkv, memory to lend */
{
    sgc_dropout drop = sgc_dropout_of(g, n);
    lend(g, n->out[1]);
    OPS->attention_backward(DEVICE, AT(n->out[0]), AT(n->in[0]), AT(n->in[1]), AT(n->in[2]), AT(n->in[3]), g->spec.B, g->spec.T,
                            n->in[0]->cols, n->n, &drop);
    lend(g, NULL);
}
/* n_products of [T, D] by [D, T] or [T, T] by [T, D] for every sample and head, of which the causal half is needed. */
static sgc_work attention_products(const sgc_graph *g, const sgc_node *n, int n_products, const sgc_tensor *y)
{
    return sgc_work_product(g, n, (double)y->rows, (double)y->cols, n_products * ((double)g->spec.T + 1) / 2);
}

static sgc_work attention_gradient_work(const sgc_graph *g, const sgc_node *n) { return attention_products(g, n, 5, n->in[0]); }
static const sgc_op attention_gradient = {.name = "attention_gradient", .run = attention_gradient_run, .work = attention_gradient_work};

static void attention_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_tensor *dqkv = sgc_tensor_like(g, n->in[0]);
    sgc_node *d = sgc_node_new(g, &attention_gradient);
    *d = (sgc_node){.op = d->op, .in = {n->out[0]->grad, n->out[0], n->out[1], n->in[0]}, .out = {dqkv, lendable(g, true)}, .n = n->n, .dropout = n->dropout, .stream = n->stream};
    sgc_grad_done(g, n->in[0], dqkv);
}
static sgc_work attention_work(const sgc_graph *g, const sgc_node *n) { return attention_products(g, n, 2, n->out[0]); }
static const sgc_op attention = {.name = "attention", .run = attention_run, .backward = attention_backward, .work = attention_work};

static void attention_cached_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->attention_cached(DEVICE, AT(n->out[0]), AT(n->in[1]), AT(n->in[2]), AT(n->in[0]), g->spec.B, g->spec.T, n->out[0]->cols, n->n,
                          g->batch.position, g->spec.capacity);
}
static const sgc_op attention_cached = {.name = "attention_cached", .run = attention_cached_run, .work = sgc_work_touch};

sgc_tensor *sgc_op_attention(sgc_graph *g, sgc_tensor *qkv, int64_t n_head, double dropout)
{
    int64_t C = qkv->cols / 3;
    assert(C * 3 == qkv->cols && C % n_head == 0);
    sgc_tensor *y = sgc_values_new(g, qkv->rows, C);
    if (g->spec.mode == SGC_DECODE) {
        sgc_tensor *k = sgc_tensor_new(g, SGC_TENSOR_STATE, g->spec.B * g->spec.capacity, C, qkv->element_bytes);
        sgc_tensor *v = sgc_tensor_new(g, SGC_TENSOR_STATE, g->spec.B * g->spec.capacity, C, qkv->element_bytes);
        sgc_node *n = sgc_node_new(g, &attention_cached);
        *n = (sgc_node){.op = n->op, .in = {qkv, k, v}, .out = {y}, .n = n_head};
        return y;
    }
    sgc_tensor *lse = sgc_wide_new(g, g->spec.B * n_head, g->spec.T);
    sgc_node *n = sgc_node_new(g, &attention);
    *n = (sgc_node){.op = n->op, .in = {qkv}, .out = {y, lse, lendable(g, false)}, .n = n_head, .dropout = g->spec.mode == SGC_TRAIN ? dropout : 0, .stream = g->n_dropouts++};
    return y;
}

/* Activation: in x; out y. */

static void activation_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->activation_forward(DEVICE, n->kind, AT(n->out[0]), AT(n->in[0]), n->in[0]->rows * n->in[0]->cols);
}

static void activation_gradient_run(const sgc_graph *g, const sgc_node *n) /* in dy, x; out dx */
{
    OPS->activation_backward(DEVICE, n->kind, AT(n->out[0]), AT(n->in[0]), AT(n->in[1]), n->in[1]->rows * n->in[1]->cols);
}

/* With the product that makes dy, if nobody else reads that. */
static void activation_gradient_join(sgc_graph *g, int i)
{
    sgc_node *n = &g->nodes[i];
    const int product = sgc_node_before(g, i);
    if (product < 0 || g->nodes[product].op != &linear_input_gradient || g->nodes[product].out[0] != n->in[0] || g->nodes[product].add) return;
    if (n->out[0] != n->in[0] && sgc_n_readers(g, n->in[0]) > 1) return;
    sgc_node joined = g->nodes[product];
    joined.in[2] = n->in[1];
    joined.out[0] = n->out[0];
    joined.kind = n->kind;
    sgc_node_drop(g, product);
    *n = joined;
}
static const sgc_op activation_gradient = {.name = "activation_gradient", .run = activation_gradient_run, .work = sgc_work_touch, .join = activation_gradient_join};

static void activation_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_tensor *dy = n->out[0]->grad;
    bool in_place = dy->n_sharing == 1 && !n->in[0]->grad; /* nobody else reads dy */
    sgc_tensor *dx = in_place ? dy : sgc_tensor_like(g, n->in[0]);
    sgc_node *d = sgc_node_new(g, &activation_gradient);
    *d = (sgc_node){.op = d->op, .in = {dy, n->in[0]}, .out = {dx}, .kind = n->kind};
    if (in_place)
        sgc_grad_share(g, n->in[0], dx);
    else
        sgc_grad_done(g, n->in[0], dx);
}

/* With the product that makes x. When training, x is always wanted: where it is read only when the product is repeated, both must have the same bits. */
static void activation_join(sgc_graph *g, int i)
{
    sgc_node *n = &g->nodes[i];
    const int product = sgc_node_before(g, i);
    if (product < 0 || g->nodes[product].op != &linear || g->nodes[product].out[0] != n->in[0] || g->nodes[product].out[1]) return;
    sgc_node joined = g->nodes[product];
    joined.out[1] = n->out[0];
    joined.kind = n->kind;
    if (g->spec.mode != SGC_TRAIN && sgc_n_readers(g, n->in[0]) == 1) joined.out[0] = NULL;
    sgc_node_drop(g, product);
    *n = joined;
}
static const sgc_op activation = {.name = "activation", .run = activation_run, .backward = activation_backward, .work = sgc_work_touch, .join = activation_join,
                                  .is_cheap = true};

sgc_tensor *sgc_op_activation(sgc_graph *g, sgc_tensor *x, int kind)
{
    sgc_tensor *y = sgc_tensor_like(g, x);
    sgc_node *n = sgc_node_new(g, &activation);
    *n = (sgc_node){.op = n->op, .in = {x}, .out = {y}, .kind = kind};
    return y;
}

/*
 * Layer norm, sum and dropout, which make the residual stream of a transformer. Where they follow each other they are one call, that goes through
 * memory once: z = x + dropout of r and the norm of z, and in the backward pass dx and the dropout of dx, which is the gradient of r.
 * Letters: N rows, C channels.
 */
#include "graph/graph_impl.h"

#include <assert.h>

#define AT(t) sgc_at(g, (t))
#define ADDING(t) sgc_at_adding(g, (t))
#define OPS (g->device->ops)
#define DEVICE (g->device)

/* Sum: in x, y; out z. Both addends share the gradient of the sum. */

static void add_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->add(DEVICE, AT(n->out[0]), AT(n->in[0]), AT(n->in[1]), n->out[0]->rows * n->out[0]->cols);
}

static void add_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_tensor *dz = n->out[0]->grad;
    sgc_grad_share(g, n->in[0], dz);
    sgc_grad_share(g, n->in[1], dz);
}
static const sgc_op add = {.name = "add", .run = add_run, .backward = add_backward, .work = sgc_work_touch};

void sgc_emit_add(sgc_graph *g, sgc_tensor *z, sgc_tensor *x, sgc_tensor *y)
{
    sgc_node *n = sgc_node_new(g, &add);
    *n = (sgc_node){.op = n->op, .in = {x, y}, .out = {z}};
}

sgc_tensor *sgc_op_add(sgc_graph *g, sgc_tensor *x, sgc_tensor *y)
{
    assert(x->rows == y->rows && x->cols == y->cols);
    sgc_tensor *z = sgc_tensor_like(g, x);
    sgc_emit_add(g, z, x, y);
    return z;
}

/* Dropout: in x; out y. The mask is made again from the counters in the backward pass. */

static void dropout_run(const sgc_graph *g, const sgc_node *n)
{
    sgc_dropout drop = sgc_dropout_of(g, n);
    OPS->dropout(DEVICE, AT(n->out[0]), AT(n->in[0]), g->spec.B, g->spec.T * n->in[0]->cols, &drop);
}

static void dropout_backward(sgc_graph *g, const sgc_node *n);
static void dropout_join(sgc_graph *g, int i);
static const sgc_op dropout_op = {.name = "dropout", .run = dropout_run, .backward = dropout_backward, .work = sgc_work_touch, .join = dropout_join};

static void dropout_backward(sgc_graph *g, const sgc_node *n)
{
    sgc_tensor *dx = sgc_tensor_like(g, n->in[0]);
    sgc_node *d = sgc_node_new(g, &dropout_op);
    *d = (sgc_node){.op = d->op, .in = {n->out[0]->grad}, .out = {dx}, .dropout = n->dropout, .stream = n->stream};
    sgc_grad_done(g, n->in[0], dx);
}

sgc_tensor *sgc_op_dropout(sgc_graph *g, sgc_tensor *x, double p)
{
    uint32_t stream = g->n_dropouts++;
    if (p == 0 || g->spec.mode != SGC_TRAIN) return x;
    sgc_tensor *y = sgc_tensor_like(g, x);
    sgc_node *n = sgc_node_new(g, &dropout_op);
    *n = (sgc_node){.op = n->op, .in = {x}, .out = {y}, .dropout = p, .stream = stream};
    return y;
}

/* Layer norm: in x, w, b; out y, mean, rstd. */

static void layer_norm_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->layer_norm_forward(DEVICE, AT(n->out[0]), AT(n->out[1]), AT(n->out[2]), AT(n->in[0]), AT(n->in[1]), AT(n->in[2]), n->in[0]->rows,
                            n->in[0]->cols, n->epsilon);
}

static void layer_norm_gradient_run(const sgc_graph *g, const sgc_node *n)
{
    OPS->layer_norm_backward(DEVICE, AT(n->out[0]), n->add, ADDING(n->out[1]), ADDING(n->out[2]), AT(n->in[0]), AT(n->in[1]), AT(n->in[2]),
                             AT(n->in[3]), AT(n->in[4]), n->in[1]->rows, n->in[1]->cols);
}
static const sgc_op layer_norm_gradient = {.name = "layer_norm_gradient", .run = layer_norm_gradient_run, .work = sgc_work_touch};

/* The same with the dropout of dx: out dx, dw, db, dr. */
static void residual_norm_gradient_run(const sgc_graph *g, const sgc_node *n)
{
    sgc_dropout drop = sgc_dropout_of(g, n);
    OPS->residual_norm_backward(DEVICE, AT(n->out[0]), n->add, AT(n->out[3]), ADDING(n->out[1]), ADDING(n->out[2]), AT(n->in[0]), AT(n->in[1]), AT(n->in[2]),
                                AT(n->in[3]), AT(n->in[4]), g->spec.B, g->spec.T, n->in[1]->cols, &drop);
}
static const sgc_op residual_norm_gradient = {.name = "residual_norm_gradient", .run = residual_norm_gradient_run, .work = sgc_work_touch};

static void layer_norm_backward(sgc_graph *g, const sgc_node *n)
{
    bool adds;
    sgc_tensor *dx = sgc_grad_target(g, n->in[0], &adds);
    sgc_node *d = sgc_node_new(g, &layer_norm_gradient);
    *d = (sgc_node){.op = d->op,
                    .in = {n->out[0]->grad, n->in[0], n->in[1], n->out[1], n->out[2]},
                    .out = {dx, sgc_param_grad(g, n->in[1]), sgc_param_grad(g, n->in[2])},
                    .add = adds};
    sgc_grad_done(g, n->in[0], dx);
}

/* Dropout of the gradient of what a norm reads is made with that gradient, wherever it stands in the list. */
static void dropout_join(sgc_graph *g, int i)
{
    const sgc_node *n = &g->nodes[i];
    const int writer = sgc_writer_before(g, i, n->in[0]);
    if (writer < 0 || g->nodes[writer].op != &layer_norm_gradient || g->nodes[writer].out[0] != n->in[0]) return;
    sgc_node *of = &g->nodes[writer];
    of->op = &residual_norm_gradient;
    of->out[3] = n->out[0];
    of->dropout = n->dropout;
    of->stream = n->stream;
    sgc_node_drop(g, i);
}

/* With the sum before it: in x, r, w, b; out z, y, mean, rstd. It comes after the backward pass is derived, and has none. */
static void residual_norm_run(const sgc_graph *g, const sgc_node *n)
{
    sgc_dropout drop = sgc_dropout_of(g, n);
    OPS->residual_norm_forward(DEVICE, AT(n->out[0]), AT(n->out[1]), AT(n->out[2]), AT(n->out[3]), AT(n->in[0]), AT(n->in[1]), AT(n->in[2]), AT(n->in[3]),
                               g->spec.B, g->spec.T, n->in[0]->cols, n->epsilon, &drop);
}
static const sgc_op residual_norm = {.name = "residual_norm", .run = residual_norm_run, .work = sgc_work_touch};

/* The sum may stand at the end of the unit before: it is made when this unit begins. */
static void layer_norm_join(sgc_graph *g, int i)
{
    sgc_node *n = &g->nodes[i];
    const int sum = sgc_node_before(g, i), branch = sgc_node_before(g, sum);
    if (sum < 0 || g->nodes[sum].op != &add || g->nodes[sum].out[0] != n->in[0]) return;
    sgc_node joined = {.op = &residual_norm,
                       .in = {g->nodes[sum].in[0], g->nodes[sum].in[1], n->in[1], n->in[2]},
                       .out = {n->in[0], n->out[0], n->out[1], n->out[2]},
                       .recomputed = n->recomputed,
                       .epsilon = n->epsilon};
    if (branch >= 0 && g->nodes[branch].op == &dropout_op && g->nodes[branch].out[0] == joined.in[1] && sgc_n_readers(g, joined.in[1]) == 1) {
        joined.in[1] = g->nodes[branch].in[0];
        joined.dropout = g->nodes[branch].dropout;
        joined.stream = g->nodes[branch].stream;
        sgc_node_drop(g, branch);
    }
    sgc_node_drop(g, sum);
    *n = joined;
}

static const sgc_op layer_norm = {.name = "layer_norm", .run = layer_norm_run, .backward = layer_norm_backward, .work = sgc_work_touch, .join = layer_norm_join,
                                  .is_cheap = true};

sgc_tensor *sgc_op_layer_norm(sgc_graph *g, sgc_tensor *x, sgc_tensor *w, sgc_tensor *b, double epsilon)
{
    assert(w->cols == x->cols && b->cols == x->cols);
    sgc_tensor *y = sgc_tensor_like(g, x);
    sgc_tensor *mean = sgc_wide_new(g, x->rows, 1), *rstd = sgc_wide_new(g, x->rows, 1);
    sgc_node *n = sgc_node_new(g, &layer_norm);
    *n = (sgc_node){.op = n->op, .in = {x, w, b}, .out = {y, mean, rstd}, .epsilon = epsilon};
    return y;
}

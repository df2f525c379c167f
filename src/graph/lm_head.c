/*
 * Output layer and loss of causal language modelling. The logits of all rows never exist together: rows go through in chunks, and when
 * training the gradient of a chunk is made as soon as its loss is known, so that the forward pass leaves this work to the backward.
 * Rows of logits stand apart by what products like: V may be an odd number.
 * Where the device can, the gradient takes the place of the logits.
 * N rows, C channels, V vocabulary, R rows of a chunk.
 */
#include "graph/graph_impl.h"

#include <assert.h>

#define AT(t) sgc_at(g, (t))
#define OPS (g->device->ops)

static int64_t row_stride(const sgc_graph *g, int64_t V) { return (V + OPS->row_multiple - 1) / OPS->row_multiple * OPS->row_multiple; }

/* Chunks of nearly equal size: a small last one would cost as much memory traffic as the others. */
static int64_t chunk_rows(const sgc_graph *g, int64_t N, int64_t V)
{
    int64_t most = (int64_t)OPS->chunk_bytes / (V * (int64_t)sgc_dtype_bytes(OPS->wide)) / 32 * 32;
    if (most < 32) most = 32;
    int64_t n_chunks = (N + most - 1) / most, R = ((N + n_chunks - 1) / n_chunks + 31) / 32 * 32;
    return R < N ? R : N;
}

typedef struct buffers { sgc_tensor *loss, *logits, *dlogits, *dx, *dw; } buffers; /* dx NULL: losses only */

static void run_chunks(const sgc_graph *g, const sgc_node *n, buffers b)
{
    int64_t N = n->in[0]->rows, C = n->in[0]->cols, V = n->in[1]->rows, ld = b.logits->cols;
    size_t row_bytes = (size_t)C * n->in[0]->element_bytes;
    const int64_t gradient_ld = b.dlogits == b.logits ? ld * (int64_t)(b.logits->element_bytes / n->in[0]->element_bytes) : ld;
    const void *w = AT(n->in[1]);
    const int32_t *target = g->targets.device;
    const sgc_factors *factors = g->factors.device;
    for (int64_t first = 0; first < N; first += n->n) {
        int64_t R = N - first < n->n ? N - first : n->n;
        const char *x = (const char *)AT(n->in[0]) + (size_t)first * row_bytes;
        double *loss = (double *)AT(b.loss) + first, smoothing = b.dx ? g->spec.label_smoothing : 0;
        OPS->matmul(g->device, &(sgc_matmul){.c = AT(b.logits), .c_is_wide = true, .ldc = ld, .a = x, .b = w, .tb = true, .m = R, .n = V, .k = C});
        sgc_graph_between(g);
        OPS->cross_entropy(g->device, loss, AT(b.dlogits), AT(b.logits), target + first, R, V, ld, smoothing, &factors->scale);
        sgc_graph_between(g);
        if (!b.dx) continue;
        OPS->matmul(g->device, &(sgc_matmul){.c = AT(b.dw), .c_is_wide = true, .add = first > 0 || sgc_adds(g, b.dw), .a = AT(b.dlogits), .ta = true,
                                             .lda = gradient_ld, .b = x, .m = V, .n = C, .k = R});
        sgc_graph_between(g);
        OPS->matmul(g->device, &(sgc_matmul){.c = (char *)AT(b.dx) + (size_t)first * row_bytes, .add = n->add, .a = AT(b.dlogits), .lda = gradient_ld, .b = w,
                                             .m = R, .n = C, .k = V});
    }
}

static void loss_run(const sgc_graph *g, const sgc_node *n)
{
    run_chunks(g, n, (buffers){.loss = n->out[0], .logits = n->out[1]});
}

/* n_products of [N, C] by [C, V] or the like; the logits go to memory and back for each, and for the loss. */
static sgc_work head_products(const sgc_graph *g, const sgc_node *n, int n_products, const sgc_tensor *logits)
{
    const sgc_tensor *x = n->in[0], *w = n->in[1];
    sgc_work work = sgc_work_product(g, n, (double)x->rows, (double)w->rows, n_products * (double)w->cols);
    work.bytes += (double)(x->rows * w->rows) * (double)logits->element_bytes * n_products;
    return work;
}
static sgc_work loss_work(const sgc_graph *g, const sgc_node *n) { return head_products(g, n, 1, n->out[1]); }
static const sgc_op loss_op = {.name = "lm_loss", .run = loss_run, .work = loss_work};

static void loss_gradient_run(const sgc_graph *g, const sgc_node *n)
{
    run_chunks(g, n, (buffers){.dx = n->out[0], .dw = n->out[1], .loss = n->out[2], .logits = n->out[3], .dlogits = n->out[4]});
}
static sgc_work loss_gradient_work(const sgc_graph *g, const sgc_node *n) { return head_products(g, n, 3, n->out[3]); }
static const sgc_op loss_gradient = {.name = "lm_loss_and_gradient", .run = loss_gradient_run, .work = loss_gradient_work};

static sgc_tensor *new_loss(sgc_graph *g, int64_t N)
{
    sgc_tensor *loss = sgc_tensor_new(g, SGC_TENSOR_ACTIVATION, N, 1, sizeof(double));
    loss->keep = true;
    g->loss = loss;
    return loss;
}

static void deferred_backward(sgc_graph *g, const sgc_node *n)
{
    int64_t N = n->in[0]->rows, V = n->in[1]->rows, R = chunk_rows(g, N, V);
    bool add;
    sgc_tensor *dx = sgc_grad_target(g, n->in[0], &add);
    sgc_tensor *logits = sgc_wide_new(g, R, row_stride(g, V));
    const bool in_place = OPS->value == OPS->wide || OPS->rounds_in_place;
    sgc_tensor *dlogits = in_place ? logits : sgc_values_new(g, R, row_stride(g, V));
    sgc_node *d = sgc_node_new(g, &loss_gradient);
    *d = (sgc_node){.op = d->op,
                    .in = {n->in[0], n->in[1]},
                    .out = {dx, sgc_param_grad(g, n->in[1]), n->out[0], logits, dlogits},
                    .add = add,
                    .n = R};
    sgc_grad_done(g, n->in[0], dx);
}
static const sgc_op deferred_loss = {.name = "lm_loss", .backward = deferred_backward};

static void logits_run(const sgc_graph *g, const sgc_node *n)
{
    const sgc_tensor *x = n->in[0], *w = n->in[1];
    OPS->matmul(g->device, &(sgc_matmul){.c = AT(n->out[0]), .c_is_wide = true, .a = AT(x), .b = AT(w), .tb = true, .m = x->rows, .n = w->rows, .k = w->cols});
}
static sgc_work logits_work(const sgc_graph *g, const sgc_node *n)
{
    return sgc_work_product(g, n, (double)n->in[0]->rows, (double)n->in[1]->rows, (double)n->in[1]->cols);
}
static const sgc_op logits_op = {.name = "logits", .run = logits_run, .work = logits_work};

sgc_tensor *sgc_op_lm_head(sgc_graph *g, sgc_tensor *x, sgc_tensor *w)
{
    assert(x->cols == w->cols);
    int64_t N = x->rows, V = w->rows;
    sgc_node n = {.in = {x, w}};
    switch (g->spec.mode) {
    case SGC_DECODE:
        n.op = &logits_op;
        n.out[0] = g->logits = sgc_wide_new(g, N, V);
        g->logits->keep = true;
        break;
    case SGC_EVAL:
        n.op = &loss_op;
        n.n = chunk_rows(g, N, V);
        n.out[0] = new_loss(g, N);
        n.out[1] = sgc_wide_new(g, n.n, row_stride(g, V));
        break;
    case SGC_TRAIN:
        n.op = &deferred_loss;
        n.out[0] = new_loss(g, N);
        break;
    }
    *sgc_node_new(g, n.op) = n;
    return n.out[0];
}

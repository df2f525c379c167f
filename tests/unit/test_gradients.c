/*
 * The derived backward of every op, and of ways to combine them, against central differences in double on the plain reference.
 * Each case is a model of its own: tokens are embedded, go through the ops under test and end in the loss, so that the gradient of the
 * embedding checks the gradient of an op's input.
 */
#include "unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph_impl.h"
#include "model/model_impl.h"

enum { B = 2, T = 5, C = 12, V = 7, H = 3, W = 9 /* inner width */ };

#define P(name) sgc_param(g, u, name)

static sgc_tensor *embed(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    (void)x;
    return sgc_op_embedding(g, P("wte"), P("wpe"));
}

static sgc_tensor *score(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_lm_head(g, x, P("out")); }
static sgc_tensor *score_tied(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_lm_head(g, x, P("wte")); }

static sgc_tensor *nothing(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { (void)g, (void)u; return x; }
static sgc_tensor *norm(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_layer_norm(g, x, P("w"), P("b"), 1e-5); }
static sgc_tensor *linear(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_linear(g, x, P("square"), P("b")); }
static sgc_tensor *linear_without_bias(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_linear(g, x, P("square"), NULL); }
static sgc_tensor *attention(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { return sgc_op_attention(g, sgc_op_linear(g, x, P("qkv"), NULL), H, 0); }
static sgc_tensor *attention_with_dropout(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    return sgc_op_attention(g, sgc_op_linear(g, x, P("qkv"), NULL), H, 0.3);
}
static sgc_tensor *dropout(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { (void)u; return sgc_op_dropout(g, x, 0.4); }
static int kind; /* of the activation under test */
static sgc_tensor *activation(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    return sgc_op_linear(g, sgc_op_activation(g, sgc_op_linear(g, x, P("up"), NULL), kind), P("down"), NULL);
}
static sgc_tensor *sum_with_itself(sgc_graph *g, const sgc_unit *u, sgc_tensor *x) { (void)u; return sgc_op_add(g, x, x); }
/* The input goes three ways, one of them twice: gradients meet while they are shared. */
static sgc_tensor *meeting(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    sgc_tensor *a = sgc_op_layer_norm(g, x, P("w"), P("b"), 1e-5);
    sgc_tensor *s = sgc_op_add(g, sgc_op_add(g, x, a), sgc_op_add(g, x, sgc_op_linear(g, x, P("square"), NULL)));
    return sgc_op_add(g, sgc_op_activation(g, s, SGC_ACT_TANH), sgc_op_dropout(g, a, 0.2));
}
static sgc_tensor *block(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    sgc_tensor *h = sgc_op_layer_norm(g, x, P("w"), P("b"), 1e-5);
    h = sgc_op_linear(g, sgc_op_attention(g, sgc_op_linear(g, h, P("qkv"), NULL), H, 0.1), P("square"), P("b"));
    x = sgc_op_add(g, x, sgc_op_dropout(g, h, 0.1));
    h = sgc_op_activation(g, sgc_op_linear(g, sgc_op_layer_norm(g, x, P("w"), P("b"), 1e-5), P("up"), NULL), SGC_ACT_GELU);
    return sgc_op_add(g, x, sgc_op_linear(g, h, P("down"), NULL));
}

static void add(sgc_unit *u, const char *name, int n_dim, int64_t d0, int64_t d1)
{
    ck_assert_int_eq(sgc_unit_add_param(u, name, SGC_INIT_NORMAL, 0.5, true, n_dim, d0, d1), SGC_OK);
}

static sgc_model *make_model(sgc_unit_forward middle, int n_middle, bool tied)
{
    sgc_model *m = calloc(1, sizeof(*m));
    sgc_unit *u = sgc_model_add_unit(m, "embedding", -1, embed);
    add(u, "wte", 2, V, C);
    add(u, "wpe", 2, T, C);
    for (int i = 0; i < n_middle; i++) {
        u = sgc_model_add_unit(m, i ? "h.1" : "h.0", i, middle);
        add(u, "w", 1, C, 0);
        add(u, "b", 1, C, 0);
        add(u, "square", 2, C, C);
        add(u, "qkv", 2, C, 3 * C);
        add(u, "up", 2, C, W);
        add(u, "down", 2, W, C);
    }
    u = sgc_model_add_unit(m, "head", -1, tied ? score_tied : score);
    if (tied)
        u->borrows = 0;
    else
        add(u, "out", 2, V, C);
    ck_assert_int_eq(sgc_model_lay_out(m), SGC_OK);
    return m;
}

typedef struct { double **values, **gradients; } states;

static states make_states(const sgc_model *m)
{
    states s = {calloc((size_t)m->n_units, sizeof(double *)), calloc((size_t)m->n_units, sizeof(double *))};
    for (int u = 0; u < m->n_units; u++) {
        size_t n = (size_t)m->units[u].n + 1;
        float *initial = malloc(n * sizeof(float));
        s.values[u] = calloc(n, sizeof(double));
        s.gradients[u] = calloc(n, sizeof(double));
        sgc_unit_init_slice(&m->units[u], 3, 0, (int64_t)n - 1, initial);
        for (size_t i = 0; i + 1 < n; i++)
            s.values[u][i] = initial[i];
        free(initial);
    }
    return s;
}

static void free_states(const sgc_model *m, states s)
{
    for (int u = 0; u < m->n_units; u++)
        free(s.values[u]), free(s.gradients[u]);
    free(s.values), free(s.gradients);
}

/* Scaled sum of losses; gradients are added to those of s. */
static double run(sgc_graph *g, const sgc_model *m, states s)
{
    for (int u = 0; u < m->n_units; u++)
        sgc_graph_bind_unit(g, u, s.values[u], s.gradients[u], false);
    for (int u = 0; u < m->n_units; u++)
        sgc_graph_forward(g, u);
    for (int u = m->n_units - 1; u >= 0; u--)
        sgc_graph_backward(g, u);
    double sum = 0;
    const double *losses;
    ck_assert_int_eq(sgc_graph_losses(g, &losses), SGC_OK);
    for (int i = 0; i < B * T; i++)
        sum += losses[i];
    return 0.125 * sum;
}

static void check_model(sgc_unit_forward middle, int n_middle, bool tied, bool checkpointing, double smoothing)
{
    sgc_device d;
    sgc_graph *g;
    sgc_graph_spec spec = {.mode = SGC_TRAIN, .B = B, .T = T, .checkpointing = checkpointing, .label_smoothing = smoothing};
    const int32_t tokens[B * T] = {1, 4, 2, 2, 6, 0, 3, 4, 4, 5}, labels[B * T] = {1, 4, 2, -100, 6, 0, 3, 4, 4, 5};
    const int64_t sample[B] = {11, 5};
    sgc_batch batch = {.tokens = tokens, .labels = labels, .sample = sample, .seed = 7, .step = 2, .scale = 0.125};
    sgc_model *m = make_model(middle, n_middle, tied);
    states s = make_states(m);
    ck_assert_int_eq(sgc_device_open(&d, "ref64", false), SGC_OK);
    ck_assert_int_eq(sgc_graph_build(&g, m, &d, &spec), SGC_OK);
    void *arena = aligned_alloc(64, sgc_graph_arena_bytes(g) + 64);
    memset(arena, 0xff, sgc_graph_arena_bytes(g)); /* NaNs: what is read before it is written shows */
    sgc_graph_bind_arena(g, arena);
    sgc_graph_bind_batch(g, &batch);
    run(g, m, s);
    states derived = make_states(m);
    for (int u = 0; u < m->n_units; u++)
        memcpy(derived.gradients[u], s.gradients[u], (size_t)m->units[u].n * sizeof(double));

    for (int u = 0; u < m->n_units; u++)
        for (int64_t i = 0; i < m->units[u].n; i++) {
            const double h = 1e-5, at = s.values[u][i];
            s.values[u][i] = at + h;
            double up = run(g, m, s);
            s.values[u][i] = at - h;
            double down = run(g, m, s);
            s.values[u][i] = at;
            double difference = (up - down) / (2 * h), gradient = derived.gradients[u][i];
            ck_assert_msg(fabs(difference - gradient) <= 1e-7 + 1e-6 * fabs(difference), "unit %s element %d: derived %.10g, difference %.10g",
                          m->units[u].name, (int)i, gradient, difference);
        }
    free_states(m, s);
    free_states(m, derived);
    free(arena);
    sgc_graph_free(g);
    sgc_device_close(&d);
    sgc_model_free(m);
}

START_TEST(embedding_and_loss_are_derived) { check_model(nothing, 0, false, false, 0); } END_TEST
START_TEST(smoothed_loss_is_derived) { check_model(nothing, 0, false, false, 0.2); } END_TEST
START_TEST(tied_output_layer_is_derived) { check_model(nothing, 0, true, false, 0); } END_TEST
START_TEST(layer_norm_is_derived) { check_model(norm, 1, false, false, 0); } END_TEST
START_TEST(linear_is_derived) { check_model(linear, 1, false, false, 0); } END_TEST
START_TEST(linear_without_bias_is_derived) { check_model(linear_without_bias, 1, false, false, 0); } END_TEST
START_TEST(attention_is_derived) { check_model(attention, 1, false, false, 0); } END_TEST
START_TEST(attention_with_dropout_is_derived) { check_model(attention_with_dropout, 1, false, false, 0); } END_TEST
START_TEST(dropout_is_derived) { check_model(dropout, 1, false, false, 0); } END_TEST
START_TEST(every_activation_is_derived)
{
    for (kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++)
        check_model(activation, 1, false, false, 0);
}
END_TEST
START_TEST(sum_of_a_tensor_with_itself_is_derived) { check_model(sum_with_itself, 1, false, false, 0); } END_TEST
START_TEST(gradients_that_meet_while_shared_are_derived) { check_model(meeting, 2, true, false, 0); } END_TEST
START_TEST(blocks_are_derived) { check_model(block, 2, true, false, 0.1); } END_TEST
START_TEST(recomputed_blocks_are_derived) { check_model(block, 2, true, true, 0.1); } END_TEST
START_TEST(recomputed_meeting_is_derived) { check_model(meeting, 2, false, true, 0); } END_TEST

/* Gradients of the whole model on a device of floats, with and without recomputation. */
static size_t float_gradients(const char *device, bool checkpointing, bool fresh, float **out, int64_t *n_out)
{
    sgc_device d;
    sgc_graph *g;
    sgc_graph_spec spec = {.mode = SGC_TRAIN, .B = B, .T = T, .checkpointing = checkpointing};
    const int32_t tokens[B * T] = {1, 4, 2, 2, 6, 0, 3, 4, 4, 5};
    const int64_t sample[B] = {11, 5};
    sgc_batch batch = {.tokens = tokens, .labels = tokens, .sample = sample, .seed = 7, .step = 2, .scale = 1};
    sgc_model *m = make_model(block, 2, true);
    ck_assert_int_eq(sgc_device_open(&d, device, false), SGC_OK);
    ck_assert_int_eq(sgc_graph_build(&g, m, &d, &spec), SGC_OK);
    size_t bytes = sgc_graph_arena_bytes(g);
    void *arena = aligned_alloc(64, bytes + 64);
    int64_t n = 0, at = 0;
    for (int u = 0; u < m->n_units; u++)
        n += (m->units[u].n + 15) / 16 * 16;
    float *values = aligned_alloc(64, (size_t)n * sizeof(float)), *gradients = aligned_alloc(64, (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        gradients[i] = fresh ? NAN : 0;
    memset(values, 0, (size_t)n * sizeof(float));
    sgc_graph_bind_arena(g, arena);
    sgc_graph_bind_batch(g, &batch);
    for (int u = 0; u < m->n_units; u++) {
        sgc_unit_init_slice(&m->units[u], 3, 0, m->units[u].n, values + at);
        sgc_graph_bind_unit(g, u, values + at, gradients + at, fresh);
        at += (m->units[u].n + 15) / 16 * 16;
    }
    for (int u = 0; u < m->n_units; u++)
        sgc_graph_forward(g, u);
    for (int u = m->n_units - 1; u >= 0; u--)
        sgc_graph_backward(g, u);
    free(values), free(arena);
    sgc_graph_free(g);
    sgc_device_close(&d);
    sgc_model_free(m);
    *out = gradients;
    *n_out = n;
    return bytes;
}

START_TEST(recomputation_gives_the_same_bits_in_a_smaller_arena)
{
    float *kept, *recomputed;
    int64_t n, n_recomputed;
    size_t kept_bytes = float_gradients("cpu", false, false, &kept, &n), recomputed_bytes = float_gradients("cpu", true, false, &recomputed, &n_recomputed);
    ck_assert_int_eq(n, n_recomputed);
    ck_assert_int_eq(memcmp(kept, recomputed, (size_t)n * sizeof(float)), 0);
    ck_assert_uint_lt(recomputed_bytes, kept_bytes);
    free(kept), free(recomputed);
}
END_TEST

START_TEST(fresh_gradients_replace_what_stood_there)
{
    float *added, *fresh;
    int64_t n, n_fresh, n_written = 0;
    float_gradients("cpu", false, false, &added, &n);
    float_gradients("cpu", false, true, &fresh, &n_fresh);
    for (int64_t i = 0; i < n; i++)
        if (!isnan(fresh[i])) { /* a NaN stays in the gaps between tensors alone */
            ck_assert(fresh[i] == added[i]);
            n_written++;
        } else {
            ck_assert(added[i] == 0);
        }
    sgc_model *m = make_model(block, 2, true);
    ck_assert_int_eq(n_written, m->n_parameters);
    sgc_model_free(m);
    free(added), free(fresh);
}
END_TEST

static int n_calls(const sgc_graph *g, const char *name)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op->run && strcmp(g->nodes[i].op->name, name) == 0) n++;
    return n;
}

/* The last sum of a block is made by the norm of the next; that of the last block is left, for nothing normalizes it here. A block
 * has dropout in its first branch only. */
START_TEST(what_stands_beside_a_norm_or_a_product_is_made_with_it)
{
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        const int repeats = 1 + checkpointing; /* of a call that is not cheap */
        sgc_graph_spec spec = {.mode = SGC_TRAIN, .B = B, .T = T, .checkpointing = checkpointing};
        sgc_model *m = make_model(block, 2, false);
        sgc_device d;
        sgc_graph *g;
        ck_assert_int_eq(sgc_device_open(&d, "null", false), SGC_OK);
        ck_assert_int_eq(sgc_graph_build(&g, m, &d, &spec), SGC_OK);
        ck_assert_int_eq(n_calls(g, "residual_norm"), 3 + 2 * checkpointing);
        ck_assert_int_eq(n_calls(g, "layer_norm"), 1 + 2 + 2 * (1 - checkpointing));
        ck_assert_int_eq(n_calls(g, "add"), 1);
        ck_assert_int_eq(n_calls(g, "dropout"), 0);
        ck_assert_int_eq(n_calls(g, "residual_norm_gradient"), 2);
        ck_assert_int_eq(n_calls(g, "layer_norm_gradient"), 2);
        ck_assert_int_eq(n_calls(g, "activation"), 2 * (2 - repeats));
        ck_assert_int_eq(n_calls(g, "activation_gradient"), 0);
        sgc_graph_free(g);
        sgc_device_close(&d);
        sgc_model_free(m);
    }
}
END_TEST

UNIT_MAIN("gradients", embedding_and_loss_are_derived, smoothed_loss_is_derived, tied_output_layer_is_derived, layer_norm_is_derived, linear_is_derived,
          linear_without_bias_is_derived, attention_is_derived, attention_with_dropout_is_derived, dropout_is_derived, every_activation_is_derived,
          sum_of_a_tensor_with_itself_is_derived, gradients_that_meet_while_shared_are_derived, blocks_are_derived, recomputed_blocks_are_derived,
          recomputed_meeting_is_derived, recomputation_gives_the_same_bits_in_a_smaller_arena,
          fresh_gradients_replace_what_stood_there, what_stands_beside_a_norm_or_a_product_is_made_with_it)

/* What a pass holds: nothing that grows with the square of the positions, and never all logits. */
#include "unit.h"

#include <omp.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/model.h"

enum { C = 32, H = 2 };

static const char *const devices[] = {"cpu", "cpu_bf16"};

static sgc_model *make_model(int64_t T, int64_t V)
{
    sgc_model *m;
    sgc_model_options o = {.vocab_size = V, .n_positions = T, .n_embd = C, .n_layer = 1, .n_head = H, .layer_norm_epsilon = 1e-5, .initializer_range = 0.1,
                           .attn_pdrop = 0.1, .tie_word_embeddings = true};
    ck_assert_int_eq(sgc_model_make(&m, &o, V), SGC_OK);
    return m;
}

/* The most that forward and backward of one sample of T tokens hold, kernels' own memory included. */
static size_t held_by_a_pass(const char *name, int64_t T, bool checkpointing)
{
    enum { V = 31 };
    sgc_device d;
    sgc_graph *g;
    sgc_model *m = make_model(T, V);
    const size_t before = sgc_mem_held(SGC_MEM_ACTIVATIONS);
    ck_assert_int_eq(sgc_device_open(&d, name, false), SGC_OK);
    ck_assert_int_eq(sgc_graph_build(&g, m, &d, &(sgc_graph_spec){.mode = SGC_TRAIN, .B = 1, .T = T, .checkpointing = checkpointing}), SGC_OK);
    void *arena = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(g)), *values[3], *gradients[3];
    int32_t *tokens = calloc((size_t)T, sizeof(*tokens));
    const int64_t sample = 0;
    sgc_graph_bind_arena(g, arena);
    ck_assert_int_eq(m->n_units, 3);
    for (int u = 0; u < m->n_units; u++) {
        values[u] = calloc((size_t)m->units[u].n, sizeof(float));
        gradients[u] = calloc((size_t)m->units[u].n, sizeof(float));
        sgc_graph_bind_unit(g, u, values[u], gradients[u], false);
    }
    sgc_batch batch = {.tokens = tokens, .labels = tokens, .sample = &sample, .scale = 1};
    ck_assert_int_eq(sgc_graph_bind_batch(g, &batch), SGC_OK);
    for (int u = 0; u < m->n_units; u++) sgc_graph_forward(g, u);
    for (int u = m->n_units - 1; u >= 0; u--) sgc_graph_backward(g, u);
    const size_t held = sgc_mem_held(SGC_MEM_ACTIVATIONS) - before; /* scratch memory grows, and stays until the device is closed */
    for (int u = 0; u < m->n_units; u++) free(values[u]), free(gradients[u]);
    free(tokens);
    sgc_mem_free(arena);
    sgc_graph_free(g);
    sgc_device_close(&d);
    sgc_model_free(m);
    return held;
}

START_TEST(twice_the_positions_hold_twice_the_memory)
{
    for (int type = 0; type < 2; type++)
        for (int checkpointing = 0; checkpointing < 2; checkpointing++)
            for (int n_threads = 1; n_threads <= 3; n_threads += 2) { /* one for each head, or several */
                enum { T = 1024 };
                omp_set_num_threads(n_threads);
                size_t once = held_by_a_pass(devices[type], T, checkpointing), twice = held_by_a_pass(devices[type], 2 * T, checkpointing);
                ck_assert_msg((double)twice < 2.1 * (double)once, "%s: %zu bytes, then %zu", devices[type], once, twice);
                ck_assert_msg(twice - once < (size_t)4 * T * T, "%s: %zu bytes more", devices[type], twice - once); /* a matrix of T x T has that */
            }
}
END_TEST

START_TEST(logits_are_never_whole)
{
    for (int type = 0; type < 2; type++) {
        enum { V = 50257, T = 4096 };
        sgc_device d;
        sgc_graph *g;
        sgc_model *m = make_model(T, V);
        ck_assert_int_eq(sgc_device_open(&d, devices[type], false), SGC_OK);
        for (int mode = SGC_TRAIN; mode <= SGC_EVAL; mode++) {
            ck_assert_int_eq(sgc_graph_build(&g, m, &d, &(sgc_graph_spec){.mode = (sgc_mode)mode, .B = 2, .T = T}), SGC_OK);
            /* whole ones, and as many of their gradient, are 3.3 GB */
            ck_assert_msg(sgc_graph_arena_bytes(g) < (size_t)100 << 20, "%s: %zu bytes", devices[type], sgc_graph_arena_bytes(g));
            sgc_graph_free(g);
        }
        sgc_device_close(&d);
        sgc_model_free(m);
    }
}
END_TEST

UNIT_MAIN("activations", twice_the_positions_hold_twice_the_memory, logits_are_never_whole)

/* The trace: rows count everything, events are bounded, units of a kind are one row; the ops of a model know their work. */
#include "unit.h"

#include <math.h>
#include <string.h>

#include "base/cover.h"
#include "base/mem.h"
#include "base/trace.h"
#include "model/model.h"

static const sgc_trace_row *find(const char *name)
{
    int n;
    const sgc_trace_row *rows = sgc_trace_rows(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    return NULL;
}

START_TEST(nothing_is_recorded_while_it_is_off)
{
    int n;
    sgc_trace_work("work", NULL, sgc_trace_now(), 1, 1);
    sgc_trace_rows(&n);
    ck_assert_int_eq(n, 0);
    ck_assert(sgc_trace_now() == 0);
}
END_TEST

START_TEST(units_of_one_kind_are_one_row)
{
    ck_assert_int_eq(sgc_trace_start(100), SGC_OK);
    sgc_trace_work("linear", "h.0", sgc_trace_now(), 10, 0);
    sgc_trace_work("linear", "h.11", sgc_trace_now(), 32, 0);
    sgc_trace_work("linear", "head", sgc_trace_now(), 1, 0);
    int n;
    const sgc_trace_row *rows = sgc_trace_rows(&n);
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(rows[0].n_calls, 2);
    ck_assert(rows[0].flop == 42 && rows[0].time_s >= 0);
    ck_assert_int_eq(rows[0].unit_chars, 1);
    sgc_trace_free();
}
END_TEST

START_TEST(events_are_bounded_and_rows_are_not)
{
    int64_t n, n_dropped;
    ck_assert_int_eq(sgc_trace_start(3), SGC_OK);
    for (int i = 0; i < 10; i++) sgc_trace_wait("all_gather", sgc_trace_now());
    sgc_trace_events(&n, &n_dropped);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(n_dropped, 7);
    ck_assert_int_eq(find("all_gather")->n_calls, 10);
    sgc_trace_free();
}
END_TEST

START_TEST(names_beyond_the_rows_are_counted_together)
{
    static char names[400][8];
    int n;
    int64_t n_calls = 0;
    ck_assert_int_eq(sgc_trace_start(1), SGC_OK);
    for (int i = 0; i < 400; i++) {
        snprintf(names[i], sizeof(names[i]), "op%d", i);
        sgc_trace_work(names[i], NULL, sgc_trace_now(), 0, 0);
    }
    const sgc_trace_row *rows = sgc_trace_rows(&n);
    for (int i = 0; i < n; i++) n_calls += rows[i].n_calls;
    ck_assert_int_lt(n, 400);
    ck_assert_int_eq(n_calls, 400);
    ck_assert_str_eq(rows[n - 1].name, "all others");
    sgc_trace_free();
}
END_TEST

START_TEST(a_wait_within_work_is_not_work)
{
    ck_assert_int_eq(sgc_trace_start(10), SGC_OK);
    sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_WAIT, .name = "progress", .start_s = 11, .end_s = 12});
    ck_assert(sgc_trace_waited_s() == 1);
    sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_WORK, .name = "lm_loss", .start_s = 10, .end_s = 14, .waited_s = 1});
    ck_assert(find("lm_loss")->time_s == 3);
    sgc_trace_free();
}
END_TEST

START_TEST(a_cover_is_what_any_of_its_intervals_covers)
{
    sgc_cover a = {0}, b = {0};
    ck_assert(sgc_cover_common(&a, &b) == 0);
    sgc_cover_add(&b, 0, 100);
    sgc_cover_add(&a, 7, 9);
    sgc_cover_add(&a, 1, 4);
    sgc_cover_add(&a, 2, 3);
    sgc_cover_add(&a, 4, 5);
    sgc_cover_add(&a, 6, 6);
    ck_assert(sgc_cover_common(&a, &b) == 6);
    sgc_cover_free(&b);
    sgc_cover_add(&b, 0, 2);
    sgc_cover_add(&b, 3, 8);
    ck_assert(sgc_cover_common(&a, &b) == 1 + 2 + 1);
    for (int i = 0; i < 100000; i++) { /* from the last on: no order, and many that touch */
        double start_s = 1000 + (99999 - i) * 7919 % 100000;
        sgc_cover_add(&a, start_s, start_s + 1);
    }
    sgc_cover_free(&b);
    sgc_cover_add(&b, 1000, 1e6);
    ck_assert(sgc_cover_common(&a, &b) == 100000);
    sgc_cover_free(&a);
    sgc_cover_free(&b);
}
END_TEST

static void travel(double start_s, double end_s)
{
    sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_TRAVEL, .name = "all_gather", .start_s = start_s, .end_s = end_s});
}

/* Times are real ones, as the trace asks the clock when it goes on and off. */
static void let_time_pass(void)
{
    for (double start_s = sgc_time_s(); sgc_time_s() - start_s < 0.002;) {}
}

START_TEST(messages_travel_while_any_does_and_the_trace_is_on)
{
    ck_assert_int_eq(sgc_trace_start(2), SGC_OK);
    const double first_s = sgc_time_s();
    let_time_pass();
    const double middle_s = sgc_time_s();
    let_time_pass();
    const double last_s = sgc_time_s();
    sgc_trace_stop();
    let_time_pass();
    travel(first_s, middle_s);
    travel(first_s, middle_s); /* two at once are counted once */
    travel(middle_s, last_s);  /* of which no event is kept */
    ck_assert(fabs(sgc_trace_traveled_s() - (last_s - first_s)) < 1e-6);
    sgc_trace_resume();
    const double again_s = sgc_time_s();
    let_time_pass();
    const double end_s = sgc_time_s();
    sgc_trace_stop();
    travel(last_s, end_s); /* on its way while the trace was off */
    ck_assert(sgc_trace_traveled_s() >= last_s - first_s + end_s - again_s - 1e-6);
    ck_assert(sgc_trace_traveled_s() <= end_s - first_s - 0.002 + 1e-6);
    sgc_trace_free();
}
END_TEST

enum { B = 2, T = 16, C = 24, L = 3, V = 31 };

/* Forward and backward of a small GPT-2 with empty buffers. */
static void run_model(const sgc_model *m, bool checkpointing)
{
    sgc_device device;
    sgc_graph *g;
    int32_t tokens[B * T] = {0};
    int64_t sample[B] = {0};
    ck_assert_int_eq(sgc_device_open(&device, "ref32", false), SGC_OK);
    sgc_graph_spec spec = {.mode = SGC_TRAIN, .B = B, .T = T, .checkpointing = checkpointing};
    ck_assert_int_eq(sgc_graph_build(&g, m, &device, &spec), SGC_OK);
    void *arena = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(g)), *values[L + 2], *gradients[L + 2];
    sgc_graph_bind_arena(g, arena);
    for (int u = 0; u < m->n_units; u++) {
        values[u] = calloc((size_t)m->units[u].n, sizeof(float));
        gradients[u] = calloc((size_t)m->units[u].n, sizeof(float));
        sgc_graph_bind_unit(g, u, values[u], gradients[u], false);
    }
    sgc_batch batch = {.tokens = tokens, .labels = tokens, .sample = sample, .scale = 1};
    sgc_graph_bind_batch(g, &batch);
    for (int u = 0; u < m->n_units; u++) sgc_graph_forward(g, u);
    for (int u = m->n_units - 1; u >= 0; u--) sgc_graph_backward(g, u);
    for (int u = 0; u < m->n_units; u++) free(values[u]), free(gradients[u]);
    sgc_graph_free(g);
    sgc_mem_free(arena);
    sgc_device_close(&device);
}

static double recorded_flop(bool repeated)
{
    int n;
    double flop = 0;
    const sgc_trace_row *rows = sgc_trace_rows(&n);
    for (int i = 0; i < n; i++)
        if (rows[i].repeated == repeated) flop += rows[i].flop;
    return flop;
}

START_TEST(the_ops_of_a_model_count_its_products)
{
    sgc_model *m;
    sgc_model_options o = {.vocab_size = V, .n_positions = T, .n_embd = C, .n_layer = L, .n_head = 3, .layer_norm_epsilon = 1e-5, .initializer_range = 0.1,
                           .tie_word_embeddings = true};
    ck_assert_int_eq(sgc_model_make(&m, &o, V), SGC_OK);
    /* Products with 12 C^2 weights in a block and V C in the head, forward and twice backward; attention has 2 forward and 5 backward, half of each. */
    double in_products = (double)(L * 12 * C * C + V * C);
    double expected = (double)(B * T) * (6 * in_products + 7.0 * L * (T + 1) * C);
    ck_assert_int_eq(sgc_trace_start(1000), SGC_OK);
    run_model(m, false);
    ck_assert(recorded_flop(false) == expected);
    ck_assert_int_eq(find("linear")->n_calls, 4 * L);
    ck_assert(find("residual_norm")->bytes == (4.0 * B * T * C + 2.0 * B * T + 2 * C) * sizeof(float) * (double)find("residual_norm")->n_calls);

    ck_assert_int_eq(sgc_trace_start(1000), SGC_OK);
    run_model(m, true);
    ck_assert(recorded_flop(false) == expected);
    ck_assert(recorded_flop(true) > 0 && recorded_flop(true) < expected / 3);
    sgc_trace_free();

    /* The formula of the utilization: 6 for every parameter but the positions, 6 L T C for attention. */
    ck_assert(sgc_model_flops_per_token(m, T) == 6.0 * (double)(m->n_parameters - T * C) + 6.0 * L * T * C);
    sgc_model_free(m);
}
END_TEST

UNIT_MAIN("trace", nothing_is_recorded_while_it_is_off, units_of_one_kind_are_one_row, events_are_bounded_and_rows_are_not,
          names_beyond_the_rows_are_counted_together, a_wait_within_work_is_not_work, a_cover_is_what_any_of_its_intervals_covers,
          messages_travel_while_any_does_and_the_trace_is_on, the_ops_of_a_model_count_its_products)

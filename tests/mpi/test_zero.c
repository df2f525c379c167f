/* The engine: the same bits whatever the stage, in full_determinism whatever the number of ranks; costs as the formulas say. */
#include "mpi_check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "zero/zero.h"

enum { B = 2, T = 12, V = 29, N_UPDATES = 3, N_TYPES = 2 };

/* The linker sends the allocations of the program's own code here (tests/Makefile.am). They are counted during a COUNTED call. */
static bool counts_allocations;
static _Atomic int64_t n_allocations;
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes) { n_allocations += counts_allocations; return __real_malloc(bytes); }
void *__wrap_calloc(size_t n, size_t bytes) { n_allocations += counts_allocations; return __real_calloc(n, bytes); }
void *__wrap_realloc(void *p, size_t bytes) { n_allocations += counts_allocations; return __real_realloc(p, bytes); }
#define COUNTED(call) (counts_allocations = true, st = (call), counts_allocations = false, st)

typedef struct run {
    int stage, n_micro;
    bool full_determinism, untied, checkpointing, bf16;
    sgc_dtype reduce_type;
    int prefetch;
} run;

typedef struct result {
    float *values;                 /* [n] all slots of all units, without padding */
    int64_t n;
    double norm;                   /* of the last gradient                        */
    double elements, held_bytes;   /* per update; states                          */
    int64_t n_allocations;         /* in the last update                          */
    sgc_zero_cost formula, expected;
} result;

static sgc_model *make_model(bool untied)
{
    sgc_model_options o = {.vocab_size = V, .n_positions = T, .n_embd = 24, .n_layer = 3, .n_head = 3, .layer_norm_epsilon = 1e-5,
                           .resid_pdrop = 0.1, .embd_pdrop = 0.1, .attn_pdrop = 0.1, .initializer_range = 0.1, .tie_word_embeddings = !untied};
    sgc_model *m = NULL;
    mpi_assert(sgc_model_make(&m, &o, V) == SGC_OK);
    return m;
}

static int64_t traffic(const sgc_group *g)
{
    int64_t n = 0;
    for (int c = SGC_ALL_GATHER; c <= SGC_BROADCAST; c++)
        n += sgc_group_traffic(g, c).n_elements;
    return n;
}

static size_t held(void) { return sgc_mem_held(SGC_MEM_PARAMETERS) + sgc_mem_held(SGC_MEM_GRADIENTS) + sgc_mem_held(SGC_MEM_OPTIMIZER); }

/* Every slot of every unit, whole, on every rank. */
static void collect(sgc_zero *z, const sgc_model *m, sgc_group *group, result *r)
{
    r->n = 0;
    for (int u = 0; u < m->n_units; u++)
        r->n += SGC_N_SLOTS * m->units[u].n;
    r->values = malloc((size_t)r->n * sizeof(float));
    int64_t at = 0;
    for (int u = 0; u < m->n_units; u++)
        for (int slot = 0; slot < SGC_N_SLOTS; slot++) {
            sgc_flat f = sgc_zero_flat(z, u);
            float *whole = malloc((size_t)f.n_padded * sizeof(float));
            memcpy(whole + sgc_group_rank(group) * f.n_shard, sgc_zero_shard(z, u, slot), (size_t)f.n_shard * sizeof(float));
            sgc_request *request = NULL;
            mpi_assert(sgc_group_ops(group)->all_gather(group, SGC_F32, whole, f.n_shard, &request) == SGC_OK);
            mpi_assert(sgc_group_ops(group)->wait(&request) == SGC_OK);
            memcpy(r->values + at, whole, (size_t)m->units[u].n * sizeof(float));
            at += m->units[u].n;
            free(whole);
        }
}

static result train(sgc_group *group, run how)
{
    result r = {0};
    sgc_device device;
    sgc_zero *z;
    sgc_graph *g;
    sgc_model *m = make_model(how.untied);
    int n_ranks = sgc_group_size(group), rank = sgc_group_rank(group);
    mpi_assert(sgc_device_open(&device, how.bf16 ? "cpu_bf16" : "cpu", how.full_determinism) == SGC_OK);
    sgc_graph_spec shape = {.mode = SGC_TRAIN, .B = B, .T = T, .checkpointing = how.checkpointing};
    mpi_assert(sgc_graph_build(&g, m, &device, &shape) == SGC_OK);
    void *arena = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(g));
    sgc_graph_bind_arena(g, arena);
    size_t before = held();
    sgc_zero_spec spec = {.stage = how.stage, .prefetch_units = how.prefetch, .full_determinism = how.full_determinism, .n_micro = how.n_micro,
                          .reduce_type = how.reduce_type};
    mpi_assert(sgc_zero_make(&z, m, &device, group, &spec) == SGC_OK);
    r.held_bytes = (double)(held() - before);
    r.formula = sgc_zero_formula(z);
    r.expected = sgc_zero_expected(z);
    mpi_assert(sgc_zero_init_weights(z, 42) == SGC_OK);

    int64_t sent = 0;
    sgc_status st;
    for (int update = 0; update < N_UPDATES; update++) {
        sent = traffic(group);
        n_allocations = 0;
        for (int micro = 0; micro < how.n_micro; micro++) {
            int32_t tokens[B * T];
            int64_t sample[B];
            for (int b = 0; b < B; b++) {
                sample[b] = ((int64_t)update * how.n_micro * n_ranks + (int64_t)micro * n_ranks + rank) * B + b;
                for (int t = 0; t < T; t++)
                    tokens[b * T + t] = (int32_t)((sample[b] * 31 + t * t * 7 + (sample[b] * t) % 11) % V);
            }
            sgc_batch batch = {.tokens = tokens, .labels = tokens, .sample = sample, .seed = 42, .step = update,
                               .scale = 1.0 / ((double)B * (T - 1) * how.n_micro * n_ranks)};
            mpi_assert(COUNTED(sgc_graph_bind_batch(g, &batch)) == SGC_OK);
            mpi_assert(COUNTED(sgc_zero_train_micro(z, g, micro)) == SGC_OK);
        }
        sgc_exact square_sum;
        mpi_assert(COUNTED(sgc_zero_finish_gradients(z, &square_sum)) == SGC_OK);
        mpi_assert(COUNTED(sgc_sum_exact(group, &square_sum, 1)) == SGC_OK);
        r.norm = sqrt(sgc_exact_value(&square_sum));
        sgc_adamw rule = {.learning_rate = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .t = update + 1, .grad_scale = 1 / (1 + r.norm)};
        mpi_assert(COUNTED(sgc_zero_update(z, &rule, 0.1)) == SGC_OK);
        r.elements = (double)(traffic(group) - sent);
    }
    r.n_allocations = n_allocations;
    collect(z, m, group, &r);
    sgc_zero_free(z);
    sgc_graph_free(g);
    sgc_mem_free(arena);
    sgc_device_close(&device);
    sgc_model_free(m);
    return r;
}

static bool same(const result *a, const result *b)
{
    return a->n == b->n && a->norm == b->norm && memcmp(a->values, b->values, (size_t)a->n * sizeof(float)) == 0;
}

/* Both runs end with the same bits, or (wanted false) do not. */
static void compare(sgc_group *ga, run a, sgc_group *gb, run b)
{
    result ra = train(ga, a), rb = train(gb, b);
    bool finite = isfinite(ra.norm) && ra.norm > 0;
    bool equal = same(&ra, &rb);
    free(ra.values);
    free(rb.values);
    mpi_assert(finite);
    mpi_assert(equal);
}

#define ALL (world.all)

START_TEST(a_run_repeats_its_bits)
{
    for (int stage = 0; stage <= 3; stage++)
        compare(ALL, (run){.stage = stage, .n_micro = 2, .prefetch = 1}, ALL, (run){.stage = stage, .n_micro = 2, .prefetch = 1});
}
END_TEST

START_TEST(all_stages_give_the_same_bits_without_accumulation)
{
    for (int type = 0; type < N_TYPES; type++)
        for (int stage = 1; stage <= 3; stage++)
            compare(ALL, (run){.n_micro = 1, .untied = type}, ALL, (run){.stage = stage, .n_micro = 1, .untied = type, .prefetch = 1});
}
END_TEST

START_TEST(stages_that_reduce_alike_give_the_same_bits_with_accumulation)
{
    compare(ALL, (run){.stage = 0, .n_micro = 3}, ALL, (run){.stage = 1, .n_micro = 3});
    compare(ALL, (run){.stage = 2, .n_micro = 3}, ALL, (run){.stage = 3, .n_micro = 3, .prefetch = 1});
}
END_TEST

START_TEST(stages_give_the_same_bits_in_mixed_precision)
{
    for (int stage = 1; stage <= 3; stage++)
        compare(ALL, (run){.n_micro = 1, .bf16 = true}, ALL, (run){.stage = stage, .n_micro = 1, .bf16 = true, .prefetch = 1, .checkpointing = stage == 2});
    compare(ALL, (run){.stage = 0, .n_micro = 3, .bf16 = true, .untied = true}, ALL, (run){.stage = 1, .n_micro = 3, .bf16 = true, .untied = true});
    compare(ALL, (run){.stage = 2, .n_micro = 3, .bf16 = true}, ALL, (run){.stage = 3, .n_micro = 3, .bf16 = true, .prefetch = 1});
}
END_TEST

START_TEST(mixed_precision_is_not_fp32)
{
    result whole = train(ALL, (run){.stage = 1, .n_micro = 1}), half = train(ALL, (run){.stage = 1, .n_micro = 1, .bf16 = true});
    bool near = fabs(whole.norm - half.norm) < 0.1 * whole.norm, other = !same(&whole, &half);
    free(whole.values);
    free(half.values);
    mpi_assert(near);
    mpi_assert(other);
}
END_TEST

START_TEST(gradients_that_travel_rounded_repeat_their_bits_at_every_stage)
{
    for (int stage = 0; stage <= 3; stage++) {
        compare(ALL, (run){.n_micro = 1, .bf16 = true, .reduce_type = SGC_BF16}, ALL,
                (run){.stage = stage, .n_micro = 1, .bf16 = true, .reduce_type = SGC_BF16, .prefetch = 1});
        run twice = {.stage = stage, .n_micro = 2, .bf16 = true, .reduce_type = SGC_BF16, .prefetch = 1};
        compare(ALL, twice, ALL, twice);
    }
}
END_TEST

START_TEST(prefetching_and_recomputation_change_no_bit)
{
    const int prefetch[] = {0, 1, 2, 100};
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof(prefetch) / sizeof(prefetch[0]); i++)
            compare(ALL, (run){.stage = 3, .n_micro = 2, .untied = type}, ALL,
                    (run){.stage = 3, .n_micro = 2, .untied = type, .prefetch = prefetch[i], .checkpointing = i % 2});
}
END_TEST

START_TEST(full_determinism_repeats_the_bits_of_one_rank)
{
    int n_ranks = sgc_group_size(ALL);
    if (n_ranks == 3) return; /* refused, see below */
    sgc_group *alone;
    mpi_assert(sgc_group_null(&alone, 1, 0) == SGC_OK);
    for (int n_micro = 1; n_micro <= 4; n_micro *= 2)
        for (int stage = 0; stage <= 3; stage++) {
            run one = {.n_micro = n_micro * n_ranks, .full_determinism = true, .stage = (stage + n_micro) % 4};
            compare(alone, one, ALL, (run){.stage = stage, .n_micro = n_micro, .full_determinism = true, .prefetch = 1});
        }
    for (int stage = 0; stage <= 3; stage++)
        compare(alone, (run){.n_micro = 2 * n_ranks, .full_determinism = true, .stage = 3 - stage, .bf16 = true}, ALL,
                (run){.stage = stage, .n_micro = 2, .full_determinism = true, .bf16 = true, .prefetch = 1});
    sgc_group_free(alone);
}
END_TEST

START_TEST(full_determinism_refuses_what_it_cannot_keep)
{
    sgc_device device;
    sgc_zero *z = NULL;
    sgc_model *m = make_model(false);
    bool power_of_two = sgc_group_size(ALL) != 3;
    mpi_assert(sgc_device_open(&device, "cpu", true) == SGC_OK);
    for (int n_micro = 1; n_micro <= 4; n_micro++) {
        sgc_zero_spec spec = {.stage = 1, .full_determinism = true, .n_micro = n_micro};
        sgc_status st = sgc_zero_make(&z, m, &device, ALL, &spec);
        bool accepted = st == SGC_OK;
        sgc_err_clear();
        if (accepted) sgc_zero_free(z);
        mpi_assert(accepted == (power_of_two && n_micro != 3));
        mpi_assert(accepted || st == SGC_ECONFIG);
    }
    sgc_zero_spec rounded = {.stage = 1, .full_determinism = true, .n_micro = 1, .reduce_type = SGC_BF16};
    mpi_assert(sgc_zero_make(&z, m, &device, ALL, &rounded) == SGC_ECONFIG);
    sgc_err_clear();
    sgc_device_close(&device);
    sgc_model_free(m);
}
END_TEST

START_TEST(an_update_like_those_before_takes_no_memory)
{
    for (int stage = 0; stage <= 3; stage++)
        for (int bf16 = 0; bf16 <= 1; bf16++) {
            result r = train(ALL, (run){.stage = stage, .n_micro = 1 + stage % 2, .prefetch = 1, .bf16 = bf16, .checkpointing = stage == 3,
                                        .reduce_type = bf16 && stage == 1 ? SGC_BF16 : SGC_F32});
            free(r.values);
            mpi_assert(r.n_allocations == 0);
        }
}
END_TEST

static void check_costs(run how)
{
    result r = train(ALL, how);
    free(r.values);
    mpi_assert(r.held_bytes == r.expected.state_bytes);
    mpi_assert(r.elements == r.expected.elements_per_update);
    /* Padding adds at most a block a rank and an alignment gap a tensor; what stays gathered saves at most the last unit. */
    int64_t n_padding = 5 * sgc_group_size(ALL) * SGC_FLAT_BLOCK + 50 * SGC_FLAT_ALIGN, n_head = 24 * 2 + (how.untied ? V * 24 : 0);
    double state_bytes = r.held_bytes + r.expected.in_place_bytes;
    mpi_assert((r.expected.in_place_bytes > 0) == (how.bf16 && how.n_micro == 1 && !how.full_determinism));
    mpi_assert(state_bytes >= r.formula.state_bytes && state_bytes <= r.formula.state_bytes + 18.0 * (double)n_padding);
    mpi_assert(r.elements <= r.formula.elements_per_update + 3.0 * how.n_micro * (double)n_padding);
    mpi_assert(r.elements >= r.formula.elements_per_update - how.n_micro * (double)n_head);
    /* Bytes of a parameter: 16; with bf16 2 + 2 + 12, or 2 + 4 + 12 where several micro-batches are added up. */
    bool adds_up = how.bf16 && (how.n_micro > 1 || how.full_determinism);
    mpi_assert(r.formula.whole_bytes + r.formula.sharded_bytes == (adds_up ? 18 : 16));
}

START_TEST(bytes_held_and_elements_sent_are_those_of_the_formulas)
{
    for (int untied = 0; untied <= 1; untied++)
        for (int full = 0; full <= (sgc_group_size(ALL) != 3); full++)
            for (int n_micro = 1; n_micro <= 2; n_micro++)
                for (int stage = 0; stage <= 3; stage++) {
                    bool bf16 = (untied + full + stage) % 2; /* every other one of the product */
                    check_costs((run){.stage = stage, .n_micro = n_micro, .full_determinism = full, .untied = untied, .prefetch = 1, .bf16 = bf16});
                }
}
END_TEST

MPI_UNIT_MAIN("zero", a_run_repeats_its_bits, all_stages_give_the_same_bits_without_accumulation,
              stages_that_reduce_alike_give_the_same_bits_with_accumulation, stages_give_the_same_bits_in_mixed_precision, mixed_precision_is_not_fp32,
              gradients_that_travel_rounded_repeat_their_bits_at_every_stage, prefetching_and_recomputation_change_no_bit,
              full_determinism_repeats_the_bits_of_one_rank, full_determinism_refuses_what_it_cannot_keep,
              an_update_like_those_before_takes_no_memory, bytes_held_and_elements_sent_are_those_of_the_formulas)

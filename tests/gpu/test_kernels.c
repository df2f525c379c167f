/*
 * The GPU's kernels against the reference in double, and against themselves. Linked with the emulation it needs no GPU; linked with CUDA it
 * checks the real one, and ends with status 77 where there is none.
 */
#include "kernels.h"

#include <sys/wait.h>
#include <unistd.h>

#include "conf/config.h"

enum { N_DEVICES = 3 };
static const char *const devices[N_DEVICES] = {"cuda", "cuda_bf16", "cuda_fp16"};

void emulated_set_order(unsigned order) __attribute__((weak));

START_TEST(kernels_in_float_agree_with_the_reference)
{
    sgc_device d;
    open_device(&d, "cuda", false);
    compare_all(&d, "the GPU");
    sgc_device_close(&d);
}
END_TEST

START_TEST(kernels_in_bf16_agree_with_the_reference)
{
    sgc_device d;
    open_device(&d, "cuda_bf16", false);
    compare_all(&d, "the GPU");
    sgc_device_close(&d);
}
END_TEST

START_TEST(kernels_in_fp16_agree_with_the_reference)
{
    sgc_device d;
    open_device(&d, "cuda_fp16", false);
    compare_all(&d, "the GPU");
    sgc_device_close(&d);
}
END_TEST

START_TEST(calls_that_do_the_work_of_several_have_their_bits)
{
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        compare_joined(&d);
        sgc_device_close(&d);
    }
}
END_TEST

static void biases(call *c)
{
    const int64_t m = 5, n = 300, k = 40;
    void *a = in(c, m * k), *b = in(c, k * n), *bias = in(c, n);
    for (int is_wide = 0; is_wide < 2; is_wide++)
        for (int64_t gap = 0; gap < 8; gap += 7) {
            void *product = is_wide ? out_wide(c, m * (n + gap)) : out(c, m * (n + gap));
            c->device->ops->matmul(c->device, &(sgc_matmul){.c = product, .c_is_wide = is_wide, .a = a, .b = b, .bias = bias, .m = m, .n = n, .k = k, .ldc = n + gap});
        }
}

/* Sums are rounded twice then: before the bias and after. */
static void add_biases(sgc_device *d)
{
    const kernel_case k = {"matmul with a bias", biases, 4e-6, 2, 1, {{0}}};
    compare_case(d, &k, "a library that refuses");
}

/* Sums that are rounded before their bias and GELU, and after, have other bits, but for floats. */
static void refuse_with_products(const char *when)
{
    static const int64_t size[6] = {64, 96, 128};
    const kernel_case *k = find_case("matmul_activation");
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device with, without;
        open_device(&with, devices[type], false);
        setenv("EMULATED_LT", when, 1);
        open_device(&without, devices[type], false);
        compare_case(&without, k, "a library that refuses");
        compare_case(&without, find_case("matmul_sums"), "a library that refuses");
        add_biases(&without);
        call other = run(k->kernel, &without, size, 2, SGC_F64);
        unsetenv("EMULATED_LT");
        call one = run(k->kernel, &with, size, 2, SGC_F64);
        if (emulated_set_order && type > 0) ck_assert_msg(!same_bits(&one, &other), "%s: nothing was refused", devices[type]);
        free_call(&one);
        free_call(&other);
        sgc_device_close(&with);
        sgc_device_close(&without);
    }
}

START_TEST(what_the_library_refuses_to_do_with_a_product_is_done_all_the_same)
{
    refuse_with_products("plain");
}
END_TEST

START_TEST(what_it_refuses_in_spite_of_its_heuristic_is_done_all_the_same)
{
    refuse_with_products("late");
}
END_TEST

/* The library's is made of sums that are not rounded yet. */
START_TEST(gelu_is_made_with_products_where_that_is_fast)
{
    enum { N = 4 };
    static const char *const capabilities[N] = {"8.0", "9.0", "10.0", "12.0"};
    static const int64_t size[6] = {64, 96, 128};
    call made[N];
    sgc_device d[N];
    if (!emulated_set_order) return;
    for (int i = 0; i < N; i++) {
        setenv("EMULATED_CAPABILITY", capabilities[i], 1);
        open_device(&d[i], "cuda_bf16", false);
        made[i] = run(find_case("matmul_activation")->kernel, &d[i], size, 2, SGC_F64);
    }
    unsetenv("EMULATED_CAPABILITY");
    ck_assert(same_bits(&made[0], &made[3]) && same_bits(&made[1], &made[2]) && !same_bits(&made[0], &made[1]));
    for (int i = 0; i < N; i++) {
        free_call(&made[i]);
        sgc_device_close(&d[i]);
    }
}
END_TEST

/* On a GPU threads go their own ways each time; in the emulation their order is told. The address sanitizer has nothing to add to the other tests
 * here, and takes its time. */
#ifndef __SANITIZE_ADDRESS__
START_TEST(every_run_and_every_order_of_threads_gives_the_same_bits)
{
    const char *all = getenv("STAGECOACH_TEST_ALL");
    const int n_devices = !emulated_set_order || (all && strcmp(all, "1") == 0) ? N_DEVICES : N_DEVICES - 1; /* fp16 goes the ways of bf16 */
    for (int type = 0; type < n_devices; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        for (int k = 0; k < n_kernel_cases; k++)
            for (int i = 0; i < kernel_cases[k].n_sizes; i++) {
                const int64_t *s = kernel_cases[k].size[i];
                if (emulated_set_order && strncmp(kernel_cases[k].name, "matmul", 6) == 0) continue; /* a library's */
                if (emulated_set_order) emulated_set_order(0);
                call one = run(kernel_cases[k].kernel, &d, s, 2, SGC_F64);
                if (emulated_set_order) emulated_set_order(7);
                call other = run(kernel_cases[k].kernel, &d, s, 2, SGC_F64);
                ck_assert_msg(same_bits(&one, &other), "%s on %s at %lld %lld %lld %lld %lld", kernel_cases[k].name, d.ops->name, (long long)s[0],
                              (long long)s[1], (long long)s[2], (long long)s[3], (long long)s[4]);
                free_call(&one);
                free_call(&other);
            }
        sgc_device_close(&d);
    }
}
END_TEST
#endif

static char *moved(void *p, int64_t n, size_t bytes) { return (char *)p + (size_t)n * bytes; }

/* size: is everything done in pieces? */
static void ranges(call *c)
{
    enum { N = 1100, N_PIECES = 10 };
    static const int64_t whole[] = {0, N}, pieces[] = {0, 1, 16, 19, 64, 65, 131, 512, 528, 1023, N};
    const int64_t *cuts = c->size[0] ? pieces : whole;
    const int n_ranges = c->size[0] ? N_PIECES : 1;
    const sgc_update_part all = {0, SGC_UPDATE_WITH_DECAY};
    const sgc_adamw a = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .t = 3, .grad_scale = 0.3};
    sgc_device *d = c->device;
    const size_t bytes = sgc_dtype_bytes(d->ops->value);
    void *x = in(c, N), *dy = in(c, N), *values = out(c, N), *p = out_wide(c, N), *m = out_wide(c, N), *v = (out_wide(c, N), positive(c));
    for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
        void *y = out(c, N), *dx = out(c, N);
        for (int i = 0; i < n_ranges; i++) {
            const int64_t at = cuts[i], n = cuts[i + 1] - at;
            d->ops->activation_forward(d, kind, moved(y, at, bytes), moved(x, at, bytes), n);
            d->ops->activation_backward(d, kind, moved(dx, at, bytes), moved(dy, at, bytes), moved(x, at, bytes), n);
        }
    }
    for (int i = 0; i < n_ranges; i++) {
        const int64_t at = cuts[i], n = cuts[i + 1] - at;
        d->ops->adamw(d, moved(values, at, bytes), moved(p, at, 4), moved(m, at, 4), moved(v, at, 4), moved(x, at, bytes), d->ops->value, n, &all, 1,
                       0.1, &a);
    }
}

/* Ranks cut tensors in different places. */
START_TEST(a_range_cut_anywhere_gives_the_same_bits)
{
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        call whole = run(ranges, &d, (int64_t[6]){0}, 3, SGC_F64), pieces = run(ranges, &d, (int64_t[6]){1}, 3, SGC_F64);
        ck_assert_msg(same_bits(&whole, &pieces), "%s", d.ops->name);
        free_call(&whole);
        free_call(&pieces);
        sgc_device_close(&d);
    }
}
END_TEST

/* Upper and lower half of every float that can make a difference, as in the test of CPUs. */
START_TEST(numbers_are_rounded_to_the_nearest_even)
{
    enum { N_LOW = 7, N = 65536 * N_LOW };
    static const uint32_t low[N_LOW] = {0, 1, 0x1234, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (int type = 1; type < N_DEVICES; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        call c = {.device = &d, .numbers = SGC_F64};
        void *wide = in_wide(&c, N), *values = out(&c, N);
        uint32_t *bits = c.arrays[0].data;
        const uint16_t *rounded = c.arrays[1].data;
        for (uint32_t i = 0; i < N; i++) bits[i] = i / N_LOW << 16 | low[i % N_LOW];
        to_device(&c, &c.arrays[0]);
        d.ops->narrow(&d, values, wide, N);
        from_device(&c, &c.arrays[1]);
        for (int i = 0; i < N; i++) {
            float f;
            uint16_t right;
            memcpy(&f, &bits[i], sizeof(f));
            if (isnan(f) && isnan(element(&c.arrays[1], i))) continue;
            sgc_dtype_pack(d.ops->value, &f, 1, &right);
            if (rounded[i] != right) ck_abort_msg("%s: %08x becomes %04x, should be %04x", d.ops->name, bits[i], rounded[i], right);
        }
        free_call(&c);
        sgc_device_close(&d);
    }
}
END_TEST

static void put(call *c, int k, int64_t i, double x)
{
    set_element(&c->arrays[k], i, x);
    to_device(c, &c->arrays[k]);
}

static double get(call *c, int k, int64_t i)
{
    from_device(c, &c->arrays[k]);
    return element(&c->arrays[k], i);
}

START_TEST(a_nan_is_never_lost)
{
    static const int32_t target = 1;
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        for (int at = 0; at < 70; at += 23) {
            call c = {.device = &d, .seed = 4, .numbers = d.ops->value};
            void *x = in(&c, 70), *y = in(&c, 70), *qkv = in(&c, 70 * 3 * 64), *o = in(&c, 70 * 64), *lse = in_wide(&c, 70), *logits = in_wide(&c, 70);
            double *loss = out_double(&c, 1);
            const void *on_device = constant(&c, &target, sizeof(target));
            put(&c, 0, at, NAN);
            for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
                d.ops->activation_forward(&d, kind, y, x, 70);
                ck_assert_double_nan(get(&c, 1, at));
            }
            put(&c, 2, at * 3 * 64, NAN); /* a query */
            d.ops->attention_forward(&d, o, lse, qkv, 1, 70, 64, 1, &(sgc_dropout){0});
            ck_assert_double_nan(get(&c, 3, at * 64));
            put(&c, 5, at, NAN);
            d.ops->cross_entropy(&d, loss, NULL, logits, on_device, 1, 70, 70, 0, NULL);
            ck_assert_double_nan(get(&c, 6, 0));
            put(&c, 5, at, INFINITY);
            d.ops->cross_entropy(&d, loss, NULL, logits, on_device, 1, 70, 70, 0, NULL);
            ck_assert_msg(!isfinite(get(&c, 6, 0)), "%g", get(&c, 6, 0));
            free_call(&c);
        }
        sgc_device_close(&d);
    }
}
END_TEST

/* Made-up steps of work. What changes from step to step is in memory, or a result of the steps before. */
typedef struct steps {
    call c;
    sgc_dropout drop;
    void *key, *x, *y, *dwte, *dwpe, *square;
    const int32_t *token;
    bool waits; /* which must not be where calls are recorded */
} steps;

enum { STEP_B = 2, STEP_T = 24, STEP_C = 32, STEP_V = 16 };

static void make_calls(void *arg)
{
    steps *s = arg;
    sgc_device *d = s->c.device;
    d->ops->dropout(d, s->y, s->x, STEP_B, STEP_T * STEP_C, &s->drop);
    d->ops->embedding_backward(d, s->dwte, s->dwpe, s->y, s->token, STEP_B, STEP_T, STEP_C); /* with scratch memory */
    d->ops->matmul(d, &(sgc_matmul){.c = s->square, .c_is_wide = true, .add = true, .a = s->y, .b = s->y, .ta = true, .m = STEP_C, .n = STEP_C, .k = STEP_T});
    if (s->waits) sgc_device_finish(d);
    d->ops->add_into(d, s->square, s->dwte, STEP_V * STEP_C);
    sgc_device_clear(d, s->dwte, STEP_C * sizeof(float));
    sgc_device_copy(d, s->x, s->y, 8 * sgc_dtype_bytes(d->ops->value));
}

/* More scratch memory than before. */
static void need_scratch(sgc_device *d)
{
    enum { N = 40000 };
    call c = {.device = d, .seed = 1};
    void *dwte = out_wide(&c, 8), *dwpe = out_wide(&c, N * 8), *dx = in(&c, N * 8), *token = calloc(N, sizeof(int32_t));
    ck_assert_ptr_nonnull(token);
    d->ops->embedding_backward(d, dwte, dwpe, dx, constant(&c, token, N * sizeof(int32_t)), 1, N, 8);
    free(token);
    free_call(&c);
}

/* The arrays after some steps. */
static call after_steps(sgc_device *d, bool waits)
{
    int32_t token[STEP_B * STEP_T];
    const int64_t sample[STEP_B] = {7, 1LL << 33};
    sgc_philox_key key = {{0}};
    sgc_recording *recording = NULL;
    steps s = {.c = {.device = d, .seed = 9, .numbers = d->ops->value}, .waits = waits};
    call *c = &s.c;
    for (int i = 0; i < STEP_B * STEP_T; i++) token[i] = i * i % STEP_V;
    s.x = out(c, STEP_B * STEP_T * STEP_C);
    s.y = out(c, STEP_B * STEP_T * STEP_C);
    s.dwte = out_wide(c, STEP_V * STEP_C);
    s.dwpe = out_wide(c, STEP_T * STEP_C);
    s.square = out_wide(c, STEP_C * STEP_C);
    s.token = constant(c, token, sizeof(token));
    s.key = (void *)constant(c, &key, sizeof(key));
    s.drop = (sgc_dropout){.p = 0.2, .key = s.key, .stream = 1, .sample = constant(c, sample, sizeof(sample))};
    for (int step = 0; step < 6; step++) {
        key = sgc_dropout_key(3, step);
        ck_assert_int_eq(sgc_device_write(d, s.key, &key, sizeof(key)), SGC_OK);
        if (step == 4) need_scratch(d);
        sgc_device_repeat(d, &recording, make_calls, &s);
    }
    ck_assert_msg(sgc_device_finish(d) == SGC_OK, "%s", sgc_err_message());
    for (int i = 0; i < c->n_arrays; i++) from_device(c, &c->arrays[i]);
    sgc_device_forget(d, &recording);
    return s.c;
}

/* What cannot be recorded is found out when it is, and done all the same. */
START_TEST(recorded_calls_give_the_bits_of_direct_ones)
{
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device direct, recording;
        open_device(&direct, devices[type], false);
        call expected = after_steps(&direct, false);
        for (int waits = 0; waits < 2; waits++) {
            const sgc_device_spec spec = {.name = devices[type], .node_size = 1, .graphs = true};
            ck_assert_msg(sgc_device_open_spec(&recording, &spec) == SGC_OK, "%s", sgc_err_message());
            call got = after_steps(&recording, waits);
            ck_assert_msg(same_bits(&expected, &got), "%s%s", devices[type], waits ? ", with a wait" : "");
            free_call(&got);
            sgc_device_close(&recording);
        }
        free_call(&expected);
        sgc_device_close(&direct);
    }
}
END_TEST

START_TEST(every_device_fills_every_slot)
{
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device d;
        open_device(&d, devices[type], false);
        ck_assert_str_eq(d.ops->name, devices[type]);
        void (*const *slot)(void) = (void (*const *)(void))&d.ops->embedding_forward;
        for (size_t i = 0; (const char *)&slot[i] < (const char *)(d.ops + 1); i++) ck_assert_msg(slot[i] != NULL, "%s has no slot %zu", devices[type], i);
        sgc_device_close(&d);
    }
}
END_TEST

/* Each test is a child process, and CUDA does not outlive a fork: so a child looks, too. */
static int has_gpu(void)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        sgc_gpus gpus;
        const sgc_status st = sgc_device_gpus(&gpus);
        if (st != SGC_OK || gpus.n == 0) fprintf(stderr, "test_kernels: no GPU here: %s\n", st == SGC_OK ? gpus.none : sgc_err_message());
        _exit(st == SGC_OK && gpus.n > 0 ? 0 : 1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#define main with_gpu
UNIT_MAIN("GPU kernels", kernels_in_float_agree_with_the_reference,
          kernels_in_bf16_agree_with_the_reference,
          kernels_in_fp16_agree_with_the_reference,
          calls_that_do_the_work_of_several_have_their_bits,
          what_the_library_refuses_to_do_with_a_product_is_done_all_the_same, what_it_refuses_in_spite_of_its_heuristic_is_done_all_the_same,
          gelu_is_made_with_products_where_that_is_fast,
#ifndef __SANITIZE_ADDRESS__
          every_run_and_every_order_of_threads_gives_the_same_bits,
#endif
          a_range_cut_anywhere_gives_the_same_bits,
          numbers_are_rounded_to_the_nearest_even,
          a_nan_is_never_lost,
          recorded_calls_give_the_bits_of_direct_ones,
          every_device_fills_every_slot)
#undef main

int main(void)
{
    return has_gpu() ? with_gpu() : 77;
}

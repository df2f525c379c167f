/*
 * Attention by cuDNN against the reference in double, against itself, and what decides whether it is taken. Linked with the emulation it needs no
 * GPU; linked with CUDA it checks the library on the real one, and ends with status 77 where there is none.
 */
#include "kernels.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/config.h"

enum { N_DEVICES = 2 };
static const char *const devices[N_DEVICES] = {"cuda_bf16", "cuda_fp16"};

void emulated_set_order(unsigned order) __attribute__((weak));
/* cudnn_slices.c */
extern size_t sgc_cudnn_slice_bytes;
static bool is_emulated(void) { return emulated_set_order != NULL; }

static sgc_status open_for(sgc_device *d, const char *name, int attention, bool full_determinism)
{
    return sgc_device_open_spec(d, &(sgc_device_spec){.name = name, .node_size = 1, .attention = attention, .full_determinism = full_determinism});
}

static void open_with(sgc_device *d, const char *name, int attention)
{
    ck_assert_msg(open_for(d, name, attention, false) == SGC_OK, "%s", sgc_err_message());
}

/* size: B, T, C, H */
static void attention(call *c)
{
    const int64_t B = c->size[0], T = c->size[1], C = c->size[2], H = c->size[3];
    const sgc_dropout none = {0};
    void *y = out(c, B * T * C), *lse = out_wide(c, B * H * T), *dqkv = out(c, B * T * 3 * C), *qkv = in(c, B * T * 3 * C), *dy = in(c, B * T * C);
    c->device->ops->attention_forward(c->device, y, lse, qkv, B, T, C, H, &none);
    c->device->ops->attention_backward(c->device, dqkv, dy, y, lse, qkv, B, T, C, H, &none);
}

enum { N_SIZES = 10, N_COMMON = 8 /* with heads for which auto takes it, too */ };
static const int64_t sizes[N_SIZES][6] = {{1, 2, 64, 1}, {2, 3, 128, 2}, {1, 17, 128, 1}, {2, 63, 128, 2}, {1, 64, 64, 1}, {1, 65, 128, 1}, {2, 100, 192, 3},
                                          {1, 130, 256, 2}, {2, 33, 96, 3}, {1, 20, 96, 1}};

START_TEST(it_agrees_with_the_reference)
{
    sgc_device reference;
    open_device(&reference, "ref64", false);
    for (int type = 0; type < N_DEVICES; type++)
        for (int choice = SGC_ATTENTION_AUTO; choice <= SGC_ATTENTION_CUDNN; choice++) {
            sgc_device d;
            open_with(&d, devices[type], choice);
            const double unit = d.ops->value == SGC_F16 ? 0x1p-11 : 0x1p-8;
            for (int i = 0; i < (choice == SGC_ATTENTION_CUDNN ? N_SIZES : N_COMMON); i++) {
                call a = run(attention, &d, sizes[i], 1, d.ops->value), b = run(attention, &reference, sizes[i], 1, d.ops->value);
                ck_assert_msg(sgc_device_finish(&d) == SGC_OK, "%s", sgc_err_message());
                ck_assert_msg(distance(&a, &b, true) <= 3 * unit, "%s, choice %d, size %d: %g", devices[type], choice, i, distance(&a, &b, true) / unit);
                ck_assert_msg(distance(&a, &b, false) <= 1e-5, "%s, choice %d, size %d: %g", devices[type], choice, i, distance(&a, &b, false));
                free_call(&a);
                free_call(&b);
            }
            sgc_device_close(&d);
        }
    sgc_device_close(&reference);
}
END_TEST

START_TEST(every_run_gives_the_same_bits)
{
    for (int type = 0; type < N_DEVICES; type++) {
        sgc_device d;
        open_with(&d, devices[type], SGC_ATTENTION_CUDNN);
        for (int i = 0; i < N_SIZES; i++) {
            call one = run(attention, &d, sizes[i], 2, SGC_F64), other = run(attention, &d, sizes[i], 2, SGC_F64);
            ck_assert_msg(same_bits(&one, &other), "%s, size %d", devices[type], i);
            free_call(&one);
            free_call(&other);
        }
        sgc_device_close(&d);
    }
}
END_TEST

static sgc_status prepare(sgc_device *d, int64_t B, int64_t T, int64_t H, int64_t D, size_t bytes[2])
{
    return d->ops->attention_prepare(d, &(sgc_attention_shape){.B = B, .T = T, .C = H * D, .H = H, .backward = true}, bytes);
}

START_TEST(lent_memory_is_all_that_it_needs)
{
    enum { B = 2, T = 100, C = 192, H = 3 };
    const int64_t size[6] = {B, T, C, H};
    sgc_device d;
    size_t bytes[2];
    open_with(&d, "cuda_bf16", SGC_ATTENTION_CUDNN);
    ck_assert_msg(prepare(&d, B, T, H, C / H, bytes) == SGC_OK, "%s", sgc_err_message());
    ck_assert_uint_ge(bytes[1], B * H * T * sizeof(float));
    call c = {.device = &d, .seed = 3, .numbers = SGC_BF16, .size = {B, T, C, H}};
    const sgc_dropout none = {0};
    void *y = out(&c, B * T * C), *lse = out_wide(&c, B * H * T), *dqkv = out(&c, B * T * 3 * C), *qkv = in(&c, B * T * 3 * C), *dy = in(&c, B * T * C);
    void *forward = sgc_device_alloc(&d, SGC_MEM_ACTIVATIONS, bytes[0]), *backward = sgc_device_alloc(&d, SGC_MEM_ACTIVATIONS, bytes[1]);
    ck_assert(forward && backward);
    const size_t held = sgc_mem_held(SGC_MEM_ACTIVATIONS);
    d.lent = forward;
    d.lent_bytes = bytes[0];
    d.ops->attention_forward(&d, y, lse, qkv, B, T, C, H, &none);
    d.lent = backward;
    d.lent_bytes = bytes[1];
    d.ops->attention_backward(&d, dqkv, dy, y, lse, qkv, B, T, C, H, &none);
    d.lent = NULL;
    d.lent_bytes = 0;
    ck_assert_msg(sgc_device_finish(&d) == SGC_OK, "%s", sgc_err_message());
    ck_assert_uint_eq(sgc_mem_held(SGC_MEM_ACTIVATIONS), held);
    for (int i = 0; i < 3; i++) from_device(&c, &c.arrays[i]);
    call other = run(attention, &d, size, 3, SGC_BF16); /* who lends nothing gets the same */
    ck_assert_uint_gt(sgc_mem_held(SGC_MEM_ACTIVATIONS), held);
    ck_assert(same_bits(&c, &other));
    free_call(&c);
    free_call(&other);
    sgc_device_free(&d, forward);
    sgc_device_free(&d, backward);
    sgc_device_close(&d);
}
END_TEST

/* B, T, C, H, and how many heads at most are to be in a slice: samples, with and without a rest, of which some begin where tensors may not; then heads. */
enum { N_CUTS = 9 };
static const int64_t cuts[N_CUTS][6] = {{6, 16, 128, 2, 4}, {5, 16, 128, 2, 5}, {3, 64, 64, 1, 1}, {5, 17, 64, 1, 1}, {5, 18, 64, 1, 3}, {3, 33, 128, 2, 1},
                                        {2, 20, 192, 3, 1}, {2, 64, 192, 3, 2}, {1, 18, 384, 6, 4}};

START_TEST(a_gradient_in_slices_is_the_same)
{
    const size_t limit = sgc_cudnn_slice_bytes;
    sgc_device reference;
    open_device(&reference, "ref64", false);
    for (int type = 0; type < N_DEVICES; type++)
        for (int i = 0; i < N_CUTS; i++) {
            const int64_t *n = cuts[i], D = n[2] / n[3];
            sgc_device whole, sliced;
            size_t bytes[2], all[2];
            open_with(&whole, devices[type], SGC_ATTENTION_CUDNN);
            open_with(&sliced, devices[type], SGC_ATTENTION_CUDNN);
            ck_assert_msg(prepare(&whole, n[0], n[1], n[3], D, all) == SGC_OK, "%s", sgc_err_message());
            sgc_cudnn_slice_bytes = all[1] * (size_t)n[4] / (size_t)(n[0] * n[3]) + 512;
            ck_assert_msg(prepare(&sliced, n[0], n[1], n[3], D, bytes) == SGC_OK, "%s", sgc_err_message());
            sgc_cudnn_slice_bytes = limit;
            ck_assert_msg(bytes[1] < all[1], "cut %d: %zu and %zu bytes", i, bytes[1], all[1]);
            const double unit = sliced.ops->value == SGC_F16 ? 0x1p-11 : 0x1p-8;
            call a = run(attention, &whole, n, 5, sliced.ops->value), b = run(attention, &sliced, n, 5, sliced.ops->value);
            call c = run(attention, &reference, n, 5, sliced.ops->value);
            ck_assert_msg(sgc_device_finish(&sliced) == SGC_OK, "%s", sgc_err_message());
            ck_assert_msg(distance(&b, &c, true) <= 3 * unit, "%s, cut %d: %g", devices[type], i, distance(&b, &c, true) / unit);
            if (is_emulated()) ck_assert_msg(same_bits(&a, &b), "%s, cut %d", devices[type], i); /* a real library chooses an engine by the slice's shape */
            free_call(&a);
            free_call(&b);
            free_call(&c);
            sgc_device_close(&whole);
            sgc_device_close(&sliced);
        }
    sgc_device_close(&reference);
}
END_TEST

static size_t gradient_bytes(int64_t B, int64_t T, int64_t H)
{
    sgc_device d;
    size_t bytes[2];
    open_with(&d, "cuda_bf16", SGC_ATTENTION_CUDNN);
    ck_assert_msg(prepare(&d, B, T, H, 64, bytes) == SGC_OK, "%s", sgc_err_message());
    sgc_device_close(&d);
    return bytes[1];
}

START_TEST(memory_is_that_of_one_slice)
{
    ck_assert_uint_eq(gradient_bytes(64, 1024, 12), gradient_bytes(32, 1024, 12));
    ck_assert_uint_eq(gradient_bytes(43, 1024, 12), gradient_bytes(22, 1024, 12));
    ck_assert_uint_gt(gradient_bytes(42, 1024, 12), (size_t)900 << 20);
    ck_assert_uint_le(gradient_bytes(1000, 1024, 12), (size_t)1025 << 20);
    ck_assert_uint_le(gradient_bytes(3, 8192, 12), (size_t)1025 << 20); /* some heads of a sample */
    ck_assert_uint_ge(gradient_bytes(1, 32768, 2), (size_t)2 << 30);    /* less than a head cannot be */
}
END_TEST

static void refused(sgc_status st, const char *words)
{
    ck_assert_int_ne(st, SGC_OK);
    ck_assert_msg(strstr(sgc_err_message(), words) != NULL, "no '%s' in: %s", words, sgc_err_message());
    sgc_err_clear();
}

START_TEST(what_is_asked_for_and_not_to_be_had_is_an_error)
{
    sgc_device d;
    size_t bytes[2];
    refused(open_for(&d, "cuda", SGC_ATTENTION_CUDNN, false), "16-bit numbers only");
    refused(open_for(&d, "cuda_bf16", SGC_ATTENTION_CUDNN, true), "--device.attention own for full_determinism");
    open_with(&d, "cuda_bf16", SGC_ATTENTION_CUDNN);
    refused(prepare(&d, 2, 16, 1, 20, bytes), "does not have attention of 2 samples of 16 tokens with 1 heads of 20 numbers");
    const sgc_attention_shape dropping = {.B = 1, .T = 16, .C = 64, .H = 1, .dropout = 0.1};
    refused(d.ops->attention_prepare(&d, &dropping, bytes), "write --model.attn_pdrop 0");
    call c = {.device = &d, .seed = 1, .numbers = SGC_BF16, .size = {2, 16, 20, 1}};
    attention(&c); /* who did not prepare learns it, too */
    refused(sgc_device_finish(&d), "attention by cuDNN: --device.attention cudnn: cuDNN");
    free_call(&c);
    sgc_device_close(&d);
}
END_TEST

/* Forward, backward: which of the two are cuDNN's? Both need some memory then. */
static int taken(const char *capability, int choice, int64_t B, int64_t T, int64_t D)
{
    sgc_device d;
    size_t bytes[2];
    setenv("EMULATED_CAPABILITY", capability, 1);
    open_with(&d, "cuda_bf16", choice);
    ck_assert_msg(prepare(&d, B, T, 12, D, bytes) == SGC_OK, "%s", sgc_err_message());
    sgc_device_close(&d);
    unsetenv("EMULATED_CAPABILITY");
    return (bytes[0] > 0) + 2 * (bytes[1] > 0);
}

START_TEST(auto_takes_it_by_a_fixed_rule)
{
    enum { NONE = 0, FORWARD = 1, BOTH = 3 };
    if (!is_emulated()) return;
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 8, 64, 64), BOTH);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 8, 64, 128), BOTH);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 8, 64, 96), NONE);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 8, 64, 20), NONE);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 64, 1024, 64), BOTH);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 2, 8192, 64), BOTH);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 1, 32768, 64), FORWARD); /* one head of the other needs more than 1 GiB */
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_CUDNN, 1, 32768, 64), BOTH);
    ck_assert_int_eq(taken("8.0", SGC_ATTENTION_AUTO, 8, 64, 64), NONE);
    ck_assert_int_eq(taken("8.0", SGC_ATTENTION_CUDNN, 8, 64, 64), BOTH);
    ck_assert_int_eq(taken("10.0", SGC_ATTENTION_AUTO, 8, 64, 64), FORWARD);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_OWN, 8, 64, 64), NONE);
    setenv("EMULATED_CUDNN_WILD", "1", 1);
    ck_assert_int_eq(taken("9.0", SGC_ATTENTION_AUTO, 8, 64, 64), NONE);
}
END_TEST

START_TEST(dropout_is_the_own_kernels)
{
    const sgc_attention_shape s = {.B = 2, .T = 20, .C = 128, .H = 2, .dropout = 0.2, .backward = true};
    const int64_t sample[] = {5, 7};
    sgc_device d[2];
    size_t bytes[2];
    call c[2];
    for (int i = 0; i < 2; i++) {
        open_with(&d[i], "cuda_bf16", i ? SGC_ATTENTION_AUTO : SGC_ATTENTION_OWN);
        ck_assert_int_eq(d[i].ops->attention_prepare(&d[i], &s, bytes), SGC_OK);
        ck_assert(bytes[0] == 0 && bytes[1] == 0);
        c[i] = (call){.device = &d[i], .seed = 4, .numbers = SGC_BF16};
        void *y = out(&c[i], s.B * s.T * s.C), *lse = out_wide(&c[i], s.B * s.H * s.T), *qkv = in(&c[i], s.B * s.T * 3 * s.C);
        const sgc_philox_key key = sgc_dropout_key(1, 2);
        const sgc_dropout drop = {.p = s.dropout, .key = constant(&c[i], &key, sizeof(key)), .sample = constant(&c[i], sample, sizeof(sample))};
        d[i].ops->attention_forward(&d[i], y, lse, qkv, s.B, s.T, s.C, s.H, &drop);
        from_device(&c[i], &c[i].arrays[0]);
        from_device(&c[i], &c[i].arrays[1]);
    }
    ck_assert(same_bits(&c[0], &c[1]));
    for (int i = 0; i < 2; i++) {
        free_call(&c[i]);
        sgc_device_close(&d[i]);
    }
}
END_TEST

/* Each test is a child process, and CUDA does not outlive a fork: so a child looks, too. */
static int has_gpu(void)
{
    int status = 1;
    pid_t child = fork();
    if (child == 0) {
        sgc_device d;
        const sgc_status st = open_for(&d, "cuda_bf16", SGC_ATTENTION_CUDNN, false);
        if (st != SGC_OK) fprintf(stderr, "%s\n", sgc_err_message());
        _exit(st == SGC_OK ? 0 : 1);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

#define main with_gpu
UNIT_MAIN("attention by cuDNN", it_agrees_with_the_reference,
          every_run_gives_the_same_bits,
          lent_memory_is_all_that_it_needs,
          a_gradient_in_slices_is_the_same,
          memory_is_that_of_one_slice,
          what_is_asked_for_and_not_to_be_had_is_an_error,
          auto_takes_it_by_a_fixed_rule,
          dropout_is_the_own_kernels)
#undef main

int main(void)
{
    if (has_gpu()) return with_gpu();
    fprintf(stderr, "test_attention: no GPU with cuDNN here\n");
    return 77;
}

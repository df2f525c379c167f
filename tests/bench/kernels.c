/*
 * kernels DEVICE: the rate of every kernel at the shapes of GPT-2 124M, B = 4, T = 256, as two sides of one metric: ours, and what this
 * machine gives: the best rate of all products for those that compute, a copy of as many bytes for those that move memory.
 * The bytes of a kernel are those it cannot avoid: each array once. Small arrays stay in the last cache, for the kernel and for the copy.
 */
#include "bench.h"
#include "conf/config.h"

enum { B = 4, T = 256, N = B * T, C = 768, H = 12, F = 4 * C, V = 50257, R = 320 /* rows of a chunk of logits */, P = 12 * C * C };

typedef struct bench {
    sgc_device device;
    const sgc_device_ops *ops;
    void *x, *y, *z;           /* values [N, F] */
    void *w, *wte;             /* values [C, F], [V, C] */
    void *logits, *dlogits;    /* wide, values [R, V] */
    void *dw, *dwte;           /* wide [P], [V, C] */
    void *bias, *dbias, *stat; /* values [F], wide [F], wide [2, B, H, T] */
    void *master, *m, *v, *grad, *narrow; /* wide [P], the last one values */
    double *loss;              /* [N], also square sums [P / 512] */
    int32_t *token;            /* [N] */
    int64_t sample[B];
} bench;

static void *stat2(bench *b) { return (float *)b->stat + B * H * T; }
static sgc_dropout drop_of(const bench *b, double p) { return (sgc_dropout){p, sgc_dropout_key(1, 1), 0, b->sample}; }

#define OP(name, call) static void name(void *arg) { bench *b = arg; sgc_device *d = &b->device; b->ops->call; }
#define MULTIPLY(name, c_, wide_, add_, a_, ta_, b_, tb_, bias_, m_, n_, k_) \
    OP(name, matmul(d, &(sgc_matmul){.c = c_, .c_is_wide = wide_, .add = add_, .a = a_, .ta = ta_, .b = b_, .tb = tb_, .bias = bias_, .m = m_, .n = n_, .k = k_}))
OP(embed, embedding_forward(d, b->x, b->token, b->wte, b->w, B, T, C, 0))
OP(embed_back, embedding_backward(d, b->dwte, b->dw, b->x, b->token, B, T, C))
OP(norm, layer_norm_forward(d, b->y, b->stat, stat2(b), b->x, b->bias, b->bias, N, C, 1e-5))
OP(norm_back, layer_norm_backward(d, b->y, true, b->dw, b->dbias, b->x, b->z, b->bias, b->stat, stat2(b), N, C))
MULTIPLY(qkv, b->y, false, false, b->x, false, b->w, false, b->bias, N, 3 * C, C)
MULTIPLY(qkv_dx, b->y, false, false, b->x, false, b->w, true, NULL, N, C, 3 * C)
MULTIPLY(qkv_dw, b->dw, true, true, b->x, true, b->y, false, NULL, C, 3 * C, N)
MULTIPLY(proj, b->y, false, false, b->x, false, b->w, false, b->bias, N, C, C)
MULTIPLY(proj_dx, b->y, false, false, b->x, false, b->w, true, NULL, N, C, C)
MULTIPLY(proj_dw, b->dw, true, true, b->x, true, b->y, false, NULL, C, C, N)
MULTIPLY(fc, b->y, false, false, b->x, false, b->w, false, b->bias, N, F, C)
MULTIPLY(fc_dx, b->y, false, false, b->x, false, b->w, true, NULL, N, C, F)
MULTIPLY(fc_dw, b->dw, true, true, b->x, true, b->y, false, NULL, C, F, N)
MULTIPLY(out, b->y, false, false, b->x, false, b->w, false, b->bias, N, C, F)
MULTIPLY(out_dx, b->y, false, false, b->x, false, b->w, true, NULL, N, F, C)
MULTIPLY(out_dw, b->dw, true, true, b->x, true, b->y, false, NULL, F, C, N)
MULTIPLY(head, b->logits, true, false, b->x, false, b->wte, true, NULL, R, V, C)
MULTIPLY(head_dx, b->y, false, false, b->dlogits, false, b->wte, false, NULL, R, C, V)
MULTIPLY(head_dw, b->dwte, true, true, b->dlogits, true, b->x, false, NULL, V, C, R)
OP(bias_back, bias_backward(d, b->dbias, b->x, N, F))
OP(gelu, activation_forward(d, SGC_ACT_GELU_NEW, b->y, b->x, N * F))
OP(gelu_back, activation_backward(d, SGC_ACT_GELU_NEW, b->y, b->z, b->x, N * F))
OP(add, add(d, b->z, b->x, b->y, N * C))
OP(square_sums, block_square_sums(d, b->loss, b->grad, b->ops->wide, P, 512))
OP(to_values, narrow(d, b->narrow, b->master, P))

static void attention(void *arg)
{
    bench *b = arg;
    sgc_dropout none = drop_of(b, 0);
    b->ops->attention_forward(&b->device, b->y, b->stat, b->x, B, T, C, H, &none);
}

static void attention_back(void *arg)
{
    bench *b = arg;
    sgc_dropout none = drop_of(b, 0);
    b->ops->attention_backward(&b->device, b->z, b->y, b->y, b->stat, b->x, B, T, C, H, &none);
}

static void dropout(void *arg)
{
    bench *b = arg;
    sgc_dropout tenth = drop_of(b, 0.1);
    b->ops->dropout(&b->device, b->y, b->x, B, T * C, &tenth);
}

static void loss(void *arg)
{
    bench *b = arg;
    b->ops->cross_entropy(&b->device, b->loss, b->dlogits, b->logits, b->token, R, V, V, 0, 1);
}

static void adamw(void *arg)
{
    bench *b = arg;
    const sgc_adamw a = {.learning_rate = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .t = 10, .grad_scale = 1};
    void *values = b->ops->value == b->ops->wide ? NULL : b->narrow;
    b->ops->adamw(&b->device, values, b->master, b->m, b->v, b->grad, b->ops->wide, P, 0.1, &a);
}

#define PRODUCT(m, n, k) 2.0 * (m) * (n) * (k), 0, 0
#define MOVES(n_values, n_wide) 0, (double)(n_values), (double)(n_wide)

static const struct op {
    const char *name;
    void (*run)(void *);
    double flops;             /* 0: moves memory                        */
    double n_values, n_wide;  /* elements that have to be read or written */
} ops[] = {
    {"c_attn", qkv, PRODUCT(N, 3 * C, C)},
    {"c_attn dX", qkv_dx, PRODUCT(N, 3 * C, C)},
    {"c_attn dW", qkv_dw, PRODUCT(N, 3 * C, C)},
    {"attn.c_proj", proj, PRODUCT(N, C, C)},
    {"attn.c_proj dX", proj_dx, PRODUCT(N, C, C)},
    {"attn.c_proj dW", proj_dw, PRODUCT(N, C, C)},
    {"c_fc", fc, PRODUCT(N, F, C)},
    {"c_fc dX", fc_dx, PRODUCT(N, F, C)},
    {"c_fc dW", fc_dw, PRODUCT(N, F, C)},
    {"mlp.c_proj", out, PRODUCT(N, F, C)},
    {"mlp.c_proj dX", out_dx, PRODUCT(N, F, C)},
    {"mlp.c_proj dW", out_dw, PRODUCT(N, F, C)},
    {"logits", head, PRODUCT(R, V, C)},
    {"logits dX", head_dx, PRODUCT(R, V, C)},
    {"wte dW", head_dw, PRODUCT(R, V, C)},
    {"attention forward", attention, 2.0 * B * T * T * C, 0, 0},
    {"attention backward", attention_back, 5.0 * B * T * T * C, 0, 0},
    {"embedding forward", embed, MOVES(2 * N * C + T * C, 0)},
    {"embedding backward", embed_back, MOVES(N * C, 2 * N * C + 2 * T * C)},
    {"layer norm forward", norm, MOVES(2 * N * C, 0)},
    {"layer norm backward", norm_back, MOVES(4 * N * C, 0)},
    {"bias backward", bias_back, MOVES(N * F, 0)},
    {"gelu forward", gelu, MOVES(2 * N * F, 0)},
    {"gelu backward", gelu_back, MOVES(3 * N * F, 0)},
    {"residual add", add, MOVES(3 * N * C, 0)},
    {"dropout", dropout, MOVES(2 * N * C, 0)},
    {"cross entropy", loss, MOVES((double)R * V, (double)R * V)},
    {"square sums", square_sums, MOVES(0, P)},
};

static void measure(bench *b, const char *row, const struct op *o, bench_copy *c)
{
    if (o->flops > 0) {
        bench_rate((bench_what){row, o->name, "ours", "GFLOP/s"}, 1e-9 * o->flops, 0.05, o->run, b);
        return;
    }
    double bytes = o->n_values * (double)sgc_dtype_bytes(b->ops->value) + o->n_wide * (double)sgc_dtype_bytes(b->ops->wide);
    c->bytes = (size_t)bytes / 2;
    bench_rate((bench_what){row, o->name, "ours", "GB/s"}, 1e-9 * bytes, 0.05, o->run, b);
    bench_rate((bench_what){row, o->name, "copy", "GB/s"}, 1e-9 * bytes, 0.05, bench_run_copy, c);
}

static void prepare(bench *b)
{
    const sgc_dtype value = b->ops->value, wide = b->ops->wide;
    b->x = bench_numbers(value, N * F, -1, 1);
    b->y = bench_numbers(value, N * F, -1, 1);
    b->z = bench_numbers(value, N * F, -1, 1);
    b->w = bench_numbers(value, C * F, -0.1, 0.1);
    b->wte = bench_numbers(value, V * C, -0.1, 0.1);
    b->logits = bench_numbers(wide, R * V, -1, 1);
    b->dlogits = value == wide ? b->logits : bench_numbers(value, R * V, -1, 1);
    b->dw = bench_numbers(wide, P, 0, 0);
    b->dwte = bench_numbers(wide, V * C, 0, 0);
    b->bias = bench_numbers(value, F, 0, 1);
    b->dbias = bench_numbers(wide, F, 0, 0);
    b->stat = bench_numbers(wide, 2 * B * H * T, 1, 2);
    b->master = bench_numbers(wide, P, -0.1, 0.1);
    b->m = bench_numbers(wide, P, -0.1, 0.1);
    b->v = bench_numbers(wide, P, 0.01, 0.1);
    b->grad = bench_numbers(wide, P, -0.1, 0.1);
    b->narrow = bench_numbers(value, P, 0, 0);
    b->loss = bench_memory(sizeof(double) * (N + P / 512));
    b->token = bench_memory(sizeof(int32_t) * N);
    for (int i = 0; i < N; i++) b->token[i] = (int32_t)((uint32_t)i * 2654435761u % V);
}

int main(int argc, char **argv)
{
    static bench b;
    char row[64];
    if (argc != 2) {
        fprintf(stderr, "usage: kernels DEVICE\n");
        return 2;
    }
    if (sgc_device_open(&b.device, argv[1], false) != SGC_OK) {
        fprintf(stderr, "kernels: %s\n", sgc_err_message());
        return 1;
    }
    b.ops = b.device.ops;
    const bool mixed = b.ops->value != b.ops->wide;
    snprintf(row, sizeof(row), "kernels-%s", mixed ? "bf16" : "fp32");
    prepare(&b);
    bench_copy c = {.to = bench_numbers(SGC_F32, 4 * P, 0, 0), .from = bench_numbers(SGC_F32, 4 * P, 0, 0)};
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) measure(&b, row, &ops[i], &c);
    const struct op update = {"adamw", adamw, MOVES(mixed ? P : 0, 7.0 * P)}, rounding = {"rounding to bf16", to_values, MOVES(P, P)};
    measure(&b, row, &update, &c);
    if (mixed) measure(&b, row, &rounding, &c);
    sgc_device_close(&b.device);
    return 0;
}

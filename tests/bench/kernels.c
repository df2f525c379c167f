/*
 * kernels DEVICE [B T [SECONDS]]: the rate of every kernel at the shapes of GPT-2 124M, B = 4, T = 256 unless told, as two sides of one metric: ours, and
 * where it is there cuDNN's (attention), and what this machine gives: the best rate of all products for those that compute, a copy of as many bytes for those that move memory.
 * A rate is measured for 0.05 s unless told, five times.
 * The bytes of a kernel are those it cannot avoid: each array once. Small arrays stay in the last cache, for the kernel and for the copy.
 */
#include "bench.h"
#include "conf/config.h"

#ifndef BENCH_WIDTH /* smaller where GPUs are emulated, which is for trying the program */
#define BENCH_WIDTH 768
#define BENCH_VOCABULARY 50257
#endif
enum { C = BENCH_WIDTH, H = C / 64, F = 4 * C, V = BENCH_VOCABULARY, P = 12 * C * C };
static int64_t B = 4, T = 256, N, R /* rows of a chunk of logits */, L /* their stride */;
static double least_s = 0.05;

typedef struct bench {
    sgc_device device;
    const sgc_device_ops *ops;
    void *x, *y, *z;           /* values [N, F] */
    void *w, *wte;             /* values [C, F], [V, C] */
    void *logits, *dlogits;    /* wide, values [R, L] */
    void *dw, *dwte;           /* wide [P], [V, C] */
    void *bias, *dbias, *stat; /* values [F], wide [F], wide [2, B, H, T] */
    void *master, *m, *v, *grad, *narrow; /* wide [P], the last one values */
    double *loss;              /* [N], also square sums [P / 512] */
    int32_t *token;            /* [N] */
    int64_t *sample;           /* [B] */
    sgc_philox_key *key;       /* [1] */
    double *scale;             /* [1] */
    bench_copy copy;
} bench;

static void *stat2(bench *b) { return (float *)b->stat + B * H * T; }
static sgc_dropout drop_of(const bench *b, double p) { return (sgc_dropout){p, b->key, 0, b->sample}; }

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
OP(fc_dw_bias, matmul(d, &(sgc_matmul){.c = b->dw, .c_is_wide = true, .add = true, .a = b->x, .ta = true, .b = b->y, .m = C, .n = F, .k = N, .sums = b->dbias,
                                       .add_sums = true}))
MULTIPLY(out, b->y, false, false, b->x, false, b->w, false, b->bias, N, C, F)
MULTIPLY(out_dx, b->y, false, false, b->x, false, b->w, true, NULL, N, F, C)
OP(out_dx_slope, matmul(d, &(sgc_matmul){.c = b->y, .a = b->x, .b = b->w, .tb = true, .m = N, .n = F, .k = C, .slope_at = b->z, .activation = SGC_ACT_GELU_NEW}))
MULTIPLY(out_dw, b->dw, true, true, b->x, true, b->y, false, NULL, F, C, N)
OP(head, matmul(d, &(sgc_matmul){.c = b->logits, .c_is_wide = true, .ldc = L, .a = b->x, .b = b->wte, .tb = true, .m = R, .n = V, .k = C}))
OP(head_dx, matmul(d, &(sgc_matmul){.c = b->y, .a = b->dlogits, .lda = L, .b = b->wte, .m = R, .n = C, .k = V}))
OP(head_dw, matmul(d, &(sgc_matmul){.c = b->dwte, .c_is_wide = true, .add = true, .a = b->dlogits, .ta = true, .lda = L, .b = b->x, .m = V, .n = C,
                                    .k = R}))
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

/* A quarter of [N, F] numbers. */
static void *quarter(const bench *b, void *values, int k) { return (char *)values + (size_t)(k * N * C) * sgc_dtype_bytes(b->ops->value); }

static void residual_norm(void *arg)
{
    bench *b = arg;
    sgc_dropout tenth = drop_of(b, 0.1);
    b->ops->residual_norm_forward(&b->device, b->z, b->y, b->stat, stat2(b), b->x, quarter(b, b->x, 1), b->bias, b->bias, B, T, C, 1e-5, &tenth);
}

static void residual_norm_back(void *arg)
{
    bench *b = arg;
    sgc_dropout tenth = drop_of(b, 0.1);
    b->ops->residual_norm_backward(&b->device, b->y, true, quarter(b, b->y, 1), b->dw, b->dbias, b->x, b->z, b->bias, b->stat, stat2(b), B, T, C, &tenth);
}

static void loss(void *arg)
{
    bench *b = arg;
    b->ops->cross_entropy(&b->device, b->loss, b->ops->rounds_in_place ? b->logits : b->dlogits, b->logits, b->token, R, V, L, 0, b->scale);
}

static void adamw(void *arg)
{
    bench *b = arg;
    const sgc_adamw a = {.learning_rate = 1e-6, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .t = 10, .grad_scale = 1};
    const sgc_update_part all = {0, SGC_UPDATE_WITH_DECAY};
    void *values = b->ops->value == b->ops->wide ? NULL : b->narrow;
    b->ops->adamw(&b->device, values, b->master, b->m, b->v, b->grad, b->ops->wide, P, &all, 1, 0.1, &a);
}

#define PRODUCT(m, n, k) 2.0 * (m) * (n) * (k), 0, 0
#define MOVES(n_values, n_wide) 0, (double)(n_values), (double)(n_wide)

struct op {
    const char *name;
    void (*run)(void *);
    double flops;             /* 0: moves memory                        */
    double n_values, n_wide;  /* elements that have to be read or written */
};

/* Within a device's memory, as bench_run_copy within the host's. */
static void copy_on_device(void *arg)
{
    bench *b = arg;
    sgc_device_copy(&b->device, b->copy.to, b->copy.from, b->copy.bytes);
}

static void measure(bench *b, const char *row, const struct op *o)
{
    const bool is_host = !b->ops->memory;
    if (o->flops > 0) {
        bench_rate_on(&b->device, (bench_what){row, o->name, "ours", "GFLOP/s"}, 1e-9 * o->flops, least_s, o->run, b);
        return;
    }
    double bytes = o->n_values * (double)sgc_dtype_bytes(b->ops->value) + o->n_wide * (double)sgc_dtype_bytes(b->ops->wide);
    b->copy.bytes = (size_t)bytes / 2;
    bench_rate_on(&b->device, (bench_what){row, o->name, "ours", "GB/s"}, 1e-9 * bytes, least_s, o->run, b);
    bench_rate_on(&b->device, (bench_what){row, o->name, "copy", "GB/s"}, 1e-9 * bytes, least_s, is_host ? bench_run_copy : copy_on_device,
                  is_host ? (void *)&b->copy : b);
}

/* The same attention by cuDNN, if this program, machine and type have it; the gradient as the program asks for it, in a fixed order, which is not the fastest that
 * cuDNN has: peer_attention.py measures that. */
static void measure_cudnn(bench *b, const char *row)
{
    sgc_device d;
    const sgc_device_spec spec = {.name = b->ops->name, .node_size = 1, .attention = SGC_ATTENTION_CUDNN};
    if (!b->ops->memory || sgc_device_open_spec(&d, &spec) != SGC_OK) return;
    bench other = *b;
    size_t bytes[2];
    other.device = d;
    const sgc_attention_shape s = {.B = B, .T = T, .C = C, .H = H, .backward = true};
    if (d.ops->attention_prepare(&d, &s, bytes) == SGC_OK) {
        bench_rate_on(&other.device, (bench_what){row, "attention forward", "cuDNN", "GFLOP/s"}, 2e-9 * (double)(B * T * T * C), least_s, attention, &other);
        bench_rate_on(&other.device, (bench_what){row, "attention backward", "cuDNN", "GFLOP/s"}, 5e-9 * (double)(B * T * T * C), least_s, attention_back, &other);
    }
    sgc_device_close(&other.device);
}

static void measure_all(bench *b, const char *row)
{
    const bool mixed = b->ops->value != b->ops->wide;
    const struct op ops[] = {
        {"c_attn", qkv, PRODUCT(N, 3 * C, C)},
        {"c_attn dX", qkv_dx, PRODUCT(N, 3 * C, C)},
        {"c_attn dW", qkv_dw, PRODUCT(N, 3 * C, C)},
        {"attn.c_proj", proj, PRODUCT(N, C, C)},
        {"attn.c_proj dX", proj_dx, PRODUCT(N, C, C)},
        {"attn.c_proj dW", proj_dw, PRODUCT(N, C, C)},
        {"c_fc", fc, PRODUCT(N, F, C)},
        {"c_fc dX", fc_dx, PRODUCT(N, F, C)},
        {"c_fc dW", fc_dw, PRODUCT(N, F, C)},
        {"c_fc dW with bias", fc_dw_bias, PRODUCT(N, F, C)},
        {"mlp.c_proj", out, PRODUCT(N, F, C)},
        {"mlp.c_proj dX", out_dx, PRODUCT(N, F, C)},
        {"mlp.c_proj dX with slope", out_dx_slope, PRODUCT(N, F, C)},
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
        {"residual norm forward", residual_norm, MOVES(4 * N * C, 0)},
        {"residual norm backward", residual_norm_back, MOVES(5 * N * C, 0)},
        {"gelu forward", gelu, MOVES(2 * N * F, 0)},
        {"gelu backward", gelu_back, MOVES(3 * N * F, 0)},
        {"residual add", add, MOVES(3 * N * C, 0)},
        {"dropout", dropout, MOVES(2 * N * C, 0)},
        {"cross entropy", loss, MOVES((double)R * V, (double)R * V)},
        {"square sums", square_sums, MOVES(0, P)},
        {"adamw", adamw, MOVES(mixed ? P : 0, 7.0 * P)},
    };
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) measure(b, row, &ops[i]);
    if (mixed) measure(b, row, &(struct op){"rounding to bf16", to_values, MOVES(P, P)});
    measure_cudnn(b, row);
}

/* Any memory of the host to the device's. */
static void *moved(bench *b, void *host, size_t bytes)
{
    if (!b->ops->memory) return host;
    void *p = sgc_device_alloc(&b->device, SGC_MEM_DATA, bytes);
    bench_fail(p ? sgc_device_write(&b->device, p, host, bytes) : SGC_ENOMEM);
    free(host);
    return p;
}

static void *numbers(bench *b, sgc_dtype type, int64_t n, double low, double high)
{
    return moved(b, bench_numbers(type, n, low, high), (size_t)n * sgc_dtype_bytes(type));
}

static void prepare(bench *b)
{
    const sgc_dtype value = b->ops->value, wide = b->ops->wide;
    b->x = numbers(b, value, N * F, -1, 1);
    b->y = numbers(b, value, N * F, -1, 1);
    b->z = numbers(b, value, N * F, -1, 1);
    b->w = numbers(b, value, C * F, -0.1, 0.1);
    b->wte = numbers(b, value, V * C, -0.1, 0.1);
    b->logits = numbers(b, wide, R * L, -1, 1);
    b->dlogits = value == wide ? b->logits : numbers(b, value, R * L, -1, 1);
    b->dw = numbers(b, wide, P, 0, 0);
    b->dwte = numbers(b, wide, V * C, 0, 0);
    b->bias = numbers(b, value, F, 0, 1);
    b->dbias = numbers(b, wide, F, 0, 0);
    b->stat = numbers(b, wide, 2 * B * H * T, 1, 2);
    b->master = numbers(b, wide, P, -0.1, 0.1);
    b->m = numbers(b, wide, P, -0.1, 0.1);
    b->v = numbers(b, wide, P, 0.01, 0.1);
    b->grad = numbers(b, wide, P, -0.1, 0.1);
    b->narrow = numbers(b, value, P, 0, 0);
    b->loss = moved(b, bench_memory(sizeof(double) * (size_t)(N + P / 512)), sizeof(double) * (size_t)(N + P / 512));
    int32_t *token = bench_memory(sizeof(*token) * (size_t)N);
    int64_t *sample = bench_memory(sizeof(*sample) * (size_t)B);
    sgc_philox_key *key = bench_memory(sizeof(*key));
    double *scale = bench_memory(sizeof(*scale));
    *key = sgc_dropout_key(1, 1);
    *scale = 1;
    for (int64_t i = 0; i < N; i++) token[i] = (int32_t)((uint32_t)i * 2654435761u % V);
    for (int64_t i = 0; i < B; i++) sample[i] = i;
    b->token = moved(b, token, sizeof(*token) * (size_t)N);
    b->sample = moved(b, sample, sizeof(*sample) * (size_t)B);
    b->key = moved(b, key, sizeof(*key));
    b->scale = moved(b, scale, sizeof(*scale));
    /* the largest of all that move memory */
    int64_t n_copied = 4 * (int64_t)P > 2 * N * F ? 4 * (int64_t)P : 2 * N * F;
    if (n_copied < R * V) n_copied = R * V;
    b->copy = (bench_copy){.to = numbers(b, SGC_F32, n_copied, 0, 0), .from = numbers(b, SGC_F32, n_copied, 0, 0)};
}

int main(int argc, char **argv)
{
    static bench b;
    char row[64];
    if (argc > 3) B = atoll(argv[2]), T = atoll(argv[3]);
    if (argc > 4) least_s = atof(argv[4]);
    if (argc < 2 || argc == 3 || argc > 5 || B < 1 || T < 1) {
        fprintf(stderr, "usage: kernels DEVICE [B T [SECONDS]]\n");
        return 2;
    }
    N = B * T;
    if (sgc_device_open(&b.device, argv[1], false) != SGC_OK) {
        fprintf(stderr, "kernels: %s\n", sgc_err_message());
        return 1;
    }
    b.ops = b.device.ops;
    R = (int64_t)(b.ops->chunk_bytes / (V * sgc_dtype_bytes(b.ops->wide)) / 32 * 32); /* the most that the loss head takes */
    if (R > N) R = N;
    L = (V + b.ops->row_multiple - 1) / b.ops->row_multiple * b.ops->row_multiple;
    snprintf(row, sizeof(row), "kernels-%s", b.ops->value == SGC_F32 ? "fp32" : b.ops->value == SGC_F16 ? "fp16" : "bf16");
    prepare(&b);
    measure_all(&b, row);
    sgc_device_close(&b.device);
    return 0;
}

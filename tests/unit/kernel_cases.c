/* Every kernel of the ops table as a case, with odd sizes. */
#include "kernels.h"

#include "conf/config.h"

#define OPS c->device->ops

static const int64_t samples[] = {3, 123456789012, 0, 77, 5, 6, 7, 8};

static sgc_dropout dropout_of(call *c, double p)
{
    static sgc_philox_key key; /* devices without memory of their own read it here */
    key = sgc_dropout_key(11, 22);
    return (sgc_dropout){.p = p, .key = constant(c, &key, sizeof(key)), .stream = 5, .sample = constant(c, samples, sizeof(samples))};
}

static int32_t *tokens(int64_t n, int64_t V)
{
    int32_t *token = malloc((size_t)n * sizeof(*token) + 1);
    ck_assert_ptr_nonnull(token);
    for (int64_t i = 0; i < n; i++) token[i] = (int32_t)((i * i * 7 + 3 * i) % V);
    return token;
}

/* size: B, T, C, V, position */
static void embedding_forward(call *c)
{
    int64_t B = c->size[0], T = c->size[1], C = c->size[2], V = c->size[3], position = c->size[4];
    void *x = out(c, B * T * C), *wte = in(c, V * C), *wpe = in(c, (position + T) * C);
    int32_t *token = tokens(B * T, V);
    OPS->embedding_forward(c->device, x, constant(c, token, (size_t)(B * T) * sizeof(*token)), wte, wpe, B, T, C, position);
    free(token);
}

static void embedding_backward(call *c)
{
    int64_t B = c->size[0], T = c->size[1], C = c->size[2], V = c->size[3];
    void *dwte = out_wide(c, V * C), *dwpe = out_wide(c, T * C), *dx = in(c, B * T * C);
    int32_t *token = tokens(B * T, V);
    OPS->embedding_backward(c->device, dwte, dwpe, dx, constant(c, token, (size_t)(B * T) * sizeof(*token)), B, T, C);
    free(token);
}

/* size: N, C */
static void layer_norm_forward(call *c)
{
    int64_t N = c->size[0], C = c->size[1];
    void *y = out(c, N * C), *mean = out_wide(c, N), *rstd = out_wide(c, N), *x = in(c, N * C), *w = in(c, C), *b = in(c, C);
    OPS->layer_norm_forward(c->device, y, mean, rstd, x, w, b, N, C, 1e-2);
}

static void layer_norm_backward_mode(call *c, bool add)
{
    int64_t N = c->size[0], C = c->size[1];
    void *dx = out(c, N * C), *dw = out_wide(c, C), *db = out_wide(c, C), *dy = in(c, N * C), *x = in(c, N * C), *w = in(c, C), *mean = in_wide(c, N);
    void *rstd = (in_wide(c, N), positive(c));
    OPS->layer_norm_backward(c->device, dx, add, dw, db, dy, x, w, mean, rstd, N, C);
}
static void layer_norm_backward(call *c) { layer_norm_backward_mode(c, false); }
static void layer_norm_backward_add(call *c) { layer_norm_backward_mode(c, true); }

/* size: B, T, C, percent dropped. apart: by the calls that one call stands for. */
static void residual_norm_mode(call *c, bool apart)
{
    int64_t B = c->size[0], T = c->size[1], C = c->size[2], n = B * T * C;
    sgc_dropout drop = dropout_of(c, (double)c->size[3] / 100);
    void *x = in(c, n), *r = in(c, n), *w = in(c, C), *b = in(c, C), *dy = in(c, n), *z = out(c, n), *y = out(c, n), *in_place = out(c, n);
    /* Statistics of numbers that were rounded are not those of the reference. */
    bool rounds = !apart && OPS->value != OPS->wide;
    void *mean = rounds ? in_wide(c, B * T) : out_wide(c, B * T), *rstd = rounds ? in_wide(c, B * T) : out_wide(c, B * T);
    void *given_mean = in_wide(c, B * T), *given_rstd = (in_wide(c, B * T), positive(c)), *branch = in(c, n);
    for (int k = 0; k < 2; k++) {
        void *sum = k ? in_place : z, *addend = k ? in_place : x;
        if (apart) {
            OPS->dropout(c->device, branch, r, B, T * C, &drop);
            OPS->add(c->device, sum, addend, branch, n);
            OPS->layer_norm_forward(c->device, y, mean, rstd, sum, w, b, B * T, C, 1e-2);
        } else {
            OPS->residual_norm_forward(c->device, sum, y, mean, rstd, addend, r, w, b, B, T, C, 1e-2, &drop);
        }
    }
    for (int add = 0; add < 2; add++) {
        void *dx = out(c, n), *dr = out(c, n), *dw = out_wide(c, C), *db = out_wide(c, C);
        if (apart) {
            OPS->layer_norm_backward(c->device, dx, add, dw, db, dy, x, w, given_mean, given_rstd, B * T, C);
            OPS->dropout(c->device, dr, dx, B, T * C, &drop);
        } else {
            OPS->residual_norm_backward(c->device, dx, add, dr, dw, db, dy, x, w, given_mean, given_rstd, B, T, C, &drop);
        }
    }
}
static void residual_norm(call *c) { residual_norm_mode(c, false); }
static void residual_norm_apart(call *c) { residual_norm_mode(c, true); }

/* size: m, n, k; all transpositions, with and without bias and sum, into values and into wide numbers */
static void matmul(call *c)
{
    int64_t m = c->size[0], n = c->size[1], k = c->size[2];
    void *a = in(c, m * k), *b = in(c, k * n), *bias = in(c, n);
    for (int mode = 0; mode < 16; mode++) {
        bool is_wide = mode & 8, add = mode & 1, ta = mode & 2, tb = mode & 4;
        void *product = is_wide ? out_wide(c, m * n) : out(c, m * n);
        OPS->matmul(c->device, &(sgc_matmul){.c = product, .c_is_wide = is_wide, .add = add, .a = a, .ta = ta, .b = b, .tb = tb,
                                             .bias = mode % 8 == 0 || mode % 8 == 7 || mode % 8 == 3 ? bias : NULL, .m = m, .n = n, .k = k});
    }
}

/* size: m, n, k. Products with an activation behind them, whose input is wanted or not, and with the slope of one. */
static void matmul_activation(call *c)
{
    int64_t m = c->size[0], n = c->size[1], k = c->size[2];
    void *a = in(c, m * k), *b = in(c, k * n), *bias = in(c, n), *at = in(c, m * n);
    for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
        sgc_matmul p = {.a = a, .b = b, .m = m, .n = n, .k = k, .activation = kind};
        if (kind % 2 == 0) p.bias = bias;
        p.activated = out(c, m * n);
        OPS->matmul(c->device, &p);
        p.c = out(c, m * n);
        p.activated = out(c, m * n);
        OPS->matmul(c->device, &p);
        OPS->matmul(c->device, &(sgc_matmul){.c = out(c, m * n), .a = a, .b = b, .tb = true, .m = m, .n = n, .k = k, .slope_at = at, .activation = kind});
    }
}

/* The same with gaps between rows, which stay as they are. */
static void matmul_strided(call *c)
{
    int64_t m = c->size[0], n = c->size[1], k = c->size[2], longest = m > n ? m > k ? m : k : n > k ? n : k, ld = longest + 5;
    void *a = in(c, longest * ld), *b = in(c, longest * ld);
    for (int mode = 0; mode < 16; mode++) {
        bool is_wide = mode & 8;
        void *product = is_wide ? out_wide(c, m * ld) : out(c, m * ld);
        OPS->matmul(c->device, &(sgc_matmul){.c = product, .c_is_wide = is_wide, .add = mode & 1, .a = a, .ta = mode & 2, .b = b, .tb = mode & 4, .m = m,
                                             .n = n, .k = k, .ldc = ld, .lda = ld, .ldb = ld});
    }
}

/* size: k, n: gradients of weights and of the bias. */
static void matmul_sums(call *c)
{
    int64_t m = 3, k = c->size[0], n = c->size[1];
    void *a = in(c, k * m), *b = in(c, k * n);
    for (int add = 0; add < 4; add++) {
        void *product = out_wide(c, m * n), *sums = out_wide(c, n);
        OPS->matmul(c->device, &(sgc_matmul){.c = product, .c_is_wide = true, .add = add & 1, .a = a, .ta = true, .b = b, .m = m, .n = n, .k = k, .sums = sums,
                                             .add_sums = add & 2});
    }
}

/* size: B, T, C, H, percent dropped */
static void attention(call *c)
{
    int64_t B = c->size[0], T = c->size[1], C = c->size[2], H = c->size[3];
    sgc_dropout drop = dropout_of(c, (double)c->size[4] / 100);
    void *y = out(c, B * T * C), *lse = out_wide(c, B * H * T), *dqkv = out(c, B * T * 3 * C), *qkv = in(c, B * T * 3 * C), *dy = in(c, B * T * C);
    OPS->attention_forward(c->device, y, lse, qkv, B, T, C, H, &drop);
    OPS->attention_backward(c->device, dqkv, dy, y, lse, qkv, B, T, C, H, &drop);
}

/* size: B, T, C, H, position, capacity */
static void attention_cached(call *c)
{
    int64_t B = c->size[0], T = c->size[1], C = c->size[2], H = c->size[3], position = c->size[4], capacity = c->size[5];
    void *y = out(c, B * T * C), *cache_k = out(c, B * capacity * C), *cache_v = out(c, B * capacity * C), *qkv = in(c, B * T * 3 * C);
    OPS->attention_cached(c->device, y, cache_k, cache_v, qkv, B, T, C, H, position, capacity);
}

/* size: n; all kinds */
static void activation(call *c)
{
    int64_t n = c->size[0];
    void *x = in(c, n), *dy = in(c, n);
    for (int kind = SGC_ACT_GELU_NEW; kind <= SGC_ACT_TANH; kind++) {
        OPS->activation_forward(c->device, kind, out(c, n), x, n);
        OPS->activation_backward(c->device, kind, out(c, n), dy, x, n);
    }
}

static void add(call *c)
{
    int64_t n = c->size[0];
    void *z = out(c, n), *x = in(c, n), *y = in(c, n);
    OPS->add(c->device, z, x, y, n);
    OPS->add(c->device, z, z, y, n);
}

/* size: B, n_per_sample, percent dropped */
static void dropout(call *c)
{
    int64_t B = c->size[0], n = c->size[1];
    sgc_dropout drop = dropout_of(c, (double)c->size[2] / 100);
    void *y = out(c, B * n), *x = in(c, B * n);
    OPS->dropout(c->device, y, x, B, n, &drop);
}

/* size: N, V, percent smoothed, with gradient, gap between rows; every fifth row is ignored */
static void cross_entropy(call *c)
{
    int64_t N = c->size[0], V = c->size[1], ld = V + c->size[4];
    static const double scale = 0.125;
    double *loss = out_double(c, N);
    void *logits = in_wide(c, N * ld), *dlogits = c->size[3] ? out(c, N * ld) : NULL;
    int32_t *target = tokens(N, V);
    for (int64_t n = 3; n < N; n += 5) target[n] = -100;
    OPS->cross_entropy(c->device, loss, dlogits, logits, constant(c, target, (size_t)N * sizeof(*target)), N, V, ld, (double)c->size[2] / 100,
                       constant(c, &scale, sizeof(scale)));
    free(target);
}

/* size: n, number of the update, parts, which begin at multiples of 16 if n is one. apart: each part by a call. */
static void adamw_mode(call *c, bool apart)
{
    int64_t n = c->size[0];
    int n_parts = (int)c->size[2];
    sgc_update_part parts[64];
    const sgc_adamw a = {.learning_rate = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .t = c->size[1], .grad_scale = 0.7};
    for (int k = 0; k < n_parts; k++) {
        int64_t first = k * n / n_parts;
        parts[k] = (sgc_update_part){n % 16 == 0 ? first / 16 * 16 : first, (sgc_update)((k + 2) % 3)};
    }
    for (int mode = 0; mode < 3; mode++) { /* gradients of either type, with and without values to write */
        char *values = mode < 2 ? out(c, n) : NULL, *p = out_wide(c, n), *m = out_wide(c, n), *g = mode ? in(c, n) : in_wide(c, n);
        char *v = (out_wide(c, n), positive(c));
        const sgc_dtype g_type = mode ? OPS->value : OPS->wide;
        const int64_t wide = (int64_t)sgc_dtype_bytes(OPS->wide), value = (int64_t)sgc_dtype_bytes(OPS->value), g_bytes = (int64_t)sgc_dtype_bytes(g_type);
        for (int k = 0; k < (apart ? n_parts : 0); k++) {
            const sgc_update_part one = {0, parts[k].kind};
            int64_t at = parts[k].first, n_here = (k + 1 < n_parts ? parts[k + 1].first : n) - at;
            OPS->adamw(c->device, values ? values + at * value : NULL, p + at * wide, m + at * wide, v + at * wide, g + at * g_bytes, g_type, n_here, &one, 1, 0.1, &a);
        }
        if (!apart) OPS->adamw(c->device, values, p, m, v, g, g_type, n, parts, n_parts, 0.1, &a);
    }
}
static void adamw(call *c) { adamw_mode(c, false); }
static void adamw_apart(call *c) { adamw_mode(c, true); }

/* size: n, block */
static void block_square_sums(call *c)
{
    int64_t n = c->size[0], block = c->size[1];
    double *sums = out_double(c, n / block), *wide_sums = out_double(c, n / block);
    void *x = in(c, n), *wide = in_wide(c, n);
    OPS->block_square_sums(c->device, sums, x, OPS->value, n, block);
    OPS->block_square_sums(c->device, wide_sums, wide, OPS->wide, n, block);
}

/* size: n */
static void narrow(call *c)
{
    int64_t n = c->size[0];
    void *values = out(c, n), *wide = in_wide(c, n);
    OPS->narrow(c->device, values, wide, n);
}

/* The longer ones are those from which on GPUs cut rows and columns in another way. */
#define ROW_SIZES 14, {{1, 1}, {3, 1}, {1, 17}, {17, 3}, {5, 63}, {64, 64}, {65, 65}, {33, 100}, {130, 300}, {200, 768}, {4300, 8}, {35, 1600}, {3, 2056}, \
    {33, 4104}}

const kernel_case kernel_cases[] = {
    {"embedding_forward", embedding_forward, 1e-7, 1, 4, {{1, 1, 1, 1, 0}, {2, 3, 17, 5, 4}, {3, 65, 100, 11, 1}, {4, 64, 128, 50, 0}}},
    {"embedding_backward", embedding_backward, 1e-6, 0, 7, {{1, 1, 1, 1}, {2, 3, 17, 5}, {3, 65, 100, 11}, {4, 64, 256, 50}, {5, 260, 24, 3}, {2, 700, 3, 70001},
     {1, 64, 2056, 2}}},
    {"layer_norm_forward", layer_norm_forward, 1e-6, 1, ROW_SIZES},
    {"layer_norm_backward", layer_norm_backward, 2e-6, 1, ROW_SIZES},
    {"layer_norm_backward_add", layer_norm_backward_add, 2e-6, 1, ROW_SIZES},
    {"residual_norm", residual_norm, 2e-6, 3, 14, {{1, 1, 1, 0}, {3, 1, 1, 50}, {2, 1, 17, 10}, {1, 17, 3, 0}, {5, 1, 63, 10}, {4, 16, 64, 10}, {5, 13, 65, 30},
     {3, 11, 100, 10}, {2, 65, 300, 0}, {2, 100, 768, 10}, {8, 37, 8, 10}, {5, 7, 1600, 10}, {1, 3, 2056, 50}, {3, 11, 4104, 10}}},
    {"matmul", matmul, 4e-6, 1, 14, {{1, 1, 1}, {1, 3, 17}, {17, 1, 3}, {3, 17, 1}, {63, 64, 65}, {100, 65, 63}, {1, 300, 64}, {257, 100, 31}, {300, 513, 40},
     {64, 64, 4099}, {100, 3, 2500}, {8200, 3, 5}, {5, 8200, 3}, {3, 5, 8300}}},
    {"matmul_sums", matmul_sums, 4e-6, 0, ROW_SIZES},
    {"attention", attention, 3e-6, 2, 16, {{1, 1, 1, 1, 0}, {2, 3, 4, 2, 0}, {1, 17, 3, 1, 30}, {2, 63, 34, 2, 0}, {1, 64, 64, 1, 10}, {1, 65, 65, 1, 10},
     {2, 100, 192, 3, 0}, {2, 101, 192, 3, 25}, {1, 130, 48, 3, 50}, {1, 256, 128, 2, 10}, {8, 20, 8, 4, 10}, {1, 300, 20, 1, 0}, {1, 200, 260, 2, 0},
     {1, 193, 80, 1, 10}, {1, 130, 256, 2, 10}, {2, 67, 256, 1, 0}}},
    {"attention_cached", attention_cached, 1e-6, 1, 6, {{1, 1, 1, 1, 0, 1}, {1, 1, 64, 1, 99, 100}, {2, 3, 34, 2, 5, 17}, {3, 17, 192, 3, 0, 64}, {1, 1, 768, 12, 300, 333},
     {2, 1, 65, 5, 2, 3}}},
    {"activation", activation, 1e-6, 1, 8, {{1}, {3}, {17}, {63}, {64}, {65}, {100}, {40001}}},
    {"add", add, 1e-7, 2, 6, {{1}, {3}, {17}, {64}, {65}, {40001}}},
    {"dropout", dropout, 1e-7, 1, 8, {{1, 1, 10}, {2, 3, 50}, {3, 4104, 10}, {3, 17, 10}, {1, 65, 90}, {8, 100, 10}, {2, 20001, 10}, {2, 100, 0}}},
    {"matmul_activation", matmul_activation, 1e-5, 3, 6, {{1, 1, 1}, {3, 17, 1}, {17, 64, 65}, {65, 63, 40}, {100, 200, 33}, {33, 96, 128}}},
    {"matmul_strided", matmul_strided, 4e-6, 1, 4, {{1, 3, 17}, {63, 64, 65}, {257, 100, 31}, {20, 17, 300}}},
    {"cross_entropy", cross_entropy, 1e-6, 1, 13, {{1, 1, 0, 1}, {4, 2, 0, 1}, {5, 50257, 10, 1}, {3, 2001, 0, 1, 47}, {3, 3, 10, 1, 2}, {7, 17, 0, 1}, {9, 63, 10, 1},
     {4, 64, 0, 0}, {5, 65, 10, 0}, {6, 100, 50, 1}, {20, 257, 0, 1},
     {11, 5003, 10, 1}, {2, 12288, 0, 1}}},
    {"adamw", adamw, 1e-6, 1, 8, {{1, 1, 1}, {3, 2, 3}, {17, 1, 2}, {64, 100, 4}, {65, 7, 5}, {512, 1, 8}, {1024, 3, 33}, {40001, 3, 40}}},
    {"narrow", narrow, 1e-7, 0, 5, {{1}, {17}, {64}, {65}, {40001}}},
    {"block_square_sums", block_square_sums, 1e-14, 0, 5, {{1, 1}, {51, 17}, {1024, 512}, {130, 65}, {51200, 512}}},
};

const int n_kernel_cases = sizeof(kernel_cases) / sizeof(kernel_cases[0]);

const kernel_case *find_case(const char *name)
{
    const kernel_case *k = kernel_cases;
    while (k < kernel_cases + n_kernel_cases && strcmp(k->name, name) != 0) k++;
    ck_assert_msg(k < kernel_cases + n_kernel_cases, "no case %s", name);
    return k;
}

static void compare_calls(sgc_device *d, const kernel_case *k, void (*apart)(call *))
{
    for (int i = 0; i < k->n_sizes; i++) {
        const int64_t *s = k->size[i];
        call one = run(k->kernel, d, s, 1, d->ops->value), several = run(apart, d, s, 1, d->ops->value);
        for (int a = 0; a < one.n_arrays; a++) from_device(&one, &one.arrays[a]); /* what the other has as output need not be one here */
        ck_assert_msg(same_bits(&several, &one), "%s on %s at %lld %lld %lld %lld", k->name, d->ops->name, (long long)s[0], (long long)s[1], (long long)s[2],
                      (long long)s[3]);
        free_call(&one);
        free_call(&several);
    }
}

void compare_joined(sgc_device *d)
{
    compare_calls(d, find_case("residual_norm"), residual_norm_apart);
    compare_calls(d, find_case("adamw"), adamw_apart);
}

/* GPUs make sums of thousands of terms one after the other. Tensor cores do not round them but cut them off, after every eight terms or sixteen. */
static double tolerance_of(const sgc_device *d, const kernel_case *k)
{
    if (!d->ops->memory || strncmp(k->name, "matmul", 6) != 0) return k->tolerance;
    return k->tolerance * (sgc_dtype_bytes(d->ops->value) == 2 ? 10 : 2);
}

/* How often a case on d differs from ref64 by more than it may. Each time is told: who has a GPU for a while wants to know of all. */
static int n_wrong(sgc_device *d, const kernel_case *k, const char *name)
{
    int n = 0;
    sgc_device reference;
    const bool short_values = sgc_dtype_bytes(d->ops->value) == 2;
    const double unit = d->ops->value == SGC_F16 ? 0x1p-11 : 0x1p-8;
    open_device(&reference, "ref64", false);
    for (int i = 0; i < k->n_sizes; i++) {
        const int64_t *s = k->size[i];
        call a = run(k->kernel, d, s, 1, d->ops->value), b = run(k->kernel, &reference, s, 1, d->ops->value);
        for (int of_16_bits = 0; of_16_bits <= short_values; of_16_bits++) {
            double tolerance = of_16_bits ? (k->bf16_tolerance + 0.01) * unit : tolerance_of(d, k);
            double error = distance(&a, &b, of_16_bits);
            if (error <= tolerance) continue; /* a NaN is not */
            n++;
            fprintf(stderr, "%s on %s at %s, %s outputs at %lld %lld %lld %lld %lld: %.3g, more than %.3g\n", k->name, d->ops->name, name,
                    of_16_bits ? "short" : "wide", (long long)s[0], (long long)s[1], (long long)s[2], (long long)s[3], (long long)s[4], error, tolerance);
        }
        free_call(&a);
        free_call(&b);
    }
    sgc_device_close(&reference);
    return n;
}

void compare_case(sgc_device *d, const kernel_case *k, const char *name) { ck_assert_msg(n_wrong(d, k, name) == 0, "%s on %s at %s", k->name, d->ops->name, name); }

void compare_all(sgc_device *d, const char *name)
{
    int n = 0;
    for (int k = 0; k < n_kernel_cases; k++) n += n_wrong(d, &kernel_cases[k], name);
    ck_assert_msg(n == 0, "%s at %s: %d outputs, as told", d->ops->name, name, n);
}

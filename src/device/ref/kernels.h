/*
 * The reference kernels: every op as plain loops, sums in double. ref32.c and ref64.c include this file once each, with
 * REAL, OPS and OPS_NAME defined. It is what the fast kernels and all derivatives are checked against, so it shares no code with them.
 * Letters as in device.h.
 */
#include <math.h>
#include <string.h>

#include "conf/config.h"
#include "device/device_impl.h"

static void embedding_forward(sgc_device *d, void *x_, const int32_t *token, const void *wte_, const void *wpe_, int64_t B, int64_t T, int64_t C,
                              int64_t position)
{
    (void)d;
    REAL *x = x_;
    const REAL *wte = wte_, *wpe = wpe_;
    for (int64_t n = 0; n < B * T; n++)
        for (int64_t c = 0; c < C; c++) x[n * C + c] = wte[token[n] * C + c] + wpe[(position + n % T) * C + c];
}

static void embedding_backward(sgc_device *d, void *dwte_, void *dwpe_, const void *dx_, const int32_t *token, int64_t B, int64_t T, int64_t C)
{
    (void)d;
    REAL *dwte = dwte_, *dwpe = dwpe_;
    const REAL *dx = dx_;
    for (int64_t n = 0; n < B * T; n++)
        for (int64_t c = 0; c < C; c++) {
            dwte[token[n] * C + c] += dx[n * C + c];
            dwpe[n % T * C + c] += dx[n * C + c];
        }
}

static void layer_norm_forward(sgc_device *d, void *y_, void *mean_, void *rstd_, const void *x_, const void *w_, const void *b_, int64_t N,
                               int64_t C, double epsilon)
{
    (void)d;
    REAL *y = y_, *mean = mean_, *rstd = rstd_;
    const REAL *x = x_, *w = w_, *b = b_;
    for (int64_t n = 0; n < N; n++, x += C, y += C) {
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < C; c++) sum += x[c];
        double m = sum / (double)C;
        for (int64_t c = 0; c < C; c++) squares += (x[c] - m) * (x[c] - m);
        double r = 1 / sqrt(squares / (double)C + epsilon);
        for (int64_t c = 0; c < C; c++) y[c] = (REAL)((x[c] - m) * r * w[c] + b[c]);
        mean[n] = (REAL)m;
        rstd[n] = (REAL)r;
    }
}

static void layer_norm_backward(sgc_device *d, void *dx_, bool add_dx, void *dw_, void *db_, const void *dy_, const void *x_, const void *w_,
                                const void *mean_, const void *rstd_, int64_t N, int64_t C)
{
    (void)d;
    REAL *dx = dx_, *dw = dw_, *db = db_;
    const REAL *dy = dy_, *x = x_, *w = w_, *mean = mean_, *rstd = rstd_;
    for (int64_t n = 0; n < N; n++, x += C, dx += C, dy += C) {
        double sum = 0, dot = 0; /* of the gradient of the normalized x, and of it with that */
        for (int64_t c = 0; c < C; c++) {
            double normalized = ((double)x[c] - mean[n]) * rstd[n], g = (double)dy[c] * w[c];
            sum += g;
            dot += g * normalized;
        }
        for (int64_t c = 0; c < C; c++) {
            double normalized = ((double)x[c] - mean[n]) * rstd[n], g = (double)dy[c] * w[c];
            double value = rstd[n] * (g - sum / (double)C - normalized * dot / (double)C);
            dw[c] += (REAL)(dy[c] * normalized);
            db[c] += dy[c];
            dx[c] = (REAL)(add_dx ? dx[c] + value : value);
        }
    }
}

/* What element e of sample number b of the batch is multiplied by. */
static double keep_factor(const sgc_dropout *drop, int64_t b, int64_t e)
{
    if (drop->p == 0) return 1;
    uint64_t block = (uint64_t)e / 4, s = (uint64_t)drop->sample[b];
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32) << 16 | drop->stream, (uint32_t)s, (uint32_t)(s >> 32)}, random[4];
    sgc_philox(*drop->key, counter, random);
    return random[e % 4] < drop->p * 0x1p32 ? 0 : 1 / (1 - drop->p);
}

static void residual_norm_forward(sgc_device *d, void *z_, void *y, void *mean, void *rstd, const void *x_, const void *r_, const void *w, const void *b,
                                  int64_t B, int64_t T, int64_t C, double epsilon, const sgc_dropout *drop)
{
    REAL *z = z_;
    const REAL *x = x_, *r = r_;
    for (int64_t n = 0; n < B * T; n++)
        for (int64_t c = 0; c < C; c++) z[n * C + c] = x[n * C + c] + r[n * C + c] * (REAL)keep_factor(drop, n / T, n % T * C + c);
    layer_norm_forward(d, y, mean, rstd, z, w, b, B * T, C, epsilon);
}

static void residual_norm_backward(sgc_device *d, void *dx_, bool add_dx, void *dr_, void *dw, void *db, const void *dy, const void *x, const void *w,
                                   const void *mean, const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop)
{
    REAL *dx = dx_, *dr = dr_;
    layer_norm_backward(d, dx, add_dx, dw, db, dy, x, w, mean, rstd, B * T, C);
    for (int64_t n = 0; n < B * T; n++)
        for (int64_t c = 0; c < C; c++) dr[n * C + c] = dx[n * C + c] * (REAL)keep_factor(drop, n / T, n % T * C + c);
}

/* Value and derivative of an activation at x. */
static void activation(int kind, double x, double *value, double *slope)
{
    double t, s;
    switch ((sgc_activation)kind) {
    case SGC_ACT_GELU_NEW:
        s = sqrt(2 / M_PI);
        t = tanh(s * (x + 0.044715 * x * x * x));
        *value = 0.5 * x * (1 + t);
        *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * s * (1 + 3 * 0.044715 * x * x);
        break;
    case SGC_ACT_GELU:
        t = 0.5 * erfc(-x * M_SQRT1_2);
        *value = x * t;
        *slope = t + x * exp(-0.5 * x * x) / sqrt(2 * M_PI);
        break;
    case SGC_ACT_RELU:
        *value = x < 0 ? 0 : x; /* a NaN stays one */
        *slope = x > 0;
        break;
    case SGC_ACT_SILU:
        s = 1 / (1 + exp(-x));
        *value = x * s;
        *slope = s * (1 + x * (1 - s));
        break;
    case SGC_ACT_TANH:
        t = tanh(x);
        *value = t;
        *slope = 1 - t * t;
        break;
    }
}

static void matmul(sgc_device *d, const sgc_matmul *p)
{
    (void)d;
    REAL *c = p->c ? p->c : p->activated, *activated = p->activated, *sums = p->sums;
    const REAL *a = p->a, *b = p->b, *bias = p->bias, *slope_at = p->slope_at;
    double value = 0, slope = 0;
    const int64_t ldc = p->ldc ? p->ldc : p->n, lda = p->lda ? p->lda : p->ta ? p->m : p->k, ldb = p->ldb ? p->ldb : p->tb ? p->k : p->n;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = bias ? bias[j] : 0;
            for (int64_t l = 0; l < p->k; l++) sum += (double)(p->ta ? a[l * lda + i] : a[i * lda + l]) * (p->tb ? b[j * ldb + l] : b[l * ldb + j]);
            if (slope_at) {
                activation(p->activation, slope_at[i * ldc + j], &value, &slope);
                sum *= slope;
            }
            c[i * ldc + j] = (REAL)(p->add ? c[i * ldc + j] + sum : sum);
            if (activated) {
                activation(p->activation, c[i * ldc + j], &value, &slope);
                activated[i * ldc + j] = (REAL)value;
            }
        }
    for (int64_t j = 0; j < p->n && sums; j++) {
        double sum = p->add_sums ? sums[j] : 0;
        for (int64_t l = 0; l < p->k; l++) sum += b[l * ldb + j];
        sums[j] = (REAL)sum;
    }
}

static double dot_product(const REAL *a, const REAL *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* One query against keys and values 0..n-1, whose rows are `stride` apart; returns log of the sum of exponentials of the scores. */
static double attend(REAL *y, const REAL *q, const REAL *k, const REAL *v, int64_t stride, int64_t n, int64_t D, const sgc_dropout *drop,
                     int64_t b, int64_t first_element)
{
    double scale = 1 / sqrt((double)D), max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) max = fmax(max, scale * dot_product(q, k + j * stride, D));
    for (int64_t j = 0; j < n; j++) sum += exp(scale * dot_product(q, k + j * stride, D) - max);
    double lse = max + log(sum);
    for (int64_t c = 0; c < D; c++) y[c] = 0;
    for (int64_t j = 0; j < n; j++) {
        double weight = exp(scale * dot_product(q, k + j * stride, D) - lse);
        if (drop) weight *= keep_factor(drop, b, first_element + j);
        for (int64_t c = 0; c < D; c++) y[c] += (REAL)(weight * v[j * stride + c]);
    }
    return lse;
}

static void attention_forward(sgc_device *d, void *y_, void *lse_, const void *qkv_, int64_t B, int64_t T, int64_t C, int64_t H,
                              const sgc_dropout *drop)
{
    (void)d;
    REAL *y = y_, *lse = lse_;
    const REAL *qkv = qkv_;
    int64_t D = C / H;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < T; i++) {
                const REAL *first = qkv + b * T * 3 * C + h * D; /* q of position 0 */
                lse[(b * H + h) * T + i] = (REAL)attend(y + (b * T + i) * C + h * D, first + i * 3 * C, first + C, first + 2 * C, 3 * C, i + 1, D,
                                                        drop, b, (h * T + i) * T);
            }
}

static void attention_backward(sgc_device *d, void *dqkv_, const void *dy_, const void *y_, const void *lse_, const void *qkv_, int64_t B, int64_t T,
                               int64_t C, int64_t H, const sgc_dropout *drop)
{
    (void)d;
    REAL *dqkv = dqkv_;
    const REAL *dy = dy_, *y = y_, *lse = lse_, *qkv = qkv_;
    int64_t D = C / H;
    double scale = 1 / sqrt((double)D);
    memset(dqkv, 0, (size_t)(B * T * 3 * C) * sizeof(REAL));
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < T; i++) {
                int64_t at_i = (b * T + i) * 3 * C + h * D, at_y = (b * T + i) * C + h * D;
                double mean_gradient = dot_product(dy + at_y, y + at_y, D); /* of the weights of row i, dropout included */
                for (int64_t j = 0; j <= i; j++) {
                    int64_t at_j = (b * T + j) * 3 * C + h * D;
                    double keep = keep_factor(drop, b, (h * T + i) * T + j);
                    double weight = exp(scale * dot_product(qkv + at_i, qkv + at_j + C, D) - lse[(b * H + h) * T + i]);
                    double dweight = keep * dot_product(dy + at_y, qkv + at_j + 2 * C, D);
                    double dscore = weight * (dweight - mean_gradient) * scale;
                    for (int64_t c = 0; c < D; c++) {
                        dqkv[at_i + c] += (REAL)(dscore * qkv[at_j + C + c]);
                        dqkv[at_j + C + c] += (REAL)(dscore * qkv[at_i + c]);
                        dqkv[at_j + 2 * C + c] += (REAL)(keep * weight * dy[at_y + c]);
                    }
                }
            }
}

static void attention_cached(sgc_device *d, void *y_, void *cache_k_, void *cache_v_, const void *qkv_, int64_t B, int64_t T, int64_t C, int64_t H,
                             int64_t position, int64_t capacity)
{
    (void)d;
    REAL *y = y_, *cache_k = cache_k_, *cache_v = cache_v_;
    const REAL *qkv = qkv_;
    int64_t D = C / H;
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++) {
            const REAL *row = qkv + (b * T + t) * 3 * C;
            memcpy(cache_k + (b * capacity + position + t) * C, row + C, (size_t)C * sizeof(REAL));
            memcpy(cache_v + (b * capacity + position + t) * C, row + 2 * C, (size_t)C * sizeof(REAL));
            for (int64_t h = 0; h < H; h++)
                attend(y + (b * T + t) * C + h * D, row + h * D, cache_k + b * capacity * C + h * D, cache_v + b * capacity * C + h * D, C,
                       position + t + 1, D, NULL, b, 0);
        }
}

static void activation_forward(sgc_device *d, int kind, void *y_, const void *x_, int64_t n)
{
    (void)d;
    REAL *y = y_;
    const REAL *x = x_;
    double value = 0, slope = 0;
    for (int64_t i = 0; i < n; i++) {
        activation(kind, x[i], &value, &slope);
        y[i] = (REAL)value;
    }
}

static void activation_backward(sgc_device *d, int kind, void *dx_, const void *dy_, const void *x_, int64_t n)
{
    (void)d;
    REAL *dx = dx_;
    const REAL *dy = dy_, *x = x_;
    double value = 0, slope = 0;
    for (int64_t i = 0; i < n; i++) {
        activation(kind, x[i], &value, &slope);
        dx[i] = (REAL)(dy[i] * slope);
    }
}

static void add(sgc_device *d, void *z_, const void *x_, const void *y_, int64_t n)
{
    (void)d;
    REAL *z = z_;
    const REAL *x = x_, *y = y_;
    for (int64_t i = 0; i < n; i++) z[i] = x[i] + y[i];
}

static void dropout(sgc_device *d, void *y_, const void *x_, int64_t B, int64_t n_per_sample, const sgc_dropout *drop)
{
    (void)d;
    REAL *y = y_;
    const REAL *x = x_;
    for (int64_t b = 0; b < B; b++)
        for (int64_t e = 0; e < n_per_sample; e++)
            y[b * n_per_sample + e] = x[b * n_per_sample + e] * (REAL)keep_factor(drop, b, e);
}

static void cross_entropy(sgc_device *d, double *loss, void *dlogits, const void *logits, const int32_t *target, int64_t N, int64_t V,
                          int64_t ld, double smoothing, const double *scale)
{
    (void)d;
    for (int64_t n = 0; n < N; n++) {
        const REAL *row = (const REAL *)logits + n * ld;
        REAL *gradient = dlogits ? (REAL *)dlogits + n * ld : NULL;
        loss[n] = 0;
        if (target[n] == -100) {
            for (int64_t v = 0; v < V && gradient; v++) gradient[v] = 0;
            continue;
        }
        double max = -INFINITY, sum = 0, total = 0;
        for (int64_t v = 0; v < V; v++) max = row[v] > max ? row[v] : max;
        for (int64_t v = 0; v < V; v++) {
            sum += exp(row[v] - max);
            total += row[v];
        }
        double lse = max + log(sum);
        loss[n] = (1 - smoothing) * (lse - row[target[n]]) + smoothing * (lse - total / (double)V);
        for (int64_t v = 0; v < V && gradient; v++) {
            double wanted = (v == target[n] ? 1 - smoothing : 0) + smoothing / (double)V;
            gradient[v] = (REAL)(*scale * (exp(row[v] - lse) - wanted));
        }
    }
}

static void adamw(sgc_device *d, void *values_, void *p_, void *m_, void *v_, const void *g_, sgc_dtype g_type, int64_t n, const sgc_update_part *parts,
                  int n_parts, double weight_decay, const sgc_adamw *a)
{
    (void)d, (void)g_type; /* there is one type */
    REAL *values = values_, *p = p_, *m = m_, *v = v_;
    const REAL *g = g_;
    double correction1 = 1 - pow(a->beta1, (double)a->t), correction2 = 1 - pow(a->beta2, (double)a->t);
    for (int64_t i = 0; i < n; i++) {
        int part = 0;
        while (part + 1 < n_parts && parts[part + 1].first <= i) part++;
        if (parts[part].kind == SGC_UPDATE_NONE) continue;
        double gradient = g[i] * a->grad_scale;
        if (parts[part].kind == SGC_UPDATE_WITH_DECAY) p[i] = (REAL)(p[i] * (1 - a->learning_rate * weight_decay));
        m[i] = (REAL)(a->beta1 * m[i] + (1 - a->beta1) * gradient);
        v[i] = (REAL)(a->beta2 * v[i] + (1 - a->beta2) * gradient * gradient);
        double denominator = sqrt(v[i]) / sqrt(correction2) + a->epsilon;
        p[i] = (REAL)(p[i] - a->learning_rate / correction1 * m[i] / denominator);
        if (values) values[i] = p[i];
    }
}

static void block_square_sums(sgc_device *d, double *out, const void *x_, sgc_dtype x_type, int64_t n, int64_t block)
{
    (void)d, (void)x_type;
    const REAL *x = x_;
    for (int64_t i = 0; i < n / block; i++) {
        out[i] = 0;
        for (int64_t j = 0; j < block; j++) out[i] += (double)x[i * block + j] * x[i * block + j];
    }
}

static void narrow(sgc_device *d, void *values, const void *wide, int64_t n)
{
    (void)d;
    memcpy(values, wide, (size_t)n * sizeof(REAL));
}

static void add_into(sgc_device *d, void *sum_, const void *x_, int64_t n)
{
    (void)d;
    REAL *sum = sum_;
    const REAL *x = x_;
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

const sgc_device_ops OPS = {
    .name = OPS_NAME,
    .value = sizeof(REAL) == 4 ? SGC_F32 : SGC_F64,
    .wide = sizeof(REAL) == 4 ? SGC_F32 : SGC_F64,
    .chunk_bytes = (size_t)64 << 20, .row_multiple = 1,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward = layer_norm_backward,
    .residual_norm_forward = residual_norm_forward,
    .residual_norm_backward = residual_norm_backward,
    .matmul = matmul,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attention_cached = attention_cached,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .add = add,
    .dropout = dropout,
    .cross_entropy = cross_entropy,
    .adamw = adamw,
    .block_square_sums = block_square_sums,
    .narrow = narrow,
    .add_into = add_into,
};

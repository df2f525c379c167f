/*
 * Layer norm, column sums and cross entropy: loops over rows, and down columns. Compiled once per type of values, as elementwise.h is.
 * Parameters' gradients, statistics and logits are floats.
 */

/* Sums of a row, and of the squares of its distances from m, in four parts, so that additions need not wait for each other. */
V_INLINE vf TYPED(row_sum)(const VALUE *x, int64_t C)
{
    vf sum[4] = {0};
    int64_t c = 0;
    for (; c + 4 * V_N <= C; c += 4 * V_N) V_UNROLL for (int i = 0; i < 4; i++) sum[i] += V_GET(x + c + i * V_N, V_N);
    for (; c < C; c += V_N) sum[0] += V_GET(x + c, C - c);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

V_INLINE vf TYPED(row_squares)(const VALUE *x, float m, int64_t C)
{
    vf sum[4] = {0}, d;
    int64_t c = 0;
    for (; c + 4 * V_N <= C; c += 4 * V_N)
        V_UNROLL for (int i = 0; i < 4; i++) {
            d = V_GET(x + c + i * V_N, V_N) - m;
            sum[i] = V_FMA(d, d, sum[i]);
        }
    for (; c < C; c += V_N) {
        d = v_first_n(V_GET(x + c, C - c) - m, C - c);
        sum[0] = V_FMA(d, d, sum[0]);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static void TYPED(layer_norm_forward)(void *y_, float *mean, float *rstd, const void *x_, const void *w_, const void *b_, int64_t N, int64_t C,
                                      double epsilon)
{
    VALUE *y = y_;
    const VALUE *x = x_, *w = w_, *b = b_;
    for (int64_t n = 0; n < N; n++, x += C, y += C) {
        float m = (float)(v_sum(TYPED(row_sum)(x, C)) / (double)C);
        float r = (float)(1 / sqrt(v_sum(TYPED(row_squares)(x, m, C)) / (double)C + epsilon));
        V_EACH(c, C, V_PUT(y + c, V_FMA((V_GET(x + c, k) - m) * r, V_GET(w + c, k), V_GET(b + c, k)), k));
        mean[n] = m;
        rstd[n] = r;
    }
}

static void TYPED(layer_norm_backward)(void *dx_, bool add_dx, float *dw, float *db, const void *dy_, const void *x_, const void *w_, const float *mean,
                                       const float *rstd, int64_t N, int64_t C)
{
    VALUE *dx = dx_;
    const VALUE *dy = dy_, *x = x_, *w = w_;
    memset(dw, 0, (size_t)C * sizeof(*dw));
    memset(db, 0, (size_t)C * sizeof(*db));
    for (int64_t n = 0; n < N; n++, x += C, dx += C, dy += C) {
        vf sum = {0}, dot = {0};
        float m = mean[n], r = rstd[n];
        V_EACH(c, C, {
            vf d = V_GET(dy + c, k), normalized = (V_GET(x + c, k) - m) * r, g = d * V_GET(w + c, k); /* zero behind the last column */
            sum += g;
            dot = V_FMA(g, normalized, dot);
            v_store_n(dw + c, V_FMA(d, normalized, v_load_n(dw + c, k)), k);
            v_store_n(db + c, v_load_n(db + c, k) + d, k);
        });
        float mean_g = (float)(v_sum(sum) / (double)C), mean_dot = (float)(v_sum(dot) / (double)C);
        V_EACH(c, C, {
            vf g = V_GET(dy + c, k) * V_GET(w + c, k), value = r * (g - mean_g - (V_GET(x + c, k) - m) * r * mean_dot);
            V_PUT(dx + c, add_dx ? V_GET(dx + c, k) + value : value, k);
        });
    }
}

static void TYPED(column_sums)(float *sum, const void *x_, int64_t N, int64_t C)
{
    const VALUE *x = x_;
    memset(sum, 0, (size_t)C * sizeof(*sum));
    int64_t n = 0;
    for (; n + 4 <= N; n += 4) /* four rows at a time, so that the sums are loaded and stored less often */
        V_EACH(c, C, {
            const VALUE *at = x + n * C + c;
            vf upper = V_GET(at, k) + V_GET(at + C, k), lower = V_GET(at + 2 * C, k) + V_GET(at + 3 * C, k);
            v_store_n(sum + c, v_load_n(sum + c, k) + (upper + lower), k);
        });
    for (; n < N; n++) V_EACH(c, C, v_store_n(sum + c, v_load_n(sum + c, k) + V_GET(x + n * C + c, k), k));
}

static void TYPED(cross_entropy)(double *loss, void *dlogits_, const float *logits, float *exps, int32_t target, int64_t V, double smoothing,
                                 double scale)
{
    VALUE *dlogits = dlogits_;
    *loss = 0;
    if (target == -100) {
        if (dlogits) memset(dlogits, 0, (size_t)V * sizeof(*dlogits));
        return;
    }
    double of_target = logits[target], total;
    float max = row_max(logits, V);
    double sum = dlogits ? row_exp_sum(exps, logits, V, max, &total) : row_exp_sum(NULL, logits, V, max, &total);
    double lse = max + log(sum);
    *loss = (1 - smoothing) * (lse - of_target);
    if (smoothing != 0) *loss += smoothing * (lse - total / (double)V);
    if (!dlogits) return;
    vf factor = v_set((float)(scale / sum)), spread = v_set((float)(-scale * smoothing / (double)V));
    /* the target's gradient is a difference of nearly equal numbers, made in double */
    double of_loss = scale * (exps[target] / sum - (1 - smoothing) - smoothing / (double)V);
    V_EACH(v, V, V_PUT(dlogits + v, V_FMA(v_load_n(exps + v, k), factor, spread), k));
    V_PUT(dlogits + target, v_set((float)of_loss), 1);
}

/* Activations, sums, dropout, the AdamW update: loops over elements that do not know each other. */

/* Value, or derivative times g, of an activation of conf/config.h. */
V_INLINE vf activation_value(int kind, vf x)
{
    switch (kind) {
    case SGC_ACT_GELU_NEW: /* 0.5 x (1 + tanh u) = x sigmoid(2u) */
        return x * v_sigmoid(1.59576912f * V_FMA(0.044715f * x, x * x, x));
    case SGC_ACT_GELU:
        return 0.5f * x * (1.0f + v_erf(0.707106781f * x));
    case SGC_ACT_RELU:
        return v_select(x < 0.0f, v_set(0), x); /* a NaN stays one */
    case SGC_ACT_SILU:
        return x * v_sigmoid(x);
    default:
        return v_tanh(x);
    }
}

V_INLINE vf activation_slope(int kind, vf x)
{
    vf s, z = x * x;
    switch (kind) {
    case SGC_ACT_GELU_NEW:
        s = v_sigmoid(1.59576912f * V_FMA(0.044715f * x, z, x));
        return V_FMA(s * (1.0f - s), x * V_FMA(v_set(0.214064444f), z, v_set(1.59576912f)), s);
    case SGC_ACT_GELU:
        return V_FMA(0.398942280f * x, v_exp(-0.5f * z), 0.5f + 0.5f * v_erf(0.707106781f * x));
    case SGC_ACT_RELU:
        return v_select(x > 0.0f, v_set(1), v_set(0));
    case SGC_ACT_SILU:
        s = v_sigmoid(x);
        return V_FMA(s * (1.0f - s), x, s);
    default:
        s = v_tanh(x);
        return 1.0f - s * s;
    }
}

/* One loop per kind, so that the choice is outside of it. */
V_INLINE void activation_forward_kind(const int kind, float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_N) v_store_n(y + i, activation_value(kind, v_load_n(x + i, n - i)), n - i);
}

V_INLINE void activation_backward_kind(const int kind, float *dx, const float *dy, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_N)
        v_store_n(dx + i, v_load_n(dy + i, n - i) * activation_slope(kind, v_load_n(x + i, n - i)), n - i);
}

static void activation_forward(int kind, float *y, const float *x, int64_t n)
{
    switch ((sgc_activation)kind) {
    case SGC_ACT_GELU_NEW: activation_forward_kind(SGC_ACT_GELU_NEW, y, x, n); break;
    case SGC_ACT_GELU: activation_forward_kind(SGC_ACT_GELU, y, x, n); break;
    case SGC_ACT_RELU: activation_forward_kind(SGC_ACT_RELU, y, x, n); break;
    case SGC_ACT_SILU: activation_forward_kind(SGC_ACT_SILU, y, x, n); break;
    case SGC_ACT_TANH: activation_forward_kind(SGC_ACT_TANH, y, x, n); break;
    }
}

static void activation_backward(int kind, float *dx, const float *dy, const float *x, int64_t n)
{
    switch ((sgc_activation)kind) {
    case SGC_ACT_GELU_NEW: activation_backward_kind(SGC_ACT_GELU_NEW, dx, dy, x, n); break;
    case SGC_ACT_GELU: activation_backward_kind(SGC_ACT_GELU, dx, dy, x, n); break;
    case SGC_ACT_RELU: activation_backward_kind(SGC_ACT_RELU, dx, dy, x, n); break;
    case SGC_ACT_SILU: activation_backward_kind(SGC_ACT_SILU, dx, dy, x, n); break;
    case SGC_ACT_TANH: activation_backward_kind(SGC_ACT_TANH, dx, dy, x, n); break;
    }
}

static void add(float *z, const float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_N) v_store_n(z + i, v_load_n(x + i, n - i) + v_load_n(y + i, n - i), n - i);
}

static void dropout(float *y, const float *x, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample, uint32_t threshold,
                    float scale)
{
    float keep[4 * V_N];
    for (int64_t i = 0; i < n; i += 4 * V_N) {
        v_keep_factors(keep, key, stream, sample, (uint64_t)(first + i) / 4, threshold, scale);
        for (int64_t j = 0; j < 4 * V_N && i + j < n; j += V_N)
            v_store_n(y + i + j, v_load_n(x + i + j, n - i - j) * v_load(keep + j), n - i - j);
    }
}

static void adamw(float *p, float *m, float *v, const float *g, int64_t n, const sgc_adamw_factors *a)
{
    for (int64_t i = 0; i < n; i += V_N) {
        int64_t k = n - i;
        vf gradient = v_load_n(g + i, k) * a->grad_scale;
        vf weight = v_load_n(p + i, k) * a->decay;
        vf first = v_load_n(m + i, k) * a->beta1 + gradient * a->one_minus_beta1;
        vf second = v_load_n(v + i, k) * a->beta2 + gradient * gradient * a->one_minus_beta2;
        vf denominator = V_SQRT(second) / a->root_correction2 + a->epsilon;
        v_store_n(m + i, first, k);
        v_store_n(v + i, second, k);
        v_store_n(p + i, weight - a->step_size * (first / denominator), k);
    }
}

static double square_sum(const float *x, int64_t n)
{
    vd sum_low = {0}, sum_high = {0}, low, high;
    for (int64_t i = 0; i < n; i += V_N) {
        v_to_double(v_load_n(x + i, n - i), &low, &high);
        sum_low += low * low;
        sum_high += high * high;
    }
    return v_sum_double(sum_low + sum_high);
}

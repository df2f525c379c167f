/*
 * Loops over elements that do not know each other, and the square sum. Compiled once per type of values: VALUE is the type, TYPED(name) the
 * name of a function for it. Arithmetic is in float.
 */

/* One loop per kind, so that the choice is outside of it. */
V_INLINE void TYPED(activation_forward_kind)(const int kind, VALUE *y, const VALUE *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_N) V_PUT(y + i, activation_value(kind, V_GET(x + i, n - i)), n - i);
}

V_INLINE void TYPED(activation_backward_kind)(const int kind, VALUE *dx, const VALUE *dy, const VALUE *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_N) V_PUT(dx + i, V_GET(dy + i, n - i) * activation_slope(kind, V_GET(x + i, n - i)), n - i);
}

static void TYPED(activation_forward)(int kind, void *y, const void *x, int64_t n)
{
    switch ((sgc_activation)kind) {
    case SGC_ACT_GELU_NEW: TYPED(activation_forward_kind)(SGC_ACT_GELU_NEW, y, x, n); break;
    case SGC_ACT_GELU: TYPED(activation_forward_kind)(SGC_ACT_GELU, y, x, n); break;
    case SGC_ACT_RELU: TYPED(activation_forward_kind)(SGC_ACT_RELU, y, x, n); break;
    case SGC_ACT_SILU: TYPED(activation_forward_kind)(SGC_ACT_SILU, y, x, n); break;
    case SGC_ACT_TANH: TYPED(activation_forward_kind)(SGC_ACT_TANH, y, x, n); break;
    }
}

static void TYPED(activation_backward)(int kind, void *dx, const void *dy, const void *x, int64_t n)
{
    switch ((sgc_activation)kind) {
    case SGC_ACT_GELU_NEW: TYPED(activation_backward_kind)(SGC_ACT_GELU_NEW, dx, dy, x, n); break;
    case SGC_ACT_GELU: TYPED(activation_backward_kind)(SGC_ACT_GELU, dx, dy, x, n); break;
    case SGC_ACT_RELU: TYPED(activation_backward_kind)(SGC_ACT_RELU, dx, dy, x, n); break;
    case SGC_ACT_SILU: TYPED(activation_backward_kind)(SGC_ACT_SILU, dx, dy, x, n); break;
    case SGC_ACT_TANH: TYPED(activation_backward_kind)(SGC_ACT_TANH, dx, dy, x, n); break;
    }
}

static void TYPED(add)(void *z_, const void *x_, const void *y_, int64_t n)
{
    VALUE *z = z_;
    const VALUE *x = x_, *y = y_;
    for (int64_t i = 0; i < n; i += V_N) V_PUT(z + i, V_GET(x + i, n - i) + V_GET(y + i, n - i), n - i);
}

static void TYPED(add_to_wide)(float *z, const void *x_, int64_t n)
{
    const VALUE *x = x_;
    for (int64_t i = 0; i < n; i += V_N) v_store_n(z + i, v_load_n(z + i, n - i) + V_GET(x + i, n - i), n - i);
}

static void TYPED(widen)(float *z, const void *x_, int64_t n)
{
    const VALUE *x = x_;
    for (int64_t i = 0; i < n; i += V_N) v_store_n(z + i, V_GET(x + i, n - i), n - i);
}

static void TYPED(narrow)(void *z_, const float *x, int64_t n)
{
    VALUE *z = z_;
    for (int64_t i = 0; i < n; i += V_N) V_PUT(z + i, v_load_n(x + i, n - i), n - i);
}

static void TYPED(dropout)(void *y_, const void *x_, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample, uint32_t threshold,
                           float scale)
{
    VALUE *y = y_;
    const VALUE *x = x_;
    float keep[4 * V_N];
    for (int64_t i = 0; i < n; i += 4 * V_N) {
        v_keep_factors(keep, key, stream, sample, (uint64_t)(first + i) / 4, threshold, scale);
        for (int64_t j = 0; j < 4 * V_N && i + j < n; j += V_N)
            V_PUT(y + i + j, V_GET(x + i + j, n - i - j) * v_load(keep + j), n - i - j);
    }
}

static void TYPED(adamw)(void *values_, float *p, float *m, float *v, const void *g, bool g_is_wide, int64_t n, const sgc_adamw_factors *a)
{
    VALUE *values = values_;
    for (int64_t i = 0; i < n; i += V_N) {
        vf gradient = g_is_wide ? v_load_n((const float *)g + i, n - i) : V_GET((const VALUE *)g + i, n - i);
        vf weight = adamw_step(p + i, m + i, v + i, gradient, n - i, a);
        if (values) V_PUT(values + i, weight, n - i);
    }
}

static double TYPED(square_sum)(const void *x, bool is_wide, int64_t n)
{
    vd sum_low = {0}, sum_high = {0}, low, high;
    for (int64_t i = 0; i < n; i += V_N) {
        v_to_double(is_wide ? v_load_n((const float *)x + i, n - i) : V_GET((const VALUE *)x + i, n - i), &low, &high);
        sum_low += low * low;
        sum_high += high * high;
    }
    return v_sum_double(sum_low + sum_high);
}

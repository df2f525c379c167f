/*
 * Loops over elements that do not know each other, and the square sum. Compiled once per type of values: VALUE is the type, TYPED(name) the
 * name of a function for it. Arithmetic is in float.
 */

/* One loop per kind, so that the choice is outside of it. */
V_INLINE void TYPED(activation_forward_kind)(const int kind, VALUE *y, const VALUE *x, int64_t n)
{
    V_EACH(i, n, V_PUT(y + i, activation_value(kind, sizeof(VALUE) == sizeof(sgc_bf16), V_GET(x + i, k)), k));
}

V_INLINE void TYPED(activation_backward_kind)(const int kind, VALUE *dx, const VALUE *dy, const VALUE *x, int64_t n)
{
    V_EACH(i, n, V_PUT(dx + i, V_GET(dy + i, k) * activation_slope(kind, sizeof(VALUE) == sizeof(sgc_bf16), V_GET(x + i, k)), k));
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
    V_EACH(i, n, V_PUT(z + i, V_GET(x + i, k) + V_GET(y + i, k), k));
}

static void TYPED(add_to_wide)(float *z, const void *x_, int64_t n)
{
    const VALUE *x = x_;
    V_EACH(i, n, v_store_n(z + i, v_load_n(z + i, k) + V_GET(x + i, k), k));
}

static void TYPED(widen)(float *z, const void *x_, int64_t n)
{
    const VALUE *x = x_;
    V_EACH(i, n, v_store_n(z + i, V_GET(x + i, k), k));
}

static void TYPED(narrow)(void *z_, const float *x, int64_t n)
{
    VALUE *z = z_;
    V_EACH(i, n, V_PUT(z + i, v_load_n(x + i, k), k));
}

static void TYPED(dropout)(void *y_, const void *x_, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample, uint32_t threshold,
                           float scale)
{
    VALUE *y = y_;
    const VALUE *x = x_;
    float keep[5 * V_N] = {0}; /* the last V_N are read and not used */
    for (int64_t i = 0, m; i < n; i += m) {
        const int64_t skipped = (first + i) % 4; /* of the first four: once at most */
        m = n - i < 4 * V_N - skipped ? n - i : 4 * V_N - skipped;
        v_keep_factors(keep, key, stream, sample, (uint64_t)(first + i) / 4, threshold, scale);
        for (int64_t j = 0; j < m; j += V_N) V_PUT(y + i + j, V_GET(x + i + j, m - j) * v_load(keep + skipped + j), m - j);
    }
}

static void TYPED(residual)(void *z_, const void *x_, const void *r_, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample,
                            uint32_t threshold, float scale)
{
    VALUE *z = z_;
    const VALUE *x = x_, *r = r_;
    float keep[5 * V_N] = {0};
    if (threshold == 0) {
        TYPED(add)(z, x, r, n);
        return;
    }
    for (int64_t i = 0, m; i < n; i += m) {
        const int64_t skipped = (first + i) % 4;
        m = n - i < 4 * V_N - skipped ? n - i : 4 * V_N - skipped;
        v_keep_factors(keep, key, stream, sample, (uint64_t)(first + i) / 4, threshold, scale);
        for (int64_t j = 0; j < m; j += V_N) {
            vf kept = V_GET(r + i + j, m - j) * v_load(keep + skipped + j);
            if (sizeof(VALUE) == sizeof(sgc_bf16)) kept = v_widen(v_narrow(kept)); /* as if it had been in memory */
            V_PUT(z + i + j, V_GET(x + i + j, m - j) + kept, m - j);
        }
    }
}

/* n numbers from element i on, wide or values */
V_INLINE vf TYPED(load_either)(const void *x, bool is_wide, int64_t i, int64_t n)
{
    return is_wide ? v_load_n((const float *)x + i, n) : V_GET((const VALUE *)x + i, n);
}

static void TYPED(adamw)(void *values_, float *p, float *m, float *v, const void *g, bool g_is_wide, int64_t n, const sgc_adamw_factors *a)
{
    VALUE *values = values_;
    V_EACH(i, n, {
        vf weight = adamw_step(p + i, m + i, v + i, TYPED(load_either)(g, g_is_wide, i, k), k, a);
        if (values) V_PUT(values + i, weight, k);
    });
}

static double TYPED(square_sum)(const void *x, bool is_wide, int64_t n)
{
    vd even_low = {0}, even_high = {0}, odd_low = {0}, odd_high = {0}, low, high; /* apart, so that additions need not wait for each other */
    int64_t first = 0;
    for (; first + 2 * V_N <= n; first += 2 * V_N) {
        v_to_double(TYPED(load_either)(x, is_wide, first, V_N), &low, &high);
        even_low += low * low;
        even_high += high * high;
        v_to_double(TYPED(load_either)(x, is_wide, first + V_N, V_N), &low, &high);
        odd_low += low * low;
        odd_high += high * high;
    }
    for (; first < n; first += V_N) {
        v_to_double(TYPED(load_either)(x, is_wide, first, n - first), &low, &high);
        even_low += low * low;
        even_high += high * high;
    }
    return v_sum_double((even_low + even_high) + (odd_low + odd_high));
}

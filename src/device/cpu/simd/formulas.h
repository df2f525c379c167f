/* What is done with one vector of numbers: activations and their derivatives, the AdamW update. */

V_INLINE vf sigmoid(bool is_coarse, vf x) { return is_coarse ? v_sigmoid_coarse(x) : v_sigmoid(x); }

/* kind: of conf/config.h; is_coarse: the result is rounded to bf16 */
V_INLINE vf activation_value(int kind, bool is_coarse, vf x)
{
    switch (kind) {
    case SGC_ACT_GELU_NEW: /* 0.5 x (1 + tanh u) = x sigmoid(2u) */
        return x * sigmoid(is_coarse, 1.59576912f * V_FMA(0.044715f * x, x * x, x));
    case SGC_ACT_GELU:
        return 0.5f * x * (1.0f + v_erf(0.707106781f * x));
    case SGC_ACT_RELU:
        return v_select(x < 0.0f, v_set(0), x); /* a NaN stays one */
    case SGC_ACT_SILU:
        return x * sigmoid(is_coarse, x);
    default:
        return v_tanh(x);
    }
}

V_INLINE vf activation_slope(int kind, bool is_coarse, vf x)
{
    vf s, z = x * x;
    switch (kind) {
    case SGC_ACT_GELU_NEW:
        s = sigmoid(is_coarse, 1.59576912f * V_FMA(0.044715f * x, z, x));
        return V_FMA(s * (1.0f - s), x * V_FMA(v_set(0.214064444f), z, v_set(1.59576912f)), s);
    case SGC_ACT_GELU:
        return V_FMA(0.398942280f * x, v_exp(-0.5f * z), 0.5f + 0.5f * v_erf(0.707106781f * x));
    case SGC_ACT_RELU:
        return v_select(x > 0.0f, v_set(1), v_set(0));
    case SGC_ACT_SILU:
        s = sigmoid(is_coarse, x);
        return V_FMA(s * (1.0f - s), x, s);
    default:
        s = v_tanh(x);
        return 1.0f - s * s;
    }
}

/* The first k elements at p, m, v; returns the new weights. */
V_INLINE vf adamw_step(float *p, float *m, float *v, vf gradient, int64_t k, const sgc_adamw_factors *a)
{
    gradient *= a->grad_scale;
    vf weight = v_load_n(p, k) * a->decay;
    vf first = v_load_n(m, k) * a->beta1 + gradient * a->one_minus_beta1;
    vf second = v_load_n(v, k) * a->beta2 + gradient * gradient * a->one_minus_beta2;
    vf denominator = V_SQRT(second) / a->root_correction2 + a->epsilon;
    weight -= a->step_size * (first / denominator);
    v_store_n(m, first, k);
    v_store_n(v, second, k);
    v_store_n(p, weight, k);
    return weight;
}

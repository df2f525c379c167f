/* Activations, sums, dropout, rounding. */
#include "device/cuda/dropout.cuh"
#include "device/cuda/elements.cuh"

#include "conf/config.h"

/* exp(-|a|) and 1 / (1 + that), from which come the logistic function of a and its derivative without cancellation. */
struct logistic {
    float small, large;
    bool negative;
    __device__ __forceinline__ explicit logistic(float a)
    {
        small = expf(-fabsf(a));
        large = __fdividef(1.0f, 1.0f + small);
        negative = a < 0;
    }
    __device__ __forceinline__ float value() const { return negative ? small * large : large; }
    __device__ __forceinline__ float slope() const { return small * large * large; }
};

template <int KIND> static __device__ __forceinline__ float activation_value(float x)
{
    switch ((sgc_activation)KIND) {
    case SGC_ACT_GELU_NEW: return x * logistic(1.59576912f * fmaf(0.044715f * x, x * x, x)).value(); /* 0.5 x (1 + tanh u) = x logistic(2u) */
    case SGC_ACT_GELU: return 0.5f * x * (1.0f + erff(0.707106781f * x));
    case SGC_ACT_RELU: return x < 0 ? 0.0f : x; /* a NaN stays one */
    case SGC_ACT_SILU: return x * logistic(x).value();
    case SGC_ACT_TANH: return tanhf(x);
    }
    return x;
}

template <int KIND> static __device__ __forceinline__ float activation_slope(float x)
{
    switch ((sgc_activation)KIND) {
    case SGC_ACT_GELU_NEW: {
        const logistic s(1.59576912f * fmaf(0.044715f * x, x * x, x));
        return fmaf(s.slope(), x * fmaf(0.214064444f, x * x, 1.59576912f), s.value());
    }
    case SGC_ACT_GELU: return fmaf(0.398942280f * x, expf(-0.5f * (x * x)), fmaf(0.5f, erff(0.707106781f * x), 0.5f));
    case SGC_ACT_RELU: return x > 0 ? 1.0f : 0.0f;
    case SGC_ACT_SILU: {
        const logistic s(x);
        return fmaf(s.slope(), x, s.value());
    }
    case SGC_ACT_TANH: {
        const float t = tanhf(x);
        return fmaf(-t, t, 1.0f);
    }
    }
    return x;
}

template <typename Value, int KIND> struct activation_op {
    enum { WIDTH = vector_of<Value>::WIDTH };
    Value *y;
    const Value *x;
    template <int W> struct input { loaded<Value, W> x; };
    template <int W> __device__ void read(int64_t i, input<W> &in) const { load_raw(x + i, in.x); }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        float out[W];
        unpack_n(in.x, out);
#pragma unroll
        for (int j = 0; j < W; j++) out[j] = activation_value<KIND>(out[j]);
        store_n(y + i, out);
    }
};

template <typename Value, int KIND> struct activation_gradient_op {
    enum { WIDTH = vector_of<Value>::WIDTH };
    Value *dx;
    const Value *dy, *x;
    template <int W> struct input { loaded<Value, W> x, dy; };
    template <int W> __device__ void read(int64_t i, input<W> &in) const
    {
        load_raw(x + i, in.x);
        load_raw(dy + i, in.dy);
    }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        float out[W], gradient[W];
        unpack_n(in.x, out);
        unpack_n(in.dy, gradient);
#pragma unroll
        for (int j = 0; j < W; j++) out[j] = gradient[j] * activation_slope<KIND>(out[j]);
        store_n(dx + i, out);
    }
};

/* KIND: the kind as a constant. */
#define WITH_KIND(kind, ...) \
    do { \
        switch ((sgc_activation)(kind)) { \
        case SGC_ACT_GELU_NEW: { constexpr int KIND = SGC_ACT_GELU_NEW; __VA_ARGS__; } break; \
        case SGC_ACT_GELU: { constexpr int KIND = SGC_ACT_GELU; __VA_ARGS__; } break; \
        case SGC_ACT_RELU: { constexpr int KIND = SGC_ACT_RELU; __VA_ARGS__; } break; \
        case SGC_ACT_SILU: { constexpr int KIND = SGC_ACT_SILU; __VA_ARGS__; } break; \
        case SGC_ACT_TANH: { constexpr int KIND = SGC_ACT_TANH; __VA_ARGS__; } break; \
        } \
    } while (0)

template <typename Value, int KIND> static void run_activation(sgc_device *d, void *y, const void *x, int64_t n)
{
    const activation_op<Value, KIND> op = {(Value *)y, (const Value *)x};
    run_each(d, op, n, 1, fits_vector(op.y, op.WIDTH) && fits_vector(op.x, op.WIDTH));
}

template <typename Value, int KIND> static void run_activation_gradient(sgc_device *d, void *dx, const void *dy, const void *x, int64_t n)
{
    const activation_gradient_op<Value, KIND> op = {(Value *)dx, (const Value *)dy, (const Value *)x};
    run_each(d, op, n, 1, fits_vector(op.dx, op.WIDTH) && fits_vector(op.dy, op.WIDTH) && fits_vector(op.x, op.WIDTH));
}

void sgc_cuda_activation_forward(sgc_device *d, int kind, void *y, const void *x, int64_t n)
{
    SGC_WITH_VALUE(d, WITH_KIND(kind, run_activation<Value, KIND>(d, y, x, n)));
}

void sgc_cuda_activation_backward(sgc_device *d, int kind, void *dx, const void *dy, const void *x, int64_t n)
{
    SGC_WITH_VALUE(d, WITH_KIND(kind, run_activation_gradient<Value, KIND>(d, dx, dy, x, n)));
}

template <typename Value> struct sum_op {
    enum { WIDTH = vector_of<Value>::WIDTH };
    Value *z;
    const Value *x, *y;
    template <int W> struct input { loaded<Value, W> x, y; };
    template <int W> __device__ void read(int64_t i, input<W> &in) const
    {
        load_raw(x + i, in.x);
        load_raw(y + i, in.y);
    }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        float out[W], other[W];
        unpack_n(in.x, out);
        unpack_n(in.y, other);
#pragma unroll
        for (int j = 0; j < W; j++) out[j] += other[j];
        store_n(z + i, out);
    }
};

template <typename Value> static void run_sum(sgc_device *d, void *z, const void *x, const void *y, int64_t n)
{
    const sum_op<Value> op = {(Value *)z, (const Value *)x, (const Value *)y};
    run_each(d, op, n, 1, fits_vector(op.z, op.WIDTH) && fits_vector(op.x, op.WIDTH) && fits_vector(op.y, op.WIDTH));
}

void sgc_cuda_add(sgc_device *d, void *z, const void *x, const void *y, int64_t n) { SGC_WITH_VALUE(d, run_sum<Value>(d, z, x, y, n)); }

void sgc_cuda_add_into(sgc_device *d, void *sum, const void *x, int64_t n) { run_sum<float>(d, sum, sum, x, n); }

/* Wide numbers as values. */
template <typename Value> struct rounding_op {
    enum { WIDTH = 4 };
    Value *values;
    const float *wide;
    template <int W> struct input { loaded<float, W> wide; };
    template <int W> __device__ void read(int64_t i, input<W> &in) const { load_raw(wide + i, in.wide); }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        float out[W];
        unpack_n(in.wide, out);
        store_n(values + i, out);
    }
};

template <typename Value> static void run_rounding(sgc_device *d, void *values, const void *wide, int64_t n)
{
    const rounding_op<Value> op = {(Value *)values, (const float *)wide};
    run_each(d, op, n, 1, fits_vector(op.values, op.WIDTH) && fits_vector(op.wide, op.WIDTH));
}

void sgc_cuda_narrow(sgc_device *d, void *values, const void *wide, int64_t n) { SGC_WITH_VALUE(d, run_rounding<Value>(d, values, wide, n)); }

/* A sample per number of the grid's second side. */
template <typename Value> struct dropout_op {
    enum { WIDTH = vector_of<Value>::WIDTH };
    Value *y;
    const Value *x;
    int64_t n_per_sample;
    const int64_t *sample; /* global numbers */
    dropout_rule rule;
    template <int W> struct input { loaded<Value, W> x; };
    template <int W> __device__ void read(int64_t i, input<W> &in) const { load_raw(x + blockIdx.y * n_per_sample + i, in.x); }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        float out[W];
        unpack_n(in.x, out);
        drop_n(rule, sample[blockIdx.y], i, out);
        store_n(y + blockIdx.y * n_per_sample + i, out);
    }
};

template <typename Value> static void run_dropout(sgc_device *d, void *y_, const void *x_, int64_t B, int64_t n_per_sample, const sgc_dropout *drop)
{
    const int64_t SAMPLES = 65535; /* of a grid */
    Value *y = (Value *)y_;
    const Value *x = (const Value *)x_;
    for (int64_t b = 0; b < B; b += SAMPLES) {
        const dropout_op<Value> op = {y + b * n_per_sample, x + b * n_per_sample, n_per_sample, drop->sample + b, dropout_rule_of(drop)};
        const bool vectors = n_per_sample % op.WIDTH == 0 && fits_vector(op.y, op.WIDTH) && fits_vector(op.x, op.WIDTH);
        run_each(d, op, n_per_sample, (int)(B - b < SAMPLES ? B - b : SAMPLES), vectors);
    }
}

void sgc_cuda_dropout(sgc_device *d, void *y, const void *x, int64_t B, int64_t n_per_sample, const sgc_dropout *drop)
{
    if (drop->p == 0) {
        if (y != x) sgc_cuda_memory.copy(d, y, x, (size_t)(B * n_per_sample) * sgc_dtype_bytes(d->ops->value));
        return;
    }
    SGC_WITH_VALUE(d, run_dropout<Value>(d, y, x, B, n_per_sample, drop));
}

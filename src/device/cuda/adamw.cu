/* The AdamW update, with the rounding of the new weights, and the square sums that its clipping needs. */
#include "device/cuda/elements.cuh"

#include <math.h>

typedef struct adamw_factors {
    float decay, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, epsilon, step_size, grad_scale;
} adamw_factors;

enum { MAX_PARTS = 32 }; /* of a launch */

/* Parts of an update as kernels get them: from first[k] on, of kind[k]. */
typedef struct adamw_parts {
    int n;
    int64_t first[MAX_PARTS];
    uint8_t kind[MAX_PARTS];
} adamw_parts;

static __device__ __forceinline__ sgc_update kind_at(const adamw_parts &parts, int64_t i)
{
    int k = 0;
    while (k + 1 < parts.n && parts.first[k + 1] <= i) k++;
    return (sgc_update)parts.kind[k];
}

/* Every operation is rounded by itself, in the order of torch: an element has the same bits wherever it is updated. */
template <typename Value, typename Gradient> struct adamw_op {
    enum { WIDTH = 4 };
    Value *values; /* NULL: none */
    float *p, *m, *v;
    const Gradient *g;
    adamw_factors f;
    adamw_parts parts; /* no access of W elements is in two of them */
    template <int W> struct input {
        loaded<float, W> p, m, v;
        loaded<Gradient, W> g;
    };
    template <int W> __device__ void read(int64_t i, input<W> &in) const
    {
        load_raw(p + i, in.p);
        load_raw(m + i, in.m);
        load_raw(v + i, in.v);
        load_raw(g + i, in.g);
    }
    template <int W> __device__ void write(int64_t i, const input<W> &in) const
    {
        const sgc_update kind = kind_at(parts, i);
        const float decay = kind == SGC_UPDATE_WITH_DECAY ? f.decay : 1.0f;
        float weight[W], first[W], second[W], gradient[W];
        if (kind == SGC_UPDATE_NONE) return;
        unpack_n(in.p, weight);
        unpack_n(in.m, first);
        unpack_n(in.v, second);
        unpack_n(in.g, gradient);
#pragma unroll
        for (int j = 0; j < W; j++) {
            const float scaled = __fmul_rn(gradient[j], f.grad_scale);
            first[j] = __fadd_rn(__fmul_rn(first[j], f.beta1), __fmul_rn(scaled, f.one_minus_beta1));
            second[j] = __fadd_rn(__fmul_rn(second[j], f.beta2), __fmul_rn(__fmul_rn(scaled, scaled), f.one_minus_beta2));
            const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(second[j]), f.root_correction2), f.epsilon);
            weight[j] = __fsub_rn(__fmul_rn(weight[j], decay), __fmul_rn(f.step_size, __fdiv_rn(first[j], denominator)));
        }
        store_n(m + i, first);
        store_n(v + i, second);
        store_n(p + i, weight);
        if (values) store_n(values + i, weight);
    }
};

/* parts: n_parts of them, n elements in all, of which the first is element `at` of the pointers. */
template <typename Value, typename Gradient>
static void run_adamw(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, int64_t at, int64_t n, const sgc_update_part *parts, int n_parts,
                      const adamw_factors &factors)
{
    adamw_op<Value, Gradient> op = {values ? (Value *)values + at : NULL, (float *)p + at, (float *)m + at, (float *)v + at, (const Gradient *)g + at, factors,
                                    adamw_parts()};
    bool vectors = fits_vector(op.values, 4) && fits_vector(op.p, 4) && fits_vector(op.m, 4) && fits_vector(op.v, 4) && fits_vector(op.g, 4);
    op.parts.n = n_parts;
    for (int k = 0; k < n_parts; k++) {
        op.parts.first[k] = parts[k].first - at;
        op.parts.kind[k] = (uint8_t)parts[k].kind;
        vectors = vectors && op.parts.first[k] % 4 == 0;
    }
    run_each(d, op, n, 1, vectors);
}

void sgc_cuda_adamw(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, sgc_dtype g_type, int64_t n, const sgc_update_part *parts,
                    int n_parts, double weight_decay, const sgc_adamw *a)
{
    adamw_factors f;
    f.decay = (float)(1 - a->learning_rate * weight_decay);
    f.beta1 = (float)a->beta1;
    f.one_minus_beta1 = (float)(1 - a->beta1);
    f.beta2 = (float)a->beta2;
    f.one_minus_beta2 = (float)(1 - a->beta2);
    f.root_correction2 = (float)sqrt(1 - pow(a->beta2, (double)a->t));
    f.epsilon = (float)a->epsilon;
    f.step_size = (float)(a->learning_rate / (1 - pow(a->beta1, (double)a->t)));
    f.grad_scale = (float)a->grad_scale;
    for (int k = 0; k < n_parts; k += MAX_PARTS) {
        const bool is_rest = n_parts - k <= MAX_PARTS;
        const int n_here = is_rest ? n_parts - k : (int)MAX_PARTS;
        const int64_t at = parts[k].first, n_elements = (is_rest ? n : parts[k + MAX_PARTS].first) - at;
        if (g_type == d->ops->wide) SGC_WITH_VALUE(d, run_adamw<Value, float>(d, values, p, m, v, g, at, n_elements, parts + k, n_here, f));
        else SGC_WITH_VALUE(d, run_adamw<Value, Value>(d, values, p, m, v, g, at, n_elements, parts + k, n_here, f));
    }
}

enum { SQUARE_WARPS = 8 };

/* A warp per block. Lanes take turns with four elements each, whether or not these are loaded at once, so the order of the sum is always the same. */
template <typename T, bool VECTORS>
static __global__ void __launch_bounds__(SQUARE_WARPS *WARP) square_sums(double *out, const T *x, const int64_t n_blocks, const int64_t block)
{
    const int64_t at = (int64_t)blockIdx.x * SQUARE_WARPS + threadIdx.x / WARP;
    if (at >= n_blocks) return;
    x += at * block;
    double even = 0, odd = 0; /* apart, so that additions need not wait for each other */
#pragma unroll 4
    for (int64_t i = (int64_t)(threadIdx.x % WARP) * 4; i < block; i += WARP * 4) {
        float a[4];
        if (VECTORS) load4(x + i, a);
        else
            for (int j = 0; j < 4; j++) a[j] = i + j < block ? to_float(x[i + j]) : 0.0f;
        even = fma((double)a[0], (double)a[0], even);
        odd = fma((double)a[1], (double)a[1], odd);
        even = fma((double)a[2], (double)a[2], even);
        odd = fma((double)a[3], (double)a[3], odd);
    }
    const double sum = warp_sum(even + odd);
    if (threadIdx.x % WARP == 0) out[at] = sum;
}

template <typename T> static void run_square_sums(sgc_device *d, double *out, const void *x_, int64_t n, int64_t block)
{
    const T *x = (const T *)x_;
    const int64_t n_blocks = n / block;
    if (n_blocks == 0) return;
    const unsigned grid = (unsigned)divide_up(n_blocks, SQUARE_WARPS);
    if (block % 4 == 0 && fits_vector(x, 4)) SGC_LAUNCH(d, (square_sums<T, true>), grid, SQUARE_WARPS * WARP, 0, out, x, n_blocks, block);
    else SGC_LAUNCH(d, (square_sums<T, false>), grid, SQUARE_WARPS * WARP, 0, out, x, n_blocks, block);
}

void sgc_cuda_block_square_sums(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block)
{
    if (x_type == d->ops->wide) run_square_sums<float>(d, out, x, n, block);
    else SGC_WITH_VALUE(d, run_square_sums<Value>(d, out, x, n, block));
}

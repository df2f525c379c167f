/*
 * Layer norm, with the residual sum before it and the dropout after its gradient. A row is read once and kept in registers, by a warp or, if it is
 * long, by a block; statistics are made in two passes over the registers. Rows that are too long, or not whole 128-bit accesses, are read again from
 * memory for each pass.
 */
#include "device/cuda/columns.cuh"
#include "device/cuda/dropout.cuh"
#include "device/cuda/elements.cuh"

#include <math.h>

enum {
    MAX_THREADS = 1024,
    ANY_THREADS = 256,     /* of a row of any length */
    FORWARD_WARPS = 4,     /* rows of a block, where a warp has one */
    BACKWARD_ROWS = 32,    /* rows whose sums for dw and db one block makes */
    BACKWARD_THREADS = 512 /* at most */
};

static int threads_for(int64_t n) { return (int)(divide_up(n, WARP) * WARP); }

/* Sum over the threads of a row. */
template <bool BY_WARP> static __device__ __forceinline__ float row_sum(float x) { return BY_WARP ? warp_sum(x) : block_sum(x); }

static __device__ __forceinline__ float rstd_of(float squares, int64_t C, float epsilon) { return 1.0f / sqrtf(squares / (float)C + epsilon); }

/* The dropout on a residual branch. */
struct branch_dropout {
    dropout_rule rule;
    const int64_t *sample; /* global numbers; not read where nothing is dropped */
    int64_t T;             /* rows of a sample */
};

static branch_dropout branch_dropout_of(const sgc_dropout *drop, int64_t T)
{
    branch_dropout of = {dropout_rule_of(drop), drop->sample, T};
    return of;
}

/* Of W elements from column c of row n on. */
template <int W> static __device__ __forceinline__ void drop_of_row(const branch_dropout &of, int64_t n, int64_t c, int64_t C, float (&x)[W])
{
    const unsigned b = (unsigned)n / (unsigned)of.T, t = (unsigned)n % (unsigned)of.T;
    if (of.rule.threshold != 0) drop_n(of.rule, of.sample[b], t * C + c, x);
}

/* What one call of the forward pass is about. */
template <typename Value> struct layer_norm_rows {
    Value *z, *y; /* z: x + dropout of r, where there is an r */
    float *mean, *rstd;
    const Value *x, *r, *w, *b;
    int64_t N, C;
    float epsilon;
    branch_dropout drop;
};

/* x becomes z, whose elements begin at column c of row n. Each step is rounded as if it were a call of its own. */
template <typename Value, int W>
static __device__ __forceinline__ void add_branch(const layer_norm_rows<Value> &a, int64_t n, int64_t c, const loaded<Value, W> &r, loaded<Value, W> &x)
{
    float sum[W], branch[W];
    unpack_n(r, branch);
    drop_of_row(a.drop, n, c, a.C, branch);
    unpack_n(x, sum);
#pragma unroll
    for (int j = 0; j < W; j++) sum[j] = __fadd_rn(sum[j], to_float(from_float<Value>(branch[j])));
    store_n(x.at, sum);
    store_raw(a.z + n * a.C + c, x);
}

/* PACKS accesses of W elements for each of the blockDim.x threads of a row. BY_WARP: the threads of a row are a warp, and a block has several rows. */
template <typename Value, int W, int PACKS, bool BY_WARP, bool SUM>
static __global__ void __launch_bounds__(BY_WARP ? FORWARD_WARPS * WARP : MAX_THREADS) layer_norm_forward(const layer_norm_rows<Value> a)
{
    const int64_t n = (int64_t)blockIdx.x * blockDim.y + threadIdx.y, C = a.C;
    loaded<Value, W> in[PACKS];
    float sum = 0, squares = 0;
    if (n >= a.N) return; /* a whole warp, or none */
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int64_t c = (int64_t)(k * blockDim.x + threadIdx.x) * W;
        if (c < C) load_raw(a.x + n * C + c, in[k]);
        else clear_raw(in[k]);
    }
    if (SUM) {
        loaded<Value, W> branch[PACKS];
#pragma unroll
        for (int k = 0; k < PACKS; k++) { /* all loads first, so that they are on their way together */
            const int64_t c = (int64_t)(k * blockDim.x + threadIdx.x) * W;
            if (c < C) load_raw(a.r + n * C + c, branch[k]);
        }
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int64_t c = (int64_t)(k * blockDim.x + threadIdx.x) * W;
            if (c < C) add_branch(a, n, c, branch[k], in[k]);
        }
    }
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        float v[W];
        unpack_n(in[k], v);
#pragma unroll
        for (int j = 0; j < W; j++) sum += v[j];
    }
    const float m = row_sum<BY_WARP>(sum) / (float)C;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        float v[W];
        if ((int64_t)(k * blockDim.x + threadIdx.x) * W >= C) break;
        unpack_n(in[k], v);
#pragma unroll
        for (int j = 0; j < W; j++) squares = fmaf(v[j] - m, v[j] - m, squares);
    }
    const float r = rstd_of(row_sum<BY_WARP>(squares), C, a.epsilon);
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int64_t c = (int64_t)(k * blockDim.x + threadIdx.x) * W;
        float v[W], weight[W], bias[W];
        if (c >= C) break;
        unpack_n(in[k], v);
        load_n(a.w + c, weight);
        load_n(a.b + c, bias);
#pragma unroll
        for (int j = 0; j < W; j++) v[j] = fmaf((v[j] - m) * r, weight[j], bias[j]);
        store_n(a.y + n * C + c, v);
    }
    if (threadIdx.x == 0) a.mean[n] = m, a.rstd[n] = r;
}

template <typename Value, bool SUM> static __global__ void __launch_bounds__(ANY_THREADS) layer_norm_forward_any(const layer_norm_rows<Value> a)
{
    const int64_t n = blockIdx.x, first = n * a.C;
    const Value *x = SUM ? a.z : a.x;
    float sum = 0, squares = 0;
    for (int64_t c = threadIdx.x; c < a.C; c += ANY_THREADS) {
        loaded<Value, 1> in, branch;
        load_raw(a.x + first + c, in);
        if (SUM) { /* the same thread reads again what it wrote */
            load_raw(a.r + first + c, branch);
            add_branch(a, n, c, branch, in);
        }
        sum += to_float(in.at[0]);
    }
    const float m = block_sum(sum) / (float)a.C;
    for (int64_t c = threadIdx.x; c < a.C; c += ANY_THREADS) {
        const float centred = to_float(x[first + c]) - m;
        squares = fmaf(centred, centred, squares);
    }
    const float r = rstd_of(block_sum(squares), a.C, a.epsilon);
    for (int64_t c = threadIdx.x; c < a.C; c += ANY_THREADS)
        a.y[first + c] = from_float<Value>(fmaf((to_float(x[first + c]) - m) * r, to_float(a.w[c]), to_float(a.b[c])));
    if (threadIdx.x == 0) a.mean[n] = m, a.rstd[n] = r;
}

template <typename Value, bool SUM> static void run_forward(sgc_device *d, const layer_norm_rows<Value> &a)
{
    enum { W = vector_of<Value>::WIDTH };
    const int64_t n_packs = a.C / W;
    const bool vectors = a.C % W == 0 && fits_vector(a.z, W) && fits_vector(a.y, W) && fits_vector(a.x, W) && fits_vector(a.r, W) && fits_vector(a.w, W) &&
                         fits_vector(a.b, W);
    const dim3 warps(WARP, FORWARD_WARPS);
    const unsigned of_warps = (unsigned)divide_up(a.N, FORWARD_WARPS), rows = (unsigned)a.N;
#define FORWARD(PACKS, BY_WARP, grid, block) SGC_LAUNCH(d, (layer_norm_forward<Value, W, PACKS, BY_WARP, SUM>), grid, block, 0, a)
    if (!vectors || n_packs > 4 * MAX_THREADS) SGC_LAUNCH(d, (layer_norm_forward_any<Value, SUM>), rows, ANY_THREADS, 0, a);
    else if (n_packs <= WARP) FORWARD(1, true, of_warps, warps);
    else if (n_packs <= 2 * WARP) FORWARD(2, true, of_warps, warps);
    else if (n_packs <= 4 * WARP) FORWARD(4, true, of_warps, warps);
    else if (n_packs <= 8 * WARP) FORWARD(8, true, of_warps, warps);
    else if (n_packs <= MAX_THREADS) FORWARD(1, false, rows, threads_for(n_packs));
    else FORWARD(4, false, rows, threads_for(divide_up(n_packs, 4)));
#undef FORWARD
}

template <typename Value>
static layer_norm_rows<Value> rows_of(void *z, void *y, void *mean, void *rstd, const void *x, const void *r, const void *w, const void *b, int64_t N, int64_t C,
                                      double epsilon, const branch_dropout &drop)
{
    layer_norm_rows<Value> a = {(Value *)z, (Value *)y, (float *)mean, (float *)rstd, (const Value *)x, (const Value *)r, (const Value *)w, (const Value *)b, N, C,
                                (float)epsilon, drop};
    return a;
}

void sgc_cuda_layer_norm_forward(sgc_device *d, void *y, void *mean, void *rstd, const void *x, const void *w, const void *b, int64_t N, int64_t C,
                                 double epsilon)
{
    if (N == 0 || C == 0) return;
    SGC_WITH_VALUE(d, run_forward<Value, false>(d, rows_of<Value>(NULL, y, mean, rstd, x, NULL, w, b, N, C, epsilon, branch_dropout())));
}

void sgc_cuda_residual_norm_forward(sgc_device *d, void *z, void *y, void *mean, void *rstd, const void *x, const void *r, const void *w, const void *b,
                                    int64_t B, int64_t T, int64_t C, double epsilon, const sgc_dropout *drop)
{
    if (B * T == 0 || C == 0) return;
    SGC_WITH_VALUE(d, run_forward<Value, true>(d, rows_of<Value>(z, y, mean, rstd, x, r, w, b, B * T, C, epsilon, branch_dropout_of(drop, T))));
}

/* What one call of the backward pass is about. */
template <typename Value> struct layer_norm_gradient {
    Value *dx, *dr; /* dr: NULL, or the dropout of dx */
    const Value *dy, *x, *w;
    const float *mean, *rstd;
    int64_t N, C;
    bool add_dx;
    branch_dropout drop;
};

/* g: gradient of the normalized x; its mean over the row, and that of its product with the normalized x. */
static __device__ __forceinline__ float dx_of(float g, float normalized, float mean_g, float mean_dot, float r)
{
    return r * fmaf(-normalized, mean_dot, __fsub_rn(g, mean_g));
}

/* dx of the elements from column c of row n on: value, or what is there and value. */
template <typename Value, int W> static __device__ __forceinline__ void put_dx(const layer_norm_gradient<Value> &a, int64_t n, int64_t c, float (&value)[W])
{
    const int64_t at = n * a.C + c;
    loaded<Value, W> dx;
    if (a.add_dx) {
        float old[W];
        load_n(a.dx + at, old);
#pragma unroll
        for (int j = 0; j < W; j++) value[j] += old[j];
    }
    store_n(dx.at, value);
    store_raw(a.dx + at, dx);
    if (!a.dr) return;
    unpack_n(dx, value);
    drop_of_row(a.drop, n, c, a.C, value);
    store_n(a.dr + at, value);
}

/*
 * BACKWARD_ROWS rows by a block [threads of a row, rows at a time]. A thread has the same columns of every row it comes to, so that it sums their
 * dw and db in registers; at the end the rows of the block add theirs. groups [blocks, 2, C]: sums for dw and db. The next row is on its way
 * while a row is summed.
 */
template <typename Value, int W, int PACKS>
static __global__ void __launch_bounds__(BACKWARD_THREADS) layer_norm_backward(const layer_norm_gradient<Value> a, float *groups)
{
    SGC_SHARED(float2, of_warps, [2][BACKWARD_THREADS / WARP]); /* sums over the columns of a warp; of this row and the one before */
    const int n_row_threads = (int)blockDim.x, n_warps = n_row_threads / WARP, n_at_once = (int)blockDim.y, lane = (int)threadIdx.x % WARP;
    const int first_warp = (int)threadIdx.y * n_warps;
    const int64_t end = (blockIdx.x + 1) * (int64_t)BACKWARD_ROWS;
    loaded<Value, W> weight[PACKS], dy[PACKS], x[PACKS];
    float dw[PACKS][W], db[PACKS][W];
    int64_t n = (int64_t)blockIdx.x * BACKWARD_ROWS + threadIdx.y;
#pragma unroll
    for (int k = 0; k < PACKS; k++) {
        const int64_t c = (int64_t)(k * n_row_threads + threadIdx.x) * W;
        clear_n(dw[k]), clear_n(db[k]), clear_raw(weight[k]), clear_raw(dy[k]), clear_raw(x[k]);
        if (c < a.C) load_raw(a.w + c, weight[k]);
        if (c < a.C && n < a.N) load_raw(a.dy + n * a.C + c, dy[k]), load_raw(a.x + n * a.C + c, x[k]);
    }
    for (int turn = 0; n < end; n += n_at_once, turn ^= 1) { /* as many times for each row of threads */
        const bool is_there = n < a.N, next_is_there = n + n_at_once < a.N && n + n_at_once < end;
        const float m = is_there ? a.mean[n] : 0, r = is_there ? a.rstd[n] : 0;
        loaded<Value, W> next_dy[PACKS], next_x[PACKS];
        float2 sum = make_float2(0, 0); /* of the gradient of the normalized x, and of it with that */
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int64_t c = (int64_t)(k * n_row_threads + threadIdx.x) * W, next = (n + n_at_once) * a.C + c;
            float gradient[W], normalized[W], scale[W];
            clear_raw(next_dy[k]), clear_raw(next_x[k]);
            if (c < a.C && next_is_there) load_raw(a.dy + next, next_dy[k]), load_raw(a.x + next, next_x[k]);
            unpack_n(dy[k], gradient), unpack_n(x[k], normalized), unpack_n(weight[k], scale);
#pragma unroll
            for (int j = 0; j < W; j++) {
                normalized[j] = (normalized[j] - m) * r;
                dw[k][j] = fmaf(gradient[j], normalized[j], dw[k][j]);
                db[k][j] += gradient[j];
                sum.x = fmaf(gradient[j], scale[j], sum.x);
                sum.y = fmaf(gradient[j] * scale[j], normalized[j], sum.y);
            }
        }
        sum = make_float2(warp_sum(sum.x), warp_sum(sum.y));
        if (lane == 0) of_warps[turn][first_warp + threadIdx.x / WARP] = sum;
        __syncthreads(); /* one is enough: what is written two turns on was read before the next barrier */
        sum = make_float2(0, 0);
        for (int i = 0; i < n_warps; i++) sum = make_float2(sum.x + of_warps[turn][first_warp + i].x, sum.y + of_warps[turn][first_warp + i].y);
        const float mean_g = sum.x / (float)a.C, mean_dot = sum.y / (float)a.C;
#pragma unroll
        for (int k = 0; k < PACKS; k++) {
            const int64_t c = (int64_t)(k * n_row_threads + threadIdx.x) * W;
            float gradient[W], value[W], scale[W];
            unpack_n(dy[k], gradient), unpack_n(x[k], value), unpack_n(weight[k], scale);
#pragma unroll
            for (int j = 0; j < W; j++) value[j] = dx_of(gradient[j] * scale[j], (value[j] - m) * r, mean_g, mean_dot, r);
            if (c < a.C && is_there) put_dx(a, n, c, value);
            dy[k] = next_dy[k];
            x[k] = next_x[k];
        }
    }
    groups += blockIdx.x * 2 * a.C;
#pragma unroll
    for (int part = 0; part < 2 * PACKS; part++) {
        const int k = part / 2;
        const int64_t c = (int64_t)(k * n_row_threads + threadIdx.x) * W;
        float total[W];
#pragma unroll
        for (int j = 0; j < W; j++) total[j] = part % 2 ? db[k][j] : dw[k][j];
        if (n_at_once > 1) { /* the same for all threads of the block */
            SGC_DYNAMIC_SHARED(float, of_rows); /* [rows at a time - 1, W, threads of a row] */
            __syncthreads(); /* the part before has been read */
#pragma unroll
            for (int j = 0; j < W; j++)
                if (threadIdx.y > 0) of_rows[((threadIdx.y - 1) * W + j) * n_row_threads + threadIdx.x] = total[j];
            __syncthreads();
            if (threadIdx.y > 0) continue;
            for (int row = 0; row < n_at_once - 1; row++)
#pragma unroll
                for (int j = 0; j < W; j++) total[j] += of_rows[(row * W + j) * n_row_threads + threadIdx.x];
        }
        if (c < a.C) store_n(groups + part % 2 * a.C + c, total);
    }
}

/* dx of a row of any length; W: 1, or a whole access. */
template <typename Value, int W> static __global__ void __launch_bounds__(ANY_THREADS) layer_norm_dx_any(const layer_norm_gradient<Value> a)
{
    const int64_t n = blockIdx.x, first = n * a.C;
    const float m = a.mean[n], r = a.rstd[n];
    float sum = 0, dot = 0;
    for (int64_t c = (int64_t)threadIdx.x * W; c < a.C; c += ANY_THREADS * W) {
        float dy[W], x[W], weight[W];
        load_n(a.dy + first + c, dy), load_n(a.x + first + c, x), load_n(a.w + c, weight);
#pragma unroll
        for (int j = 0; j < W; j++) {
            const float g = dy[j] * weight[j];
            sum += g;
            dot = fmaf(g, (x[j] - m) * r, dot);
        }
    }
    const float mean_g = block_sum(sum) / (float)a.C, mean_dot = block_sum(dot) / (float)a.C;
    for (int64_t c = (int64_t)threadIdx.x * W; c < a.C; c += ANY_THREADS * W) {
        float dy[W], x[W], weight[W];
        load_n(a.dy + first + c, dy), load_n(a.x + first + c, x), load_n(a.w + c, weight);
#pragma unroll
        for (int j = 0; j < W; j++) dy[j] = dx_of(dy[j] * weight[j], (x[j] - m) * r, mean_g, mean_dot, r);
        put_dx(a, n, c, dy);
    }
}

template <typename Value, int PACKS> static void run_backward_rows(sgc_device *d, const layer_norm_gradient<Value> &a, float *groups)
{
    enum { W = vector_of<Value>::WIDTH, AIM = 256 }; /* threads of a block */
    const int row_threads = threads_for(divide_up(a.C, W * PACKS));
    int n_at_once = 1;
    while (n_at_once < BACKWARD_ROWS && 2 * n_at_once * row_threads <= AIM) n_at_once *= 2;
    const size_t shared_bytes = (size_t)(n_at_once - 1) * W * (size_t)row_threads * sizeof(float);
    const dim3 block((unsigned)row_threads, (unsigned)n_at_once);
    SGC_LAUNCH(d, (layer_norm_backward<Value, W, PACKS>), (unsigned)divide_up(a.N, BACKWARD_ROWS), block, shared_bytes, a, groups);
}

/* Where rows are cut the finest. */
size_t sgc_cuda_layer_norm_scratch(int64_t N, int64_t C) { return (size_t)(divide_up(N, (int)BACKWARD_ROWS) * 2 * C) * sizeof(float); }

template <typename Value> static void run_backward(sgc_device *d, const layer_norm_gradient<Value> &a, float *dw, float *db)
{
    enum { W = vector_of<Value>::WIDTH };
    const bool vectors = a.C % W == 0 && fits_vector(a.dx, W) && fits_vector(a.dr, W) && fits_vector(a.dy, W) && fits_vector(a.x, W) && fits_vector(a.w, W);
    const bool by_rows = vectors && a.C <= 2 * W * BACKWARD_THREADS;
    const int64_t n_groups = divide_up(a.N, by_rows ? (int)BACKWARD_ROWS : (int)COLUMN_ROWS);
    float *groups = (float *)sgc_cuda_scratch(d, (size_t)(n_groups * 2 * a.C) * sizeof(float));
    if (!groups) return;
    if (!by_rows) { /* dw and db first: dx may be dy */
        sgc_cuda_column_sums(d, groups, a.dy, a.x, a.mean, a.rstd, a.N, a.C);
        if (vectors) SGC_LAUNCH(d, (layer_norm_dx_any<Value, W>), (unsigned)a.N, ANY_THREADS, 0, a);
        else SGC_LAUNCH(d, (layer_norm_dx_any<Value, 1>), (unsigned)a.N, ANY_THREADS, 0, a);
    } else if (a.C <= W * BACKWARD_THREADS) run_backward_rows<Value, 1>(d, a, groups);
    else run_backward_rows<Value, 2>(d, a, groups);
    sgc_cuda_add_groups(d, dw, db, groups, n_groups, a.C);
}

template <typename Value>
static layer_norm_gradient<Value> gradient_of(void *dx, bool add_dx, void *dr, const void *dy, const void *x, const void *w, const void *mean, const void *rstd,
                                              int64_t N, int64_t C, const branch_dropout &drop)
{
    layer_norm_gradient<Value> a = {(Value *)dx, (Value *)dr, (const Value *)dy, (const Value *)x, (const Value *)w, (const float *)mean, (const float *)rstd, N, C,
                                    add_dx, drop};
    return a;
}

void sgc_cuda_layer_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w,
                                  const void *mean, const void *rstd, int64_t N, int64_t C)
{
    if (N == 0 || C == 0) return;
    SGC_WITH_VALUE(d, run_backward<Value>(d, gradient_of<Value>(dx, add_dx, NULL, dy, x, w, mean, rstd, N, C, branch_dropout()), (float *)dw, (float *)db));
}

void sgc_cuda_residual_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w,
                                     const void *mean, const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop)
{
    if (B * T == 0 || C == 0) return;
    const branch_dropout of = branch_dropout_of(drop, T);
    SGC_WITH_VALUE(d, run_backward<Value>(d, gradient_of<Value>(dx, add_dx, dr, dy, x, w, mean, rstd, B * T, C, of), (float *)dw, (float *)db));
}

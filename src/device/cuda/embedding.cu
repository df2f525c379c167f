/*
 * Embedding. Its gradient adds rows that have the same token: tokens are sorted, which leaves equal ones in the order of their rows, and the sorted list is
 * cut into segments. A block adds the runs of equal tokens within its segment; runs that go beyond it leave their part in scratch memory, and a second
 * kernel adds these parts. So a frequent token is summed by many blocks, and yet in one order.
 */
#include "device/cuda/elements.cuh"
#include "device/cuda/sort.cuh"

enum { SEGMENT = 32, ROW_THREADS = 128, ROWS_AT_ONCE = 4 };

/* Block x: row; block y: columns of ROW_THREADS threads. */
template <typename Value, int W>
static __global__ void __launch_bounds__(ROW_THREADS)
    embedding_forward(Value *x, const int32_t *token, const Value *wte, const Value *wpe, const int64_t T, const int64_t C, const int64_t position)
{
    const int64_t n = blockIdx.x, c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
    float of_token[W], of_position[W];
    if (c >= C) return;
    load_n(wte + token[n] * C + c, of_token);
    load_n(wpe + (position + blockIdx.x % (uint32_t)T) * C + c, of_position); /* a grid has less than 2^31 rows */
#pragma unroll
    for (int j = 0; j < W; j++) of_token[j] += of_position[j];
    store_n(x + n * C + c, of_token);
}

/* Threads for the columns of a row, W of each; and a grid of rows and of columns. */
static unsigned threads_of(int64_t C, int W) { return C >= (int64_t)ROW_THREADS * W ? (unsigned)ROW_THREADS : (unsigned)(divide_up(C, WARP * W) * WARP); }
static dim3 grid_of(int64_t n_rows, int64_t C, int W) { return dim3((unsigned)n_rows, (unsigned)divide_up(C, (int64_t)threads_of(C, W) * W)); }

template <typename Value, int W>
static void run_forward(sgc_device *d, Value *x, const int32_t *token, const Value *wte, const Value *wpe, int64_t N, int64_t T, int64_t C, int64_t position)
{
    SGC_LAUNCH(d, (embedding_forward<Value, W>), grid_of(N, C, W), threads_of(C, W), 0, x, token, wte, wpe, T, C, position);
}

template <typename Value>
static void choose_forward(sgc_device *d, void *x_, const int32_t *token, const void *wte_, const void *wpe_, int64_t N, int64_t T, int64_t C, int64_t position)
{
    enum { W = vector_of<Value>::WIDTH };
    Value *x = (Value *)x_;
    const Value *wte = (const Value *)wte_, *wpe = (const Value *)wpe_;
    if (C % W == 0 && fits_vector(x, W) && fits_vector(wte, W) && fits_vector(wpe, W)) run_forward<Value, W>(d, x, token, wte, wpe, N, T, C, position);
    else run_forward<Value, 1>(d, x, token, wte, wpe, N, T, C, position);
}

void sgc_cuda_embedding_forward(sgc_device *d, void *x, const int32_t *token, const void *wte, const void *wpe, int64_t B, int64_t T, int64_t C,
                                int64_t position)
{
    if (B * T == 0 || C == 0) return;
    SGC_WITH_VALUE(d, choose_forward<Value>(d, x, token, wte, wpe, B * T, T, C, position));
}

template <int W> static __device__ __forceinline__ void add_n(float *to, const float (&x)[W])
{
    float sum[W];
    load_n(to, sum);
#pragma unroll
    for (int j = 0; j < W; j++) sum[j] += x[j];
    store_n(to, sum);
}

/* Where the segment of this block lies in the sorted list. */
struct segment {
    int64_t first, end;
    __device__ __forceinline__ segment(int64_t number, int64_t N)
    {
        first = number * SEGMENT;
        end = first + SEGMENT < N ? first + SEGMENT : N;
    }
};

/*
 * Sorted tokens and their rows: [N]. parts [segments, 2, C]: of the segment's first run, where that began before it; and of its last, where that began in
 * it and goes on after it.
 */
template <typename Value, int W>
static __global__ void __launch_bounds__(ROW_THREADS)
    add_runs(float *dwte, float *parts, const Value *dx, const int32_t *token, const int32_t *row, const int64_t N, const int64_t C)
{
    const segment s(blockIdx.x, N);
    const int64_t c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
    loaded<Value, W> x[ROWS_AT_ONCE];
    float sum[W], one[W];
    if (c >= C) return;
    bool began_before = s.first > 0 && token[s.first - 1] == token[s.first];
    parts += (int64_t)blockIdx.x * 2 * C + c;
    clear_n(sum);
    for (int64_t i = s.first; i < s.end; i += ROWS_AT_ONCE) {
#pragma unroll
        for (int k = 0; k < ROWS_AT_ONCE; k++)
            if (i + k < s.end) load_raw(dx + row[i + k] * C + c, x[k]);
#pragma unroll
        for (int k = 0; k < ROWS_AT_ONCE; k++) {
            const int64_t at = i + k;
            if (at >= s.end) break;
            unpack_n(x[k], one);
#pragma unroll
            for (int j = 0; j < W; j++) sum[j] += one[j];
            const bool goes_on = at + 1 < N && token[at + 1] == token[at];
            if (goes_on && at + 1 < s.end) continue;
            if (began_before) store_n(parts, sum);
            else if (goes_on) store_n(parts + C, sum);
            else add_n(dwte + token[at] * C + c, sum);
            began_before = false;
            clear_n(sum);
        }
    }
}

/* Runs of several segments, by the block of the segment in which they begin. */
template <int W>
static __global__ void __launch_bounds__(ROW_THREADS) add_parts(float *dwte, const float *parts, const int32_t *token, const int64_t N, const int64_t C)
{
    const segment s(blockIdx.x, N);
    const int64_t c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
    const int32_t last = token[s.end - 1];
    float sum[W];
    if (c >= C || s.end == N || token[s.end] != last) return;                               /* does not go on */
    if (s.first > 0 && token[s.first] == last && token[s.first - 1] == last) return;        /* began before   */
    int64_t n_more = 1; /* segments that begin with this token */
    while ((blockIdx.x + n_more + 1) * SEGMENT < N && token[(blockIdx.x + n_more + 1) * SEGMENT] == last) n_more++;
    load_n(parts + ((int64_t)blockIdx.x * 2 + 1) * C + c, sum);
#pragma unroll 4
    for (int64_t k = 1; k <= n_more; k++) {
        float part[W];
        load_n(parts + (blockIdx.x + k) * 2 * C + c, part);
#pragma unroll
        for (int j = 0; j < W; j++) sum[j] += part[j];
    }
    add_n(dwte + last * C + c, sum);
}

/* dwpe [T, C] += sums over B; block x: position */
template <typename Value, int W>
static __global__ void __launch_bounds__(ROW_THREADS) add_positions(float *dwpe, const Value *dx, const int64_t B, const int64_t T, const int64_t C)
{
    const int64_t t = blockIdx.x, c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * W;
    loaded<Value, W> x[ROWS_AT_ONCE];
    float sum[W], one[W];
    if (c >= C) return;
    clear_n(sum);
    for (int64_t b = 0; b < B; b += ROWS_AT_ONCE) {
#pragma unroll
        for (int k = 0; k < ROWS_AT_ONCE; k++) {
            if (b + k < B) load_raw(dx + ((b + k) * T + t) * C + c, x[k]);
            else clear_raw(x[k]);
        }
#pragma unroll
        for (int k = 0; k < ROWS_AT_ONCE; k++) {
            unpack_n(x[k], one);
#pragma unroll
            for (int j = 0; j < W; j++) sum[j] += one[j];
        }
    }
    add_n(dwpe + t * C + c, sum);
}

template <typename Value, int W>
static void run_backward(sgc_device *d, float *dwte, float *dwpe, float *parts, const Value *dx, const int32_t *token, const int32_t *row, int64_t B,
                         int64_t T, int64_t C)
{
    const int64_t N = B * T, n_segments = divide_up(N, SEGMENT);
    const unsigned n_threads = threads_of(C, W);
    SGC_LAUNCH(d, (add_runs<Value, W>), grid_of(n_segments, C, W), n_threads, 0, dwte, parts, dx, token, row, N, C);
    SGC_LAUNCH(d, add_parts<W>, grid_of(n_segments, C, W), n_threads, 0, dwte, parts, token, N, C);
    SGC_LAUNCH(d, (add_positions<Value, W>), grid_of(T, C, W), n_threads, 0, dwpe, dx, B, T, C);
}

/* Of the sort, before the sums of segments. */
static size_t sort_bytes_of(int64_t N) { return (sgc_cuda_sort_bytes(N) + 255) / 256 * 256; }

size_t sgc_cuda_embedding_scratch(int64_t N, int64_t C) { return sort_bytes_of(N) + (size_t)(divide_up(N, SEGMENT) * 2 * C) * sizeof(float); }

template <typename Value>
static void choose_backward(sgc_device *d, float *dwte, float *dwpe, const void *dx_, const int32_t *token, int64_t B, int64_t T, int64_t C)
{
    enum { W = vector_of<Value>::WIDTH };
    const Value *dx = (const Value *)dx_;
    char *scratch = (char *)sgc_cuda_scratch(d, sgc_cuda_embedding_scratch(B * T, C));
    const int32_t *sorted, *row;
    if (!scratch) return;
    float *parts = (float *)(scratch + sort_bytes_of(B * T));
    sgc_cuda_sort(d, token, B * T, scratch, &sorted, &row);
    if (C % W == 0 && fits_vector(dx, W) && fits_vector(dwte, W) && fits_vector(dwpe, W))
        run_backward<Value, W>(d, dwte, dwpe, parts, dx, sorted, row, B, T, C);
    else
        run_backward<Value, 1>(d, dwte, dwpe, parts, dx, sorted, row, B, T, C);
}

void sgc_cuda_embedding_backward(sgc_device *d, void *dwte, void *dwpe, const void *dx, const int32_t *token, int64_t B, int64_t T, int64_t C)
{
    if (B * T == 0 || C == 0) return;
    SGC_WITH_VALUE(d, choose_backward<Value>(d, (float *)dwte, (float *)dwpe, dx, token, B, T, C));
}

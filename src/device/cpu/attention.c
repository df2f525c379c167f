/*
 * Attention: the heads of all samples are cut among threads; when there are fewer heads than threads, also the blocks of each
 * head. Every block of queries or keys is summed in the same order whoever does it.
 */
#include <omp.h>
#include <string.h>

#include "device/cpu/cpu_impl.h"

static int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

int64_t sgc_attention_scratch(int64_t T, int64_t D_padded)
{
    int64_t rows = padded(T, SGC_ATTENTION_BLOCK);
    return 4 * rows * D_padded + 4 * SGC_ATTENTION_BLOCK * D_padded + rows;
}

/* Whole vectors of words: a word is a float, or may be two bf16. */
static int64_t padded_width(const sgc_device *d, int64_t D) { return padded(D, d->ops->value == SGC_BF16 ? 32 : 16); }

static sgc_attention_head head_of(const sgc_device *d, const void *qkv, int64_t b, int64_t h, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    int64_t D = C / H;
    bool dropping = drop->p > 0;
    return (sgc_attention_head){
        .qkv = sgc_cpu_at(d, qkv, b * T * 3 * C + h * D),
        .T = T,
        .C = C,
        .D = D,
        .D_padded = padded_width(d, D),
        .drop = dropping ? drop : NULL,
        .threshold = dropping ? sgc_cpu_dropout_threshold(drop->p) : 0,
        .keep_scale = dropping ? sgc_cpu_dropout_scale(drop->p) : 1,
        .sample = dropping ? drop->sample[b] : 0,
        .first_element = h * T * T,
        .n_slices = 1,
    };
}

/* Into how many slices the blocks of a head are dealt, so that there is work for all threads. */
static int64_t slices(int64_t n_heads, int64_t T, int64_t wanted)
{
    int64_t n_blocks = padded(T, SGC_ATTENTION_BLOCK) / SGC_ATTENTION_BLOCK, n = (wanted + n_heads - 1) / n_heads;
    return n < n_blocks ? n : n_blocks;
}

void sgc_cpu_attention_forward(sgc_device *d, void *y, void *lse_, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    float *lse = lse_;
    int n_threads = omp_get_max_threads();
    int64_t n_slices = B * H >= n_threads ? 1 : slices(B * H, T, 4 * n_threads), n_scratch = sgc_attention_scratch(T, padded_width(d, C / H));
    float *scratch = sgc_cpu_scratch(d, n_threads * n_scratch);
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
    for (int64_t task = 0; task < B * H * n_slices; task++) {
        int64_t b = task / n_slices / H, h = task / n_slices % H;
        sgc_attention_head a = head_of(d, qkv, b, h, T, C, H, drop);
        a.slice = task % n_slices;
        a.n_slices = n_slices;
        a.scratch = scratch + omp_get_thread_num() * n_scratch;
        simd->attention_forward(&a, sgc_cpu_at(d, y, b * T * C + h * a.D), lse + (b * H + h) * T);
    }
}

void sgc_cpu_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse_, const void *qkv, int64_t B, int64_t T,
                                int64_t C, int64_t H, const sgc_dropout *drop)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *lse = lse_;
    int n_threads = omp_get_max_threads();
    bool whole = B * H >= n_threads; /* else dq apart from dk and dv, which makes the weights twice */
    int64_t n_slices = whole ? 1 : slices(B * H, T, 2 * n_threads), n_kinds = whole ? 1 : 2, n_scratch = sgc_attention_scratch(T, padded_width(d, C / H));
    float *scratch = sgc_cpu_scratch(d, n_threads * n_scratch);
#pragma omp parallel for schedule(dynamic) num_threads(n_threads)
    for (int64_t task = 0; task < B * H * n_slices * n_kinds; task++) {
        int64_t part = task / n_kinds, b = part / n_slices / H, h = part / n_slices % H;
        sgc_attention_head a = head_of(d, qkv, b, h, T, C, H, drop);
        int64_t at = b * T * C + h * a.D;
        a.slice = part % n_slices;
        a.n_slices = n_slices;
        a.scratch = scratch + omp_get_thread_num() * n_scratch;
        simd->attention_backward(&a, sgc_cpu_at(d, dqkv, b * T * 3 * C + h * a.D), sgc_cpu_at(d, dy, at), sgc_cpu_at(d, y, at), lse + (b * H + h) * T,
                                 whole || task % 2 == 0, whole || task % 2 == 1);
    }
}

void sgc_cpu_attention_cached(sgc_device *d, void *y, void *cache_k, void *cache_v, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H,
                              int64_t position, int64_t capacity)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const int64_t D = C / H, n_weights = padded(capacity, 16);
    const size_t row_bytes = (size_t)C * sgc_dtype_bytes(d->ops->value);
    int n_threads = omp_get_max_threads();
    float *scratch = sgc_cpu_scratch(d, n_threads * n_weights);
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < T; t++) {
            int64_t row = (b * T + t) * 3 * C, cached = (b * capacity + position + t) * C;
            memcpy(sgc_cpu_at(d, cache_k, cached), sgc_cpu_at(d, qkv, row + C), row_bytes);
            memcpy(sgc_cpu_at(d, cache_v, cached), sgc_cpu_at(d, qkv, row + 2 * C), row_bytes);
        }
#pragma omp parallel for schedule(dynamic) num_threads(n_threads) if (B * T * (position + T) * C >= 2 * SGC_CPU_PIECE)
    for (int64_t task = 0; task < B * T * H; task++) {
        int64_t h = task % H, t = task / H % T, b = task / H / T, cached = b * capacity * C + h * D, at = b * T + t;
        simd->attend(sgc_cpu_at(d, y, at * C + h * D), sgc_cpu_at(d, qkv, at * 3 * C + h * D), sgc_cpu_at(d, cache_k, cached),
                     sgc_cpu_at(d, cache_v, cached), scratch + omp_get_thread_num() * n_weights, position + t + 1, C, D);
    }
}

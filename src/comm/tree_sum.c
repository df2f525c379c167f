#include <string.h>

#include "comm/comm.h"

enum { BLOCK = 2048 }; /* elements: the blocks of many sources fit into the second-level cache together */

static void add(float *restrict a, const float *restrict b, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) a[i] += b[i];
}

void sgc_tree_sum(float *dst, float *const *src, int n_src, int64_t n)
{
    int64_t n_blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) if (n_blocks > 16)
    for (int64_t block = 0; block < n_blocks; block++) {
        int64_t first = block * BLOCK, m = n - first < BLOCK ? n - first : BLOCK;
        for (int stride = 1; stride < n_src; stride *= 2)
            for (int i = 0; i + stride < n_src; i += 2 * stride) add(src[i] + first, src[i + stride] + first, m);
        if (dst != src[0]) memcpy(dst + first, src[0] + first, (size_t)m * sizeof(float));
    }
}

static void widen(float *restrict out, sgc_dtype type, const uint16_t *restrict x, int64_t n)
{
    if (type == SGC_BF16)
        for (int64_t i = 0; i < n; i++) out[i] = sgc_bf16_to_float(x[i]);
    else
        for (int64_t i = 0; i < n; i++) out[i] = sgc_f16_to_float(x[i]);
}

/* Binary counter of partial sums: sums[k] holds 2^k sources, and one more source carries. The same tree as above. */
void sgc_tree_sum_16bit(float *dst, sgc_dtype type, const uint16_t *const *src, int n_src, int64_t n)
{
    enum { LEVELS = 32, SMALL = 512 };
    int64_t n_blocks = (n + SMALL - 1) / SMALL;
#pragma omp parallel for schedule(static) if (n_blocks > 64)
    for (int64_t block = 0; block < n_blocks; block++) {
        float sums[LEVELS][SMALL];
        int64_t first = block * SMALL, m = n - first < SMALL ? n - first : SMALL;
        int level;
        for (int i = 0; i < n_src; i++) {
            float *sum = sums[0];
            for (level = 0; (i >> level) & 1; level++) sum = sums[level + 1];
            float part[SMALL];
            widen(part, type, src[i] + first, m);
            for (int k = 0; k < level; k++) add(part, sums[k], m);
            memcpy(sum, part, (size_t)m * sizeof(float));
        }
        float *total = NULL;
        for (level = 0; n_src >> level; level++) {
            if (!((n_src >> level) & 1)) continue;
            if (total) add(total, sums[level], m);
            else total = sums[level];
        }
        memcpy(dst + first, total, (size_t)m * sizeof(float));
    }
}

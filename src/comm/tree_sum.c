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

/*
 * Sums down columns, which are gradients of biases and of layer norm's weights. Rows are cut into groups whose sums go to scratch memory, and a second
 * kernel adds the groups, so that many rows are summed by many blocks and still in one order, which depends on the shape alone.
 */
#ifndef SGC_DEVICE_CUDA_COLUMNS_CUH
#define SGC_DEVICE_CUDA_COLUMNS_CUH

#include "device/cuda/cuda_impl.h"

enum { COLUMN_ROWS = 128 }; /* of a group of column_sums */

/*
 * groups [N / COLUMN_ROWS rounded up, 2 or 1, C]: sums of dy * (x - mean) * rstd, where x is not NULL, and of dy. dy, x: [N, C], values;
 * mean, rstd: [N].
 */
void sgc_cuda_column_sums(sgc_device *d, float *groups, const void *dy, const void *x, const float *mean, const float *rstd, int64_t N, int64_t C);

/* out [C], and then, where it is not NULL, next [C] += the sum of the groups, of which each has C numbers for either */
void sgc_cuda_add_groups(sgc_device *d, float *out, float *next, const float *groups, int64_t n_groups, int64_t C);

#endif

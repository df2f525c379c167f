/* Stable sort of non-negative numbers, which keeps with each the place where it was. */
#ifndef SGC_DEVICE_CUDA_SORT_CUH
#define SGC_DEVICE_CUDA_SORT_CUH

#include "device/cuda/cuda_impl.h"

/* Bytes of scratch for sgc_cuda_sort: its results, and room to make them. */
size_t sgc_cuda_sort_bytes(int64_t n);
/* *key [n]: ascending; *place [n]: where each was in `from`, ascending among equal ones. Both lie in scratch. n < 2^31 */
void sgc_cuda_sort(sgc_device *d, const int32_t *from, int64_t n, void *scratch, const int32_t **key, const int32_t **place);

#endif

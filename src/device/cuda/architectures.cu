#include "device/cuda/cuda_impl.h"

extern "C" const int sgc_cuda_architectures[] = {__CUDA_ARCH_LIST__, 0}; /* nvcc's own list */

/* The reference device whose tensors are of type float. */
#define REAL float
#define OPS sgc_ref32_ops
#define OPS_NAME "ref32"
#include "device/ref/kernels.h"

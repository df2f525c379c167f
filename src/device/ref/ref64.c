/* The reference device whose tensors are of type double. */
#define REAL double
#define OPS sgc_ref64_ops
#define OPS_NAME "ref64"
#include "device/ref/kernels.h"

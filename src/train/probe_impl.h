/* How fast this machine multiplies matrices: what model_flops_utilization is measured against. */
#ifndef SGC_TRAIN_PROBE_IMPL_H
#define SGC_TRAIN_PROBE_IMPL_H

#include "comm/comm.h"
#include "device/device.h"

/**
 * Collective: all ranks multiply at the same time, as in training; takes about a second.
 * @param flops  [out] floating-point operations per second of all ranks together, in square products of values.
 * @return SGC_ENOMEM on all ranks if one has no memory for the matrices.
 */
sgc_status sgc_probe_gemm(sgc_device *device, sgc_group *group, double *flops);

#endif

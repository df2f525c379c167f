/* The backends of the devices, for this folder only. */
#ifndef SGC_DEVICE_DEVICE_IMPL_H
#define SGC_DEVICE_DEVICE_IMPL_H

#include "device/device.h"

extern const sgc_device_ops sgc_null_ops;
extern const sgc_device_ops sgc_ref32_ops;
extern const sgc_device_ops sgc_ref64_ops;
extern const sgc_device_ops sgc_cpu_ops;
extern const sgc_device_ops sgc_cpu_bf16_ops;

/* The cpu devices alone have state: their instruction set, cached matrix products and scratch memory. */
sgc_status sgc_cpu_open(sgc_device *d, const sgc_device_spec *spec);
void sgc_cpu_close(sgc_device *d);

#endif

/* The backends of the devices, for this folder only. */
#ifndef SGC_DEVICE_DEVICE_IMPL_H
#define SGC_DEVICE_DEVICE_IMPL_H

#include "device/device.h"

extern const sgc_device_ops sgc_null_ops;
extern const sgc_device_ops sgc_ref32_ops;
extern const sgc_device_ops sgc_ref64_ops;


#endif

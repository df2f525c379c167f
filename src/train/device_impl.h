/* Which device a job computes on: the settings, what the nodes have, and the agreement of all ranks. */
#ifndef SGC_TRAIN_DEVICE_IMPL_H
#define SGC_TRAIN_DEVICE_IMPL_H

#include "comm/comm.h"
#include "conf/config.h"
#include "device/device.h"

/**
 * The device that the settings ask for, and this rank's GPU where it is one. Collective; to be opened with sgc_device_open_spec.
 * Ranks of a node that see the same GPUs take one each, by their order; a job launcher may also show every rank another one.
 * @return SGC_EDEVICE: some nodes have GPUs and some have not, or two ranks would take the same without device.share. SGC_ECONFIG: fp16 without GPUs.
 */
sgc_status sgc_choose_device(sgc_world *w, const sgc_config *c, sgc_device_spec *spec);

/**
 * Once opened: do all ranks compute the same bits? Collective. If not, a warning of the ranks that differ from rank 0.
 * @return SGC_EDEVICE: they do not, and full_determinism asks for it.
 */
sgc_status sgc_compare_devices(sgc_world *w, const sgc_device *d, bool full_determinism);

#endif

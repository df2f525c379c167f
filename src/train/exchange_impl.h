/* What carries the collectives of a job between its devices' memories. */
#ifndef SGC_TRAIN_EXCHANGE_IMPL_H
#define SGC_TRAIN_EXCHANGE_IMPL_H

#include "comm/comm.h"
#include "conf/config.h"
#include "device/device.h"
#include "model/model.h"

/**
 * Choose by comm.backend and set it up for the group of all ranks, before an engine is made on it. Collective; logs the choice on GPUs.
 * @param d    opened; while the host waits for it, it looks after the messages from now on
 * @param type what gradients travel as
 * @return SGC_ECONFIG: nccl for memory that is not a GPU's. SGC_EDEVICE: nccl was asked for, or chosen, and does not work; says what to do.
 */
sgc_status sgc_exchange_begin(sgc_world *w, const sgc_config *c, sgc_device *d, const sgc_model *model, sgc_dtype type);
/* Before the device is closed, when the engine is gone. Collective if all goes well; what does not end is given up after comm.timeout_s. */
void sgc_exchange_end(sgc_world *w, sgc_device *d);

#endif

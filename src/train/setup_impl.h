/* What the jobs need alike before they compute, and when they cannot go on. */
#ifndef SGC_TRAIN_SETUP_IMPL_H
#define SGC_TRAIN_SETUP_IMPL_H

#include "comm/comm.h"
#include "conf/config.h"
#include "device/device.h"
#include "train/dataset_impl.h"

const char *sgc_device_name(const sgc_config *c); /* for sgc_device_open */

/* Once per node: what a device can do only slowly. */
void sgc_warn_device(const sgc_device *d, const sgc_world *w);

/* The configuration names the vocabulary, so that a saved one describes its model by itself. Local. */
sgc_status sgc_fix_vocabulary(sgc_config *c, const sgc_dataset *d);

/* A failure while peers may be in a collective: say rank, node and where, and end the job. */
void sgc_abort_job(sgc_world *w, const char *where) __attribute__((noreturn));

#endif

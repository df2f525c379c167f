/* Does a checkpoint fit a configuration? */
#ifndef SGC_TRAIN_FIT_IMPL_H
#define SGC_TRAIN_FIT_IMPL_H

#include <stdbool.h>

#include "comm/comm.h"
#include "conf/config.h"

/**
 * Compare the configuration with the one stored in a checkpoint. Collective.
 * @param list_changes  log what else differs: changed training settings go on.
 * @return SGC_ECKPT lists the settings of the model that differ.
 */
sgc_status sgc_fit_check(sgc_world *w, const sgc_config *c, const char *checkpoint, bool list_changes);

#endif

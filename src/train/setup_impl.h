/* What the jobs need alike before they compute, and when they cannot go on. */
#ifndef SGC_TRAIN_SETUP_IMPL_H
#define SGC_TRAIN_SETUP_IMPL_H

#include "comm/comm.h"
#include "conf/config.h"
#include "device/device.h"
#include "train/dataset_impl.h"

/* Once per node: what a device can do only slowly. */
void sgc_warn_device(const sgc_device *d, const sgc_world *w);

/* The configuration names the vocabulary, so that a saved one describes its model by itself. Local. */
sgc_status sgc_fix_vocabulary(sgc_config *c, const sgc_dataset *d);

/* The message of an error that was agreed on, with its origin, so that more can be said; the error is cleared. */
void sgc_take_message(char why[2 * SGC_PATH_MAX]);

/* A checkpoint that was chosen by its path is damaged, or not there: the message says how to find others. st is agreed on, and returned. */
sgc_status sgc_name_others(sgc_status st, const char *path);

/* Before the latest checkpoint is looked for: what nodes have in local_dir, if it is newer than those of output_dir before before_step. Collective. */
sgc_status sgc_latest_from_nodes(sgc_world *w, const sgc_config *c, int64_t before_step);

/**
 * When loading the latest checkpoint has failed with st: may the next older one take its place? Where each node has an output_dir of its own, those that
 * another node holds whole go first: the same one, then older ones. Collective, st is agreed on.
 * @param with_states  as of sgc_ckpt_latest; what nodes have may then take its place too.
 * @param mended [in,out] step of the checkpoint whose copies on all nodes were looked at, so that this is tried once; NULL: nothing is done on nodes.
 * @param path   [in,out] of the damaged checkpoint; of the next older one. The damaged one is named in the log.
 * @param again  [out] there is one; else st and its message stand.
 */
sgc_status sgc_latest_retreat(sgc_world *w, const sgc_config *c, sgc_status st, int64_t step, bool with_states, int64_t *mended, char path[SGC_PATH_MAX],
                              bool *again);

/* A failure while peers may be in a collective: say rank, node and where, and end the job. */
void sgc_abort_job(sgc_world *w, const char *where) __attribute__((noreturn));

#endif

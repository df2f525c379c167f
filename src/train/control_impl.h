/* The control word: what all ranks learn from each other once per update, in one reduction. */
#ifndef SGC_TRAIN_CONTROL_IMPL_H
#define SGC_TRAIN_CONTROL_IMPL_H

#include <stdbool.h>

#include "base/exact.h"
#include "comm/comm.h"

/* Integers only, so that one sum over int64_t merges it. Before the agreement: of this rank; after it: of all. */
typedef struct sgc_control {
    sgc_exact loss;            /* sum of the losses of the scored tokens            */
    sgc_exact square;          /* squared norm of the gradient                      */
    int64_t n_stop;            /* ranks that were asked to stop by a signal          */
    int64_t n_save;            /* ranks that were asked to save by a signal          */
    int64_t n_bad_loss;        /* ranks whose own losses were not all finite         */
    int64_t n_log;             /* ranks with log lines to merge                      */
    int64_t n_written;         /* ranks that did their part of the save under way    */
} sgc_control;

void sgc_control_clear(sgc_control *c);
void sgc_control_add_losses(sgc_control *c, const double *loss, int64_t n);
/* Collective: take in what this rank has to say, sum over ranks. has_written: for n_written. */
sgc_status sgc_control_agree(sgc_control *c, sgc_group *group, bool has_written);

#endif

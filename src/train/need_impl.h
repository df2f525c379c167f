/* How much memory of its device a training run needs, and what would make do with less. */
#ifndef SGC_TRAIN_NEED_IMPL_H
#define SGC_TRAIN_NEED_IMPL_H

#include "zero/zero.h"

typedef struct sgc_need {    /* all that decides about it; pointers are borrowed */
    const sgc_model *model;
    sgc_device *device;
    sgc_zero_spec zero;      /* n_micro as it is with micro_batch                 */
    int n_ranks;
    int64_t micro_batch, block;
    int64_t eval_batch;      /* samples of an evaluation's micro-batch; 0: no evaluation */
    bool checkpointing;
} sgc_need;

/* Bytes of this rank by purpose, without what the host needs beside the device. Local; nothing is taken. */
sgc_status sgc_need_measure(const sgc_need *n, size_t bytes[SGC_MEM_N_PURPOSES]);

/**
 * Does it fit into so many bytes? Local.
 * @return SGC_ENOMEM if not: with a table of the purposes, what is missing, and the cheapest change of settings that would fit.
 */
sgc_status sgc_need_check(const sgc_need *n, size_t available);

#endif

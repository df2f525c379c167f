/* The data of a run: token files and how they are divided into training and validation samples. */
#ifndef SGC_TRAIN_DATASET_IMPL_H
#define SGC_TRAIN_DATASET_IMPL_H

#include "comm/comm.h"
#include "conf/config.h"
#include "data/data.h"

typedef struct sgc_dataset {
    sgc_tokens train_tokens, validation_tokens;  /* n_tokens is 0 where there is no such file      */
    bool has_train, has_validation;              /* opened                                         */
    sgc_samples train, validation;
    int64_t vocab_size;                          /* of the tokenizer                               */
} sgc_dataset;

/**
 * Open what train_file and validation_file name, preparing text first. Collective: the first rank prepares while the others wait.
 * @param need_train  train_file is set; false: only validation samples are wanted (train_file is still read where they are a part of it).
 * @return SGC_ECONFIG, SGC_EDATA or SGC_EIO on all ranks.
 */
sgc_status sgc_dataset_open(sgc_dataset *d, sgc_world *w, const sgc_config *c, bool need_train);
void sgc_dataset_close(sgc_dataset *d);

/* Tokens of sample `index`: [block]. SGC_EDATA if the file is damaged. */
sgc_status sgc_sample_read(const sgc_samples *s, int64_t index, int32_t *out);

#endif

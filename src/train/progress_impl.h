/* The progress bar: one line on a terminal, redrawn in place. */
#ifndef SGC_TRAIN_PROGRESS_IMPL_H
#define SGC_TRAIN_PROGRESS_IMPL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sgc_progress {
    bool is_on;
    int64_t n_steps, first_step; /* of the run; done when this job began    */
    double start_s, drawn_s;
} sgc_progress;

void sgc_progress_start(sgc_progress *p, bool is_on, int64_t n_steps, int64_t first_step);
void sgc_progress_show(sgc_progress *p, int64_t step, double loss, double tokens_per_second);
void sgc_progress_end(sgc_progress *p);

#endif

/* Learning-rate schedules, and the loss scale of fp16. The update rule itself is a kernel (device/device.h: adamw). */
#ifndef SGC_OPTIM_OPTIM_H
#define SGC_OPTIM_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "conf/config.h"

typedef struct sgc_schedule {
    int type;                 /* sgc_schedule_type                            */
    double learning_rate;
    int64_t n_warmup, n_steps;
    /* reduce_lr_on_plateau: factor 0.1, patience 10, relative threshold 1e-4, cooldown 0 (torch) */
    struct { double rate, best; int64_t n_bad; bool has_best, greater_is_better; } plateau;
} sgc_schedule;

/* n_warmup by the rule of TrainingArguments: warmup_steps if positive, else ceil(n_steps * warmup_ratio). SGC_ECONFIG. */
sgc_status sgc_schedule_make(sgc_schedule *s, const sgc_training_options *t, int64_t n_steps);
/* The rate of update k + 1 when k updates are done. */
double sgc_schedule_at(const sgc_schedule *s, int64_t k);
/* After an evaluation; acts for reduce_lr_on_plateau only. */
void sgc_schedule_evaluated(sgc_schedule *s, double metric);

/* fp16 has gradients far from zero only if the loss is scaled up: as far as nothing overflows. */
typedef struct sgc_loss_scale {
    double scale;
    int64_t n_good;           /* updates without an overflow since it last changed */
} sgc_loss_scale;

void sgc_loss_scale_start(sgc_loss_scale *s);
/* After an update, or after one that was skipped because of an overflow. */
void sgc_loss_scale_update(sgc_loss_scale *s, bool has_overflow);

#endif

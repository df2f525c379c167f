/* The numbers that a training run follows from its settings and the amount of data. Pure arithmetic. */
#ifndef SGC_TRAIN_PLAN_IMPL_H
#define SGC_TRAIN_PLAN_IMPL_H

#include <stdint.h>

#include "base/status.h"
#include "conf/config.h"
#include "data/data.h"

typedef struct sgc_plan {
    int64_t micro_batch;      /* B: samples of one micro-batch on one rank                              */
    int64_t world;            /* W: ranks                                                               */
    int64_t accumulation;     /* micro-batches of an update on one rank: G, or L where an epoch has less */
    int64_t global_batch;     /* B * G * W as configured; what a checkpoint keeps                       */
    int64_t update_samples;   /* samples that an update takes                                           */
    int64_t update_targets;   /* scored tokens of an update: every sample is a full block               */
    int64_t micro_per_epoch;  /* L: micro-batches of an epoch on one rank                               */
    int64_t updates_per_epoch; /* U                                                                     */
    int64_t n_steps;          /* S: updates of the whole run                                            */
    int64_t log_every, eval_every, save_every; /* updates; 0: never                                     */
} sgc_plan;

/**
 * @param n_samples  training samples.
 * @param sampler    [out] the stream that the run draws from.
 * @return SGC_ECONFIG or SGC_EDATA: the same on every rank, because all have the same arguments.
 */
sgc_status sgc_plan_make(sgc_plan *p, sgc_sampler *sampler, const sgc_training_options *t, int64_t n_samples, int64_t block, int world);

/* The accumulation steps that keep a checkpoint's global batch; SGC_ECONFIG names the numbers that would. */
sgc_status sgc_plan_keep_batch(int64_t global_batch, int64_t micro_batch, int64_t world, int64_t *accumulation);

#endif

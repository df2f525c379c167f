/* Evaluation passes: the mean loss over samples, the same bits at any number of ranks. */
#ifndef SGC_TRAIN_EVALUATOR_IMPL_H
#define SGC_TRAIN_EVALUATOR_IMPL_H

#include "train/dataset_impl.h"
#include "zero/zero.h"

typedef struct sgc_evaluator {
    sgc_group *group;         /* borrowed, as are samples and engine                       */
    const sgc_samples *samples;
    sgc_zero *engine;
    sgc_graph *graph;         /* owned                                                     */
    int32_t *tokens, *labels; /* [B * T], owned                                            */
    int64_t micro_batch, n_passes; /* per rank: the same on all, because gathers are collective */
} sgc_evaluator;

typedef struct sgc_evaluation { double loss; int64_t n_tokens, n_samples; double runtime_s; } sgc_evaluation;

/* Local. The arena of evaluator->graph is bound by the caller; the engine may be set later. */
sgc_status sgc_evaluator_make(sgc_evaluator *e, const sgc_model *model, sgc_device *device, sgc_group *group, const sgc_samples *samples,
                              int64_t micro_batch);
void sgc_evaluator_free(sgc_evaluator *e);
/* Collective. A failure is fatal for the job: peers may be in a collective. */
sgc_status sgc_evaluator_run(sgc_evaluator *e, sgc_evaluation *result);

/* exp(loss), the perplexity of a token-weighted mean loss. */
double sgc_perplexity(double loss);

#endif

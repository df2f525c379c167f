/*
 * Learning-rate schedules of TrainingArguments.lr_scheduler_type. Letters: k updates done, w warm-up updates, T updates of the run.
 * Source: get_scheduler of transformers 4.34 (optimization.py) and torch.optim.lr_scheduler.ReduceLROnPlateau, with their defaults.
 */
#include <assert.h>
#include <math.h>

#include "optim/optim.h"

#define POLYNOMIAL_END 1e-7 /* of power 1 */
/* Without warm-up transformers 4.34 divides by zero here; later versions take this. */
#define INVERSE_SQRT_TIMESCALE 10000.0
#define PLATEAU_FACTOR 0.1
#define PLATEAU_PATIENCE 10
#define PLATEAU_THRESHOLD 1e-4
#define PLATEAU_SMALLEST_CHANGE 1e-8

sgc_status sgc_schedule_make(sgc_schedule *s, const sgc_training_options *t, int64_t n_steps)
{
    assert(n_steps >= 0);
    *s = (sgc_schedule){.type = t->lr_scheduler_type, .learning_rate = t->learning_rate, .n_steps = n_steps};
    s->n_warmup = t->warmup_steps > 0 ? t->warmup_steps : (int64_t)ceil((double)n_steps * t->warmup_ratio);
    s->plateau.rate = t->learning_rate;
    if (s->type == SGC_SCHEDULE_POLYNOMIAL && !(t->learning_rate > POLYNOMIAL_END))
        return sgc_err(SGC_ECONFIG, "lr_scheduler_type polynomial ends at %g, so learning_rate must be above that; it is %g", POLYNOMIAL_END,
                       t->learning_rate);
    if (s->type == SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU && t->evaluation_strategy == SGC_STRATEGY_NO)
        return sgc_err(SGC_ECONFIG, "lr_scheduler_type reduce_lr_on_plateau acts after evaluations: set evaluation_strategy to steps or epoch");
    return SGC_OK;
}

/* Factor on the learning rate after the warm-up. */
static double decay(const sgc_schedule *s, int64_t k)
{
    const double T = (double)s->n_steps, w = (double)s->n_warmup, span = fmax(1.0, T - w), progress = ((double)k - w) / span;
    switch ((sgc_schedule_type)s->type) {
    case SGC_SCHEDULE_LINEAR:
        return fmax(0.0, (T - (double)k) / span);
    case SGC_SCHEDULE_COSINE:
        return fmax(0.0, 0.5 * (1.0 + cos(M_PI * progress)));
    case SGC_SCHEDULE_COSINE_WITH_RESTARTS: /* one cycle: differs from cosine beyond T */
        return progress >= 1.0 ? 0.0 : fmax(0.0, 0.5 * (1.0 + cos(M_PI * progress)));
    case SGC_SCHEDULE_POLYNOMIAL: {
        const double end = POLYNOMIAL_END / s->learning_rate;
        if (k >= s->n_steps) return end;
        return (1.0 - end) * (1.0 - progress) + end;
    }
    case SGC_SCHEDULE_INVERSE_SQRT: {
        const double timescale = s->n_warmup > 0 ? w : INVERSE_SQRT_TIMESCALE;
        return 1.0 / sqrt(((double)k + timescale - w) / timescale);
    }
    case SGC_SCHEDULE_CONSTANT:
    case SGC_SCHEDULE_CONSTANT_WITH_WARMUP:
    case SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU:
        break;
    }
    return 1.0;
}

double sgc_schedule_at(const sgc_schedule *s, int64_t k)
{
    if (s->type == SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU) return s->plateau.rate;
    if (s->type != SGC_SCHEDULE_CONSTANT && k < s->n_warmup) return s->learning_rate * ((double)k / (double)s->n_warmup);
    return s->learning_rate * decay(s, k);
}

void sgc_schedule_evaluated(sgc_schedule *s, double metric)
{
    if (s->type != SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU) return;
    bool better;
    if (!s->plateau.has_best)
        better = s->plateau.greater_is_better ? metric > -INFINITY : metric < INFINITY;
    else if (s->plateau.greater_is_better)
        better = metric > s->plateau.best * (1.0 + PLATEAU_THRESHOLD);
    else
        better = metric < s->plateau.best * (1.0 - PLATEAU_THRESHOLD);
    if (better) {
        s->plateau.best = metric;
        s->plateau.has_best = true;
        s->plateau.n_bad = 0;
        return;
    }
    if (++s->plateau.n_bad <= PLATEAU_PATIENCE) return;
    const double rate = s->plateau.rate * PLATEAU_FACTOR;
    if (s->plateau.rate - rate > PLATEAU_SMALLEST_CHANGE) s->plateau.rate = rate;
    s->plateau.n_bad = 0;
}

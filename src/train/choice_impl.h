/* Which token comes next. */
#ifndef SGC_TRAIN_CHOICE_IMPL_H
#define SGC_TRAIN_CHOICE_IMPL_H

#include <stdint.h>

typedef struct sgc_choice_rule {
    double temperature;       /* 0: the most likely token */
    int64_t top_k;            /* 0: all                   */
    double top_p;             /* 1: all                   */
} sgc_choice_rule;

/**
 * Choose by inverting the cumulative distribution of the candidates in order of probability; equal ones in order of their number.
 * @param logits   [V]
 * @param u        in [0, 1)
 * @param scratch  [V]
 */
int32_t sgc_choose(const float *logits, int64_t V, const sgc_choice_rule *rule, double u, int32_t *scratch);

/* The number that decides position `position` of the text; depends on (seed, position) alone. */
double sgc_choice_uniform(uint64_t seed, int64_t position);

#endif

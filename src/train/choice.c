#define _GNU_SOURCE 1 /* qsort_r */
#include "train/choice_impl.h"

#include <math.h>
#include <stdlib.h>

#include "base/philox.h"

static int by_logit(const void *a, const void *b, void *arg)
{
    const float *logits = arg;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (logits[i] != logits[j]) return logits[i] > logits[j] ? -1 : 1;
    return (i > j) - (i < j);
}

static int32_t most_likely(const float *logits, int64_t V)
{
    int64_t best = 0;
    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

int32_t sgc_choose(const float *logits, int64_t V, const sgc_choice_rule *rule, double u, int32_t *scratch)
{
    if (rule->temperature <= 0) return most_likely(logits, V);
    for (int64_t i = 0; i < V; i++)
        scratch[i] = (int32_t)i;
    qsort_r(scratch, (size_t)V, sizeof(*scratch), by_logit, (void *)logits);

    double top = logits[scratch[0]], sum = 0, kept = 0, reached = 0;
    int64_t n = rule->top_k > 0 && rule->top_k < V ? rule->top_k : V, n_kept = 0;
    for (int64_t i = 0; i < n; i++)
        sum += exp((logits[scratch[i]] - top) / rule->temperature);
    while (n_kept < n && (n_kept == 0 || kept < rule->top_p * sum)) /* the token that crosses top_p is a candidate too */
        kept += exp((logits[scratch[n_kept++]] - top) / rule->temperature);
    for (int64_t i = 0; i < n_kept; i++) {
        reached += exp((logits[scratch[i]] - top) / rule->temperature);
        if (reached > u * kept) return scratch[i];
    }
    return scratch[n_kept - 1];
}

double sgc_choice_uniform(uint64_t seed, int64_t position)
{
    uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0, 0}, word[4];
    sgc_philox(sgc_philox_make_key(seed, SGC_PURPOSE_SAMPLE), counter, word);
    return (double)(((uint64_t)word[0] << 21) ^ (word[1] >> 11)) * 0x1p-53;
}

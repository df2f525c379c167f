/* The stream of training samples: which sample stands at a position of it. */
#include <assert.h>

#include "data/data.h"

sgc_status sgc_sampler_make(sgc_sampler *s, uint64_t seed, int64_t n, int64_t multiple, bool drop_last)
{
    assert(n >= 0 && multiple > 0);
    if (n == 0) return sgc_err(SGC_EDATA, "there are no training samples");
    if (drop_last && n < multiple)
        return sgc_err(SGC_EDATA, "dataloader_drop_last leaves nothing: %lld training samples do not fill one global batch of %lld; "
                       "use fewer samples per batch, fewer ranks or dataloader_drop_last = false", (long long)n, (long long)multiple);
    const int64_t n_whole = n / multiple;
    *s = (sgc_sampler){.seed = seed, .n = n, .epoch_samples = (n_whole + (!drop_last && n % multiple > 0)) * multiple};
    return SGC_OK;
}

int64_t sgc_sampler_at(const sgc_sampler *s, int64_t position)
{
    assert(position >= 0);
    const int64_t epoch = position / s->epoch_samples, i = position % s->epoch_samples;
    return sgc_permute(s->seed, epoch, s->n, i % s->n); /* beyond n: the epoch's first samples again */
}

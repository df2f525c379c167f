#include "train/plan_impl.h"

#include <math.h>

/* A value below 1 is a share of all updates; others are whole numbers (conf/ has checked that). */
static int64_t steps_of(double value, int64_t n_steps)
{
    if (value < 1) return (int64_t)ceil((double)n_steps * value);
    return value < 0x1p62 ? (int64_t)value : INT64_MAX;
}

static void set_intervals(sgc_plan *p, const sgc_training_options *t)
{
    double eval_steps = t->has_eval_steps && t->eval_steps > 0 ? t->eval_steps : t->logging_steps;
    if (t->logging_strategy == SGC_STRATEGY_STEPS) p->log_every = steps_of(t->logging_steps, p->n_steps);
    if (t->evaluation_strategy == SGC_STRATEGY_STEPS) p->eval_every = steps_of(eval_steps, p->n_steps);
    if (t->save_strategy == SGC_STRATEGY_STEPS && t->save_steps > 0) p->save_every = steps_of(t->save_steps, p->n_steps);
}

sgc_status sgc_plan_make(sgc_plan *p, sgc_sampler *sampler, const sgc_training_options *t, int64_t n_samples, int64_t block, int world)
{
    sgc_status st = SGC_OK;
    int64_t accumulation = t->gradient_accumulation_steps;
    *p = (sgc_plan){.micro_batch = t->per_device_train_batch_size, .world = world};
    if (__builtin_mul_overflow(p->micro_batch * world, accumulation, &p->global_batch) || p->global_batch > INT64_MAX / (block * 8))
        return sgc_err(SGC_ECONFIG, "per_device_train_batch_size %lld x %d ranks x gradient_accumulation_steps %lld is too large",
                       (long long)p->micro_batch, world, (long long)accumulation);

    /* With full_determinism an update never crosses the end of an epoch, whatever the split into ranks and accumulation. */
    int64_t multiple = t->full_determinism ? p->global_batch : p->micro_batch * world;
    uint64_t seed = (uint64_t)(t->has_data_seed ? t->data_seed : t->seed);
    SGC_TRY(sgc_sampler_make(sampler, seed, n_samples, multiple, t->dataloader_drop_last));
    p->micro_per_epoch = sampler->epoch_samples / (p->micro_batch * world);
    p->accumulation = accumulation < p->micro_per_epoch ? accumulation : p->micro_per_epoch;
    p->updates_per_epoch = p->micro_per_epoch / p->accumulation;
    p->update_samples = p->micro_batch * world * p->accumulation;
    p->update_targets = p->update_samples * (block - 1);

    if (t->max_steps > 0) {
        p->n_steps = t->max_steps;
    } else {
        double steps = ceil(t->num_train_epochs * (double)p->updates_per_epoch);
        if (!(steps >= 1 && steps < 0x1p53))
            return sgc_err(SGC_ECONFIG, "num_train_epochs %g gives %g updates: give max_steps, or another number of epochs",
                           t->num_train_epochs, steps);
        p->n_steps = (int64_t)steps;
    }
    set_intervals(p, t);
done:
    return st;
}

/* The numbers n <= limit for which n * unit divides total. */
static void list_divisors(sgc_str *out, int64_t total, int64_t unit, int64_t limit)
{
    int n_listed = 0;
    for (int64_t n = 1; n <= limit && n <= total / unit && n_listed < 16; n++) {
        if (total % (n * unit) == 0) sgc_str_printf(out, "%s%lld", n_listed++ ? ", " : "", (long long)n);
    }
    if (n_listed == 0) sgc_str_printf(out, "none");
}

sgc_status sgc_plan_keep_batch(int64_t global_batch, int64_t micro_batch, int64_t world, int64_t *accumulation)
{
    if (global_batch % (micro_batch * world) == 0) {
        *accumulation = global_batch / (micro_batch * world);
        return SGC_OK;
    }
    sgc_str ranks = {0}, sizes = {0};
    list_divisors(&ranks, global_batch, micro_batch, 4096);
    list_divisors(&sizes, global_batch, world, 65536);
    sgc_status st = sgc_err(SGC_ECONFIG,
        "the checkpoint's global batch of %lld samples cannot be made of %lld ranks with per_device_train_batch_size %lld: use a number of "
        "ranks of {%s}, or with %lld ranks a per_device_train_batch_size of {%s}, or choose another global batch by giving "
        "--gradient_accumulation_steps",
        (long long)global_batch, (long long)world, (long long)micro_batch, ranks.text, (long long)world, sizes.text);
    sgc_str_free(&ranks);
    sgc_str_free(&sizes);
    return st;
}

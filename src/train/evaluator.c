#include "train/evaluator_impl.h"

#include <math.h>

#include "base/util.h"

double sgc_perplexity(double loss) { return exp(loss); }

sgc_status sgc_evaluator_make(sgc_evaluator *e, const sgc_model *model, sgc_device *device, sgc_group *group, const sgc_samples *samples,
                              int64_t micro_batch)
{
    sgc_status st = SGC_OK;
    int world = sgc_group_size(group);
    if (micro_batch > samples->n) micro_batch = samples->n;
    int64_t n_micro = (samples->n + micro_batch - 1) / micro_batch;
    *e = (sgc_evaluator){.group = group, .samples = samples, .micro_batch = micro_batch, .n_passes = (n_micro + world - 1) / world};
    sgc_graph_spec spec = {.mode = SGC_EVAL, .B = micro_batch, .T = samples->block};
    size_t bytes = (size_t)(micro_batch * samples->block) * sizeof(int32_t);
    SGC_TRY(sgc_graph_build(&e->graph, model, device, &spec));
    if (!(e->tokens = sgc_mem_alloc(SGC_MEM_DATA, bytes)) || !(e->labels = sgc_mem_alloc(SGC_MEM_DATA, bytes))) st = SGC_ENOMEM;
done:
    return st;
}

void sgc_evaluator_free(sgc_evaluator *e)
{
    sgc_graph_free(e->graph);
    sgc_mem_free(e->tokens);
    sgc_mem_free(e->labels);
    *e = (sgc_evaluator){0};
}

/* Micro-batch number `micro` of the whole evaluation. What lies beyond the last sample is computed and ignored. */
static sgc_status read_micro(sgc_evaluator *e, int64_t micro, int64_t *n_samples)
{
    int64_t T = e->samples->block;
    for (int64_t b = 0; b < e->micro_batch; b++) {
        int64_t index = micro * e->micro_batch + b;
        bool is_real = index < e->samples->n;
        sgc_status st = sgc_sample_read(e->samples, is_real ? index : 0, e->tokens + b * T);
        if (st != SGC_OK) return st;
        for (int64_t t = 0; t < T; t++)
            e->labels[b * T + t] = is_real ? e->tokens[b * T + t] : -100;
        *n_samples += is_real;
    }
    return SGC_OK;
}

sgc_status sgc_evaluator_run(sgc_evaluator *e, sgc_evaluation *result)
{
    sgc_status st = SGC_OK;
    double start_s = sgc_time_s();
    int64_t T = e->samples->block, n_samples = 0, rank = sgc_group_rank(e->group), world = sgc_group_size(e->group);
    sgc_exact sum;
    sgc_exact_zero(&sum);
    for (int64_t pass = 0; pass < e->n_passes; pass++) {
        SGC_TRY(read_micro(e, pass * world + rank, &n_samples));
        sgc_batch batch = {.tokens = e->tokens, .labels = e->labels, .scale = 1};
        SGC_TRY(sgc_graph_bind_batch(e->graph, &batch));
        SGC_TRY(sgc_zero_forward(e->engine, e->graph));
        const double *loss;
        SGC_TRY(sgc_graph_losses(e->graph, &loss));
        for (int64_t i = 0; i < e->micro_batch * T; i++)
            sgc_exact_add(&sum, loss[i]); /* 0 where ignored */
        sgc_exact_normalize(&sum);
    }
    SGC_TRY(sgc_sum_exact(e->group, &sum, 1));
    SGC_TRY(sgc_sum_int64(e->group, &n_samples, 1));
    *result = (sgc_evaluation){.n_samples = n_samples, .n_tokens = n_samples * (T - 1), .runtime_s = sgc_time_s() - start_s};
    result->loss = sgc_exact_value(&sum) / (double)result->n_tokens;
done:
    return st;
}

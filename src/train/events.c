/* What happens between updates: a table of events, each with its condition. */
#include "base/log.h"
#include "train/json_impl.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"

static bool is_due(int strategy, int64_t every, const sgc_run *r)
{
    if (strategy == SGC_STRATEGY_EPOCH) return r->epoch_ended;
    return strategy == SGC_STRATEGY_STEPS && every > 0 && r->state.step % every == 0;
}

static bool should_log(const sgc_run *r)
{
    return is_due(r->t->logging_strategy, r->plan.log_every, r) || (r->t->logging_first_step && r->state.step == 1);
}

static bool should_evaluate(const sgc_run *r)
{
    double reached = r->t->evaluation_strategy == SGC_STRATEGY_EPOCH ? sgc_run_epoch(r) : (double)r->state.step;
    return is_due(r->t->evaluation_strategy, r->plan.eval_every, r) && reached >= r->t->eval_delay;
}

static bool should_save(const sgc_run *r)
{
    if (r->saved_step == r->state.step) return false;
    if (r->stop || r->control.n_save > 0) return true;
    if (r->t->load_best_model_at_end && r->state.best_step == r->state.step) return true;
    if (r->t->save_strategy == SGC_STRATEGY_NO) return false;
    /* The end of a save under way tells how long the interval is. */
    if (r->config->checkpoint.interval == SGC_INTERVAL_AUTO && r->state.step < r->plan.n_steps) return !r->saving.save && r->state.step >= r->saving.next_step;
    return is_due(r->t->save_strategy, r->plan.save_every, r) || r->state.step >= r->plan.n_steps;
}

static sgc_status write_log_local(sgc_run *r, double loss, double rate, double tokens_per_second)
{
    double epoch = sgc_run_epoch(r);
    char utilization[32] = "";
    if (r->gemm_flops > 0) snprintf(utilization, sizeof(utilization), "  utilization %.3f", sgc_run_utilization(r, tokens_per_second));
    sgc_log_info("update %lld/%lld  loss %.4f  grad_norm %.4f  learning_rate %.4g  epoch %.2f  %.0f tokens/s%s", (long long)r->state.step,
                 (long long)r->plan.n_steps, loss, r->last_grad_norm, rate, epoch, tokens_per_second, utilization);
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer(r->state.step));
    json_object_set_new(line, "epoch", sgc_json_number(epoch));
    json_object_set_new(line, "loss", sgc_json_number(loss));
    json_object_set_new(line, "grad_norm", sgc_json_number(r->last_grad_norm));
    json_object_set_new(line, "learning_rate", sgc_json_number(rate));
    json_object_set_new(line, "tokens_per_second", sgc_json_number(tokens_per_second));
    if (r->state.loss_scale > 0) {
        json_object_set_new(line, "loss_scale", sgc_json_number(r->state.loss_scale));
        json_object_set_new(line, "n_skipped", json_integer(r->state.n_skipped));
    }
    if (r->gemm_flops > 0) json_object_set_new(line, "model_flops_utilization", sgc_json_number(sgc_run_utilization(r, tokens_per_second)));
    return sgc_metrics_write(&r->metrics, line);
}

static sgc_status log_window(sgc_run *r)
{
    sgc_status st = SGC_OK;
    double now = sgc_time_s(), tokens = (double)((r->state.step - r->window_first_step) * r->plan.update_samples * r->data.train.block);
    double loss = r->state.window_loss_sum / (double)r->state.window_loss_n;
    /* As the Trainer, which steps the schedule before it logs: the rate of the update to come. */
    double rate = sgc_schedule_at(&r->schedule, sgc_run_n_taken(r));
    if (r->world->rank == 0) st = sgc_saving_forgive(r, write_log_local(r, loss, rate, tokens / (now - r->window_start_s)));
    r->state.window_loss_sum = 0;
    r->state.window_loss_n = 0;
    r->window_start_s = now;
    r->window_first_step = r->state.step;
    SGC_AGREE(r->world->all);
done:
    return st;
}

static sgc_status write_evaluation_local(sgc_run *r, const sgc_evaluation *e)
{
    double perplexity = sgc_perplexity(e->loss);
    sgc_log_info("update %lld/%lld  eval_loss %.4f  perplexity %.4f  (%lld samples in %.1f s)", (long long)r->state.step, (long long)r->plan.n_steps,
                 e->loss, perplexity, (long long)e->n_samples, e->runtime_s);
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer(r->state.step));
    json_object_set_new(line, "epoch", sgc_json_number(sgc_run_epoch(r)));
    json_object_set_new(line, "eval_loss", sgc_json_number(e->loss));
    json_object_set_new(line, "eval_perplexity", sgc_json_number(perplexity));
    json_object_set_new(line, "eval_runtime", sgc_json_number(e->runtime_s));
    json_object_set_new(line, "eval_samples_per_second", sgc_json_number((double)e->n_samples / e->runtime_s));
    return sgc_metrics_write(&r->metrics, line);
}

static sgc_status evaluate(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_evaluation e;
    const double start_s = sgc_time_s(), window_start_s = r->window_start_s;
    if (sgc_evaluator_run(&r->evaluator, &e) != SGC_OK) sgc_abort_job(r->world, "evaluation");
    r->state.last_eval_loss = e.loss;
    r->evaluated_step = r->state.step;
    if (sgc_best_is_better(r, e.loss, r->state.best_metric)) {
        r->state.best_metric = e.loss;
        r->state.best_step = r->state.step;
    }
    sgc_schedule_evaluated(&r->schedule, e.loss);
    if (r->world->rank == 0) st = sgc_saving_forgive(r, write_evaluation_local(r, &e));
    r->window_start_s = window_start_s + (sgc_time_s() - start_s); /* tokens_per_second is that of training; files that travel meanwhile take no more of it */
    SGC_AGREE(r->world->all);
done:
    return st;
}

/* What was asked for, is the best or the end, is not dropped. */
static sgc_status save(sgc_run *r)
{
    sgc_run_state *s = &r->state;
    s->plateau_rate = r->schedule.plateau.rate;
    s->plateau_best = r->schedule.plateau.best;
    s->plateau_n_bad = r->schedule.plateau.n_bad;
    s->plateau_has_best = r->schedule.plateau.has_best;
    bool is_best = r->t->load_best_model_at_end && s->best_step == s->step;
    return sgc_saving_start(r, r->stop || r->control.n_save > 0 || is_best || s->step >= r->plan.n_steps);
}

/* In the Trainer's order. An event is collective: its condition is the same on every rank. */
static const struct event {
    const char *name;
    bool (*is_due)(const sgc_run *r);
    sgc_status (*act)(sgc_run *r);
} events[] = {
    {"log", should_log, log_window},
    {"evaluate", should_evaluate, evaluate},
    {"save", should_save, save},
};

sgc_status sgc_events_run(sgc_run *r)
{
    sgc_status st = SGC_OK;
    for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        if (!events[i].is_due(r)) continue;
        sgc_log_debug("update %lld: %s", (long long)r->state.step, events[i].name);
        SGC_TRY(events[i].act(r));
    }
done:
    return st;
}

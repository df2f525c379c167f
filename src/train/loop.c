/* The training loop: sgc_train. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"
#include "train/signals_impl.h"

double sgc_run_epoch(const sgc_run *r)
{
    return (double)r->state.epoch + (double)r->state.epoch_position / (double)r->sampler.epoch_samples;
}

double sgc_run_tokens_per_second(const sgc_run *r)
{
    double tokens = (double)((r->state.step - r->first_step) * r->plan.update_samples * r->data.train.block);
    return tokens > 0 ? tokens / (sgc_time_s() - r->loop_start_s) : 0;
}

double sgc_run_utilization(const sgc_run *r, double tokens_per_second)
{
    if (r->gemm_flops <= 0) return NAN;
    return tokens_per_second * sgc_model_flops_per_token(r->model, r->data.train.block) / r->gemm_flops;
}

static double loss_scale(const sgc_run *r) { return r->state.loss_scale > 0 ? r->state.loss_scale : 1; }

/* Updates that changed the weights: what the schedule and Adam's bias correction count. */
int64_t sgc_run_n_taken(const sgc_run *r) { return r->state.step - r->state.n_skipped; }

/* Micro-batch i = g * W + rank of the update takes B consecutive places of the sample stream. */
static sgc_status read_micro(sgc_run *r, int64_t g)
{
    int64_t B = r->plan.micro_batch, T = r->data.train.block;
    int64_t first = (g * r->plan.world + r->world->rank) * B; /* in the update */
    int64_t position = r->state.epoch * r->sampler.epoch_samples + r->state.epoch_position + first;
    for (int64_t b = 0; b < B; b++) {
        int64_t index = sgc_sampler_at(&r->sampler, position + b);
        sgc_status st = sgc_sample_read(&r->data.train, index, r->tokens + b * T);
        if (st != SGC_OK) return st;
        r->sample[b] = r->state.samples + first + b;
    }
    sgc_batch batch = {.tokens = r->tokens, .labels = r->tokens, .sample = r->sample, .seed = (uint64_t)r->t->seed, .step = r->state.step,
                       .scale = loss_scale(r) / (double)r->plan.update_targets};
    return sgc_graph_bind_batch(r->graph, &batch);
}

static void count_sent(sgc_run *r, int sign)
{
    for (sgc_collective c = 0; c < SGC_N_COLLECTIVES; c++) {
        sgc_traffic now = sgc_group_traffic(r->world->all, c);
        r->sent[c].n_calls += sign * now.n_calls;
        r->sent[c].n_elements += sign * now.n_elements;
        r->sent[c].n_bytes += sign * now.n_bytes;
    }
}

/* Which tensor on which rank: the ranks whose own losses went wrong are asked first, then those that hold a bad gradient. */
static sgc_status refuse_nonfinite(sgc_run *r, bool own_loss_is_bad)
{
    long long update = (long long)r->state.step + 1;
    const sgc_param_spec *tensor;
    sgc_status st = sgc_zero_nonfinite(r->engine, &tensor);
    if (st != SGC_OK) return st;
    const char *hint = "the last checkpoint is untouched; lower the learning rate, or go on regardless with --nonfinite continue";
    if (own_loss_is_bad)
        st = sgc_err(SGC_ENONFINITE, "update %lld: the loss on rank %d is not finite%s%s; %s", update, r->world->rank,
                     tensor ? ", nor is the gradient of " : "", tensor ? tensor->name : "", hint);
    else if (tensor && r->control.n_bad_loss == 0)
        st = sgc_err(SGC_ENONFINITE, "update %lld: the gradient of %s on rank %d is not finite; %s", update, tensor->name, r->world->rank, hint);
    st = sgc_agree(r->world->all, st);
    if (st == SGC_OK) st = sgc_err(SGC_ENONFINITE, "update %lld: the norm of the gradient is not finite; %s", update, hint);
    sgc_status dropped = sgc_zero_drop_gradients(r->engine);
    return dropped == SGC_OK ? st : dropped;
}

/* Says which gradient overflowed first, by rank and tensor. Collective, but for local failures. */
static sgc_status report_overflow(sgc_run *r)
{
    const sgc_param_spec *tensor;
    sgc_status st = sgc_zero_nonfinite(r->engine, &tensor);
    if (st != SGC_OK) return st;
    char name[sizeof(tensor->name)] = "";
    double rank = tensor ? r->world->rank : r->world->size;
    SGC_TRY(sgc_min_double(r->world->all, &rank, 1));
    if (tensor && rank == r->world->rank) strcpy(name, tensor->name);
    if (rank < r->world->size) SGC_TRY(sgc_bcast_bytes(r->world->all, name, sizeof(name), (int)rank));
    if (r->world->rank == 0)
        sgc_log_info("update %lld is skipped: the gradient of %s on rank %.0f overflowed at a loss scale of %g, which is now %g (%lld of %lld updates skipped)",
                     (long long)r->state.step + 1, name[0] ? name : "no tensor", rank, r->state.loss_scale, r->state.loss_scale / 2,
                     (long long)r->state.n_skipped + 1, (long long)r->state.step + 1);
done:
    return st;
}

/* fp16: nothing is learned from this update but that the loss scale was too large. */
static sgc_status skip_update(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(report_overflow(r));
    SGC_TRY(sgc_zero_drop_gradients(r->engine));
    if (r->t->nonfinite == SGC_NONFINITE_STOP && r->state.loss_scale <= 1)
        return sgc_err(SGC_ENONFINITE, "update %lld: gradients overflow in fp16 even with a loss scale of %g; the last checkpoint is untouched; lower the "
                       "learning rate, or write --bf16 true, which needs no loss scale", (long long)r->state.step + 1, r->state.loss_scale);
    r->state.n_skipped++;
done:
    return st;
}

static void adapt_loss_scale(sgc_run *r, bool has_overflow)
{
    sgc_loss_scale s = {.scale = r->state.loss_scale, .n_good = r->state.loss_scale_n_good};
    if (s.scale == 0) return;
    sgc_loss_scale_update(&s, has_overflow);
    r->state.loss_scale = s.scale;
    r->state.loss_scale_n_good = s.n_good;
}

static sgc_status take_update(sgc_run *r, double norm)
{
    const sgc_training_options *t = r->t;
    double limit = t->has_max_grad_norm ? t->max_grad_norm : 0;
    sgc_adamw rule = {.learning_rate = sgc_schedule_at(&r->schedule, sgc_run_n_taken(r)), .beta1 = t->adam_beta1, .beta2 = t->adam_beta2,
                      .epsilon = t->adam_epsilon, .t = sgc_run_n_taken(r) + 1, .grad_scale = 1 / loss_scale(r)};
    if (limit > 0 && !(norm <= limit)) rule.grad_scale *= limit / (norm + 1e-6); /* a NaN spreads, as in torch */
    return sgc_zero_update(r->engine, &rule, t->weight_decay);
}

static void advance(sgc_run *r, double loss)
{
    sgc_run_state *s = &r->state;
    s->step++;
    s->samples += r->plan.update_samples;
    s->tokens += r->plan.update_targets;
    s->total_flos += 6.0 * (double)(r->plan.update_samples * r->data.train.block) * (double)(r->model->n_parameters - r->model->n_embedding_parameters);
    s->epoch_position += r->plan.update_samples;
    r->epoch_ended = s->epoch_position >= r->sampler.epoch_samples || s->step >= r->plan.n_steps;
    while (s->epoch_position >= r->sampler.epoch_samples) {
        s->epoch++;
        s->epoch_position -= r->sampler.epoch_samples;
    }
    /* As the Trainer: what is not finite counts as the window's mean so far, in the logged sums only. */
    double logged = r->t->logging_nan_inf_filter && !isfinite(loss) ? (s->window_loss_n ? s->window_loss_sum / (double)s->window_loss_n : 0) : loss;
    s->window_loss_sum += logged;
    s->window_loss_n++;
    s->train_loss_sum += logged;
    s->train_loss_n++;
    s->last_loss = loss;
}

/* One update. Only SGC_ENONFINITE is agreed on; after any other failure the peers may be in a collective. */
static sgc_status update(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const sgc_training_options *t = r->t;
    sgc_control *control = &r->control;
    sgc_control_clear(control);
    for (int64_t g = 0; g < r->plan.accumulation; g++) {
        double start_s = sgc_trace_now();
        SGC_TRY(read_micro(r, g));
        sgc_trace_work("read_samples", NULL, start_s, 0, 0);
        SGC_TRY(sgc_zero_train_micro(r->engine, r->graph, g));
        const double *losses;
        SGC_TRY(sgc_graph_losses(r->graph, &losses));
        sgc_control_add_losses(control, losses, r->plan.micro_batch * r->data.train.block);
    }
    SGC_TRY(sgc_zero_finish_gradients(r->engine, &control->square));
    bool own_loss_is_bad = control->loss.n_nan + control->loss.n_pos_inf + control->loss.n_neg_inf > 0;
    SGC_TRY(sgc_saving_move(r));
    SGC_TRY(sgc_control_agree(control, r->world->all, sgc_saving_is_ready(&r->saving)));

    double loss = sgc_exact_value(&control->loss) / (double)r->plan.update_targets;
    double norm = sqrt(sgc_exact_value(&control->square)) / loss_scale(r);
    bool has_overflow = r->state.loss_scale > 0 && !isfinite(norm);
    if (has_overflow) {
        SGC_TRY(skip_update(r));
    } else {
        if (t->nonfinite == SGC_NONFINITE_STOP && !(isfinite(loss) && isfinite(norm))) SGC_TRY(refuse_nonfinite(r, own_loss_is_bad));
        SGC_TRY(take_update(r, norm));
    }
    adapt_loss_scale(r, has_overflow);
    r->last_grad_norm = norm;
    advance(r, loss);
done:
    return st;
}

static void end_without_peers(sgc_run *r)
{
    char where[64];
    snprintf(where, sizeof(where), "update %lld", (long long)r->state.step + 1);
    sgc_abort_job(r->world, where);
}

/* A stop before the last update is an interruption; after it the run is complete anyhow. */
static void note_stop(sgc_run *r)
{
    if (r->control.n_stop == 0 || r->state.step >= r->plan.n_steps) return;
    r->stop = true;
    if (sgc_signals_stop()) sgc_log_warning("%s: stopping after update %lld", strsignal(sgc_signals_stop()), (long long)r->state.step);
}

static void show_progress(sgc_run *r)
{
    double tokens = (double)(r->plan.update_samples * r->data.train.block);
    sgc_progress_show(&r->progress, r->state.step, r->state.last_loss, tokens / r->last_step_s);
}

static sgc_status train_updates(sgc_run *r)
{
    sgc_status st = SGC_OK;
    bool bar = r->t->has_disable_tqdm ? !r->t->disable_tqdm : sgc_log_get_level() <= SGC_LOG_WARNING;
    r->first_step = r->window_first_step = r->saved_step = r->state.step;
    r->evaluated_step = -1;
    r->saving.next_step = r->state.step + SGC_FIRST_AUTO_SAVE;
    sgc_progress_start(&r->progress, bar && r->world->rank == 0, r->plan.n_steps, r->state.step);
    sgc_profile_plan(&r->profile, r->t->profile, r->state.step, r->plan.n_steps, r->config->checkpoint.on_error != SGC_ON_ERROR_STOP);
    r->loop_start_s = r->window_start_s = sgc_time_s();
    SGC_TRY(sgc_report_write(r, "running")); /* whose output_dir it is, should nothing else be saved before the end */
    while (r->state.step < r->plan.n_steps && !r->stop) {
        SGC_TRY(sgc_profile_before(&r->profile, r->world->all, r->state.step));
        double start_s = sgc_time_s();
        count_sent(r, -1);
        st = update(r);
        count_sent(r, +1);
        if (st == SGC_ENONFINITE) goto done;
        if (st != SGC_OK) end_without_peers(r);
        r->last_step_s = sgc_time_s() - start_s;
        r->step_s[(r->state.step - r->first_step - 1) % SGC_N_STEP_TIMES] = r->last_step_s;
        SGC_TRY(sgc_profile_after(&r->profile, r->world->all, r->t->output_dir, r->last_step_s));
        if (r->state.step == r->first_step + 1) r->startup_s = sgc_time_since_start_s();
        note_stop(r);
        show_progress(r);
        SGC_TRY(sgc_saving_poll(r));
        SGC_TRY(sgc_events_run(r));
        if (r->control.n_log > 0 || r->stop) SGC_TRY(sgc_log_flush(r->world->all));
    }
    SGC_TRY(sgc_profile_end(&r->profile, r->world->all, r->t->output_dir));
done:
    return st;
}

sgc_status sgc_train(sgc_world *w, sgc_config *c, sgc_outcome *outcome)
{
    sgc_status st = SGC_OK;
    sgc_run r = {.world = w, .config = c, .t = &c->training, .saved_step = -1, .start.mended_step = -1};
    sgc_signals_install();
    SGC_TRY(sgc_threads_set(&r.threads, w));
    SGC_TRY(sgc_run_setup(&r));
    SGC_TRY(sgc_report_start(&r));
    SGC_TRY(sgc_log_flush(w->all));
    if (r.state.step >= r.plan.n_steps && w->rank == 0)
        sgc_log_info("nothing is left to do: update %lld of %lld is done (raise max_steps or num_train_epochs)", (long long)r.state.step,
                     (long long)r.plan.n_steps);
    st = train_updates(&r);
    if (st == SGC_OK || st == SGC_ENONFINITE) SGC_KEEP(sgc_saving_end(&r)); /* what was begun is finished */
    if (st != SGC_OK) goto done;
    if (r.t->load_best_model_at_end && !r.stop) st = sgc_best_load(&r);
    *outcome = r.stop ? SGC_INTERRUPTED : SGC_COMPLETED;
    if (st != SGC_ECOMM) SGC_KEEP(sgc_report_end(&r)); /* what was trained is complete, whatever became of the best */
done:
    sgc_run_free(&r);
    sgc_signals_restore();
    return st;
}

/* What a run says about itself: the table at its start, run.json, and the lines at its end. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/json_impl.h"
#include "train/run_impl.h"

/* Figures that differ from rank to rank: the least and the most. */
typedef struct spread {
    double held[SGC_MEM_N_PURPOSES], peak[SGC_MEM_N_PURPOSES];
    double states;                                                     /* bytes of parameters, gradients and optimizer  */
    double calls[SGC_N_COLLECTIVES], elements[SGC_N_COLLECTIVES], bytes[SGC_N_COLLECTIVES]; /* sent in the updates so far */
    double sent;                                                       /* elements of the four collectives, per update  */
} spread;

enum { N_SPREAD = sizeof(spread) / sizeof(double) };

/* Collective. */
static sgc_status measure(const sgc_run *r, spread *least, spread *most)
{
    sgc_status st = SGC_OK;
    spread mine = {0};
    int64_t n_updates = r->state.step - r->first_step;
    for (int p = 0; p < SGC_MEM_N_PURPOSES; p++) {
        mine.held[p] = (double)sgc_mem_held((sgc_mem_purpose)p);
        mine.peak[p] = (double)sgc_mem_peak((sgc_mem_purpose)p);
    }
    mine.states = mine.held[SGC_MEM_PARAMETERS] + mine.held[SGC_MEM_GRADIENTS] + mine.held[SGC_MEM_OPTIMIZER];
    for (int c = 0; c < SGC_N_COLLECTIVES && n_updates > 0; c++) {
        mine.calls[c] = (double)r->sent[c].n_calls / (double)n_updates;
        mine.elements[c] = (double)r->sent[c].n_elements / (double)n_updates;
        mine.bytes[c] = (double)r->sent[c].n_bytes / (double)n_updates;
        if (c != SGC_CONTROL) mine.sent += mine.elements[c];
    }
    *least = *most = mine;
    SGC_TRY(sgc_min_double(r->world->all, (double *)least, N_SPREAD));
    SGC_TRY(sgc_max_double(r->world->all, (double *)most, N_SPREAD));
done:
    return st;
}

/* 1234567 -> "1,234,567" */
static const char *grouped(int64_t n, char out[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%lld", (long long)n), k = 0;
    for (int i = 0; i < length; i++) {
        out[k++] = digits[i];
        if ((length - i - 1) % 3 == 0 && i + 1 < length && digits[i] != '-') out[k++] = ',';
    }
    out[k] = '\0';
    return out;
}

/* "16 P", "4 P + 12 P/N", "16 P/N": bytes of model states of P parameters on N ranks */
static const char *formula_text(const sgc_zero_cost *c, char out[48])
{
    if (c->sharded_bytes == 0) snprintf(out, 48, "%g P", c->whole_bytes);
    else if (c->whole_bytes == 0) snprintf(out, 48, "%g P/N", c->sharded_bytes);
    else snprintf(out, 48, "%g P + %g P/N", c->whole_bytes, c->sharded_bytes);
    return out;
}

/* What numbers are while they are computed with, added up and sent. */
static const char *precision_text(const sgc_run *r, char out[96])
{
    sgc_dtype value = r->device.ops->value;
    if (value == r->device.ops->wide) return "fp32";
    snprintf(out, 96, "%s, fp32 master weights%s; gradients travel as %s", value == SGC_F16 ? "fp16" : "bf16",
             value == SGC_F16 ? ", dynamic loss scale" : "", r->config->comm.reduce_dtype == SGC_REDUCE_BF16 ? "bf16" : "fp32");
    return out;
}

sgc_status sgc_report_start(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const sgc_training_options *t = r->t;
    const sgc_plan *p = &r->plan;
    sgc_zero_cost formula = sgc_zero_formula(r->engine);
    spread least, most;
    char a[32], b[32], c[32], text[48], precision[96];
    SGC_TRY(measure(r, &least, &most));
    if (r->world->rank != 0) goto done;
    sgc_log_info("***** Running training *****");
    sgc_log_info("  Model                        %s, %s parameters", r->model->type, grouped(r->model->n_parameters, a));
    sgc_log_info("  Samples                      %s of %lld tokens, %s for validation", grouped(r->data.train.n, a), (long long)r->data.train.block,
                 grouped(r->data.validation.n, b));
    sgc_log_info("  Ranks                        %d on %d node%s, %d thread%s each on %d core%s", r->world->size, r->world->n_nodes,
                 r->world->n_nodes == 1 ? "" : "s", r->threads.n, r->threads.n == 1 ? "" : "s", r->threads.n_cores, r->threads.n_cores == 1 ? "" :
                 r->threads.n_sharing > 1 ? "s shared by the ranks" : "s");
    sgc_log_info("  Precision                    %s", precision_text(r, precision));
    sgc_log_info("  ZeRO stage                   %d: %s of states per rank, by the formula %s = %s", (int)r->config->zero.stage,
                 sgc_format_bytes(most.states, a), formula_text(&formula, text), sgc_format_bytes(formula.state_bytes, b));
    sgc_log_info("  Communication buffers        %s", sgc_format_bytes(most.held[SGC_MEM_COMM], a));
    sgc_log_info("  Activations                  %s (%s %s gradient_checkpointing)%s", sgc_format_bytes((double)r->train_arena_bytes, a),
                 sgc_format_bytes((double)r->other_arena_bytes, b), t->gradient_checkpointing ? "without" : "with",
                 r->arena_bytes > r->train_arena_bytes ? ", more for evaluation" : "");
    if (r->saving.buffer)
        sgc_log_info("  Checkpoints                  %d shard file%s, written in the background from copies of %s per rank%s%s",
                     sgc_files_count(r->saving.files), sgc_files_count(r->saving.files) == 1 ? "" : "s", sgc_format_bytes((double)r->saving.buffer_bytes, a),
                     r->saving.travel ? ", sent to other nodes through " : "", r->saving.travel ? sgc_format_bytes((double)r->saving.travel_bytes, b) : "");
    else
        sgc_log_info("  Checkpoints                  %d shard file%s, written while training stands still", sgc_files_count(r->saving.files),
                     sgc_files_count(r->saving.files) == 1 ? "" : "s");
    sgc_log_info("  Total train batch size       %s samples (%lld per rank x %d ranks x %lld accumulated)", grouped(p->update_samples, a),
                 (long long)p->micro_batch, r->world->size, (long long)p->accumulation);
    sgc_log_info("  Updates                      %s, of which %s are done; %s per epoch", grouped(p->n_steps, a), grouped(r->state.step, b),
                 grouped(p->updates_per_epoch, c));
    if (r->gemm_flops > 0) sgc_log_info("  Matrix products              %.1f GFLOP/s by all ranks in the probe", 1e-9 * r->gemm_flops);
    sgc_log_info("  Run                          %s in %s", r->run_id, t->output_dir);
    if (t->warmup_steps > 0 && t->warmup_ratio > 0)
        sgc_log_info("warmup_steps %lld and warmup_ratio %g are both given: warmup_steps acts", (long long)t->warmup_steps, t->warmup_ratio);
    if (p->accumulation < t->gradient_accumulation_steps)
        sgc_log_warning("an epoch has only %lld micro-batches per rank: gradient_accumulation_steps acts as %lld", (long long)p->micro_per_epoch,
                        (long long)p->accumulation);
done:
    return st;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *step_times(const sgc_run *r)
{
    static const struct { const char *name; double share; } quantiles[] = {{"p10", 0.1}, {"p50", 0.5}, {"p90", 0.9}, {"max", 1}};
    int64_t n = r->state.step - r->first_step;
    if (n > SGC_N_STEP_TIMES) n = SGC_N_STEP_TIMES;
    json_t *out = json_object();
    double *sorted = malloc((size_t)(n + 1) * sizeof(*sorted));
    if (sorted && n > 0) {
        memcpy(sorted, r->step_s, (size_t)n * sizeof(*sorted));
        qsort(sorted, (size_t)n, sizeof(*sorted), by_value);
        for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
            json_object_set_new(out, quantiles[i].name, sgc_json_number(sorted[(int64_t)(quantiles[i].share * (double)(n - 1))]));
    }
    free(sorted);
    return out;
}

/* Counts and bytes; a mean of counts may be fractional. */
static json_t *count(double x) { return x == floor(x) ? json_integer((json_int_t)x) : sgc_json_number(x); }

static json_t *pair(double least, double most) { return json_pack("{s:o, s:o}", "min", count(least), "max", count(most)); }

static json_t *memory(const sgc_run *r, const spread *least, const spread *most)
{
    json_t *out = json_object();
    for (int p = 0; p < SGC_MEM_N_PURPOSES; p++) {
        json_t *one = pair(least->held[p], most->held[p]);
        json_object_set_new(one, "peak", count(most->peak[p]));
        json_object_set_new(out, sgc_mem_name((sgc_mem_purpose)p), one);
    }
    json_t *states = pair(least->states, most->states);
    json_object_set_new(states, "formula", count(sgc_zero_formula(r->engine).state_bytes));
    json_object_set_new(states, "expected", count(sgc_zero_expected(r->engine).state_bytes));
    json_object_set_new(out, "model_states", states);
    json_object_set_new(out, r->t->gradient_checkpointing ? "activations_with_gradient_checkpointing" : "activations_planned",
                        json_integer((json_int_t)r->train_arena_bytes));
    json_object_set_new(out, r->t->gradient_checkpointing ? "activations_planned" : "activations_with_gradient_checkpointing",
                        json_integer((json_int_t)r->other_arena_bytes));
    return out;
}

static json_t *sent_per_update(const sgc_run *r, const spread *least, const spread *most)
{
    json_t *out = json_object();
    for (int c = 0; c < SGC_N_COLLECTIVES; c++)
        json_object_set_new(out, sgc_collective_name((sgc_collective)c),
                            json_pack("{s:o, s:o, s:o}", "calls", count(most->calls[c]), "elements", count(most->elements[c]), "bytes",
                                      count(most->bytes[c])));
    json_t *total = pair(least->sent, most->sent);
    json_object_set_new(total, "formula", count(sgc_zero_formula(r->engine).elements_per_update));
    json_object_set_new(total, "expected", count(sgc_zero_expected(r->engine).elements_per_update));
    json_object_set_new(out, "elements", total);
    return out;
}

/* Where this is written: a copy of it lies elsewhere. */
static json_t *home(const sgc_run *r)
{
    sgc_home h;
    json_t *out = json_object(), *path;
    if (sgc_home_find(r->t->output_dir, &h) != SGC_OK) sgc_err_clear();
    path = json_string(h.path);
    json_object_set_new(out, "path", path ? path : json_null()); /* one that is not UTF-8 cannot be told */
    json_object_set_new(out, "device", json_integer((json_int_t)h.device));
    json_object_set_new(out, "inode", json_integer((json_int_t)h.inode));
    return out;
}

static json_t *summary(const sgc_run *r, const char *outcome, const spread *least, const spread *most)
{
    const sgc_run_state *s = &r->state;
    char date[32];
    sgc_time_iso(date);
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:s}", "outcome", outcome, "run_id", r->run_id, "date", date, "host", sgc_node_name(), "version",
                            PACKAGE_VERSION);
    json_object_set_new(out, "local_id", json_string(r->start.local_id));
    json_object_set_new(out, "output_dir", home(r));
    struct { const char *key; int64_t value; } integers[] = {
        {"world_size", r->world->size}, {"nodes", r->world->n_nodes}, {"threads_per_rank", r->threads.n}, {"cores_per_rank", r->threads.n_cores},
        {"stage", r->config->zero.stage}, {"n_parameters", r->model->n_parameters}, {"n_embedding_parameters", r->model->n_embedding_parameters},
        {"per_device_train_batch_size", r->plan.micro_batch}, {"gradient_accumulation_steps", r->plan.accumulation},
        {"total_train_batch_size", r->plan.update_samples}, {"block_size", r->data.train.block}, {"train_samples", r->data.train.n},
        {"eval_samples", r->data.validation.n}, {"max_steps", r->plan.n_steps}, {"step", s->step}, {"first_step", r->first_step},
        {"samples", s->samples}, {"tokens", s->tokens}};
    for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++)
        json_object_set_new(out, integers[i].key, json_integer(integers[i].value));
    json_object_set_new(out, "full_determinism", json_boolean(r->t->full_determinism));
    json_object_set_new(out, "device", json_string(r->device.about));
    json_object_set_new(out, "bf16", json_boolean(r->device.ops->value == SGC_BF16));
    json_object_set_new(out, "fp16", json_boolean(r->device.ops->value == SGC_F16));
    json_object_set_new(out, "messages", json_string(sgc_group_ops(r->world->all)->name));
    json_object_set_new(out, "reduce_dtype", json_string(r->config->comm.reduce_dtype == SGC_REDUCE_BF16 ? "bf16" : "fp32"));
    json_object_set_new(out, "gradient_checkpointing", json_boolean(r->t->gradient_checkpointing));
    json_object_set_new(out, "memory_bytes", memory(r, least, most));
    json_object_set_new(out, "sent_per_update", sent_per_update(r, least, most));
    struct { const char *key; double value; } numbers[] = {
        {"epoch", sgc_run_epoch(r)}, {"startup_s", r->startup_s}, {"train_runtime", sgc_time_s() - r->loop_start_s},
        {"tokens_per_second", sgc_run_tokens_per_second(r)},
        {"model_flops_utilization", sgc_run_utilization(r, sgc_run_tokens_per_second(r))}, {"gemm_flops_per_second", r->gemm_flops > 0 ? r->gemm_flops : NAN},
        {"total_flos", s->total_flos},
        {"train_loss", s->train_loss_n ? s->train_loss_sum / (double)s->train_loss_n : NAN}, {"last_loss", s->last_loss},
        {"eval_loss", s->last_eval_loss}, {"eval_perplexity", sgc_perplexity(s->last_eval_loss)}, {"best_eval_loss", s->best_metric}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        json_object_set_new(out, numbers[i].key, sgc_json_number(numbers[i].value));
    json_object_set_new(out, "step_time_s", step_times(r));
    return out;
}

sgc_status sgc_report_text(sgc_run *r, const char *outcome, sgc_str *text)
{
    sgc_status st = SGC_OK;
    spread least, most;
    SGC_TRY(measure(r, &least, &most));
    if (r->world->rank == 0) st = sgc_json_text(summary(r, outcome, &least, &most), text);
    SGC_AGREE(r->world->all);
done:
    return st;
}

sgc_status sgc_report_put_local(const sgc_run *r, const sgc_str *text)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(path, r->t->output_dir, "run.json"));
    SGC_TRY(sgc_write_file_atomic(path, text->text, text->n));
done:
    return st;
}

sgc_status sgc_report_write(sgc_run *r, const char *outcome)
{
    sgc_status st = SGC_OK;
    sgc_str text = {0};
    SGC_TRY(sgc_report_text(r, outcome, &text));
    if (r->world->rank == 0) st = sgc_saving_forgive(r, sgc_report_put_local(r, &text));
    SGC_AGREE(r->world->all);
done:
    sgc_str_free(&text);
    return st;
}

/* The line that the Trainer logs at the end of training. */
static sgc_status write_end_local(sgc_run *r)
{
    double runtime_s = sgc_time_s() - r->loop_start_s, n_steps = (double)(r->state.step - r->first_step);
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer(r->state.step));
    json_object_set_new(line, "epoch", sgc_json_number(sgc_run_epoch(r)));
    json_object_set_new(line, "train_loss", sgc_json_number(r->state.train_loss_sum / (double)r->state.train_loss_n));
    json_object_set_new(line, "train_runtime", sgc_json_number(runtime_s));
    json_object_set_new(line, "train_samples_per_second", sgc_json_number(n_steps * (double)r->plan.update_samples / runtime_s));
    json_object_set_new(line, "train_steps_per_second", sgc_json_number(n_steps / runtime_s));
    json_object_set_new(line, "train_tokens_per_second", sgc_json_number(sgc_run_tokens_per_second(r)));
    json_object_set_new(line, "total_flos", sgc_json_number(r->state.total_flos));
    return sgc_metrics_write(&r->metrics, line);
}

sgc_status sgc_report_end(sgc_run *r)
{
    sgc_status st = SGC_OK;
    bool worked = r->state.step > r->first_step;
    sgc_progress_end(&r->progress);
    if (r->world->rank == 0 && worked && !r->stop) st = write_end_local(r);
    SGC_AGREE(r->world->all);
    SGC_TRY(sgc_report_write(r, r->stop ? "interrupted" : "completed"));
    if (worked && r->world->rank == 0)
        sgc_log_info("%s after update %lld of %lld: train_loss %.4f, %.0f tokens/s, first update %.2f s after the start", r->stop ? "Interrupted" : "Completed",
                     (long long)r->state.step, (long long)r->plan.n_steps, r->state.train_loss_sum / (double)r->state.train_loss_n,
                     sgc_run_tokens_per_second(r), r->startup_s);
    SGC_TRY(sgc_log_flush(r->world->all));
done:
    return st;
}

#include "config.h"

#include <math.h>
#include <string.h>

#include "base/available.h"
#include "base/log.h"
#include "train/interval_impl.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"

/* Training waited since then; to wait for the end of what is done in the background is not what a save costs. */
static void count_wait(sgc_run *r, double *since_s, bool is_cost)
{
    double now_s = sgc_time_s(), waited_s = now_s - *since_s;
    r->saving.waited_s += waited_s;
    if (is_cost) r->saving.cost_s += waited_s;
    r->window_start_s += waited_s; /* tokens_per_second is that of training */
    *since_s = now_s;
}

/* Between the calls of an update. */
static bool move_between(void *run)
{
    sgc_run *r = run;
    sgc_saving *s = &r->saving;
    bool travels = false;
    double since_s = sgc_time_s();
    if (!s->save || s->moved != SGC_OK) return false;
    s->moved = sgc_save_move(s->save, &travels);
    count_wait(r, &since_s, false);
    return travels;
}

sgc_status sgc_saving_move(sgc_run *r)
{
    move_between(r);
    return r->saving.moved;
}

/* Bytes that all ranks of this node want, and that the node has. */
static sgc_status fits_node(const sgc_run *r, size_t n_bytes, bool *fits)
{
    sgc_status st = SGC_OK;
    int64_t wanted = (int64_t)n_bytes + sgc_memory_untouched();
    double available = (double)sgc_memory_available("");
    SGC_TRY(sgc_sum_int64(r->world->node, &wanted, 1));
    SGC_TRY(sgc_min_double(r->world->node, &available, 1));
    *fits = (double)wanted <= available;
done:
    return st;
}

/* The settings exclude each other: save_on_each_node has no local_dir, which redundancy is for. */
static sgc_spread_kind spread_kind(const sgc_run *r)
{
    return r->t->save_on_each_node ? SGC_SPREAD_ALL : (sgc_spread_kind)r->config->checkpoint.redundancy;
}

/* What files can make use of, and the option allows, to travel to other nodes: the same on all ranks, 0 if none do. sends: this rank takes part. */
static size_t travel_bytes(const sgc_run *r, bool *sends)
{
    const sgc_spread_kind kind = spread_kind(r);
    *sends = sgc_spread_takes_part(r->world, r->saving.files, kind);
    if (kind == SGC_SPREAD_NONE || r->world->n_nodes == 1) return 0;
    size_t most = sgc_spread_most_bytes(r->world, r->saving.files, kind, r->saving.buffer_bytes);
    return most < (size_t)r->config->checkpoint.buffer_size ? most : (size_t)r->config->checkpoint.buffer_size;
}

static sgc_status take_local(sgc_run *r, bool sends)
{
    sgc_saving *s = &r->saving;
    s->buffer = sgc_device_alloc_staging(&r->device, SGC_MEM_CHECKPOINT, s->buffer_bytes);
    const size_t own_bytes = sgc_spread_own_bytes(spread_kind(r), s->travel_bytes);
    if (s->buffer && sends) s->travel = sgc_mem_alloc(SGC_MEM_CHECKPOINT, own_bytes);
    if (!s->buffer || (sends && !s->travel)) return SGC_ENOMEM;
    memset(s->buffer, 0, s->buffer_bytes);
    if (sends) memset(s->travel, 0, own_bytes);
    return SGC_OK;
}

static void give_back(sgc_saving *s, sgc_device *device)
{
    if (s->buffer) sgc_device_free(device, s->buffer);
    sgc_mem_free(s->travel);
    s->buffer = s->travel = NULL;
    s->travel_bytes = 0;
}

/* Taken and touched now: under overcommit only touching tells whether memory is there, and later would be too late. */
static sgc_status take_buffer(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    bool fits, sends;
    s->buffer_bytes = sgc_save_buffer_bytes(r->engine, r->model);
    s->travel_bytes = travel_bytes(r, &sends);
    const size_t n_bytes = s->buffer_bytes + (sends ? s->travel_bytes : 0);
    SGC_TRY(fits_node(r, n_bytes, &fits));
    int64_t n_refused = !fits;
    SGC_TRY(sgc_sum_int64(r->world->all, &n_refused, 1));
    if (n_refused == 0) {
        n_refused = take_local(r, sends) != SGC_OK;
        sgc_err_clear();
        SGC_TRY(sgc_sum_int64(r->world->all, &n_refused, 1));
    }
    if (n_refused > 0) {
        char size[32];
        give_back(s, &r->device);
        if (r->world->rank == 0)
            sgc_log_warning("there is no memory for copies of the shards (%s per rank): training stands still while a checkpoint is written; use more "
                            "nodes, or write checkpoint.async = false", sgc_format_bytes((double)n_bytes, size));
    }
    if (s->travel_bytes > 0) sgc_zero_bind_aside(r->engine, move_between, r);
done:
    return st;
}

/* Else only a signal asks for a checkpoint, which training may well stand still for: no memory is held for that. */
static bool saves_regularly(const sgc_run *r) { return r->t->save_strategy != SGC_STRATEGY_NO || r->t->load_best_model_at_end; }

sgc_status sgc_saving_setup(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_files_make(&r->saving.files, r->world, r->config->checkpoint.writers_per_node));
    if (r->config->checkpoint.async && saves_regularly(r)) SGC_TRY(take_buffer(r));
done:
    return st;
}

/* What becomes of the training although something could not be written. */
static const char *outlook(const sgc_run *r)
{
    if (r->stop) return "Training stops, as it was told to";
    return r->saving.is_ending || r->state.step >= r->plan.n_steps ? "Training is over" : "Training goes on";
}

/* The failure is agreed on: every rank has the message. */
static sgc_status failed(sgc_run *r, sgc_status st)
{
    sgc_saving *s = &r->saving;
    const char *origin = sgc_err_origin();
    char own[300] = "";
    if (st == SGC_ECOMM) return st;
    if (!origin[0] && r->world->size > 1) snprintf(own, sizeof(own), "rank %d on %s", r->world->rank, sgc_node_name());
    if (!origin[0]) origin = own;
    snprintf(s->failure, sizeof(s->failure), "%s%s%s", origin, origin[0] ? ": " : "", sgc_err_message());
    sgc_save_free(s->save);
    s->save = NULL;
    s->quiet_step = r->state.step;
    s->next_step = r->state.step + (s->interval ? s->interval : SGC_FIRST_AUTO_SAVE);
    if (r->config->checkpoint.on_error == SGC_ON_ERROR_STOP) return st;
    sgc_err_clear();
    if (r->world->rank == 0)
        sgc_log_error("checkpoint-%lld could not be saved: %s. %s; earlier checkpoints are untouched", (long long)s->step, s->failure,
                      outlook(r));
    return SGC_OK;
}

sgc_status sgc_saving_forgive(const sgc_run *r, sgc_status st)
{
    if (st != SGC_EIO || r->config->checkpoint.on_error == SGC_ON_ERROR_STOP) return st;
    sgc_log_error("%s. %s", sgc_err_message(), outlook(r));
    sgc_err_clear();
    return SGC_OK;
}

/* The new checkpoint may be the best, and an older one too many. */
static sgc_status retain_local(sgc_run *r, const char *path)
{
    sgc_status st = SGC_OK;
    char best[SGC_NAME_MAX];
    sgc_retention rules = {.limit = r->t->has_save_total_limit ? r->t->save_total_limit : -1, .keep_every = r->config->checkpoint.keep_every,
                           .best = best};
    SGC_TRY(sgc_best_published_local(r, path));
    SGC_TRY(sgc_ckpt_best(r->t->output_dir, best));
    if (rules.limit >= 0) SGC_TRY(sgc_ckpt_rotate(r->t->output_dir, r->run_id, &rules));
done:
    return st;
}

/* Time of the updates after step `after`, of those that are still known. */
static double updates_s(const sgc_run *r, int64_t after, int64_t *n)
{
    double sum = 0;
    int64_t last = r->state.step, first = after > last - SGC_N_STEP_TIMES ? after : last - SGC_N_STEP_TIMES;
    if (first < r->first_step) first = r->first_step;
    for (int64_t step = first + 1; step <= last; step++) sum += r->step_s[(step - r->first_step - 1) % SGC_N_STEP_TIMES];
    *n = last - first;
    return sum;
}

/* Before a save: what an update takes when nothing is written, by the last 64 since the save before; the first of a run takes longer. */
static void measure_quiet(sgc_run *r)
{
    sgc_saving *s = &r->saving;
    int64_t n, after = s->quiet_step > r->first_step + 1 ? s->quiet_step : r->first_step + 1;
    double sum = updates_s(r, after > r->state.step - 64 ? after : r->state.step - 64, &n);
    if (n > 0) s->quiet_update_s = sum / (double)n;
}

/* Measured by rank 0, the same for all. */
static sgc_status choose_interval(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    int64_t n;
    double mtbf_s = 3600 * r->config->checkpoint.mtbf_hours, during_s = updates_s(r, s->step, &n);
    double update_s = s->quiet_update_s > 0 ? s->quiet_update_s : r->last_step_s, slowed_s = during_s - (double)n * update_s;
    double cost_s = s->cost_s + (slowed_s > 0 ? slowed_s : 0);
    int64_t interval = sgc_interval_updates(cost_s, s->last_s, update_s, mtbf_s);
    SGC_TRY(sgc_bcast_bytes(r->world->all, &interval, sizeof(interval), 0));
    if (fabs((double)(interval - s->interval)) > 0.1 * (double)s->interval)
        sgc_log_info("from here on every %lld updates are saved (checkpoint.interval auto): a save costs %.3g s, of which training stood still for %.3g s, and "
                     "takes %.3g s, an update %.3g s, and with %g hours between failures %.3g s between saves lose least", (long long)interval, cost_s,
                     s->cost_s, s->last_s, update_s, r->config->checkpoint.mtbf_hours, sgc_interval_s(cost_s, mtbf_s));
    s->interval = interval;
    s->next_step = s->step + interval > r->state.step ? s->step + interval : r->state.step + 1;
done:
    return st;
}

/* Who has the directory of the save under way. */
static bool keeps(const sgc_run *r)
{
    return r->world->rank == 0 || ((r->saving.is_local || r->t->save_on_each_node) && r->world->node_rank == 0);
}

/* In the thread of the save, after it was published. What fails keeps nothing else from being done. */
static sgc_status follow_local(void *run)
{
    sgc_run *r = run;
    sgc_saving *s = &r->saving;
    sgc_status st = SGC_OK;
    if (keeps(r) && !s->is_local) st = retain_local(r, sgc_save_path(s->save));
    /* two: the newest may be only half there when a node dies while it is replaced */
    if (keeps(r) && s->is_local && r->world->node_rank == 0) st = sgc_ckpt_prune_local(r->local_dir, r->run_id, 2);
    if (s->report.n > 0) SGC_KEEP(sgc_report_put_local(r, &s->report));
    return st;
}

/* Published: collective. */
static sgc_status published(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    char size[32], rate[32];
    double n_bytes = (double)sgc_save_bytes(s->save), took_s = sgc_time_s() - sgc_save_start_s(s->save), copy_s = sgc_save_copy_s(s->save);
    s->is_published = true;
    s->failure[0] = '\0';
    s->told_waited_s = s->waited_s;
    if (keeps(r))
        sgc_log_info("saved %s (%s) in %.2f s, %s/s; training waited %.3f s of it, %.3f s for the copy of the shards; an update takes %.3f s",
                     sgc_save_path(s->save), sgc_format_bytes(n_bytes, size), took_s, sgc_format_bytes(n_bytes / took_s, rate), s->waited_s, copy_s,
                     r->last_step_s);
    sgc_str_free(&s->report);
    SGC_TRY(sgc_report_text(r, r->stop ? "interrupted" : "running", &s->report));
    sgc_save_follow(s->save, follow_local, r);
done:
    return st;
}

/* And what follows is done: collective. */
static sgc_status ended(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    double more_s = s->waited_s - s->told_waited_s;
    s->last_s = sgc_time_s() - sgc_save_start_s(s->save);
    if (keeps(r) && more_s > 0.1)
        sgc_log_info("training waited %.3f s more, until older checkpoints were deleted and run.json was written", more_s);
    st = sgc_saving_forgive(r, sgc_save_followed(s->save));
    sgc_save_free(s->save);
    s->save = NULL;
    s->quiet_step = r->state.step;
    SGC_AGREE(r->world->all);
    if (r->config->checkpoint.interval == SGC_INTERVAL_AUTO && r->state.step < r->plan.n_steps) SGC_TRY(choose_interval(r));
done:
    return st;
}

/* Collective: one phase, or (to_end) all of them. */
static sgc_status advance(sgc_run *r, bool to_end)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    const bool is_cost = !to_end || !s->buffer;
    double since_s = sgc_time_s();
    do {
        st = sgc_save_advance(s->save);
        count_wait(r, &since_s, is_cost);
        if (st != SGC_OK) st = failed(r, st);
        else if (sgc_save_is_over(s->save)) st = s->is_published ? ended(r) : published(r);
        count_wait(r, &since_s, is_cost);
    } while (to_end && st == SGC_OK && s->save);
    return st;
}

sgc_status sgc_saving_poll(sgc_run *r)
{
    if (!r->saving.save || r->control.n_written < r->world->size) return SGC_OK;
    return advance(r, false);
}

static void describe(const sgc_run *r, sgc_ckpt_info *info)
{
    const sgc_run_state *s = &r->state;
    *info = (sgc_ckpt_info){.step = s->step, .world_size = r->world->size, .stage = (int)r->config->zero.stage, .bf16 = r->device.ops->value == SGC_BF16,
                            .fp16 = r->device.ops->value == SGC_F16, .global_batch = r->plan.global_batch,
                            .loss = s->last_loss, .eval_loss = s->last_eval_loss, .n_parameters = r->model->n_parameters};
    snprintf(info->run_id, sizeof(info->run_id), "%s", r->run_id);
    snprintf(info->dtype, sizeof(info->dtype), "float32");
    snprintf(info->isa, sizeof(info->isa), "%s", r->device.isa);
    snprintf(info->version, sizeof(info->version), "%s", PACKAGE_VERSION);
}

sgc_status sgc_saving_start(sgc_run *r, bool must)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    sgc_str text = {0};
    sgc_ckpt_info info;
    double start_s = sgc_time_s();
    const char *state = s->is_published ? "published, older ones still being deleted" : "still being written"; /* of a save under way */
    if (s->save && !must && r->config->checkpoint.overlap == SGC_OVERLAP_SKIP) {
        if (r->world->rank == 0)
            sgc_log_warning("update %lld is not saved: checkpoint-%lld is %s (checkpoint.overlap = skip)", (long long)r->state.step,
                            (long long)s->step, state);
        return SGC_OK;
    }
    if (s->save) {
        if (!must && r->world->rank == 0)
            sgc_log_warning("training waits for checkpoint-%lld, %s, to save update %lld", (long long)s->step, state, (long long)r->state.step);
        SGC_TRY(advance(r, true));
        start_s = sgc_time_s();
    }
    st = sgc_config_text(r->config, false, &text);
    SGC_AGREE(r->world->all);
    describe(r, &info);
    sgc_ckpt_job job = {.output_dir = r->t->output_dir, .group = r->world->all, .engine = r->engine, .model = r->model, .state = &r->state,
                        .info = &info, .config_text = text.text, .block_size = r->config->checkpoint.block_size, .files = s->files,
                        .index_bytes = &s->index_bytes, .travel = s->travel, .travel_bytes = s->travel_bytes};
    s->is_local = r->config->checkpoint.local_dir && !must && ++s->n_since_flush < r->config->checkpoint.flush_every;
    if (s->is_local) {
        job.output_dir = r->local_dir;
        job.nodes = r->world;
        job.spread = (sgc_spread_kind)r->config->checkpoint.redundancy;
    } else if (r->t->save_on_each_node) {
        job.nodes = r->world;
        job.spread = SGC_SPREAD_ALL;
    }
    if (!s->is_local) s->n_since_flush = 0;
    s->step = r->saved_step = r->state.step;
    s->was_evaluated = r->evaluated_step == s->step;
    s->eval_loss = r->state.last_eval_loss;
    s->is_published = false;
    measure_quiet(r);
    st = sgc_ckpt_begin(&s->save, &job, s->buffer);
    s->waited_s = s->cost_s = sgc_time_s() - start_s;
    r->window_start_s += s->waited_s;
    if (st != SGC_OK)
        st = failed(r, st);
    else if (!s->buffer)
        st = advance(r, true);
done:
    sgc_str_free(&text);
    return st;
}

sgc_status sgc_saving_end(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    s->is_ending = true;
    if (s->save) SGC_TRY(advance(r, true));
    if (s->failure[0]) st = sgc_err(SGC_EIO, "checkpoint-%lld, the last, could not be saved: %s", (long long)s->step, s->failure);
done:
    return st;
}

bool sgc_saving_is_ready(const sgc_saving *s) { return s->save && sgc_save_is_ready(s->save); }

void sgc_saving_free(sgc_saving *s, sgc_device *device)
{
    sgc_save_free(s->save);
    sgc_str_free(&s->report);
    sgc_files_free(s->files);
    give_back(s, device);
    *s = (sgc_saving){0};
}

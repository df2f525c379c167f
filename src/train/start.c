/* How a run begins: afresh, from weights, or from a checkpoint, and what becomes of what output_dir already holds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "train/fit_impl.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"

static bool is_word(const char *text, const char *word) { return text && strcmp(text, word) == 0; }

static bool is_same_path(const char *one, const char *other)
{
    char *a = realpath(one, NULL), *b = realpath(other, NULL);
    bool same = a && b && strcmp(a, b) == 0;
    free(a);
    free(b);
    return same;
}

/* Is PATH an entry of DIR, or a link to one? Both may be written in several ways; an entry may itself be a link to elsewhere. */
static bool is_inside(const char *path, const char *dir)
{
    sgc_str up = {0}, holder = {0};
    const char *slash = strrchr(path, '/');
    sgc_str_printf(&up, "%s/..", path);
    if (slash) sgc_str_printf(&holder, "%.*s/", (int)(slash - path), path);
    bool is = is_same_path(up.text, dir) || is_same_path(slash ? holder.text : ".", dir);
    sgc_str_free(&up);
    sgc_str_free(&holder);
    return is;
}

/* What output_dir holds besides the runs that were set aside before. n_weights: of weights only. */
static sgc_status look_local(sgc_start *s, const char *output_dir, int *n_present, int *n_weights)
{
    sgc_ckpt_entry *entries = NULL;
    int n = 0;
    sgc_status st = sgc_ckpt_list(output_dir, &entries, &n);
    *n_present = *n_weights = 0;
    for (int i = 0; st == SGC_OK && i < n; i++) {
        if (entries[i].status != SGC_CKPT_COMPLETE && entries[i].status != SGC_CKPT_DAMAGED && entries[i].status != SGC_CKPT_NEWER) continue;
        ++*n_present;
        *n_weights += entries[i].status == SGC_CKPT_COMPLETE && entries[i].weights_only;
        if (entries[i].status == SGC_CKPT_COMPLETE && !entries[i].weights_only) memcpy(s->old_id, entries[i].info.run_id, sizeof(s->old_id));
    }
    free(entries);
    return st;
}

/* found: the latest, NULL: it is to be looked for; n_elsewhere: checkpoints in the output_dir of another node. */
static sgc_status decide_local(sgc_start *s, const sgc_training_options *t, bool strict, const char *found, int64_t n_elsewhere)
{
    sgc_status st = SGC_OK;
    const char *how = t->resume_from_checkpoint;
    bool latest = is_word(how, "latest") || is_word(how, "true"), automatic = is_word(how, "auto");
    int n_present, n_weights;
    SGC_TRY(look_local(s, t->output_dir, &n_present, &n_weights));
    if (latest || automatic) {
        if (found) strcpy(s->path, found);
        else SGC_TRY(sgc_ckpt_latest(t->output_dir, INT64_MAX, strict, true, s->path));
        s->is_latest = true;
        if (latest && !s->path[0])
            return sgc_err(SGC_ECKPT, "resume_from_checkpoint is %s, but there is no complete checkpoint in %s: name a checkpoint, or write auto to "
                           "start afresh when there is none", how, t->output_dir);
    } else if (how && !is_word(how, "false")) {
        if (strlen(how) >= sizeof(s->path)) return sgc_err(SGC_ECONFIG, "resume_from_checkpoint: the path is too long");
        strcpy(s->path, how);
        for (size_t n = strlen(s->path); n > 1 && s->path[n - 1] == '/'; n--)
            s->path[n - 1] = '\0';
    }
    s->sets_aside_all = !s->path[0] || !is_inside(s->path, t->output_dir);
    /* Whatever is resumed, the run is that of output_dir: two that go on from one checkpoint may share a local_dir. */
    int64_t step;
    sgc_home home;
    if (s->sets_aside_all) {
        sgc_ckpt_new_id(s->run_id);
        memcpy(s->local_id, s->run_id, sizeof(s->local_id));
    } else {
        SGC_TRY(sgc_ckpt_newest(t->output_dir, INT64_MAX, &step, s->run_id));
        sgc_home_read(t->output_dir, &home);
        if (home.local_id[0]) memcpy(s->local_id, home.local_id, sizeof(s->local_id));
        else sgc_ckpt_new_id(s->local_id);
    }
    if (n_present > 0 && s->sets_aside_all && !t->overwrite_output_dir && s->path[0] && !sgc_path_exists(s->path)) {
        st = sgc_name_others(sgc_err(SGC_ECKPT, "there is no checkpoint %s", s->path), s->path);
    } else if (n_present > 0 && s->sets_aside_all && !t->overwrite_output_dir) {
        bool is_usable = s->old_id[0];
        st = sgc_err(SGC_ECONFIG, "output_dir %s already holds %d checkpoint%s%s: %sstart a new run with --overwrite_output_dir (they are then renamed, "
                     "not deleted), or choose another output_dir", t->output_dir, n_present, n_present > 1 ? "s" : "",
                     !is_usable && n_weights > 0 ? ", none of them to be resumed (--model.init_from starts a new run from one of weights only)" :
                     !is_usable ? ", none of them usable (stagecoach ckpt ls says why)" : s->path[0] ? " of another run" : "",
                     is_usable ? "continue with --resume_from_checkpoint latest, or " : "");
    } else if (n_elsewhere > 0 && s->sets_aside_all && !t->overwrite_output_dir) {
        st = sgc_err(SGC_ECONFIG, "output_dir %s of another node already holds %lld checkpoint%s: continue with --resume_from_checkpoint latest, start a new "
                     "run with --overwrite_output_dir (they are then renamed, not deleted), or choose another output_dir", t->output_dir,
                     (long long)n_elsewhere, n_elsewhere > 1 ? "s" : "");
    }
done:
    return st;
}

/* The global batch of a checkpoint is kept at any number of ranks, unless the command line says otherwise. */
static sgc_status keep_global_batch(sgc_run *r, const sgc_ckpt_info *info)
{
    sgc_status st = SGC_OK;
    const char *name = "training.gradient_accumulation_steps";
    int64_t B = r->t->per_device_train_batch_size, W = r->world->size, G = r->t->gradient_accumulation_steps;
    if (sgc_config_is_on_command_line(r->config, name)) {
        if (B * W * G != info->global_batch && r->world->rank == 0)
            sgc_log_info("the global batch changes from %lld to %lld samples", (long long)info->global_batch, (long long)(B * W * G));
        return SGC_OK;
    }
    SGC_TRY(sgc_plan_keep_batch(info->global_batch, B, W, &G));
    if (G != r->t->gradient_accumulation_steps) {
        char value[32];
        snprintf(value, sizeof(value), "%lld", (long long)G);
        if (r->world->rank == 0)
            sgc_log_info("gradient_accumulation_steps is %s, to keep the checkpoint's global batch of %lld samples on %lld ranks", value,
                         (long long)info->global_batch, (long long)W);
        SGC_TRY(sgc_config_set(r->config, name, value, "kept global batch of the checkpoint"));
    }
done:
    return st;
}

sgc_status sgc_start_decide(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const char *how = r->t->resume_from_checkpoint;
    bool looks = is_word(how, "latest") || is_word(how, "true") || is_word(how, "auto"), apart = r->t->save_on_each_node && r->world->n_nodes > 1;
    char found[SGC_PATH_MAX];
    double n_elsewhere = 0;
    if (looks) SGC_TRY(sgc_latest_from_nodes(r->world, r->config, INT64_MAX));
    if (looks && apart) SGC_TRY(sgc_ckpt_latest_of_nodes(r->world, r->t->output_dir, INT64_MAX, -1, r->config->checkpoint.resume_strict, found));
    if (apart) {
        int n_present = 0, n_weights;
        if (r->world->rank != 0 && r->world->node_rank == 0) st = look_local(&(sgc_start){0}, r->t->output_dir, &n_present, &n_weights);
        SGC_AGREE(r->world->all);
        n_elsewhere = n_present;
        SGC_TRY(sgc_max_double(r->world->all, &n_elsewhere, 1));
    }
    if (r->world->rank == 0) st = decide_local(&r->start, r->t, r->config->checkpoint.resume_strict, looks && apart ? found : NULL, (int64_t)n_elsewhere);
    SGC_AGREE(r->world->all);
    SGC_TRY(sgc_bcast_bytes(r->world->all, &r->start, sizeof(r->start), 0));
done:
    return st;
}

sgc_status sgc_start_open(sgc_run *r)
{
    sgc_status st = SGC_OK;
    if (r->start.path[0]) {
        st = sgc_ckpt_open(&r->ckpt, r->start.path, r->world->all);
        if (st != SGC_OK) return r->start.is_latest ? st : sgc_name_others(st, r->start.path);
        if (sgc_ckpt_is_weights_only(r->ckpt)) /* the same on every rank */
            return sgc_err(SGC_ECKPT, "%s holds weights only, without the states of the optimizer, and cannot be resumed; start a new run from it "
                           "with --model.init_from %s", r->start.path, r->start.path);
        SGC_TRY(sgc_fit_check(r->world, r->config, r->start.path, true));
        st = keep_global_batch(r, sgc_ckpt_get_info(r->ckpt));
        SGC_AGREE(r->world->all);
        memcpy(r->run_id, sgc_ckpt_get_info(r->ckpt)->run_id, sizeof(r->run_id));
        if (r->start.run_id[0] && strcmp(r->start.run_id, r->run_id) != 0 && r->world->rank == 0)
            sgc_log_info("%s is of run %s: what goes on from it in %s is run %s", r->start.path, r->run_id, r->t->output_dir, r->start.run_id);
    }
    if (r->start.run_id[0]) memcpy(r->run_id, r->start.run_id, sizeof(r->run_id));
    if (r->config->checkpoint.local_dir) SGC_TRY(sgc_ckpt_local_dir(r->local_dir, r->config->checkpoint.local_dir, r->start.local_id)); /* alike on every rank */
done:
    return st;
}

static void fresh_state(sgc_run_state *s)
{
    *s = (sgc_run_state){.last_loss = NAN, .last_eval_loss = NAN, .best_metric = NAN, .best_step = -1};
}

static void restore_counters(sgc_run *r)
{
    const sgc_ckpt_info *info = sgc_ckpt_get_info(r->ckpt);
    sgc_run_state *s = &r->state;
    *s = *sgc_ckpt_get_state(r->ckpt);
    r->resumed = *info;
    if (strcmp(info->isa, r->device.isa) != 0)
        sgc_log_warning("the checkpoint was computed on %s, this run is on %s: results may differ in the last bits", info->isa,
                        r->device.isa);
    if (r->t->ignore_data_skip) s->epoch_position = 0;
    if (s->epoch_position >= r->sampler.epoch_samples) { /* epochs may be shorter at this number of ranks */
        s->epoch++;
        s->epoch_position = 0;
    }
    if (r->schedule.type == SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU && s->plateau_rate > 0) {
        r->schedule.plateau.rate = s->plateau_rate;
        r->schedule.plateau.best = s->plateau_best;
        r->schedule.plateau.n_bad = s->plateau_n_bad;
        r->schedule.plateau.has_best = s->plateau_has_best != 0;
    }
    if (r->world->rank == 0)
        sgc_log_info("resuming %s at update %lld (written by %d ranks at stage %d)", r->start.path, (long long)s->step, info->world_size, info->stage);
}

/* A run may go on in another precision than it began with. */
static void start_loss_scale(sgc_run *r)
{
    sgc_loss_scale s;
    if (r->device.ops->value != SGC_F16) {
        r->state.loss_scale = 0;
        r->state.loss_scale_n_good = 0;
    } else if (r->state.loss_scale == 0) {
        sgc_loss_scale_start(&s);
        r->state.loss_scale = s.scale;
        r->state.loss_scale_n_good = s.n_good;
    }
}

sgc_status sgc_start_load(sgc_run *r, bool *again)
{
    sgc_status st = SGC_OK;
    sgc_group *all = r->world->all;
    const char *from = r->config->model.init_from;
    *again = false;
    if (r->ckpt) {
        st = sgc_ckpt_load(r->ckpt, r->engine, r->model, false, all);
        if (st != SGC_OK && r->start.is_latest)
            return sgc_latest_retreat(r->world, r->config, st, sgc_ckpt_get_info(r->ckpt)->step, true, &r->start.mended_step, r->start.path, again);
        if (st != SGC_OK) return sgc_name_others(st, r->start.path);
        restore_counters(r);
    } else {
        fresh_state(&r->state);
        if (from) {
            SGC_TRY(sgc_name_others(sgc_ckpt_open(&r->ckpt, from, all), from));
            SGC_TRY(sgc_fit_check(r->world, r->config, from, false));
            SGC_TRY(sgc_name_others(sgc_ckpt_load(r->ckpt, r->engine, r->model, true, all), from));
            if (r->world->rank == 0) sgc_log_info("starting from the weights of %s", from);
        } else {
            SGC_TRY(sgc_zero_init_weights(r->engine, (uint64_t)r->t->seed));
        }
    }
    start_loss_scale(r);
    r->state.seed = r->t->seed;
    r->state.data_seed = (int64_t)r->sampler.seed;
    sgc_ckpt_close(r->ckpt);
    r->ckpt = NULL;
done:
    return st;
}

/* In one directory; run_id: only of that run. */
static sgc_status set_aside(const sgc_run *r, const char *directory, const char *run_id)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_ckpt_set_aside(directory, r->start.sets_aside_all ? -1 : r->state.step, run_id));
    if (!r->start.sets_aside_all) SGC_TRY(sgc_ckpt_take_up(directory, r->start.path, &r->resumed, run_id));
done:
    return st;
}

static sgc_status settle_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const char *dir = r->t->output_dir;
    SGC_TRY(set_aside(r, dir, NULL));
    SGC_TRY(sgc_best_settle_local(r));
    if (r->start.sets_aside_all)
        SGC_TRY(sgc_metrics_set_aside(dir, r->start.old_id[0] ? r->start.old_id : r->run_id));
    else
        SGC_TRY(sgc_metrics_cut(dir, r->state.step));
    SGC_TRY(sgc_metrics_open(&r->metrics, dir));
done:
    return st;
}

/* A node with an output_dir of its own. */
static sgc_status settle_node(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(set_aside(r, r->t->output_dir, NULL));
    SGC_TRY(sgc_best_settle_local(r));
done:
    return st;
}

/* What this run has on a node. */
static sgc_status settle_local_dir(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_name_others(r->config->checkpoint.local_dir, r->start.local_id);
    SGC_TRY(sgc_lock_take(r->local_dir));
    r->has_lock = true;
    SGC_TRY(sgc_fsync_path(r->config->checkpoint.local_dir)); /* a save syncs what lies below */
    SGC_TRY(set_aside(r, r->local_dir, r->run_id));
done:
    return st;
}

sgc_status sgc_start_settle(sgc_run *r)
{
    sgc_status st = SGC_OK;
    if (r->world->rank == 0) st = settle_local(r);
    else if (r->world->node_rank == 0 && r->t->save_on_each_node) st = settle_node(r);
    if (st == SGC_OK && r->world->node_rank == 0 && r->local_dir[0]) st = settle_local_dir(r);
    return sgc_agree(r->world->all, st);
}

/* The best checkpoint: kept, linked, and loaded at the end. The metrics on offer rise and fall with the loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/inspect.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"

bool sgc_best_is_better(const sgc_run *r, double loss, double than)
{
    if (!isfinite(loss)) return false;
    bool greater = r->t->has_greater_is_better && r->t->greater_is_better;
    return isnan(than) || (greater ? loss > than : loss < than);
}

sgc_status sgc_best_settle_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    char name[SGC_NAME_MAX];
    int n = 0;
    r->saving.best_loss = NAN;
    SGC_TRY(sgc_ckpt_repair_best(r->t->output_dir, r->start.sets_aside_all ? -1 : r->state.best_step));
    SGC_TRY(sgc_ckpt_best(r->t->output_dir, name));
    SGC_TRY(sgc_ckpt_list(r->t->output_dir, &entries, &n));
    for (int i = 0; i < n && !r->start.sets_aside_all; i++) { /* a kill between the name of a checkpoint and the link to it */
        const sgc_ckpt_entry *e = &entries[i];
        if (e->status != SGC_CKPT_COMPLETE || e->step != r->state.best_step || strcmp(e->info.run_id, r->run_id) != 0 ||
            e->info.eval_loss != r->state.best_metric || strcmp(e->name, name) == 0) continue;
        SGC_TRY(sgc_ckpt_set_best(r->t->output_dir, e->name));
        strcpy(name, e->name);
    }
    for (int i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0 && entries[i].status == SGC_CKPT_COMPLETE) r->saving.best_loss = entries[i].info.eval_loss;
done:
    free(entries);
    return st;
}

sgc_status sgc_best_published_local(sgc_run *r, const char *path)
{
    sgc_status st = SGC_OK;
    sgc_saving *s = &r->saving;
    if (!s->was_evaluated || !sgc_best_is_better(r, s->eval_loss, s->best_loss)) return SGC_OK;
    SGC_TRY(sgc_ckpt_set_best(r->t->output_dir, strrchr(path, '/') + 1));
    s->best_loss = s->eval_loss;
done:
    return st;
}

/* Loading puts other weights in the place of the last. Where these are nowhere else, and the best may be damaged, they are saved first. Collective. */
static sgc_status keep_last(sgc_run *r, const char *best)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_report report = {0};
    if (r->saved_step == r->state.step) return SGC_OK;
    st = sgc_ckpt_verify(best, r->t->save_on_each_node ? r->world->node : r->world->all, &report); /* every node reads its own copy */
    SGC_AGREE(r->world->all);
    int64_t n_bad = report.n_bad;
    SGC_TRY(sgc_sum_int64(r->world->all, &n_bad, 1));
    if (n_bad > 0) {
        SGC_TRY(sgc_saving_start(r, true));
        SGC_TRY(sgc_saving_end(r));
    }
done:
    sgc_ckpt_report_free(&report);
    return st;
}

/* Every rank has the message of st. */
static sgc_status refuse(const sgc_run *r, sgc_status st, const char *best)
{
    char why[2 * SGC_PATH_MAX];
    const bool is_saved = r->saved_step == r->state.step; /* else the best was whole just before */
    sgc_take_message(why);
    return sgc_err(st, "%s; load_best_model_at_end cannot load the best checkpoint, %s. The training is complete %s its last update, %lld, is %ssaved: put a "
                   "whole copy in the place of the best and run it again with --resume_from_checkpoint latest, or choose another checkpoint "
                   "(stagecoach ckpt ls %s)", why, best, is_saved ? "and" : "but", (long long)r->state.step, is_saved ? "" : "not ", r->t->output_dir);
}

sgc_status sgc_best_load(sgc_run *r)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    sgc_evaluation e;
    char name[SGC_NAME_MAX] = "", path[SGC_PATH_MAX] = "";
    if (r->world->rank == 0) {
        st = sgc_ckpt_best(r->t->output_dir, name);
        if (st == SGC_OK && name[0]) st = sgc_path_join(path, r->t->output_dir, name);
    }
    SGC_AGREE(r->world->all);
    SGC_TRY(sgc_bcast_bytes(r->world->all, path, sizeof(path), 0));
    if (!path[0]) {
        if (r->world->rank == 0)
            sgc_log_warning("there is no checkpoint of an evaluation: the model at the end is that of the last update (load_best_model_at_end)");
        return SGC_OK;
    }
    SGC_TRY(keep_last(r, path));
    st = sgc_ckpt_open(&c, path, r->world->all);
    if (st == SGC_OK) st = sgc_ckpt_load(c, r->engine, r->model, true, r->world->all);
    if (st == SGC_ECKPT || st == SGC_EIO) st = refuse(r, st, path);
    if (st != SGC_OK) goto done;
    if (sgc_evaluator_run(&r->evaluator, &e) != SGC_OK) sgc_abort_job(r->world, "evaluation of the best model");
    r->state.last_eval_loss = e.loss;
    sgc_log_info("loaded the best model, %s: eval_loss %.4f  perplexity %.4f", path, e.loss, sgc_perplexity(e.loss));
done:
    sgc_ckpt_close(c);
    return st;
}

/* The eval command: sgc_evaluate. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "train/device_impl.h"
#include "train/evaluator_impl.h"
#include "train/exchange_impl.h"
#include "train/fit_impl.h"
#include "train/json_impl.h"
#include "train/setup_impl.h"
#include "train/threads_impl.h"
#include "train/train.h"

typedef struct evaluation_job {
    sgc_world *world;        /* borrowed                                        */
    sgc_config *config;      /* borrowed                                        */
    char path[SGC_PATH_MAX]; /* of the checkpoint                               */
    bool is_latest;
    sgc_ckpt *ckpt;
    int64_t step;
    sgc_dataset data;
    sgc_device_spec device_spec;
    sgc_device device;
    bool has_device;
    sgc_model *model;
    sgc_zero *engine;
    sgc_evaluator evaluator;
    void *arena;
} evaluation_job;

/* resume_from_checkpoint names the weights; without it, model.init_from does. */
static sgc_status choose_local(evaluation_job *j)
{
    sgc_status st = SGC_OK;
    const char *how = j->config->training.resume_from_checkpoint, *dir = j->config->training.output_dir;
    if (!how || strcmp(how, "false") == 0) how = j->config->model.init_from;
    if (!how) return sgc_err(SGC_ECONFIG, "eval needs the weights to evaluate: --resume_from_checkpoint PATH, or latest");
    if (strcmp(how, "latest") == 0 || strcmp(how, "true") == 0 || strcmp(how, "auto") == 0) {
        if (!dir) return sgc_err(SGC_ECONFIG, "output_dir is not set, so there is no latest checkpoint: name one with --resume_from_checkpoint PATH");
        SGC_TRY(sgc_ckpt_latest(dir, INT64_MAX, j->config->checkpoint.resume_strict, false, j->path));
        j->is_latest = true;
        if (!j->path[0]) st = sgc_err(SGC_ECKPT, "there is no complete checkpoint in %s", dir);
    } else if ((size_t)snprintf(j->path, sizeof(j->path), "%s", how) >= sizeof(j->path)) {
        st = sgc_err(SGC_ECONFIG, "resume_from_checkpoint: the path is too long");
    }
done:
    return st;
}

static sgc_status prepare_local(evaluation_job *j)
{
    sgc_status st = SGC_OK;
    const sgc_config *c = j->config;
    SGC_TRY(sgc_model_make(&j->model, &c->model, j->data.vocab_size));
    SGC_TRY(sgc_device_open_spec(&j->device, &j->device_spec));
    j->has_device = true;
    sgc_warn_device(&j->device, j->world);
    SGC_TRY(sgc_evaluator_make(&j->evaluator, j->model, &j->device, j->world->all, &j->data.validation, c->training.per_device_eval_batch_size));
    if (!(j->arena = sgc_device_alloc(&j->device, SGC_MEM_ACTIVATIONS, sgc_graph_arena_bytes(j->evaluator.graph)))) return SGC_ENOMEM;
    sgc_graph_bind_arena(j->evaluator.graph, j->arena);
done:
    return st;
}

/* An output_dir that only settings name, as those of a checkpoint do, may be elsewhere by now, or not to be written to: nobody asked for it. */
static sgc_status write_local(const evaluation_job *j, json_t *results)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    const char *output_dir = j->config->training.output_dir;
    bool is_asked_for = sgc_config_is_on_command_line(j->config, "training.output_dir");
    if (!is_asked_for && !sgc_path_exists(output_dir)) {
        sgc_log_warning("the output_dir of the settings, %s, is not there: the results are on standard output only, unless --output_dir is given", output_dir);
        json_decref(results);
        return SGC_OK;
    }
    st = sgc_make_dirs(output_dir);
    if (st == SGC_OK) st = sgc_path_join(path, output_dir, "eval_results.json");
    if (st == SGC_OK) st = sgc_json_write(results, path);
    else json_decref(results);
    if (st == SGC_OK || is_asked_for) return st;
    sgc_log_warning("%s: the results are on standard output only; --output_dir tells where they are to be written", sgc_err_message());
    sgc_err_clear();
    return SGC_OK;
}

static sgc_status report_local(const evaluation_job *j, const sgc_evaluation *e)
{
    double perplexity = sgc_perplexity(e->loss);
    printf("***** eval metrics *****\n");
    printf("  checkpoint               = %s\n", j->path);
    printf("  eval_loss                = %.4f\n", e->loss);
    printf("  eval_perplexity          = %.4f\n", perplexity);
    printf("  eval_runtime             = %.2f s\n", e->runtime_s);
    printf("  eval_samples             = %lld\n", (long long)e->n_samples);
    printf("  eval_samples_per_second  = %.2f\n", (double)e->n_samples / e->runtime_s);
    printf("  eval_tokens              = %lld\n", (long long)e->n_tokens);
    if (fflush(stdout) != 0) return sgc_err_errno(SGC_EIO, "the results cannot be written to standard output");
    if (!j->config->training.output_dir) return SGC_OK;
    json_t *out = json_object();
    json_object_set_new(out, "checkpoint", json_string(j->path));
    json_object_set_new(out, "step", json_integer(j->step));
    json_object_set_new(out, "eval_loss", sgc_json_number(e->loss));
    json_object_set_new(out, "eval_perplexity", sgc_json_number(perplexity));
    json_object_set_new(out, "eval_runtime", sgc_json_number(e->runtime_s));
    json_object_set_new(out, "eval_samples", json_integer(e->n_samples));
    json_object_set_new(out, "eval_samples_per_second", sgc_json_number((double)e->n_samples / e->runtime_s));
    json_object_set_new(out, "eval_tokens", json_integer(e->n_tokens));
    return write_local(j, out);
}

static sgc_status open_checkpoint(evaluation_job *j)
{
    sgc_status st = sgc_ckpt_open(&j->ckpt, j->path, j->world->all);
    if (st != SGC_OK) return j->is_latest ? st : sgc_name_others(st, j->path);
    SGC_TRY(sgc_fit_check(j->world, j->config, j->path, false));
    j->step = sgc_ckpt_get_info(j->ckpt)->step;
done:
    return st;
}

static sgc_status load_weights(evaluation_job *j)
{
    sgc_status st;
    bool again = true;
    while ((st = sgc_ckpt_load(j->ckpt, j->engine, j->model, true, j->world->all)) != SGC_OK) {
        if (!j->is_latest) return sgc_name_others(st, j->path);
        st = sgc_latest_retreat(j->world, j->config, st, j->step, false, NULL, j->path, &again);
        if (!again) goto done;
        sgc_ckpt_close(j->ckpt);
        SGC_TRY(open_checkpoint(j));
    }
done:
    return st;
}

sgc_status sgc_evaluate(sgc_world *w, sgc_config *c)
{
    sgc_status st = SGC_OK;
    evaluation_job j = {.world = w, .config = c};
    sgc_evaluation result;
    sgc_threads threads;
    SGC_TRY(sgc_threads_set(&threads, w));
    SGC_TRY(sgc_choose_device(w, c, &j.device_spec));
    if (w->rank == 0) st = choose_local(&j);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, j.path, sizeof(j.path), 0));
    SGC_TRY(sgc_bcast_bytes(w->all, &j.is_latest, sizeof(j.is_latest), 0));
    SGC_TRY(sgc_dataset_open(&j.data, w, c, false));
    st = sgc_fix_vocabulary(c, &j.data);
    SGC_AGREE(w->all);
    SGC_TRY(open_checkpoint(&j));
    st = prepare_local(&j);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_compare_devices(w, &j.device, c->training.full_determinism));
    SGC_TRY(sgc_exchange_begin(w, c, &j.device, j.model, SGC_F32));
    sgc_zero_spec spec = {.stage = (int)c->zero.stage, .prefetch_units = (int)c->zero.prefetch_units, .inference = true};
    SGC_TRY(sgc_zero_make(&j.engine, j.model, &j.device, w->all, &spec));
    j.evaluator.engine = j.engine;
    SGC_TRY(load_weights(&j));
    SGC_TRY(sgc_log_flush(w->all));
    st = sgc_evaluator_run(&j.evaluator, &result);
    if (st != SGC_OK) sgc_abort_job(w, "evaluation");
    if (w->rank == 0) st = report_local(&j, &result);
    SGC_AGREE(w->all);
done:
    sgc_ckpt_close(j.ckpt);
    sgc_zero_free(j.engine);
    sgc_evaluator_free(&j.evaluator);
    if (j.has_device) sgc_device_free(&j.device, j.arena);
    if (j.has_device) sgc_exchange_end(w, &j.device);
    if (j.has_device) sgc_device_close(&j.device);
    sgc_model_free(j.model);
    sgc_dataset_close(&j.data);
    return st;
}

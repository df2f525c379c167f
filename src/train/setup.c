/* A run from its settings to the moment before the first update. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/trace.h"
#include "train/device_impl.h"
#include "train/exchange_impl.h"
#include "train/need_impl.h"
#include "train/probe_impl.h"
#include "train/run_impl.h"
#include "train/setup_impl.h"
#include "train/train.h"

static sgc_status take_output_dir_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_make_dirs(r->t->output_dir));
    SGC_TRY(sgc_lock_take(r->t->output_dir));
    r->has_lock = true;
done:
    return st;
}

/* They hold different things under the same names, and one of them is cleaned up. */
static sgc_status check_distinct_local(const char *output_dir, const char *local_dir)
{
    sgc_status st = SGC_OK;
    struct stat a, b;
    SGC_TRY(sgc_make_dirs(local_dir));
    if (stat(output_dir, &a) == 0 && stat(local_dir, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        st = sgc_err(SGC_ECONFIG, "checkpoint.local_dir %s and output_dir %s are the same directory: name one on a disk of the node, or leave out "
                     "checkpoint.local_dir", local_dir, output_dir);
done:
    return st;
}

/* Before the first save would find out. */
static sgc_status check_redundancy(const sgc_run *r)
{
    sgc_status st = SGC_OK;
    double least = r->world->node_size, most = r->world->node_size;
    if (r->config->checkpoint.redundancy == SGC_REDUNDANCY_NONE) return SGC_OK;
    if (r->world->n_nodes < 2)
        return sgc_err(SGC_ECONFIG, "checkpoint.redundancy keeps what another node has, and the job has one node: use more nodes, or write "
                       "checkpoint.redundancy = \"none\"");
    SGC_TRY(sgc_min_double(r->world->all, &least, 1));
    SGC_TRY(sgc_max_double(r->world->all, &most, 1));
    if (least != most)
        st = sgc_err(SGC_ECONFIG, "checkpoint.redundancy needs as many ranks on every node, and here they have from %g to %g: start as many on each, or "
                     "write checkpoint.redundancy = \"none\"", least, most);
done:
    return st;
}

/* Of directories that each node has for itself. */
static sgc_status take_node_dir_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const char *local_dir = r->config->checkpoint.local_dir;
    if (r->world->node_rank != 0) return SGC_OK;
    if (local_dir) SGC_TRY(check_distinct_local(r->t->output_dir, local_dir));
    if (r->t->save_on_each_node && r->world->rank != 0) {
        SGC_TRY(sgc_lock_take(r->t->output_dir));
        r->has_lock = true;
    }
done:
    return st;
}

static sgc_status take_output_dir(sgc_run *r)
{
    sgc_status st = SGC_OK;
    if (r->world->rank == 0) st = take_output_dir_local(r);
    SGC_AGREE(r->world->all);
    if (r->t->save_on_each_node && r->world->node_rank == 0) st = sgc_make_dirs(r->t->output_dir);
    SGC_AGREE(r->world->all);
    if (r->t->save_on_each_node) SGC_TRY(sgc_ckpt_check_apart(r->world, r->t->output_dir));
    if (r->config->checkpoint.local_dir) SGC_TRY(sgc_ckpt_check_apart(r->world, r->config->checkpoint.local_dir));
    SGC_TRY(check_redundancy(r));
    st = take_node_dir_local(r);
    SGC_AGREE(r->world->all);
    /* Every rank may write shards there: better to know now than at the first save. */
    if (access(r->t->output_dir, W_OK | X_OK) != 0) st = sgc_err_errno(SGC_EIO, "output_dir %s cannot be written", r->t->output_dir);
    SGC_AGREE(r->world->all);
done:
    return st;
}

sgc_status sgc_fix_vocabulary(sgc_config *c, const sgc_dataset *d)
{
    char value[32];
    if (c->model.vocab_size > 0) return SGC_OK;
    snprintf(value, sizeof(value), "%lld", (long long)d->vocab_size);
    return sgc_config_set(c, "model.vocab_size", value, "tokenizer");
}

sgc_status sgc_read_config(sgc_world *w, sgc_config *c, const char *file, int n_args, char *const *args, bool trains)
{
    sgc_status st = SGC_OK;
    char *bytes = NULL;
    size_t size = 0;
    *c = (sgc_config){0};
    if (w->rank == 0) {
        st = (trains ? sgc_config_load_to_train : sgc_config_load)(c, file, n_args, args);
        if (st == SGC_OK) st = sgc_config_pack(c, &bytes, &size);
    }
    SGC_AGREE(w->all);
    int64_t n_bytes = (int64_t)size;
    SGC_TRY(sgc_bcast_bytes(w->all, &n_bytes, sizeof(n_bytes), 0));
    if (w->rank != 0 && !(bytes = malloc((size_t)n_bytes))) st = sgc_err(SGC_ENOMEM, "no memory for the settings");
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, bytes, n_bytes, 0));
    if (w->rank != 0) st = sgc_config_unpack(c, bytes, (size_t)n_bytes);
    SGC_AGREE(w->all);
done:
    free(bytes);
    if (st != SGC_OK) sgc_config_free(c);
    return st;
}

void sgc_warn_device(const sgc_device *d, const sgc_world *w)
{
    if (d->emulates && w->node_rank == 0)
        sgc_log_warning("%s: no instructions for bf16, which is emulated: as slow as fp32 or slower; what it saves is memory", d->isa);
}

void sgc_abort_job(sgc_world *w, const char *where)
{
    sgc_log_status_line(NULL);
    sgc_log_critical("rank %d on %s, %s: %s", w->rank, sgc_node_name(), where, sgc_err_message());
    sgc_log_debug("%s", sgc_err_frames());
    sgc_world_abort(w, 1);
}

static sgc_status build_graphs_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    const sgc_training_options *t = r->t;
    sgc_graph_spec spec = {.mode = SGC_TRAIN, .B = r->plan.micro_batch, .T = r->data.train.block, .checkpointing = !t->gradient_checkpointing,
                           .label_smoothing = t->label_smoothing_factor};
    sgc_graph *other = NULL; /* only to say what recomputation changes */
    SGC_TRY(sgc_graph_build(&other, r->model, &r->device, &spec));
    r->other_arena_bytes = sgc_graph_arena_bytes(other);
    spec.checkpointing = t->gradient_checkpointing;
    SGC_TRY(sgc_graph_build(&r->graph, r->model, &r->device, &spec));
    r->arena_bytes = r->train_arena_bytes = sgc_graph_arena_bytes(r->graph);
    if (t->evaluation_strategy != SGC_STRATEGY_NO) {
        SGC_TRY(sgc_evaluator_make(&r->evaluator, r->model, &r->device, r->world->all, &r->data.validation, t->per_device_eval_batch_size));
        size_t bytes = sgc_graph_arena_bytes(r->evaluator.graph);
        if (bytes > r->arena_bytes) r->arena_bytes = bytes;
    }
done:
    sgc_graph_free(other);
    return st;
}

static sgc_zero_spec zero_spec(const sgc_run *r)
{
    return (sgc_zero_spec){.stage = (int)r->config->zero.stage, .prefetch_units = (int)r->config->zero.prefetch_units,
                           .full_determinism = r->t->full_determinism, .n_micro = r->plan.accumulation,
                           .reduce_type = r->config->comm.reduce_dtype == SGC_REDUCE_BF16 ? SGC_BF16 : SGC_F32};
}

/* Before any of it is taken, by any rank: a GPU tells how much it has, of which each rank that shares it may have as much. */
static sgc_status check_memory_local(sgc_run *r)
{
    const sgc_device_memory *memory = r->device.ops->memory;
    sgc_need need = {.model = r->model, .device = &r->device, .zero = zero_spec(r), .n_ranks = r->world->size, .micro_batch = r->plan.micro_batch,
                     .block = r->data.train.block, .eval_batch = r->evaluator.graph ? r->evaluator.micro_batch : 0,
                     .checkpointing = r->t->gradient_checkpointing};
    const size_t n_sharing = r->device_spec.n_sharing > 1 ? (size_t)r->device_spec.n_sharing : 1;
    return memory ? sgc_need_check(&need, memory->available(&r->device) / n_sharing) : SGC_OK;
}

/* What kernels would else take in the first update, when nobody reckons with it any more. */
static sgc_status reserve_local(sgc_run *r)
{
    const sgc_device_memory *memory = r->device.ops->memory;
    size_t bytes = sgc_graph_scratch_bytes(r->graph), evaluation = r->evaluator.graph ? sgc_graph_scratch_bytes(r->evaluator.graph) : 0;
    if (evaluation > bytes) bytes = evaluation;
    return memory && bytes > 0 ? memory->reserve(&r->device, bytes) : SGC_OK;
}

static sgc_status take_memory_local(sgc_run *r)
{
    int64_t B = r->plan.micro_batch, T = r->data.train.block;
    r->tokens = sgc_mem_alloc(SGC_MEM_DATA, (size_t)(B * T) * sizeof(*r->tokens));
    r->sample = sgc_mem_alloc(SGC_MEM_DATA, (size_t)B * sizeof(*r->sample));
    r->arena = sgc_device_alloc(&r->device, SGC_MEM_ACTIVATIONS, r->arena_bytes);
    if (!r->tokens || !r->sample || !r->arena) return SGC_ENOMEM;
    r->step_s = malloc(SGC_N_STEP_TIMES * sizeof(*r->step_s));
    if (!r->step_s) return sgc_err(SGC_ENOMEM, "no memory for step times");
    sgc_graph_bind_arena(r->graph, r->arena);
    if (r->evaluator.graph) sgc_graph_bind_arena(r->evaluator.graph, r->arena);
    return SGC_OK;
}

/* Settings, data and checkpoint to numbers, and to the device that computes with them. */
static sgc_status derive_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_plan_make(&r->plan, &r->sampler, r->t, r->data.train.n, r->data.train.block, r->world->size));
    SGC_TRY(sgc_schedule_make(&r->schedule, r->t, r->plan.n_steps));
    SGC_TRY(sgc_model_make(&r->model, &r->config->model, r->data.vocab_size));
    SGC_TRY(sgc_device_open_spec(&r->device, &r->device_spec));
    r->has_device = true;
    if (!r->device.ops->memory) sgc_threads_bind(&r->threads);
    sgc_warn_device(&r->device, r->world);
done:
    return st;
}

static sgc_status plan_place_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(build_graphs_local(r));
    SGC_TRY(check_memory_local(r));
done:
    return st;
}

static sgc_status take_place_local(sgc_run *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(reserve_local(r));
    SGC_TRY(take_memory_local(r));
done:
    return st;
}

static void free_derived(sgc_run *r)
{
    sgc_ckpt_close(r->ckpt);
    sgc_zero_free(r->engine);
    sgc_evaluator_free(&r->evaluator);
    sgc_graph_free(r->graph);
    if (r->has_device) sgc_device_free(&r->device, r->arena);
    sgc_mem_free(r->tokens);
    sgc_mem_free(r->sample);
    free(r->step_s);
    if (r->has_device) sgc_exchange_end(r->world, &r->device);
    if (r->has_device) sgc_device_close(&r->device);
    sgc_model_free(r->model);
}

static void forget_derived(sgc_run *r)
{
    free_derived(r);
    r->ckpt = NULL;
    r->engine = NULL;
    r->evaluator = (sgc_evaluator){0};
    r->graph = NULL;
    r->arena = NULL;
    r->tokens = NULL;
    r->sample = NULL;
    r->step_s = NULL;
    r->has_device = false;
    r->model = NULL;
}

/* From the checkpoint, if any, to an engine that holds the states. again: as of sgc_start_load. */
static sgc_status make_states(sgc_run *r, bool *again)
{
    sgc_status st = SGC_OK;
    sgc_group *all = r->world->all;
    SGC_TRY(sgc_start_open(r));
    st = derive_local(r);
    SGC_AGREE(all);
    SGC_TRY(sgc_compare_devices(r->world, &r->device, r->t->full_determinism));
    sgc_zero_spec spec = zero_spec(r);
    SGC_TRY(sgc_exchange_begin(r->world, r->config, &r->device, r->model, spec.reduce_type)); /* it takes memory of the GPU, too */
    st = plan_place_local(r);
    SGC_AGREE(all);
    st = take_place_local(r);
    SGC_AGREE(all);
    SGC_TRY(sgc_zero_make(&r->engine, r->model, &r->device, all, &spec));
    r->evaluator.engine = r->engine;
    SGC_TRY(sgc_start_load(r, again));
done:
    return st;
}

sgc_status sgc_run_setup(sgc_run *r)
{
    sgc_status st = SGC_OK;
    bool again = false;
    SGC_TRY(sgc_choose_device(r->world, r->config, &r->device_spec));
    SGC_TRY(take_output_dir(r));
    SGC_TRY(sgc_start_decide(r));
    SGC_TRY(sgc_dataset_open(&r->data, r->world, r->config, true));
    st = sgc_fix_vocabulary(r->config, &r->data);
    SGC_AGREE(r->world->all);
    do { /* an older checkpoint may have another global batch, on which plan and engine depend */
        if (again) forget_derived(r);
        again = false;
        SGC_TRY(make_states(r, &again));
    } while (again);
    SGC_TRY(sgc_saving_setup(r));
    if (r->config->device.gemm_probe) SGC_TRY(sgc_probe_gemm(&r->device, r->world->all, &r->gemm_flops));
    SGC_TRY(sgc_start_settle(r));
done:
    return st;
}

void sgc_run_free(sgc_run *r)
{
    sgc_trace_free();
    sgc_progress_end(&r->progress);
    sgc_metrics_close(&r->metrics);
    sgc_saving_free(&r->saving, &r->device); /* its thread reads the model */
    free_derived(r);
    sgc_dataset_close(&r->data);
    if (r->has_lock) sgc_lock_release();
}

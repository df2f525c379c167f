/* What single values cannot tell: settings that do not go together. */
#include <math.h>
#include <string.h>

#include "conf/option_impl.h"

typedef struct checker {
    const sgc_config *c;
    sgc_problems *problems;
} checker;

/* A row as its user gave it: "conf/x.cfg:12: training.max_steps = 0", "--max_steps 0", "training.max_steps = -1 (default)". */
static void print_place(const sgc_config *c, int row, sgc_str *out)
{
    const sgc_option *o = &sgc_options[row];
    sgc_str value = {0};
    if (c->origins->kind[row] == SGC_FROM_COMMAND_LINE) {
        sgc_value_plain(o, sgc_option_get(c, row), &value);
        sgc_str_printf(out, "--%s %s", strcmp(o->group, "training") == 0 ? o->key : o->name, value.text);
    } else {
        const char *origin = c->origins->text[row];
        sgc_value_quoted(o, sgc_option_get(c, row), &value);
        if (origin != NULL) sgc_str_printf(out, "%s: ", origin);
        sgc_str_printf(out, "%s = %s%s", o->name, value.text, origin == NULL ? " (default)" : "");
    }
    sgc_str_free(&value);
}

/* Two settings that exclude each other (the same row twice: one that excludes itself), shown at the one that was given last.
 * Nothing is said when either was found wrong before. */
static void conflict(checker *k, int row, int other, const char *message)
{
    if (k->problems->is_bad[row] || k->problems->is_bad[other]) return;
    sgc_str where = {0}, with = {0};
    bool other_is_later = k->c->origins->kind[other] > k->c->origins->kind[row];
    print_place(k->c, other_is_later ? other : row, &where);
    print_place(k->c, other_is_later ? row : other, &with);
    if (row == other) sgc_problem(k->problems, row, where.text, "%s", message);
    else sgc_problem(k->problems, -1, where.text, "conflicts with %s; %s", with.text, message);
    sgc_str_free(&where);
    sgc_str_free(&with);
}

/* An interval in updates: below 1 a share of all updates, else whole. */
static void check_interval(checker *k, int row)
{
    sgc_value v = sgc_option_get(k->c, row);
    if (!v.is_none && v.f >= 1 && v.f != floor(v.f)) conflict(k, row, row, "write a whole number of updates, or a share of all updates below 1");
}

static void check_evaluation(checker *k)
{
    const sgc_training_options *t = &k->c->training;
    bool has_interval = t->has_eval_steps && t->eval_steps > 0;
    if (t->evaluation_strategy == SGC_STRATEGY_STEPS && !has_interval && t->logging_steps == 0)
        conflict(k, SGC_ROW_training_evaluation_strategy, SGC_ROW_training_logging_steps, "write eval_steps or logging_steps above 0");
    if (t->evaluation_strategy != SGC_STRATEGY_NO && k->c->data.validation_file == NULL && k->c->data.validation_split_percentage == 0)
        conflict(k, SGC_ROW_training_evaluation_strategy, SGC_ROW_data_validation_split_percentage,
                 "there is nothing to evaluate: write data.validation_file, or data.validation_split_percentage above 0");
    if (t->load_best_model_at_end && t->evaluation_strategy == SGC_STRATEGY_NO)
        conflict(k, SGC_ROW_training_load_best_model_at_end, SGC_ROW_training_evaluation_strategy,
                 "the best is found by evaluating: write evaluation_strategy steps or epoch");
    if (t->lr_scheduler_type == SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU && t->evaluation_strategy == SGC_STRATEGY_NO)
        conflict(k, SGC_ROW_training_lr_scheduler_type, SGC_ROW_training_evaluation_strategy,
                 "the learning rate follows the evaluation loss: write evaluation_strategy steps or epoch");
}

/* Whether the settings keep a run from GPUs: the row that does, or -1. */
static int row_without_gpus(const sgc_config *c)
{
    if (c->training.use_cpu) return SGC_ROW_training_use_cpu;
    if (c->training.no_cuda) return SGC_ROW_training_no_cuda;
    return c->device.type == SGC_DEVICE_CPU || c->device.type == SGC_DEVICE_REFERENCE ? SGC_ROW_device_type : -1;
}

static void check_device(checker *k)
{
    const sgc_training_options *t = &k->c->training;
    const int without = row_without_gpus(k->c);
    if (without >= 0 && without != SGC_ROW_device_type && k->c->device.type == SGC_DEVICE_CUDA)
        conflict(k, SGC_ROW_device_type, without, "write one of them: they say where to compute");
    if (t->fp16 && t->bf16)
        conflict(k, SGC_ROW_training_fp16, SGC_ROW_training_bf16, "write one of them: bf16 needs no loss scale, fp16 has three more bits of mantissa");
    else if (t->fp16 && without >= 0)
        conflict(k, SGC_ROW_training_fp16, without, "CPUs have no fast fp16 arithmetic: write bf16 true (--bf16 true), which needs no loss scaling");
    if (t->has_tf32 && t->tf32 && without >= 0)
        conflict(k, SGC_ROW_training_tf32, without, "TF32 is a number format of GPUs: write tf32 false, or bf16 true for mixed precision");
    if (t->bf16 && k->c->device.type == SGC_DEVICE_REFERENCE)
        conflict(k, SGC_ROW_training_bf16, SGC_ROW_device_type, "the reference kernels compute in fp32: write device.type cpu, or bf16 false");
}

void sgc_config_check(const sgc_config *c, sgc_problems *p)
{
    const sgc_training_options *t = &c->training;
    checker k = {.c = c, .problems = p};
    if (t->max_steps == 0)
        conflict(&k, SGC_ROW_training_max_steps, SGC_ROW_training_max_steps, "write the number of updates, or -1 for num_train_epochs to decide");
    if (t->logging_strategy == SGC_STRATEGY_STEPS && t->logging_steps == 0)
        conflict(&k, SGC_ROW_training_logging_steps, SGC_ROW_training_logging_strategy, "write logging_steps above 0, or logging_strategy no");
    check_interval(&k, SGC_ROW_training_logging_steps);
    check_interval(&k, SGC_ROW_training_save_steps);
    check_interval(&k, SGC_ROW_training_eval_steps);
    check_evaluation(&k);
    if (c->checkpoint.redundancy != SGC_REDUNDANCY_NONE && c->checkpoint.local_dir == NULL)
        conflict(&k, SGC_ROW_checkpoint_redundancy, SGC_ROW_checkpoint_local_dir, "it is for checkpoints in local_dir: write checkpoint.local_dir");
    if (t->save_on_each_node && c->checkpoint.local_dir != NULL)
        conflict(&k, SGC_ROW_training_save_on_each_node, SGC_ROW_checkpoint_local_dir, "write one of them: local_dir goes with an output_dir that all nodes share");
    if (c->checkpoint.interval == SGC_INTERVAL_AUTO && t->save_strategy != SGC_STRATEGY_STEPS)
        conflict(&k, SGC_ROW_checkpoint_interval, SGC_ROW_training_save_strategy, "auto takes the place of save_steps: write save_strategy steps");
    if (t->lr_scheduler_type == SGC_SCHEDULE_POLYNOMIAL && t->learning_rate <= 1e-7)
        conflict(&k, SGC_ROW_training_learning_rate, SGC_ROW_training_lr_scheduler_type, "this schedule ends at 1e-07: write a larger learning_rate");
    if (c->model.n_embd % c->model.n_head != 0)
        conflict(&k, SGC_ROW_model_n_head, SGC_ROW_model_n_embd, "write an n_head that divides n_embd");
    check_device(&k);
    if (c->comm.reduce_dtype == SGC_REDUCE_BF16 && !t->bf16)
        conflict(&k, SGC_ROW_comm_reduce_dtype, SGC_ROW_training_bf16, "write bf16 true (--bf16 true), or comm.reduce_dtype fp32");
    if (c->comm.reduce_dtype == SGC_REDUCE_BF16 && t->full_determinism)
        conflict(&k, SGC_ROW_comm_reduce_dtype, SGC_ROW_training_full_determinism,
                 "what is rounded before it travels depends on the number of ranks: write comm.reduce_dtype fp32");
    if (c->data.block_size > c->model.n_positions)
        conflict(&k, SGC_ROW_data_block_size, SGC_ROW_model_n_positions, "write a block_size of at most n_positions");
}

static void check_is_set(checker *k, int row, const char *message)
{
    if (!k->problems->is_bad[row] && sgc_option_get(k->c, row).is_none) sgc_problem(k->problems, row, sgc_options[row].name, "is not set; %s", message);
}

void sgc_config_check_to_train(const sgc_config *c, sgc_problems *p)
{
    const int64_t n_micro = c->training.gradient_accumulation_steps;
    checker k = {.c = c, .problems = p};
    check_is_set(&k, SGC_ROW_training_output_dir, "name the directory for checkpoints and results (--output_dir DIR)");
    check_is_set(&k, SGC_ROW_data_train_file, "name a text, or a token file made by stagecoach prepare (--data.train_file FILE)");
    if (c->training.full_determinism && (n_micro & (n_micro - 1)) != 0)
        conflict(&k, SGC_ROW_training_gradient_accumulation_steps, SGC_ROW_training_full_determinism, "write a power of two, as sums go along a binary tree");
}

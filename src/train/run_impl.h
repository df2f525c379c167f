/* One training run: what the loop, its events and its reports share. */
#ifndef SGC_TRAIN_RUN_IMPL_H
#define SGC_TRAIN_RUN_IMPL_H

#include "ckpt/ckpt.h"
#include "optim/optim.h"
#include "train/control_impl.h"
#include "train/dataset_impl.h"
#include "train/evaluator_impl.h"
#include "train/metrics_impl.h"
#include "train/plan_impl.h"
#include "train/profile_impl.h"
#include "train/progress_impl.h"
#include "train/saving_impl.h"
#include "train/threads_impl.h"
#include "train/train.h"

#define SGC_N_STEP_TIMES 65536 /* the last so many updates are timed */

/* How the run begins; decided by rank 0, known to all. */
typedef struct sgc_start {
    char path[SGC_PATH_MAX];  /* checkpoint to resume; "": a fresh start                              */
    bool is_latest;           /* found by latest or auto: if it cannot be read, the next older one is used */
    bool sets_aside_all;      /* what output_dir holds belongs to another run                          */
    char old_id[SGC_ID_CHARS + 1]; /* of that run, "" if unknown                                       */
    char run_id[SGC_ID_CHARS + 1]; /* of the run that begins or goes on; "": as the checkpoint says     */
    char local_id[SGC_ID_CHARS + 1]; /* of its directory below checkpoint.local_dir                     */
    int64_t mended_step;      /* as of sgc_latest_retreat; -1: none                                    */
} sgc_start;

typedef struct sgc_run {
    sgc_world *world;         /* borrowed                                                            */
    sgc_config *config;       /* borrowed                                                            */
    const sgc_training_options *t; /* &config->training                                              */
    bool has_lock, has_device;
    sgc_start start;
    sgc_ckpt *ckpt;           /* of start.path while loading; NULL else                               */
    sgc_ckpt_info resumed;    /* of the checkpoint that is gone on from; its id is "" at a fresh start     */
    char run_id[SGC_ID_CHARS + 1];
    char local_dir[SGC_PATH_MAX]; /* this run's in checkpoint.local_dir; "": there is none               */

    sgc_threads threads;
    sgc_device_spec device_spec;
    sgc_device device;
    sgc_dataset data;
    sgc_plan plan;
    sgc_sampler sampler;
    sgc_schedule schedule;
    sgc_model *model;
    sgc_graph *graph;
    sgc_evaluator evaluator;  /* graph is NULL: no evaluation                                         */
    void *arena;              /* the two graphs take turns                                            */
    size_t arena_bytes, train_arena_bytes, other_arena_bytes; /* other: with gradient_checkpointing the other way */
    sgc_zero *engine;
    int32_t *tokens;          /* [B * T] of one micro-batch                                           */
    int64_t *sample;          /* [B]                                                                  */

    sgc_run_state state;
    sgc_control control;      /* of the last update, agreed                                           */
    double last_grad_norm;
    bool stop;                /* a stop was agreed on                                                 */
    int64_t evaluated_step;   /* of the last evaluation; -1: none                                      */
    bool epoch_ended;         /* the last update crossed the end of an epoch, or was the last of all   */
    int64_t saved_step;       /* of the last save that was begun; -1: not yet                          */
    sgc_saving saving;

    sgc_metrics metrics;      /* rank 0                                                               */
    sgc_progress progress;
    sgc_profile profile;
    double gemm_flops;        /* per second, of all ranks; 0: not measured                            */
    double loop_start_s, window_start_s, startup_s, last_step_s;
    int64_t first_step, window_first_step; /* done when this job, this log window began                */
    double *step_s;           /* [SGC_N_STEP_TIMES], a ring                                           */
    sgc_traffic sent[SGC_N_COLLECTIVES]; /* in the updates of this job                                 */
} sgc_run;

/* Collective. Everything up to the first update; on error the run is to be freed. */
sgc_status sgc_run_setup(sgc_run *r);
void sgc_run_free(sgc_run *r);
/* Updates that changed the weights. */
int64_t sgc_run_n_taken(const sgc_run *r);

/* Collective: rank 0 looks at output_dir and decides how to begin. */
sgc_status sgc_start_decide(sgc_run *r);
/* Collective: opens the checkpoint, refuses one that does not fit, keeps its global batch. */
sgc_status sgc_start_open(sgc_run *r);
/**
 * Initial or stored weights, states and counters. Collective.
 * @param again  [out] the latest checkpoint is damaged and start.path names the next older one: make the run again from sgc_start_open on.
 */
sgc_status sgc_start_load(sgc_run *r, bool *again);
/* Collective, when nothing else can fail: moves what belongs to other runs, or lies ahead, out of the way. */
sgc_status sgc_start_settle(sgc_run *r);

/* Collective: what is due after an update, in the order log, evaluate, save. */
sgc_status sgc_events_run(sgc_run *r);

/* Whether an evaluation is better than another (NaN: than none). */
bool sgc_best_is_better(const sgc_run *r, double loss, double than);
/* The link to the best, on rank 0: as it is found after checkpoints were set aside; when one was published; */
sgc_status sgc_best_settle_local(sgc_run *r);
sgc_status sgc_best_published_local(sgc_run *r, const char *path);
/* and collective: load_best_model_at_end. */
sgc_status sgc_best_load(sgc_run *r);

/* Epochs done, with fraction. */
double sgc_run_epoch(const sgc_run *r);
double sgc_run_tokens_per_second(const sgc_run *r); /* since the loop began */
/* The part of the measured rate of matrix products that the model's own operations reach; NaN: not measured. */
double sgc_run_utilization(const sgc_run *r, double tokens_per_second);

/* All collective: the table at the start, OUTPUT_DIR/run.json (outcome: "running", "completed" or "interrupted"), and both at the end. */
sgc_status sgc_report_start(sgc_run *r);
sgc_status sgc_report_write(sgc_run *r, const char *outcome);
sgc_status sgc_report_end(sgc_run *r);
/* run.json in two steps: collective, what it says, on rank 0; and local there, SGC_EIO. */
sgc_status sgc_report_text(sgc_run *r, const char *outcome, sgc_str *text);
sgc_status sgc_report_put_local(const sgc_run *r, const sgc_str *text);

#endif

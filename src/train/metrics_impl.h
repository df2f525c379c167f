/* OUTPUT_DIR/metrics.jsonl: one object per log or evaluation. Local: rank 0 writes it. */
#ifndef SGC_TRAIN_METRICS_IMPL_H
#define SGC_TRAIN_METRICS_IMPL_H

#include <jansson.h>
#include <stdint.h>

#include "base/util.h"

typedef struct sgc_metrics { char path[SGC_PATH_MAX]; int fd; bool is_open; } sgc_metrics;

/* Drop the lines beyond update after_step, and what a killed job left unfinished; no error if there is no file. */
sgc_status sgc_metrics_cut(const char *output_dir, int64_t after_step);
/* Rename a former run's file to NAME.old-ID. */
sgc_status sgc_metrics_set_aside(const char *output_dir, const char *run_id);

sgc_status sgc_metrics_open(sgc_metrics *m, const char *output_dir); /* appends */
sgc_status sgc_metrics_write(sgc_metrics *m, json_t *line);          /* takes over the reference */
void sgc_metrics_close(sgc_metrics *m);

#endif

/* The settings of a run: typed values from defaults, a libconfig file and the command line, each with its origin. */
#ifndef SGC_CONF_CONFIG_H
#define SGC_CONF_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"
#include "base/util.h"

/* One struct per group, one field per row of options.def: sgc_model_options, sgc_data_options, ... */
#include "conf/option_structs.h"

/* Values of the CHOICE rows, in the order of their lists. */
typedef enum { SGC_STRATEGY_NO, SGC_STRATEGY_STEPS, SGC_STRATEGY_EPOCH } sgc_strategy;
typedef enum { SGC_NONFINITE_STOP, SGC_NONFINITE_CONTINUE } sgc_nonfinite;
typedef enum { SGC_REDUNDANCY_NONE, SGC_REDUNDANCY_PARTNER, SGC_REDUNDANCY_XOR } sgc_redundancy;
typedef enum { SGC_INTERVAL_SAVE_STEPS, SGC_INTERVAL_AUTO } sgc_interval;
typedef enum { SGC_OVERLAP_WAIT, SGC_OVERLAP_SKIP } sgc_overlap;
typedef enum { SGC_ON_ERROR_CONTINUE, SGC_ON_ERROR_STOP } sgc_on_error;
typedef enum { SGC_REDUCE_FP32, SGC_REDUCE_BF16 } sgc_reduce_dtype;
typedef enum { SGC_BACKEND_AUTO, SGC_BACKEND_MPI, SGC_BACKEND_NCCL } sgc_backend;
typedef enum { SGC_DEVICE_AUTO, SGC_DEVICE_CPU, SGC_DEVICE_CUDA, SGC_DEVICE_REFERENCE } sgc_device_choice;
typedef enum {
    SGC_SCHEDULE_LINEAR, SGC_SCHEDULE_COSINE, SGC_SCHEDULE_COSINE_WITH_RESTARTS, SGC_SCHEDULE_POLYNOMIAL, SGC_SCHEDULE_CONSTANT,
    SGC_SCHEDULE_CONSTANT_WITH_WARMUP, SGC_SCHEDULE_INVERSE_SQRT, SGC_SCHEDULE_REDUCE_LR_ON_PLATEAU
} sgc_schedule_type;
typedef enum { SGC_ACT_GELU_NEW, SGC_ACT_GELU, SGC_ACT_RELU, SGC_ACT_SILU, SGC_ACT_TANH } sgc_activation;

typedef struct sgc_config {
    sgc_model_options model;
    sgc_data_options data;
    sgc_training_options training;
    sgc_zero_options zero;
    sgc_checkpoint_options checkpoint;
    sgc_comm_options comm;
    sgc_device_options device;
    struct sgc_config_origins *origins; /* owned: one text per row: "default", "conf/x.cfg:12", "command line" */
} sgc_config;

/**
 * Read defaults < file < command line and check everything. Local (rank 0 calls it; see sgc_config_pack).
 * @param file  libconfig file, NULL: none.
 * @param args  what followed the file on the command line: --key value, --key=value, or bare --key for booleans.
 * @return SGC_ECONFIG with one message that lists every error, a line each, with file:line or the argument, the nearest
 *         known name where a name is unknown, and what to write.
 */
sgc_status sgc_config_load(sgc_config *c, const char *file, int n_args, char *const *args);
/* The same for a training, which cannot do without some settings. */
sgc_status sgc_config_load_to_train(sgc_config *c, const char *file, int n_args, char *const *args);
void sgc_config_free(sgc_config *c);

/* To and from one block of bytes, so that rank 0 reads and broadcasts. Origins travel too. pack: owned by the caller. */
sgc_status sgc_config_pack(const sgc_config *c, char **bytes, size_t *n_bytes);
sgc_status sgc_config_unpack(sgc_config *c, const char *bytes, size_t n_bytes);

/* The effective configuration as a libconfig file that `train` reads back to the same values (17 digits). With origins: each
 * line ends with a comment that says where its value is from (--print_config). */
sgc_status sgc_config_text(const sgc_config *c, bool with_origins, sgc_str *out);

/* The rows one by one, for comparing configurations. Values are as sgc_config_text writes them: "linear" in quotes, 5000000000L. */
int sgc_config_n_rows(void);
const char *sgc_config_row_name(int row);                        /* "training.learning_rate"; NULL: no such row      */
sgc_status sgc_config_row_value(const sgc_config *c, int row, sgc_str *out);
sgc_status sgc_config_row_json(const sgc_config *c, int row, sgc_str *out); /* "linear", 5000000000, null for none */
bool sgc_config_is_on_command_line(const sgc_config *c, const char *name);
const char *sgc_config_origin(const sgc_config *c, const char *name);
/* Override a value with one that the program derived, e.g. gradient_accumulation_steps at another world size. value: as on the
 * command line. SGC_EARG: no such name; SGC_ECONFIG: not a value of it. Conflicts with other settings are not looked for. */
sgc_status sgc_config_set(sgc_config *c, const char *name, const char *value, const char *origin);

/* --help of the options: all groups in short, or one group in full. SGC_ECONFIG for an unknown group. */
sgc_status sgc_config_help(FILE *out, const char *group);
/* The options' part of the manual page, in man(7) macros. */
void sgc_config_man(FILE *out);

#endif

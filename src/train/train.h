/* The jobs of the program: train, eval, generate. Each is collective on the world. */
#ifndef SGC_TRAIN_TRAIN_H
#define SGC_TRAIN_TRAIN_H

#include "comm/comm.h"
#include "conf/config.h"

typedef enum sgc_outcome { SGC_COMPLETED, SGC_INTERRUPTED /* saved on a signal: exit status 75 */ } sgc_outcome;

/* Rank 0 reads the settings (see sgc_config_load, whose arguments matter there only) and broadcasts them. trains: for sgc_train. */
sgc_status sgc_read_config(sgc_world *w, sgc_config *c, const char *file, int n_args, char *const *args, bool trains);

sgc_status sgc_train(sgc_world *w, sgc_config *c, sgc_outcome *outcome);
/* Prints a table on stdout and writes OUTPUT_DIR/eval_results.json. */
sgc_status sgc_evaluate(sgc_world *w, sgc_config *c);

typedef struct sgc_generate_options {
    const char *prompt;       /* text; owned by the caller                       */
    size_t prompt_bytes;
    int64_t max_new_tokens;
    double temperature;       /* 0: greedy                                       */
    int64_t top_k;            /* 0: all                                          */
    double top_p;             /* 1: all                                          */
    int64_t eos_token_id;     /* -1: none                                        */
    uint64_t seed;
} sgc_generate_options;
/* Prints prompt and continuation on stdout as they are made. Where the text outgrows the context, the model forgets the older half
 * of it; a prompt that does is SGC_ECONFIG. */
sgc_status sgc_generate(sgc_world *w, const char *checkpoint, const sgc_generate_options *o);

#endif

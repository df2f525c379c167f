/* Where the time of the first updates goes: a table on the log and a trace file. */
#ifndef SGC_TRAIN_PROFILE_IMPL_H
#define SGC_TRAIN_PROFILE_IMPL_H

#include "comm/comm.h"

typedef struct sgc_profile {
    int64_t first, n;     /* updates done when it begins, updates to record; n = 0: off  */
    int64_t n_recorded;
    double start_s, recorded_s; /* begin of the trace, time of the recorded updates      */
    bool is_open;
    bool goes_on;         /* without a trace that cannot be written                      */
} sgc_profile;

/* n updates (0: off) of those that follow `step`; the first of them is left out, which prepares matrix products, unless it is the only one.
 * goes_on: a trace that cannot be written is an error on the log, and not of the training. */
void sgc_profile_plan(sgc_profile *p, int64_t n, int64_t step, int64_t last_step, bool goes_on);

/* Around each update, all collective. Between updates nothing is recorded. */
sgc_status sgc_profile_before(sgc_profile *p, sgc_group *group, int64_t step);
/* Logs and writes DIR/trace.json after the last one. */
sgc_status sgc_profile_after(sgc_profile *p, sgc_group *group, const char *dir, double update_s);
/* The same for a run that ends earlier. */
sgc_status sgc_profile_end(sgc_profile *p, sgc_group *group, const char *dir);

#endif

/*
 * When the engine moves what: the pass over the units as a row of times, with the stays of gathered parameters, of working gradients and
 * of reductions. Made once; no MPI, no tensor memory. Time t < U is the forward of unit t, time U + i the backward of unit U - 1 - i.
 */
#ifndef SGC_ZERO_SCHEDULE_H
#define SGC_ZERO_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "graph/graph.h"
#include "model/model.h"

typedef struct sgc_stay {     /* a unit's parameters are gathered                           */
    int unit;
    int start;                /* the gather is started at the beginning of this time        */
    int first, last;          /* first and last time that read them; released after the last */
    size_t offset;            /* in the communication buffer                                */
} sgc_stay;

typedef struct sgc_backflow { /* a unit's gradients while they are whole                     */
    int first, last;          /* first and last time that add to them; reduced after the last, finished reduce_times later */
    size_t gradient_offset;   /* in the communication buffer, where they are pooled          */
    size_t scratch_offset;    /* parts that arrive from the peers                            */
    size_t rounded_offset;    /* the gradient as it travels, where that is not its own type   */
} sgc_backflow;

typedef struct sgc_pass {
    int n_units, n_times;     /* U or 2 U times                                              */
    int reduce_times;         /* from the start of a reduction to its end                    */
    sgc_stay *stays;          /* in the order of their starts; owned                         */
    int n_stays;
    sgc_backflow *backflows;  /* of each unit; NULL without a backward; owned                */
    size_t buffer_bytes;
} sgc_pass;

typedef struct sgc_pass_spec {
    bool backward;
    bool sharded_parameters;  /* gathers are needed                                          */
    bool pooled_gradients;    /* whole gradients are kept only until they are reduced        */
    size_t value_bytes;       /* of a gathered parameter                                     */
    sgc_dtype reduce_type;    /* of a gradient that travels                                  */
    int prefetch;
    int reduce_times;         /* 1: messages travel while the next unit computes; 0: one rank, nothing travels */
} sgc_pass_spec;

/* Unit that runs at a time, and whether it is its backward. */
int sgc_pass_unit(const sgc_pass *p, int time);
bool sgc_pass_is_backward(const sgc_pass *p, int time);

/* flats: of each unit. SGC_ENOMEM. */
sgc_status sgc_pass_make(sgc_pass *p, const sgc_model *model, const sgc_flat *flats, const sgc_pass_spec *spec);
void sgc_pass_free(sgc_pass *p);

#endif

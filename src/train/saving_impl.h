/* How a run saves: in the background if it can, what training waits for it, and what a failed save means. */
#ifndef SGC_TRAIN_SAVING_IMPL_H
#define SGC_TRAIN_SAVING_IMPL_H

#include "base/status.h"
#include "base/util.h"
#include "ckpt/ckpt.h"

struct sgc_run;

enum { SGC_FIRST_AUTO_SAVE = 3 }; /* updates until the first save of interval auto, which measures what a save costs */

typedef struct sgc_saving {
    sgc_ckpt_files *files;    /* owned */
    void *buffer;             /* owned: copies of this rank's shards; NULL: saves are synchronous */
    size_t buffer_bytes;
    void *travel;             /* owned: what files travel through to other nodes, on ranks that send; NULL: taken while they do */
    size_t travel_bytes;      /* the same on all ranks; 0: nothing travels */
    sgc_status moved;         /* what became of messages that were let move while training goes on */
    int64_t index_bytes;      /* of checkpoint.h5, once known */
    sgc_save *save;           /* owned: under way */
    int64_t step;             /* of the last save that was begun */
    bool is_local;            /* it goes to checkpoint.local_dir */
    int64_t n_since_flush;    /* saves since one went to output_dir */
    bool is_ending;           /* there are no more updates */
    bool is_published;        /* the save under way; what follows is not done yet */
    sgc_str report;           /* owned: rank 0: what run.json is to say then */
    bool was_evaluated;       /* its state was, with this loss */
    double eval_loss;
    double best_loss;         /* of what the link to the best points to, NaN: nothing; rank 0 */
    int64_t next_step;        /* interval auto: when to save next, unless a save is under way */
    int64_t interval;         /* and how many updates that is, 0: not known yet */
    int64_t quiet_step;       /* update at which the last save ended */
    double quiet_update_s;    /* what an update takes while nothing is written, 0: not known */
    double waited_s, told_waited_s; /* by training, for that save; until it was published */
    double cost_s;            /* the same without waiting for its end in the background */
    double last_s;            /* what the last that was published took, with all that followed */
    char failure[SGC_ERR_BYTES + 512]; /* of the last save; "": it did not fail */
} sgc_saving;

/* Collective, when all other memory is taken: who writes which file; the buffer, if there is memory for it. */
sgc_status sgc_saving_setup(struct sgc_run *r);
/* Collective: save the state after this update. must: also if it has to wait for a save under way. */
sgc_status sgc_saving_start(struct sgc_run *r, bool must);
/* Files travel on to other nodes; once per update, and the engine does it in between. Not collective; waits for nothing. SGC_ECOMM is fatal for the job. */
sgc_status sgc_saving_move(struct sgc_run *r);
/* Collective, after each agreement: takes the save a phase on once all ranks have done their part. */
sgc_status sgc_saving_poll(struct sgc_run *r);
/* Collective: wait for the save under way; SGC_EIO if the last save of the run failed. */
sgc_status sgc_saving_end(struct sgc_run *r);
/* What else goes to output_dir (metrics, summaries) and cannot be written: with on_error = continue it is only logged. Local. */
sgc_status sgc_saving_forgive(const struct sgc_run *r, sgc_status st);
bool sgc_saving_is_ready(const sgc_saving *s); /* this rank's part of the save under way is done */
void sgc_saving_free(sgc_saving *s, sgc_device *device);

#endif

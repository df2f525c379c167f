/* The latest checkpoint turns out to be damaged while it is read: which one is used instead. */
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "train/setup_impl.h"

/* Whose output_dir it is, and its newest checkpoint: by both node-local ones are measured. */
typedef struct newest { int64_t step; char run_id[SGC_ID_CHARS + 1]; } newest;

sgc_status sgc_latest_from_nodes(sgc_world *w, const sgc_config *c, int64_t before_step)
{
    sgc_status st = SGC_OK;
    newest found = {.step = -1};
    char local_dir[SGC_PATH_MAX];
    const char *output_dir = c->training.output_dir;
    if (!c->checkpoint.local_dir) return SGC_OK;
    if (w->rank == 0) st = sgc_ckpt_newest(output_dir, before_step, &found.step, found.run_id);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, &found, sizeof(found), 0));
    if (!found.run_id[0]) return SGC_OK;
    SGC_TRY(sgc_ckpt_local_dir(local_dir, c->checkpoint.local_dir, found.run_id)); /* alike on every rank */
    SGC_TRY(sgc_ckpt_recover(w, local_dir, output_dir, found.run_id, found.step, before_step));
done:
    return st;
}

/* why: what is wrong with path. st stays the status, and why the message, if there is nothing older. */
static sgc_status retreat_local(const sgc_config *c, sgc_status st, const char *why, int64_t step, bool with_states, char path[SGC_PATH_MAX], bool *again)
{
    char older[SGC_PATH_MAX];
    sgc_status chosen = sgc_ckpt_latest(c->training.output_dir, step, false, with_states, older);
    if (chosen != SGC_OK) return chosen;
    if (!older[0]) return sgc_err(st, "%s; no older checkpoint in %s can take its place", why, c->training.output_dir);
    sgc_log_warning("%s is passed over: %s", path, why);
    strcpy(path, older);
    *again = true;
    return SGC_OK;
}

sgc_status sgc_latest_retreat(sgc_world *w, const sgc_config *c, sgc_status failure, int64_t step, bool with_states, char path[SGC_PATH_MAX],
                              bool *again)
{
    sgc_status st = SGC_OK;
    char why[2 * SGC_PATH_MAX];
    const char *origin = sgc_err_origin();
    *again = false;
    if ((failure != SGC_ECKPT && failure != SGC_EIO) || c->checkpoint.resume_strict) return failure;
    snprintf(why, sizeof(why), "%s%s%s", origin, origin[0] ? ": " : "", sgc_err_message());
    sgc_err_clear(); /* every rank has it */
    if (with_states) SGC_TRY(sgc_latest_from_nodes(w, c, step));
    if (w->rank == 0) st = retreat_local(c, failure, why, step, with_states, path, again);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, again, sizeof(*again), 0));
    SGC_TRY(sgc_bcast_bytes(w->all, path, SGC_PATH_MAX, 0));
done:
    return st;
}

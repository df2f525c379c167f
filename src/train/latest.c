/* The latest checkpoint turns out to be damaged while it is read: which one is used instead. */
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "train/setup_impl.h"

/* st stays the status, and its message the message, if there is nothing older. */
static sgc_status retreat_local(const sgc_config *c, sgc_status st, int64_t step, bool with_states, char path[SGC_PATH_MAX], bool *again)
{
    char why[2 * SGC_PATH_MAX], older[SGC_PATH_MAX];
    const char *origin = sgc_err_origin();
    snprintf(why, sizeof(why), "%s%s%s", origin, origin[0] ? ": " : "", sgc_err_message());
    sgc_err_clear();
    sgc_status chosen = sgc_ckpt_latest(c->training.output_dir, step, false, with_states, older);
    if (chosen != SGC_OK) return chosen;
    if (!older[0]) return sgc_err(st, "%s; no older checkpoint in %s can take its place", why, c->training.output_dir);
    sgc_log_warning("%s is passed over: %s", path, why);
    strcpy(path, older);
    *again = true;
    return SGC_OK;
}

sgc_status sgc_latest_retreat(sgc_world *w, const sgc_config *c, sgc_status st, int64_t step, bool with_states, char path[SGC_PATH_MAX],
                              bool *again)
{
    *again = false;
    if ((st != SGC_ECKPT && st != SGC_EIO) || c->checkpoint.resume_strict) return st;
    if (w->rank != 0) { /* rank 0 has the message too */
        sgc_err_clear();
        st = SGC_OK;
    } else {
        st = retreat_local(c, st, step, with_states, path, again);
    }
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, again, sizeof(*again), 0));
    SGC_TRY(sgc_bcast_bytes(w->all, path, SGC_PATH_MAX, 0));
done:
    return st;
}

/* The latest checkpoint turns out to be damaged while it is read: which one is used instead. */
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "ckpt/ckpt.h"
#include "ckpt/inspect.h"
#include "train/setup_impl.h"

/* Whose output_dir it is, and its newest checkpoint: by both node-local ones are measured. */
typedef struct newest { int64_t step; char run_id[SGC_ID_CHARS + 1], local_id[SGC_ID_CHARS + 1]; } newest;

/* A copy of an output_dir has nothing on nodes yet: what is there is of the one that it was made of, which may have gone on since. */
static sgc_status measure_local(const sgc_config *c, int64_t before_step, newest *found)
{
    const char *output_dir = c->training.output_dir;
    sgc_home home;
    sgc_status st = sgc_ckpt_newest(output_dir, before_step, &found->step, found->run_id);
    sgc_home_read(output_dir, &home);
    memcpy(found->local_id, home.local_id, sizeof(found->local_id));
    if (st == SGC_OK && home.run_id[0] && !home.local_id[0])
        sgc_log_warning("%s is not the directory that its run.json was written in: what nodes hold in %s of run %s is of that one, and is not looked for", output_dir,
                        c->checkpoint.local_dir, home.run_id);
    return st;
}

void sgc_take_message(char why[2 * SGC_PATH_MAX])
{
    const char *origin = sgc_err_origin();
    snprintf(why, 2 * SGC_PATH_MAX, "%s%s%s", origin, origin[0] ? ": " : "", sgc_err_message());
    sgc_err_clear();
}

sgc_status sgc_name_others(sgc_status st, const char *path)
{
    char why[2 * SGC_PATH_MAX];
    if (st != SGC_ECKPT) return st;
    int n = (int)strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    sgc_take_message(why);
    if (sgc_path_exists(path) && !sgc_ckpt_has_part(path)) /* an output_dir, perhaps */
        return sgc_err(st, "%s; stagecoach ckpt ls %.*s lists what is in it", why, n, path);
    while (n > 0 && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    return sgc_err(st, "%s; stagecoach ckpt ls %.*s lists what else there is", why, n ? n : 1, n ? path : ".");
}

sgc_status sgc_latest_from_nodes(sgc_world *w, const sgc_config *c, int64_t before_step)
{
    sgc_status st = SGC_OK;
    newest found = {.step = -1};
    char local_dir[SGC_PATH_MAX], why[2 * SGC_PATH_MAX];
    const char *output_dir = c->training.output_dir;
    if (!c->checkpoint.local_dir) return SGC_OK;
    if (w->rank == 0) st = measure_local(c, before_step, &found);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, &found, sizeof(found), 0));
    if (!found.run_id[0] || !found.local_id[0]) return SGC_OK;
    SGC_TRY(sgc_ckpt_local_dir(local_dir, c->checkpoint.local_dir, found.local_id)); /* alike on every rank */
    st = sgc_ckpt_recover(w, local_dir, output_dir, found.run_id, found.step, before_step);
    /* Not the older one instead: the newer one is whole, and would be set aside and in the end deleted. */
    if (st != SGC_EIO) goto done;
    sgc_take_message(why);
    if (found.step < 0) st = sgc_err(SGC_EIO, "%s; nodes hold a checkpoint that was to be put together in %s: mend that", why, output_dir);
    else st = sgc_err(SGC_EIO, "%s; nodes hold a newer checkpoint that was to be put together in %s: mend that, or go on without it: "
                      "--resume_from_checkpoint %s/checkpoint-%lld", why, output_dir, output_dir, (long long)found.step);
done:
    return st;
}

/* why: what is wrong with path. found: what nodes have in its place, "": nothing; NULL: it is to be looked for here. st stays the status, and why the
 * message, if there is nothing. */
static sgc_status retreat_local(const sgc_config *c, sgc_status st, const char *why, int64_t step, bool with_states, const char *found, char path[SGC_PATH_MAX],
                                bool *again)
{
    char older[SGC_PATH_MAX];
    if (!found) {
        sgc_status chosen = sgc_ckpt_latest(c->training.output_dir, step, false, with_states, older);
        if (chosen != SGC_OK) return chosen;
        found = older;
    }
    if (!found[0]) return sgc_err(st, "%s; no older checkpoint in %s can take its place", why, c->training.output_dir);
    if (strcmp(found, path) == 0)
        sgc_log_warning("%s; %s is read again: it is whole on every node now", why, path);
    else
        sgc_log_warning("%s is passed over: %s", path, why);
    strcpy(path, found);
    *again = true;
    return SGC_OK;
}

sgc_status sgc_latest_retreat(sgc_world *w, const sgc_config *c, sgc_status failure, int64_t step, bool with_states, int64_t *mended, char path[SGC_PATH_MAX],
                              bool *again)
{
    sgc_status st = SGC_OK;
    char why[2 * SGC_PATH_MAX], found[SGC_PATH_MAX];
    bool apart = mended && c->training.save_on_each_node && w->n_nodes > 1;
    *again = false;
    if ((failure != SGC_ECKPT && failure != SGC_EIO) || c->checkpoint.resume_strict) return failure;
    sgc_take_message(why); /* every rank has it */
    if (with_states) SGC_TRY(sgc_latest_from_nodes(w, c, step));
    if (apart) {
        bool is_new = *mended != step;
        *mended = step;
        SGC_TRY(sgc_ckpt_latest_of_nodes(w, c->training.output_dir, is_new ? step + 1 : step, is_new ? step : -1, false, found));
    }
    if (w->rank == 0) st = retreat_local(c, failure, why, step, with_states, apart ? found : NULL, path, again);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, again, sizeof(*again), 0));
    SGC_TRY(sgc_bcast_bytes(w->all, path, SGC_PATH_MAX, 0));
done:
    return st;
}

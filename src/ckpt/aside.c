/* Names in a directory of checkpoints: what is set aside, what was left half done, and what was made of copies and now gets its name. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/recover_impl.h"

/* to: PATH.old-ID */
static sgc_status put_aside(const char *path, const char *id, char to[SGC_PATH_MAX])
{
    if (snprintf(to, SGC_PATH_MAX, "%s.old-%s", path, id) >= SGC_PATH_MAX) return sgc_err(SGC_EIO, "the path %.60s... is too long", path);
    return rename(path, to) == 0 ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot rename %s to %s", path, to);
}

sgc_status sgc_ckpt_publish_copy(const char *temporary, const char *final, const char *output_dir)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    char path[SGC_PATH_MAX], id[SGC_ID_CHARS + 1];
    SGC_TRY(sgc_ckpt_open_local(&c, temporary));
    SGC_TRY(sgc_path_join(path, temporary, "shards"));
    SGC_TRY(sgc_fsync_path(path));
    SGC_TRY(sgc_fsync_path(temporary));
    if (sgc_path_exists(final)) {
        sgc_ckpt_new_id(id);
        SGC_TRY(put_aside(final, id, path));
        sgc_log_info("%s is set aside as %s", final, path);
    }
    if (rename(temporary, final) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", temporary, final);
        goto done;
    }
    SGC_TRY(sgc_fsync_path(output_dir));
done:
    sgc_ckpt_close(c);
    return st;
}

/* What was left half done: removed if a save or a change of the link to the best did it, as whoever is here has the lock. */
static sgc_status sweep(const sgc_ckpt_entry *e, const char *path)
{
    char target[8];
    if (e->step < 0 && readlink(path, target, sizeof(target)) < 0) {
        sgc_log_warning("%s is left of a ckpt command that did not end, unless one is at work there: stagecoach ckpt prune removes it", path);
        return SGC_OK;
    }
    sgc_status st = sgc_remove_tree(path);
    if (st == SGC_OK) sgc_log_info("%s removed: %s that did not finish", path, e->step < 0 ? "a change" : "a save");
    return st;
}

static bool is_live(const sgc_ckpt_entry *e) { return e->status != SGC_CKPT_PARTIAL && e->status != SGC_CKPT_OLD; }

sgc_status sgc_ckpt_set_aside(const char *output_dir, int64_t after_step, const char *run_id)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    int n, n_others = 0;
    char id[SGC_ID_CHARS + 1], from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    if (!sgc_path_exists(output_dir)) return SGC_OK;
    SGC_TRY(sgc_ckpt_list(output_dir, &entries, &n));
    sgc_ckpt_new_id(id);
    for (int i = 0; i < n; i++) {
        const sgc_ckpt_entry *e = &entries[i];
        SGC_TRY(sgc_path_join(from, output_dir, e->name));
        if (e->status == SGC_CKPT_PARTIAL) SGC_TRY(sweep(e, from));
        if (!is_live(e)) continue;
        if (run_id && strcmp(e->info.run_id, run_id) != 0) {
            if (!n_others++) sgc_log_warning("%s is of another run%s%s, and stays: remove it when that run is over", from, e->info.run_id[0] ? ", " : "", e->info.run_id);
            continue;
        }
        if (e->step <= after_step) continue;
        SGC_TRY(put_aside(from, id, to));
        if (e->status == SGC_CKPT_NEWER)
            sgc_log_warning("%s, of a newer version of stagecoach, is set aside as %s: to go on from it, end this run, rename it back and use that version", from, to);
        else
            sgc_log_info("%s is set aside as %s", from, to);
    }
    SGC_TRY(sgc_fsync_path(output_dir));
done:
    free(entries);
    return st;
}

/* OUTPUT_DIR/NAME.old-ID becomes OUTPUT_DIR/NAME again. */
static sgc_status take_back(const char *output_dir, const sgc_ckpt_entry *e)
{
    sgc_status st = SGC_OK;
    char name[SGC_NAME_MAX], from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, e->step);
    SGC_TRY(sgc_path_join(from, output_dir, e->name));
    SGC_TRY(sgc_path_join(to, output_dir, name));
    if (rename(from, to) != 0) return sgc_err_errno(SGC_EIO, "cannot rename %s to %s", from, to);
    sgc_log_info("%s, which is gone on from, is %s again", from, to);
done:
    return st;
}

sgc_status sgc_ckpt_take_up(const char *output_dir, const char *path, const sgc_ckpt_info *resumed, const char *run_id)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    int n;
    char id[SGC_ID_CHARS + 1], from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (!strstr(name, ".old-")) return SGC_OK;
    SGC_TRY(sgc_ckpt_list(output_dir, &entries, &n));
    sgc_ckpt_new_id(id);
    for (int i = 0; i < n; i++) {
        const sgc_ckpt_entry *e = &entries[i];
        bool is_other = e->step == resumed->step && strcmp(e->info.id, resumed->id) != 0;
        bool is_after = e->step < resumed->step && strcmp(e->info.date, resumed->date) > 0;
        if (!is_live(e) || (!is_other && !is_after) || (run_id && strcmp(e->info.run_id, run_id) != 0)) continue;
        SGC_TRY(sgc_path_join(from, output_dir, e->name));
        SGC_TRY(put_aside(from, id, to));
        sgc_log_info("%s is set aside as %s: %s does not come from it", from, to, path);
    }
    for (int i = 0; i < n; i++)
        if (entries[i].status == SGC_CKPT_OLD && strcmp(entries[i].name, name) == 0 && strcmp(entries[i].info.id, resumed->id) == 0)
            SGC_TRY(take_back(output_dir, &entries[i]));
    SGC_TRY(sgc_fsync_path(output_dir));
done:
    free(entries);
    return st;
}

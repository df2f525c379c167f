/* OUTPUT_DIR/best: a relative link to the best checkpoint, so that it stays right when the directory moves. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/ckpt_impl.h"

static const char link_name[] = "best";

sgc_status sgc_ckpt_best(const char *output_dir, char name[SGC_NAME_MAX])
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    name[0] = '\0';
    SGC_TRY(sgc_path_join(path, output_dir, link_name));
    ssize_t n = readlink(path, name, SGC_NAME_MAX - 1);
    if (n < 0 && errno != ENOENT && errno != EINVAL) st = sgc_err_errno(SGC_EIO, "cannot read the link %s", path);
    name[n > 0 ? n : 0] = '\0';
    if (strchr(name, '/')) name[0] = '\0'; /* somebody else's */
done:
    return st;
}

sgc_status sgc_ckpt_set_best(const char *output_dir, const char *name)
{
    sgc_status st = SGC_OK;
    struct stat status;
    char path[SGC_PATH_MAX], temporary_name[64], temporary[SGC_PATH_MAX], id[SGC_ID_CHARS + 1];
    SGC_TRY(sgc_path_join(path, output_dir, link_name));
    if (lstat(path, &status) == 0 && !S_ISLNK(status.st_mode))
        return sgc_err(SGC_EIO, "%s is not a link: it is in the way of the link to the best checkpoint; rename it", path);
    if (!name) {
        if (unlink(path) != 0 && errno != ENOENT) return sgc_err_errno(SGC_EIO, "cannot remove %s", path);
        return SGC_OK;
    }
    sgc_ckpt_new_id(id);
    snprintf(temporary_name, sizeof(temporary_name), ".best.tmp-%s", id);
    SGC_TRY(sgc_path_join(temporary, output_dir, temporary_name));
    if (symlink(name, temporary) != 0) return sgc_err_errno(SGC_EIO, "cannot make the link %s", temporary);
    if (rename(temporary, path) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", temporary, path);
        unlink(temporary);
        goto done;
    }
    SGC_TRY(sgc_fsync_path(output_dir));
done:
    return st;
}

sgc_status sgc_ckpt_repair_best(const char *output_dir, int64_t best_step)
{
    sgc_status st = SGC_OK;
    char name[SGC_NAME_MAX], path[SGC_PATH_MAX];
    SGC_TRY(sgc_ckpt_best(output_dir, name));
    if (!name[0]) return SGC_OK;
    SGC_TRY(sgc_path_join(path, output_dir, name));
    if (sgc_path_exists(path)) return SGC_OK;
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, best_step);
    SGC_TRY(sgc_path_join(path, output_dir, name));
    SGC_TRY(sgc_ckpt_set_best(output_dir, best_step >= 0 && sgc_path_exists(path) ? name : NULL));
done:
    return st;
}

/* Is a directory another one on every node, as its user says? */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"

static const char mark_prefix[] = ".node-";
enum { OLD_S = 3600 }; /* nobody's mark is there that long */

/* Marks of starts that were killed. */
static void sweep_marks(const char *directory)
{
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[SGC_PATH_MAX];
        struct stat status;
        size_t n = strlen(mark_prefix);
        if (strncmp(e->d_name, mark_prefix, n) != 0 || !sgc_ckpt_is_id(e->d_name + n) || sgc_path_join(path, directory, e->d_name) != SGC_OK) continue;
        if (lstat(path, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > 0 || time(NULL) - status.st_mtime < OLD_S) continue;
        if (unlink(path) == 0) sgc_log_info("%s removed: left of a start that did not finish", path);
    }
    if (d) closedir(d);
    sgc_err_clear();
}

/* The first that keeps a node's directory makes the file; whoever finds it there is not alone. */
static sgc_status leave_mark(const char *directory, const char *path)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_make_dirs(directory));
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
    else if (errno == EEXIST)
        st = sgc_err(SGC_ECONFIG, "%s is the same directory on several nodes; name one on a disk that each node has for itself, or leave out "
                     "checkpoint.local_dir and save_on_each_node", directory);
    else
        st = sgc_err_errno(SGC_EIO, "cannot write in %s", directory);
done:
    return st;
}

sgc_status sgc_ckpt_check_apart(const sgc_world *w, const char *directory)
{
    sgc_status st = SGC_OK;
    char id[SGC_ID_CHARS + 1], name[64], path[SGC_PATH_MAX];
    bool has_mark = false;
    if (w->node_rank == 0) sweep_marks(directory);
    if (w->n_nodes == 1) return SGC_OK;
    sgc_ckpt_new_id(id);
    SGC_TRY(sgc_bcast_bytes(w->all, id, sizeof(id), 0));
    snprintf(name, sizeof(name), "%s%s", mark_prefix, id);
    st = sgc_path_join(path, directory, name);
    if (st == SGC_OK && w->node_rank == 0) {
        st = leave_mark(directory, path);
        has_mark = st == SGC_OK;
    }
    SGC_AGREE(w->all);
done:
    if (has_mark) unlink(path);
    return st;
}

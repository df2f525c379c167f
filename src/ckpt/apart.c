/* Is a directory another one on every node, as its user says? */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "ckpt/ckpt_impl.h"

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
    if (w->n_nodes == 1) return SGC_OK;
    sgc_ckpt_new_id(id);
    SGC_TRY(sgc_bcast_bytes(w->all, id, sizeof(id), 0));
    snprintf(name, sizeof(name), ".node-%s", id);
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

/* Whose directory is it? run.json says which run it is of, and which node-local checkpoints are its own, if it is where that was written. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/ckpt_impl.h"

sgc_status sgc_home_find(const char *output_dir, sgc_home *h)
{
    struct stat status;
    char *path = realpath(output_dir, NULL);
    *h = (sgc_home){0};
    if (!path || stat(path, &status) != 0) {
        free(path);
        return sgc_err_errno(SGC_EIO, "cannot find %s", output_dir);
    }
    snprintf(h->path, sizeof(h->path), "%s", path);
    h->device = (int64_t)status.st_dev;
    h->inode = (int64_t)status.st_ino;
    free(path);
    return SGC_OK;
}

static void take_id(json_t *run, const char *key, char id[SGC_ID_CHARS + 1])
{
    const char *text = json_string_value(json_object_get(run, key));
    id[0] = '\0';
    if (text && sgc_ckpt_is_id(text)) memcpy(id, text, SGC_ID_CHARS + 1);
}

/* A directory that was moved keeps its number, unless to another file system; one that was put back, or is mounted by another node, its path. A copy has neither. */
static bool is_at(const sgc_home *here, json_t *place)
{
    const char *path = json_string_value(json_object_get(place, "path"));
    if (path && strcmp(path, here->path) == 0) return true;
    return place && json_integer_value(json_object_get(place, "device")) == here->device && json_integer_value(json_object_get(place, "inode")) == here->inode;
}

void sgc_home_read(const char *output_dir, sgc_home *h)
{
    char path[SGC_PATH_MAX], *text = NULL;
    size_t n_bytes;
    json_t *run = NULL;
    if (sgc_home_find(output_dir, h) == SGC_OK && sgc_path_join(path, output_dir, "run.json") == SGC_OK && sgc_read_plain_file(path, &text, &n_bytes) == SGC_OK)
        run = json_loadb(text, n_bytes, 0, NULL);
    free(text);
    sgc_err_clear();
    take_id(run, "run_id", h->run_id);
    take_id(run, "local_id", h->local_id);
    if (!is_at(h, json_object_get(run, "output_dir"))) h->local_id[0] = '\0';
    json_decref(run);
}

#include "train/metrics_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/json_impl.h"

static const char file_name[] = "metrics.jsonl";

static bool keeps(const char *line, size_t n, int64_t after_step)
{
    json_t *object = json_loadb(line, n, 0, NULL), *step = json_object_get(object, "step");
    bool keep = json_is_integer(step) && json_integer_value(step) <= after_step;
    json_decref(object);
    return keep;
}

sgc_status sgc_metrics_cut(const char *output_dir, int64_t after_step)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX], *text = NULL;
    size_t bytes, n_kept = 0;
    SGC_TRY(sgc_path_join(path, output_dir, file_name));
    if (!sgc_path_exists(path)) goto done;
    SGC_TRY(sgc_read_file(path, &text, &bytes));
    for (char *line = text, *end; line < text + bytes; line = end) {
        char *newline = memchr(line, '\n', (size_t)(text + bytes - line));
        end = newline ? newline + 1 : text + bytes;
        if (newline && keeps(line, (size_t)(newline - line), after_step)) {
            memmove(text + n_kept, line, (size_t)(end - line));
            n_kept += (size_t)(end - line);
        }
    }
    if (n_kept < bytes) SGC_TRY(sgc_write_file_atomic(path, text, n_kept));
done:
    free(text);
    return st;
}

sgc_status sgc_metrics_set_aside(const char *output_dir, const char *run_id)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    sgc_str old = {0};
    SGC_TRY(sgc_path_join(path, output_dir, file_name));
    if (!sgc_path_exists(path)) goto done;
    sgc_str_printf(&old, "%s.old-%s", path, run_id);
    if (rename(path, old.text) != 0) st = sgc_err_errno(SGC_EIO, "%s cannot be renamed to %s", path, old.text);
done:
    sgc_str_free(&old);
    return st;
}

sgc_status sgc_metrics_open(sgc_metrics *m, const char *output_dir)
{
    sgc_status st = SGC_OK;
    char temporary[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(m->path, output_dir, file_name));
    if (snprintf(temporary, sizeof(temporary), "%s.tmp", m->path) < (int)sizeof(temporary)) unlink(temporary); /* of a start that was killed while it cut */
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (!(m->is_open = m->fd >= 0)) st = sgc_err_errno(SGC_EIO, "%s cannot be opened", m->path);
done:
    return st;
}

sgc_status sgc_metrics_write(sgc_metrics *m, json_t *line) { return sgc_json_append(line, m->fd, m->path); }

void sgc_metrics_close(sgc_metrics *m)
{
    if (m->is_open) close(m->fd);
    m->is_open = false;
}

#include "train/json_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"

json_t *sgc_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static char *dump(json_t *root, size_t flags)
{
    char *text = json_dumps(root, flags | JSON_REAL_PRECISION(17));
    json_decref(root);
    return text;
}

sgc_status sgc_json_text(json_t *root, sgc_str *out)
{
    char *text = dump(root, JSON_INDENT(2));
    if (!text) return sgc_err(SGC_ENOMEM, "no memory for a report");
    sgc_str_printf(out, "%s\n", text);
    free(text);
    return SGC_OK;
}

sgc_status sgc_json_write(json_t *root, const char *path)
{
    sgc_str out = {0};
    sgc_status st = sgc_json_text(root, &out);
    if (st == SGC_OK) st = sgc_write_file_atomic(path, out.text, out.n);
    sgc_str_free(&out);
    return st;
}

sgc_status sgc_json_append(json_t *root, int fd, const char *path)
{
    sgc_str line = {0};
    char *text = dump(root, JSON_COMPACT);
    off_t end = lseek(fd, 0, SEEK_END);
    if (!text) return sgc_err(SGC_ENOMEM, "no memory to write %s", path);
    sgc_str_printf(&line, "%s\n", text);
    free(text);
    sgc_status st = end < 0 ? sgc_err_errno(SGC_EIO, "cannot find the end of %s", path) : sgc_pwrite_all(fd, line.text, line.n, end, path);
    if (st != SGC_OK && end >= 0 && ftruncate(fd, end) != 0) /* the next line would go on in this one */
        sgc_log_warning("%s ends in a line that is not whole", path);
    sgc_str_free(&line);
    return st;
}

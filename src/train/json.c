#include "train/json_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

sgc_status sgc_json_append(json_t *root, FILE *file, const char *path)
{
    char *text = dump(root, JSON_COMPACT);
    if (!text) return sgc_err(SGC_ENOMEM, "no memory to write %s", path);
    int n = fprintf(file, "%s\n", text);
    free(text);
    if (n < 0 || fflush(file) != 0) return sgc_err_errno(SGC_EIO, "%s cannot be written", path);
    return SGC_OK;
}

/* The effective configuration as text: for files and people, and packed for the other ranks. */
#include <stdlib.h>
#include <string.h>

#include "conf/option_impl.h"

enum { COMMENT_COLUMN = 56 };

sgc_status sgc_config_row_value(const sgc_config *c, int row, sgc_str *out)
{
    if (row < 0 || row >= SGC_N_OPTIONS) return sgc_err(SGC_EARG, "there is no row %d of the option table", row);
    sgc_value_quoted(&sgc_options[row], sgc_option_get(c, row), out);
    return SGC_OK;
}

sgc_status sgc_config_row_json(const sgc_config *c, int row, sgc_str *out)
{
    if (row < 0 || row >= SGC_N_OPTIONS) return sgc_err(SGC_EARG, "there is no row %d of the option table", row);
    sgc_value_json(&sgc_options[row], sgc_option_get(c, row), out);
    return SGC_OK;
}

/* A file name may hold what would end a comment. */
static void print_comment(const char *origin, sgc_str *out)
{
    sgc_str_printf(out, "# ");
    for (; *origin != '\0'; origin++) sgc_str_printf(out, "%c", (unsigned char)*origin < 0x20 ? '?' : *origin);
}

sgc_status sgc_config_text(const sgc_config *c, bool with_origins, sgc_str *out)
{
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        const sgc_option *o = &sgc_options[row];
        bool is_first = row == 0 || strcmp(o->group, sgc_options[row - 1].group) != 0;
        bool is_last = row == SGC_N_OPTIONS - 1 || strcmp(o->group, sgc_options[row + 1].group) != 0;
        if (is_first) sgc_str_printf(out, "%s%s:\n{\n", row > 0 ? "\n" : "", o->group);
        size_t begin = out->n;
        sgc_str_printf(out, "    %s = ", o->key);
        sgc_value_quoted(o, sgc_option_get(c, row), out);
        sgc_str_printf(out, ";");
        if (with_origins) {
            size_t width = out->n - begin;
            sgc_str_printf(out, "%*s", width < COMMENT_COLUMN ? (int)(COMMENT_COLUMN - width) : 1, "");
            print_comment(sgc_config_origin(c, o->name), out);
        }
        sgc_str_printf(out, "\n%s", is_last ? "};\n" : "");
    }
    return SGC_OK;
}

/* Packed: for each row its source ('0' + kind), its origin and its value as on the command line, each with a NUL. */
sgc_status sgc_config_pack(const sgc_config *c, char **bytes, size_t *n_bytes)
{
    sgc_str packed = {0};
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        sgc_str value = {0};
        sgc_value_plain(&sgc_options[row], sgc_option_get(c, row), &value);
        sgc_str_printf(&packed, "%c%s%c%s%c", '0' + (int)c->origins->kind[row], sgc_config_origin(c, sgc_options[row].name), '\0', value.text, '\0');
        sgc_str_free(&value);
    }
    *bytes = packed.text;
    *n_bytes = packed.n;
    return SGC_OK;
}

sgc_status sgc_config_unpack(sgc_config *c, const char *bytes, size_t n_bytes)
{
    sgc_status st = SGC_OK;
    sgc_str why = {0};
    const char *p = bytes, *end = bytes + n_bytes;
    *c = (sgc_config){0};
    c->origins = calloc(1, sizeof(*c->origins));
    if (c->origins == NULL) return sgc_err(SGC_ENOMEM, "no memory for the settings");
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        const char *value = p < end ? memchr(p, '\0', (size_t)(end - p)) : NULL;
        const char *next = value != NULL ? memchr(value + 1, '\0', (size_t)(end - value - 1)) : NULL;
        sgc_value v;
        if (next == NULL || *p < '0' + SGC_FROM_DEFAULT || *p > '0' + SGC_FROM_PROGRAM || !sgc_value_parse(&sgc_options[row], value + 1, &v, &why)) {
            st = sgc_err(SGC_EARG, "packed settings are damaged at %s", sgc_options[row].name);
            goto done;
        }
        sgc_option_put(c, row, v, (sgc_source_kind)(*p - '0'), p + 1);
        p = next + 1;
    }
    if (p != end) st = sgc_err(SGC_EARG, "packed settings have %zu bytes too many", (size_t)(end - p));
done:
    sgc_str_free(&why);
    if (st != SGC_OK) sgc_config_free(c);
    return st;
}

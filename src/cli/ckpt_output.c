/* What ckpt commands print: tables for people, JSON for programs. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt_impl.h"

/* Bytes of the character that text begins with; 0: of none, or of one that UTF-8 does not allow. */
static int character_bytes(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    int n = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90)) return 0; /* longer than it must be */
    if ((c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf4 && c[1] > 0x8f)) return 0; /* a surrogate; beyond the last */
    return n;
}

static void put_utf8(sgc_str *to, const char *text)
{
    sgc_str_printf(to, "%s", "");
    while (*text) {
        int n = character_bytes(text);
        sgc_str_append(to, n ? text : "\xef\xbf\xbd", n ? (size_t)n : 3);
        text += n ? n : 1;
    }
}

json_t *sgc_cli_string(const char *text)
{
    sgc_str clean = {0};
    put_utf8(&clean, text);
    json_t *string = json_string(clean.text);
    sgc_str_free(&clean);
    return string;
}

json_t *sgc_cli_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *sgc_cli_field(const sgc_ckpt_field *f, const void *s)
{
    const void *value = (const char *)s + f->offset;
    switch (f->type) {
    case SGC_FIELD_INT64: return json_integer(*(const int64_t *)value);
    case SGC_FIELD_INT:
    case SGC_FIELD_FLAG: return json_integer(*(const int *)value);
    case SGC_FIELD_DOUBLE: return sgc_cli_number(*(const double *)value);
    case SGC_FIELD_TEXT: break;
    }
    return sgc_cli_string(value);
}

void sgc_cli_field_text(const sgc_ckpt_field *f, const void *s, char text[128])
{
    const void *value = (const char *)s + f->offset;
    switch (f->type) {
    case SGC_FIELD_INT64: snprintf(text, 128, "%" PRId64, *(const int64_t *)value); break;
    case SGC_FIELD_INT:
    case SGC_FIELD_FLAG: snprintf(text, 128, "%d", *(const int *)value); break;
    case SGC_FIELD_DOUBLE: snprintf(text, 128, "%.9g", *(const double *)value); break;
    case SGC_FIELD_TEXT: snprintf(text, 128, "%.127s", (const char *)value); break;
    }
}

json_t *sgc_cli_setting(const sgc_config *c, int row)
{
    sgc_str text = {0}, clean = {0};
    json_t *value = NULL;
    if (sgc_config_row_json(c, row, &text) == SGC_OK) {
        put_utf8(&clean, text.text);
        value = json_loads(clean.text, JSON_DECODE_ANY, NULL);
    }
    sgc_str_free(&text);
    sgc_str_free(&clean);
    return value ? value : json_null();
}

sgc_status sgc_cli_print_json(json_t *root)
{
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    json_decref(root);
    if (!text) return sgc_err(SGC_ENOMEM, "no memory for the JSON text");
    bool printed = puts(text) != EOF;
    free(text);
    return printed ? SGC_OK : sgc_err_errno(SGC_EIO, "standard output cannot be written");
}

void sgc_table_add(sgc_table *t, const char *format, ...)
{
    sgc_str text = {0};
    char cell[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(cell, sizeof(cell), format, args);
    va_end(args);
    sgc_str_printf(&text, "%s", cell);
    int n = t->n_cells;
    if (!(n & (n - 1))) {
        char **more = realloc(t->cells, (size_t)(n ? 2 * n : 1) * sizeof(*more));
        if (!more) abort();
        t->cells = more;
    }
    t->cells[n] = text.text;
    t->n_cells++;
}

/* Columns that a terminal shows: bytes that do not go on with a character of UTF-8. */
static int width_of(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void sgc_table_print(const sgc_table *t, const char *sides)
{
    int width[32] = {0}, n = t->n_columns;
    for (int i = 0; i < t->n_cells; i++)
        if (width_of(t->cells[i]) > width[i % n]) width[i % n] = width_of(t->cells[i]);
    for (int i = 0; i < t->n_cells; i++) {
        int column = i % n, pad = width[column] - width_of(t->cells[i]);
        bool is_left = sides[column] == 'l', is_last = column == n - 1;
        if (column > 0 && !(is_last && !t->cells[i][0])) printf("  ");
        printf("%*s%s%*s%s", is_left ? 0 : pad, "", t->cells[i], is_left && !is_last ? pad : 0, "", is_last ? "\n" : "");
    }
}

void sgc_table_free(sgc_table *t)
{
    for (int i = 0; i < t->n_cells; i++) free(t->cells[i]);
    free(t->cells);
    *t = (sgc_table){0};
}

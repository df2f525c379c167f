/* Values of options: to and from text, ranges, and where they lie in sgc_config. */
#include "conf/option_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *copy(const char *text)
{
    sgc_str s = {0};
    sgc_str_printf(&s, "%s", text);
    return s.text;
}

sgc_value sgc_option_get(const sgc_config *c, int row)
{
    const sgc_option *o = &sgc_options[row];
    const char *field = (const char *)c + o->offset;
    sgc_value v = {0};
    if (o->optional && o->type != SGC_OPTION_STRING) v.is_none = !*(const bool *)((const char *)c + o->has_offset);
    switch (o->type) {
    case SGC_OPTION_BOOL: v.b = *(const bool *)field; break;
    case SGC_OPTION_INT: v.i = *(const int64_t *)(const void *)field; break;
    case SGC_OPTION_FLOAT: v.f = *(const double *)(const void *)field; break;
    case SGC_OPTION_CHOICE: v.i = *(const int *)(const void *)field; break;
    case SGC_OPTION_STRING:
        v.s = *(const char *const *)(const void *)field;
        v.is_none = v.s == NULL;
        break;
    }
    return v;
}

void sgc_option_put(sgc_config *c, int row, sgc_value v, sgc_source_kind kind, const char *origin)
{
    const sgc_option *o = &sgc_options[row];
    struct sgc_config_origins *from = c->origins;
    char *field = (char *)c + o->offset;
    if (o->optional && o->type != SGC_OPTION_STRING) *(bool *)((char *)c + o->has_offset) = !v.is_none;
    switch (o->type) {
    case SGC_OPTION_BOOL: *(bool *)field = v.b; break;
    case SGC_OPTION_INT: *(int64_t *)(void *)field = v.i; break;
    case SGC_OPTION_FLOAT: *(double *)(void *)field = v.f; break;
    case SGC_OPTION_CHOICE: *(int *)(void *)field = (int)v.i; break;
    case SGC_OPTION_STRING: {
        char *string = v.is_none ? NULL : copy(v.s); /* before the free: v.s may be the old value */
        free(from->string[row]);
        from->string[row] = string;
        *(const char **)(void *)field = string;
        break;
    }
    }
    char *text = kind == SGC_FROM_DEFAULT ? NULL : copy(origin);
    free(from->text[row]);
    from->text[row] = text;
    from->kind[row] = kind;
}

static bool parse_bool(const char *text, bool *b)
{
    *b = strcmp(text, "true") == 0 || strcmp(text, "True") == 0;
    return *b || strcmp(text, "false") == 0 || strcmp(text, "False") == 0;
}

/* near: the name that a misspelt one may mean, "" for none. */
static bool parse_choice(const sgc_option *o, const char *text, int64_t *choice, char near[64])
{
    char name[64];
    int near_distance = 0;
    near[0] = '\0';
    for (int64_t i = 0; sgc_option_choice(o, i, name); i++) {
        if (strcmp(name, text) == 0) {
            *choice = i;
            return true;
        }
        int distance = sgc_edit_distance(text, name);
        if (sgc_option_is_near(name, distance) && (near[0] == '\0' || distance < near_distance)) {
            near_distance = distance;
            strcpy(near, name);
        }
    }
    return false;
}

/* Only digits, signs and so on: strtoll and strtod also take blanks, hexadecimal numbers, infinity and NaN.
 * errno is ERANGE after an integer beyond 64 bits. */
static bool parse_number(const sgc_option *o, const char *text, sgc_value *v)
{
    char *end;
    bool is_int = o->type == SGC_OPTION_INT;
    errno = 0;
    if (*text == '\0' || strspn(text, is_int ? "+-0123456789" : "+-.0123456789eE") != strlen(text)) return false;
    if (is_int) v->i = strtoll(text, &end, 10);
    else v->f = strtod(text, &end);
    return *end == '\0' && !(is_int && errno == ERANGE);
}

bool sgc_value_parse(const sgc_option *o, const char *text, sgc_value *v, sgc_str *why)
{
    char near[64];
    const char *reason = "";
    *v = (sgc_value){0};
    if (o->optional && (strcmp(text, "none") == 0 || strcmp(text, "None") == 0)) {
        v->is_none = true;
        return true;
    }
    switch (o->type) {
    case SGC_OPTION_BOOL:
        if (parse_bool(text, &v->b)) return true;
        reason = "neither true nor false";
        break;
    case SGC_OPTION_INT:
        if (parse_number(o, text, v)) return true;
        reason = errno == ERANGE ? "beyond 64 bits" : "no integer";
        break;
    case SGC_OPTION_FLOAT:
        if (parse_number(o, text, v)) return true;
        reason = "no number";
        break;
    case SGC_OPTION_STRING:
        v->s = text;
        if (*text != '\0') return true;
        reason = "an empty text";
        break;
    case SGC_OPTION_CHOICE:
        if (parse_choice(o, text, &v->i, near)) return true;
        reason = "none of the names";
        if (near[0] != '\0') {
            sgc_str_printf(why, "\"%.80s\" is none of the names: did you mean %s?", text, near);
            return false;
        }
        break;
    }
    sgc_str_printf(why, "\"%.80s\" is %s; write ", text, reason);
    sgc_value_expected(o, why);
    return false;
}

bool sgc_value_in_range(const sgc_option *o, sgc_value v)
{
    if (v.is_none) return true;
    if (o->type == SGC_OPTION_INT) return v.i >= o->int_min && v.i <= o->int_max;
    if (o->type == SGC_OPTION_FLOAT) return v.f >= o->float_min && v.f <= o->float_max;
    return true;
}

/* The shortest text that reads back to the same double. */
static void print_double(double f, sgc_str *out)
{
    char text[40];
    if (fabs(f) < 1e15 && f == floor(f)) { /* 500, not 5e+02 */
        sgc_str_printf(out, "%.0f", f);
        return;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, f);
        if (strtod(text, NULL) == f) break;
    }
    sgc_str_printf(out, "%s", text);
}

void sgc_value_plain(const sgc_option *o, sgc_value v, sgc_str *out)
{
    char name[64];
    if (v.is_none) {
        sgc_str_printf(out, "none");
        return;
    }
    switch (o->type) {
    case SGC_OPTION_BOOL: sgc_str_printf(out, "%s", v.b ? "true" : "false"); break;
    case SGC_OPTION_INT: sgc_str_printf(out, "%" PRId64, v.i); break;
    case SGC_OPTION_FLOAT: print_double(v.f, out); break;
    case SGC_OPTION_STRING: sgc_str_printf(out, "%s", v.s); break;
    case SGC_OPTION_CHOICE:
        if (sgc_option_choice(o, v.i, name)) sgc_str_printf(out, "%s", name);
        break;
    }
}

/* prefix: of two hexadecimal digits, for what has no letter. */
static void put_quoted(const char *text, const char *prefix, sgc_str *out)
{
    sgc_str_printf(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') sgc_str_printf(out, "\\%c", *p);
        else if (*p == '\n') sgc_str_printf(out, "\\n");
        else if (*p < 0x20 || *p == 0x7f) sgc_str_printf(out, "%s%02x", prefix, *p);
        else sgc_str_printf(out, "%c", *p);
    }
    sgc_str_printf(out, "\"");
}

void sgc_value_json(const sgc_option *o, sgc_value v, sgc_str *out)
{
    sgc_str plain = {0};
    sgc_value_plain(o, v, &plain);
    bool is_text = o->type == SGC_OPTION_CHOICE || o->type == SGC_OPTION_STRING;
    if (v.is_none || (o->type == SGC_OPTION_FLOAT && !isfinite(v.f))) sgc_str_printf(out, "null");
    else if (is_text) put_quoted(plain.text, "\\u00", out);
    else sgc_str_printf(out, "%s", plain.text);
    sgc_str_free(&plain);
}

void sgc_value_quoted(const sgc_option *o, sgc_value v, sgc_str *out)
{
    sgc_str plain = {0};
    sgc_value_plain(o, v, &plain);
    if (v.is_none || o->type == SGC_OPTION_CHOICE || o->type == SGC_OPTION_STRING) {
        put_quoted(plain.text, "\\x", out);
    } else {
        bool is_long = o->type == SGC_OPTION_INT && (v.i > INT32_MAX || v.i < INT32_MIN);
        bool is_whole = o->type == SGC_OPTION_FLOAT && strpbrk(plain.text, ".e") == NULL;
        sgc_str_printf(out, "%s%s", plain.text, is_long ? "L" : is_whole ? ".0" : "");
    }
    sgc_str_free(&plain);
}

void sgc_value_range(const sgc_option *o, sgc_str *out)
{
    if (o->type == SGC_OPTION_INT && o->int_max == INT64_MAX) sgc_str_printf(out, "%" PRId64 " ..", o->int_min);
    else if (o->type == SGC_OPTION_INT) sgc_str_printf(out, "%" PRId64 " .. %" PRId64, o->int_min, o->int_max);
    else if (o->type == SGC_OPTION_FLOAT) sgc_str_printf(out, "%.10g .. %.10g", o->float_min, o->float_max);
}

void sgc_value_expected(const sgc_option *o, sgc_str *out)
{
    char name[64];
    switch (o->type) {
    case SGC_OPTION_BOOL: sgc_str_printf(out, "true or false"); break;
    case SGC_OPTION_INT:
        if (o->int_max == INT64_MAX) sgc_str_printf(out, "an integer of at least %" PRId64, o->int_min);
        else sgc_str_printf(out, "an integer from %" PRId64 " to %" PRId64, o->int_min, o->int_max);
        break;
    case SGC_OPTION_FLOAT: sgc_str_printf(out, "a number from %.10g to %.10g", o->float_min, o->float_max); break;
    case SGC_OPTION_STRING: sgc_str_printf(out, "a text"); break;
    case SGC_OPTION_CHOICE:
        for (int64_t i = 0; sgc_option_choice(o, i, name); i++) sgc_str_printf(out, "%s%s", i > 0 ? ", " : "one of ", name);
        break;
    }
    if (o->optional) sgc_str_printf(out, ", or none");
}

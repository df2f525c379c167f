/* A libconfig file into sgc_config. libconfig parses; every value is checked against its row here. */
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

#include "conf/source_impl.h"

typedef struct file_reader {
    sgc_config *c;
    const sgc_source *source;
    sgc_problems *problems;
} file_reader;

static const char *type_name(const config_setting_t *setting)
{
    switch (config_setting_type(setting)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64: return "an integer";
    case CONFIG_TYPE_FLOAT: return "a number with a fraction or exponent";
    case CONFIG_TYPE_STRING: return "a text";
    case CONFIG_TYPE_BOOL: return "a truth value";
    case CONFIG_TYPE_GROUP: return "a group";
    default: return "a list";
    }
}

/* A value to show: the default, or one in the range. */
static void print_example(const sgc_option *o, const config_setting_t *setting, sgc_str *out)
{
    sgc_value v = o->initial.is_none ? (sgc_value){.b = true, .i = o->int_min, .f = o->float_min, .s = "..."} : o->initial;
    bool is_bool = config_setting_type(setting) == CONFIG_TYPE_BOOL;
    bool is_true = is_bool && config_setting_get_bool(setting);
    if (is_bool && o->type == SGC_OPTION_STRING) v = (sgc_value){.s = is_true ? "true" : "false"};
    if (is_bool && o->type == SGC_OPTION_CHOICE && !is_true && strncmp(o->choices, "no|", 3) == 0) v = (sgc_value){.i = 0};
    sgc_value_quoted(o, v, out);
}

static void wrong_type(file_reader *f, int row, const char *where, const config_setting_t *setting)
{
    const sgc_option *o = &sgc_options[row];
    sgc_str expected = {0}, example = {0};
    sgc_value_expected(o, &expected);
    print_example(o, setting, &example);
    sgc_problem(f->problems, row, where, "%s takes %s, not %s: write it like %s = %s;", o->name, expected.text, type_name(setting), o->key,
                example.text);
    sgc_str_free(&expected);
    sgc_str_free(&example);
}

/* The value of a setting, if it is of a type that the row takes. */
static bool take_value(file_reader *f, int row, const char *where, const config_setting_t *setting, sgc_value *v)
{
    const sgc_option *o = &sgc_options[row];
    int type = config_setting_type(setting);
    bool is_int = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    long long integer = type == CONFIG_TYPE_INT ? config_setting_get_int(setting) : is_int ? config_setting_get_int64(setting) : 0;
    *v = (sgc_value){0};
    if (type == CONFIG_TYPE_STRING) {
        const char *text = config_setting_get_string(setting);
        bool is_none = o->optional && (strcmp(text, "none") == 0 || strcmp(text, "None") == 0);
        if (is_none || o->type == SGC_OPTION_STRING || o->type == SGC_OPTION_CHOICE) {
            sgc_str why = {0};
            bool good = sgc_value_parse(o, text, v, &why);
            if (!good) sgc_problem(f->problems, row, where, "%s: %s", o->name, why.text);
            sgc_str_free(&why);
            return good;
        }
    } else if (o->type == SGC_OPTION_BOOL && type == CONFIG_TYPE_BOOL) {
        v->b = config_setting_get_bool(setting);
        return true;
    } else if (o->type == SGC_OPTION_INT && is_int) {
        v->i = integer;
        return true;
    } else if (o->type == SGC_OPTION_FLOAT && (is_int || type == CONFIG_TYPE_FLOAT)) {
        v->f = is_int ? (double)integer : config_setting_get_float(setting);
        return true;
    }
    wrong_type(f, row, where, setting);
    return false;
}

static void read_setting(file_reader *f, int row, const char *where, const config_setting_t *setting)
{
    const sgc_option *o = &sgc_options[row];
    sgc_value v;
    if (sgc_source_is_wide(f->source, (int)config_setting_source_line(setting), o->key)) {
        f->problems->is_bad[row] = true;
        return;
    }
    if (!take_value(f, row, where, setting, &v)) return;
    if (sgc_value_in_range(o, v)) {
        sgc_option_put(f->c, row, v, SGC_FROM_FILE, where);
        return;
    }
    sgc_str value = {0}, expected = {0};
    sgc_value_quoted(o, v, &value);
    sgc_value_expected(o, &expected);
    sgc_problem(f->problems, row, where, "%s = %s is out of range; write %s", o->name, value.text, expected.text);
    sgc_str_free(&value);
    sgc_str_free(&expected);
}

static void unknown_key(file_reader *f, const char *group, const char *key, const char *where)
{
    const char *advice;
    int near = sgc_option_nearest(group, key);
    if (strcmp(group, "training") == 0 && sgc_option_not_offered(key, &advice))
        sgc_problem(f->problems, -1, where, "%.100s is not offered in this version; %s", key, advice);
    else if (near < 0)
        sgc_problem(f->problems, -1, where, "group %s has no setting %.100s; `train --help %s` lists them", group, key, group);
    else if (strcmp(sgc_options[near].group, group) == 0)
        sgc_problem(f->problems, -1, where, "group %s has no setting %.100s: did you mean %s?", group, key, sgc_options[near].key);
    else
        sgc_problem(f->problems, -1, where, "group %s has no setting %.100s: did you mean %s of group %s?", group, key, sgc_options[near].key,
                    sgc_options[near].group);
}

static void unknown_group(file_reader *f, const char *name, bool is_group, const char *where)
{
    const char *near = sgc_option_nearest_group(name), *advice;
    int row = sgc_option_nearest(NULL, name);
    sgc_str groups = {0};
    for (int g = 0; g < SGC_N_GROUPS; g++) sgc_str_printf(&groups, "%s%s", g > 0 ? ", " : "", sgc_option_groups[g].name);
    if (near != NULL)
        sgc_problem(f->problems, -1, where, "there is no group %.100s: did you mean %s?", name, near);
    else if (!is_group && sgc_option_not_offered(name, &advice))
        sgc_problem(f->problems, -1, where, "%.100s is not offered in this version; %s", name, advice);
    else if (!is_group && row >= 0)
        sgc_problem(f->problems, -1, where, "%.100s stands outside of the groups: did you mean %s: { %s = ...; }?", name, sgc_options[row].group,
                    sgc_options[row].key);
    else
        sgc_problem(f->problems, -1, where, "there is no group %.100s; the groups are %s", name, groups.text);
    sgc_str_free(&groups);
}

static bool is_group_name(const char *name)
{
    for (int g = 0; g < SGC_N_GROUPS; g++)
        if (strcmp(sgc_option_groups[g].name, name) == 0) return true;
    return false;
}

static void read_group(file_reader *f, const config_setting_t *group)
{
    const char *name = config_setting_name(group);
    char *where = sgc_source_where(f->source, (int)config_setting_source_line(group));
    if (!is_group_name(name)) {
        unknown_group(f, name, config_setting_is_group(group), where);
    } else if (!config_setting_is_group(group)) {
        sgc_problem(f->problems, -1, where, "%s is a group: write %s: { ... };", name, name);
    } else {
        for (int i = 0; i < config_setting_length(group); i++) {
            const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
            const char *key = config_setting_name(setting);
            char *place = sgc_source_where(f->source, (int)config_setting_source_line(setting));
            int row = sgc_option_find(name, key);
            if (row >= 0) read_setting(f, row, place, setting);
            else unknown_key(f, name, key, place);
            free(place);
        }
    }
    free(where);
}

static void parse_error(const config_t *tree, const sgc_source *source, sgc_problems *p)
{
    char excerpt[64];
    const char *text = config_error_text(tree) != NULL ? config_error_text(tree) : "cannot be parsed";
    char *where = sgc_source_where(source, config_error_line(tree));
    sgc_source_excerpt(source, config_error_line(tree), excerpt);
    if (strstr(text, "duplicate") != NULL)
        sgc_problem(p, -1, where, "%s at `%s`: keep one of the two", text, excerpt);
    else
        sgc_problem(p, -1, where, "%s at `%s` or just before; the form is group: { name = value; }; with texts in double quotes", text, excerpt);
    free(where);
}

bool sgc_config_read_file(sgc_config *c, const char *path, sgc_problems *p)
{
    sgc_source source = {0};
    config_t tree;
    bool is_read = false;
    config_init(&tree);
    if (sgc_source_read(&source, path, p)) {
        if (config_read_string(&tree, source.text.text) == CONFIG_FALSE) {
            parse_error(&tree, &source, p);
        } else {
            file_reader f = {.c = c, .source = &source, .problems = p};
            is_read = true;
            const config_setting_t *root = config_root_setting(&tree);
            for (int i = 0; i < config_setting_length(root); i++) read_group(&f, config_setting_get_elem(root, (unsigned)i));
        }
    }
    config_destroy(&tree);
    sgc_source_free(&source);
    return is_read;
}

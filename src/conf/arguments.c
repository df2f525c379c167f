/* --key value, --key=value and bare --key of the command line into sgc_config. */
#include <stdlib.h>
#include <string.h>

#include "conf/option_impl.h"

/* As it is written on the command line: options of training need no group. */
static const char *argument_name(const sgc_option *o) { return strcmp(o->group, "training") == 0 ? o->key : o->name; }

static int find(const char *name) { return strchr(name, '.') != NULL ? sgc_option_find_name(name) : sgc_option_find("training", name); }

static bool is_option(const char *argument) { return strncmp(argument, "--", 2) == 0; }

/* "--data.block_size or --checkpoint.block_size": every row that has the key of the given one, if that is what was written. */
static void print_guess(int near, const char *written, sgc_str *out)
{
    const sgc_option *o = &sgc_options[near];
    sgc_str_printf(out, "--%s", argument_name(o));
    for (int row = near + 1; row < SGC_N_OPTIONS && strcmp(written, o->key) == 0; row++)
        if (strcmp(sgc_options[row].key, o->key) == 0) sgc_str_printf(out, " or --%s", argument_name(&sgc_options[row]));
}

static void unknown(const char *name, const char *where, sgc_problems *p)
{
    const char *advice;
    int negated = strncmp(name, "no_", 3) == 0 ? find(name + 3) : -1;
    int near = sgc_option_nearest(NULL, name);
    if (sgc_option_not_offered(strncmp(name, "training.", 9) == 0 ? name + 9 : name, &advice)) {
        sgc_problem(p, -1, where, "not offered in this version; %s", advice);
    } else if (negated >= 0 && sgc_options[negated].type == SGC_OPTION_BOOL) {
        sgc_problem(p, -1, where, "unknown option: write --%s false", name + 3);
    } else if (near >= 0) {
        sgc_str guess = {0};
        print_guess(near, name, &guess);
        sgc_problem(p, -1, where, "unknown option: did you mean %s?", guess.text);
        sgc_str_free(&guess);
    } else {
        sgc_problem(p, -1, where, "unknown option; `train --help` lists them");
    }
}

static void take(sgc_config *c, int row, const char *text, const char *where, sgc_problems *p)
{
    const sgc_option *o = &sgc_options[row];
    sgc_str why = {0}, expected = {0};
    sgc_value v;
    sgc_value_expected(o, &expected);
    if (!sgc_value_parse(o, text, &v, &why)) sgc_problem(p, row, where, "%s", why.text);
    else if (!sgc_value_in_range(o, v)) sgc_problem(p, row, where, "out of range; write %s", expected.text);
    else sgc_option_put(c, row, v, SGC_FROM_COMMAND_LINE, "command line");
    sgc_str_free(&why);
    sgc_str_free(&expected);
}

static void stray(const char *argument, sgc_problems *p)
{
    int near = *argument == '-' ? sgc_option_nearest(NULL, argument + 1) : -1;
    char where[120];
    snprintf(where, sizeof(where), "%.100s", *argument == '\0' ? "\"\"" : argument);
    if (near >= 0) sgc_problem(p, -1, where, "options begin with two dashes: did you mean --%s?", argument_name(&sgc_options[near]));
    else sgc_problem(p, -1, where, "not expected here; settings are written --NAME VALUE or --NAME=VALUE");
}

void sgc_config_read_arguments(sgc_config *c, int n_args, char *const *args, sgc_problems *p)
{
    for (int i = 0; i < n_args; i++) {
        const char *argument = args[i];
        if (!is_option(argument) || argument[2] == '\0' || argument[2] == '=') {
            stray(argument, p);
            continue;
        }
        sgc_str name = {0}, where = {0};
        const char *equals = strchr(argument, '=');
        const char *text = equals != NULL ? equals + 1 : NULL;
        sgc_str_printf(&name, "%.*s", equals != NULL ? (int)(equals - argument - 2) : (int)strlen(argument + 2), argument + 2);
        if (text == NULL && i + 1 < n_args && !is_option(args[i + 1])) text = args[++i];
        sgc_str_printf(&where, "--%.100s%s%.100s", name.text, equals != NULL ? "=" : text != NULL ? " " : "", text != NULL ? text : "");
        int row = find(name.text);
        if (row < 0) {
            unknown(name.text, where.text, p);
        } else if (text == NULL && sgc_options[row].type != SGC_OPTION_BOOL) {
            sgc_str expected = {0};
            sgc_value_expected(&sgc_options[row], &expected);
            sgc_problem(p, row, where.text, "the value is missing; write %s", expected.text);
            sgc_str_free(&expected);
        } else {
            take(c, row, text != NULL ? text : "true", where.text, p);
        }
        sgc_str_free(&name);
        sgc_str_free(&where);
    }
}

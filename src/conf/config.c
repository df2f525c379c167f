#include "conf/config.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf/option_impl.h"

enum { SHOWN_BYTES = SGC_ERR_BYTES - 256 }; /* beside the line of the counts */

void sgc_problem(sgc_problems *p, int row, const char *where, const char *format, ...)
{
    char text[600];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (row >= 0) p->is_bad[row] = true;
    p->n++;
    if (p->lines.n + strlen(text) + 300 > SHOWN_BYTES) return;
    sgc_str_printf(&p->lines, "%s%.300s: %s", p->n_shown > 0 ? "\n  " : "", where, text);
    p->n_shown++;
}

static sgc_status report(const sgc_problems *p)
{
    if (p->n == 0) return SGC_OK;
    if (p->n == 1) return sgc_err(SGC_ECONFIG, "%s", p->lines.text);
    if (p->n == p->n_shown) return sgc_err(SGC_ECONFIG, "%d errors in the settings:\n  %s", p->n, p->lines.text);
    return sgc_err(SGC_ECONFIG, "%d errors in the settings:\n  %s\n  and %d more", p->n, p->lines.text, p->n - p->n_shown);
}

/* All rows at their defaults. */
static sgc_status start(sgc_config *c)
{
    *c = (sgc_config){0};
    c->origins = calloc(1, sizeof(*c->origins));
    if (c->origins == NULL) return sgc_err(SGC_ENOMEM, "no memory for the settings");
    for (int row = 0; row < SGC_N_OPTIONS; row++) sgc_option_put(c, row, sgc_options[row].initial, SGC_FROM_DEFAULT, NULL);
    return SGC_OK;
}

/* As the Trainer: output_dir may begin with the user's home directory. */
static void expand_home(sgc_config *c)
{
    const int row = SGC_ROW_training_output_dir;
    const char *dir = c->training.output_dir, *home = getenv("HOME");
    if (dir == NULL || home == NULL || dir[0] != '~' || (dir[1] != '/' && dir[1] != '\0')) return;
    sgc_str path = {0}, origin = {0};
    sgc_str_printf(&path, "%s%s", home, dir + 1);
    sgc_str_printf(&origin, "%s", c->origins->text[row]);
    sgc_option_put(c, row, (sgc_value){.s = path.text}, c->origins->kind[row], origin.text);
    sgc_str_free(&path);
    sgc_str_free(&origin);
}

static sgc_status load(sgc_config *c, const char *file, int n_args, char *const *args, bool trains)
{
    sgc_problems problems = {0};
    sgc_status st = start(c);
    if (st != SGC_OK) return st;
    bool is_read = file == NULL || sgc_config_read_file(c, file, &problems);
    sgc_config_read_arguments(c, n_args, args, &problems);
    sgc_config_check(c, &problems);
    if (trains && is_read) sgc_config_check_to_train(c, &problems); /* else what is missing may stand there */
    expand_home(c);
    st = report(&problems);
    sgc_str_free(&problems.lines);
    if (st != SGC_OK) sgc_config_free(c);
    return st;
}

sgc_status sgc_config_load(sgc_config *c, const char *file, int n_args, char *const *args) { return load(c, file, n_args, args, false); }

sgc_status sgc_config_load_to_train(sgc_config *c, const char *file, int n_args, char *const *args) { return load(c, file, n_args, args, true); }

void sgc_config_free(sgc_config *c)
{
    if (c->origins != NULL) {
        for (int row = 0; row < SGC_N_OPTIONS; row++) {
            free(c->origins->text[row]);
            free(c->origins->string[row]);
        }
        free(c->origins);
    }
    *c = (sgc_config){0};
}

static sgc_source_kind kind_of(const char *origin)
{
    if (strcmp(origin, "default") == 0) return SGC_FROM_DEFAULT;
    return strcmp(origin, "command line") == 0 ? SGC_FROM_COMMAND_LINE : SGC_FROM_PROGRAM;
}

sgc_status sgc_config_set(sgc_config *c, const char *name, const char *value, const char *origin)
{
    sgc_status st = SGC_OK;
    sgc_str why = {0}, expected = {0};
    sgc_value v;
    int row = sgc_option_find_name(name);
    if (row < 0) return sgc_err(SGC_EARG, "there is no setting %s", name);
    const sgc_option *o = &sgc_options[row];
    sgc_value_expected(o, &expected);
    if (!sgc_value_parse(o, value, &v, &why)) st = sgc_err(SGC_ECONFIG, "%s (%s): %s", name, origin, why.text);
    else if (!sgc_value_in_range(o, v)) st = sgc_err(SGC_ECONFIG, "%s = %s (%s) is out of range; write %s", name, value, origin, expected.text);
    else sgc_option_put(c, row, v, kind_of(origin), origin);
    sgc_str_free(&why);
    sgc_str_free(&expected);
    return st;
}

bool sgc_config_is_on_command_line(const sgc_config *c, const char *name)
{
    int row = sgc_option_find_name(name);
    return row >= 0 && c->origins->kind[row] == SGC_FROM_COMMAND_LINE;
}

const char *sgc_config_origin(const sgc_config *c, const char *name)
{
    int row = sgc_option_find_name(name);
    return row < 0 || c->origins->text[row] == NULL ? "default" : c->origins->text[row];
}

/* --help of the options and their part of the manual page. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "conf/option_impl.h"

enum { DEFAULT_WIDTH = 100, LEAST_WIDTH = 40, INDENT = 6 };

static int width_of(FILE *out)
{
    struct winsize size = {0};
    int fd = fileno(out);
    if (fd < 0 || ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return DEFAULT_WIDTH;
    return size.ws_col < LEAST_WIDTH ? LEAST_WIDTH : size.ws_col;
}

/* Words of a text in lines of at most width columns, each after `indent` blanks. */
static void print_wrapped(FILE *out, const char *text, int indent, int width)
{
    int column = 0;
    while (*text != '\0') {
        int n = (int)strcspn(text, " ");
        if (column > 0 && column + 1 + n > width) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0) column = fprintf(out, "%*s%.*s", indent, "", n, text);
        else column += fprintf(out, " %.*s", n, text);
        text += n;
        text += strspn(text, " ");
    }
    if (column > 0) fputc('\n', out);
}

static const char *type_word(const sgc_option *o)
{
    switch (o->type) {
    case SGC_OPTION_BOOL: return "bool";
    case SGC_OPTION_INT: return "int";
    case SGC_OPTION_FLOAT: return "float";
    case SGC_OPTION_STRING: return "text";
    case SGC_OPTION_CHOICE: return "name";
    }
    return "";
}

static void print_argument(const sgc_option *o, sgc_str *out)
{
    sgc_str_printf(out, "--%s", strcmp(o->group, "training") == 0 ? o->key : o->name);
}

/* "a, b or c; what it is for" */
static void print_meaning(const sgc_option *o, sgc_str *out)
{
    char name[64], next[64];
    if (o->type == SGC_OPTION_CHOICE) {
        bool more = sgc_option_choice(o, 0, name);
        for (int64_t i = 1; more; i++) {
            more = sgc_option_choice(o, i, next);
            bool is_last = !more || !sgc_option_choice(o, i + 1, (char[64]){0});
            sgc_str_printf(out, "%s%s", name, !more ? "; " : is_last ? " or " : ", ");
            strcpy(name, next);
        }
    }
    sgc_str_printf(out, "%s", o->help);
}

enum { N_COLUMNS = 5 };

/* Owned by the caller. */
static void cells_of(const sgc_option *o, sgc_str cells[N_COLUMNS])
{
    print_argument(o, &cells[0]);
    sgc_str_printf(&cells[1], "%s", type_word(o));
    sgc_value_plain(o, o->initial, &cells[2]);
    sgc_value_range(o, &cells[3]);
    sgc_str_printf(&cells[4], "%s", o->unit);
}

/* One line, without blanks at its end. */
static void print_cells(FILE *out, const char *const cells[N_COLUMNS], const int widths[N_COLUMNS])
{
    sgc_str line = {0};
    for (int k = 0; k < N_COLUMNS; k++) sgc_str_printf(&line, "  %-*s", widths[k], cells[k] != NULL ? cells[k] : "");
    while (line.n > 0 && line.text[line.n - 1] == ' ') line.text[--line.n] = '\0';
    fprintf(out, "%s\n", line.text);
    sgc_str_free(&line);
}

static void print_group(FILE *out, const sgc_option_group *group, int width)
{
    static const char *const titles[N_COLUMNS] = {"OPTION", "TYPE", "DEFAULT", "RANGE", "UNIT"};
    sgc_str cells[SGC_N_OPTIONS][N_COLUMNS] = {{{0}}}, title = {0};
    int widths[N_COLUMNS];
    for (int k = 0; k < N_COLUMNS; k++) widths[k] = (int)strlen(titles[k]);
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        if (strcmp(sgc_options[row].group, group->name) != 0) continue;
        cells_of(&sgc_options[row], cells[row]);
        for (int k = 0; k < N_COLUMNS; k++)
            if ((int)cells[row][k].n > widths[k]) widths[k] = (int)cells[row][k].n;
    }
    sgc_str_printf(&title, "%s: %s", group->name, group->help);
    print_wrapped(out, title.text, 0, width);
    sgc_str_free(&title);
    fputc('\n', out);
    print_cells(out, titles, widths);
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        if (strcmp(sgc_options[row].group, group->name) != 0) continue;
        sgc_str meaning = {0};
        const char *texts[N_COLUMNS];
        for (int k = 0; k < N_COLUMNS; k++) texts[k] = cells[row][k].text;
        print_cells(out, texts, widths);
        print_meaning(&sgc_options[row], &meaning);
        print_wrapped(out, meaning.text, INDENT, width);
        sgc_str_free(&meaning);
        for (int k = 0; k < N_COLUMNS; k++) sgc_str_free(&cells[row][k]);
    }
}

static void print_overview(FILE *out, int width)
{
    for (int g = 0; g < SGC_N_GROUPS; g++) {
        sgc_str title = {0}, keys = {0};
        sgc_str_printf(&title, "%s: %s", sgc_option_groups[g].name, sgc_option_groups[g].help);
        for (int row = 0; row < SGC_N_OPTIONS; row++)
            if (strcmp(sgc_options[row].group, sgc_option_groups[g].name) == 0) sgc_str_printf(&keys, "%s ", sgc_options[row].key);
        print_wrapped(out, title.text, 0, width);
        print_wrapped(out, keys.text, INDENT, width);
        sgc_str_free(&title);
        sgc_str_free(&keys);
    }
    fputc('\n', out);
    print_wrapped(out, "In a file: group: { name = value; }; on the command line: --group.name VALUE, for training --name VALUE. "
                       "--help GROUP shows types, defaults and ranges.", 0, width);
}

sgc_status sgc_config_help(FILE *out, const char *group)
{
    if (group == NULL) {
        print_overview(out, width_of(out));
        return SGC_OK;
    }
    for (int g = 0; g < SGC_N_GROUPS; g++) {
        if (strcmp(sgc_option_groups[g].name, group) != 0) continue;
        print_group(out, &sgc_option_groups[g], width_of(out));
        return SGC_OK;
    }
    sgc_str groups = {0};
    for (int g = 0; g < SGC_N_GROUPS; g++) sgc_str_printf(&groups, "%s%s", g > 0 ? ", " : "", sgc_option_groups[g].name);
    sgc_status st = sgc_err(SGC_ECONFIG, "there is no group %.100s; write --help with one of %s", group, groups.text);
    sgc_str_free(&groups);
    return st;
}

/* Text for man(7): no character is taken for a request or an escape, dashes stay dashes. */
static void print_escaped(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'') fputs("\\&", out);
    for (; *text != '\0'; text++) {
        if (*text == '\\') fputs("\\e", out);
        else if (*text == '-') fputs("\\-", out);
        else if (*text == '"') fputs("\\(dq", out);
        else fputc(*text, out);
    }
}

void sgc_config_man(FILE *out)
{
    for (int row = 0; row < SGC_N_OPTIONS; row++) {
        const sgc_option *o = &sgc_options[row];
        sgc_str argument = {0}, text = {0};
        for (int g = 0; g < SGC_N_GROUPS; g++) {
            if (strcmp(sgc_option_groups[g].name, o->group) != 0 || (row > 0 && strcmp(o->group, sgc_options[row - 1].group) == 0)) continue;
            fprintf(out, ".SS \"Group %s\"\n", o->group);
            print_escaped(out, sgc_option_groups[g].help);
            fputs(".\n", out);
        }
        print_argument(o, &argument);
        fputs(".TP\n.BI ", out);
        print_escaped(out, argument.text);
        fprintf(out, " \" %s\"\n", type_word(o));
        print_meaning(o, &text);
        sgc_str_printf(&text, " (default ");
        sgc_value_plain(o, o->initial, &text);
        if (o->type == SGC_OPTION_INT || o->type == SGC_OPTION_FLOAT) {
            sgc_str_printf(&text, "; range ");
            sgc_value_range(o, &text);
        }
        sgc_str_printf(&text, "%s%s).", *o->unit != '\0' ? "; in " : "", o->unit);
        print_escaped(out, text.text);
        fputc('\n', out);
        sgc_str_free(&argument);
        sgc_str_free(&text);
    }
}

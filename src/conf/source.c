#include "conf/source_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 10, MAX_BYTES = 16 << 20 };

/* One file on its way into the text. */
typedef struct reader {
    sgc_source *s;
    sgc_problems *problems;
    const struct reader *parent;
    const char *path;
    int file, depth;
    const char *p;             /* next character                          */
    int line;
    char name[128];            /* last name seen, and its line in the text */
    int name_line;
} reader;

static bool read_into(sgc_source *s, sgc_problems *problems, const char *path, const char *where, const reader *parent);

static void *must(void *memory)
{
    if (memory == NULL) abort(); /* as sgc_str does: a few kilobytes cannot be had */
    return memory;
}

static void add_line(sgc_source *s, int file, int line)
{
    if (s->n_lines == s->n_lines_capacity) {
        s->n_lines_capacity = s->n_lines_capacity ? 2 * s->n_lines_capacity : 256;
        s->lines = must(realloc(s->lines, (size_t)s->n_lines_capacity * sizeof(*s->lines)));
    }
    s->lines[s->n_lines++] = (sgc_source_line){file, line};
}

static int add_file(sgc_source *s, const char *path)
{
    s->files = must(realloc(s->files, (size_t)(s->n_files + 1) * sizeof(*s->files)));
    s->files[s->n_files] = must(strdup(path));
    return s->n_files++;
}

static void fail(const reader *r, const char *message)
{
    sgc_str where = {0};
    sgc_str_printf(&where, "%s:%d", r->path, r->line);
    sgc_problem(r->problems, -1, where.text, "%s", message);
    sgc_str_free(&where);
}

/* Take n characters over into the text as they are. */
static void take(reader *r, size_t n)
{
    sgc_str_append(&r->s->text, r->p, n);
    for (const char *end = r->p + n; r->p < end; r->p++)
        if (*r->p == '\n') add_line(r->s, r->file, ++r->line);
}

static bool take_string(reader *r)
{
    const char *p = r->p + 1;
    while (*p != '"' && *p != '\0') p += *p == '\\' && p[1] != '\0' ? 2 : 1;
    if (*p == '\0') {
        fail(r, "this text has no closing quote");
        return false;
    }
    take(r, (size_t)(p + 1 - r->p));
    return true;
}

static bool take_comment(reader *r)
{
    if (r->p[0] == '#' || r->p[1] == '/') {
        take(r, strcspn(r->p, "\n"));
        return true;
    }
    const char *end = strstr(r->p + 2, "*/");
    if (end == NULL) {
        fail(r, "this comment has no closing */");
        return false;
    }
    take(r, (size_t)(end + 2 - r->p));
    return true;
}

static void take_name(reader *r)
{
    size_t n = 1;
    while (isalnum((unsigned char)r->p[n]) || (r->p[n] != '\0' && strchr("-_*", r->p[n]) != NULL)) n++;
    snprintf(r->name, sizeof(r->name), "%.*s", (int)(n < 120 ? n : 120), r->p);
    r->name_line = r->s->n_lines;
    take(r, n);
}

static void record_wide(reader *r, const char *digits, bool fits_64)
{
    sgc_source *s = r->s;
    s->wide = must(realloc(s->wide, (size_t)(s->n_wide + 1) * sizeof(*s->wide)));
    s->wide[s->n_wide++] = (sgc_wide_number){r->name_line, must(strdup(r->name))};
    sgc_str message = {0};
    if (fits_64) sgc_str_printf(&message, "%s = %.40s needs the suffix L: write %.40sL", r->name, digits, digits);
    else sgc_str_printf(&message, "%s = %.40s does not fit 64 bits", r->name, digits);
    fail(r, message.text);
    sgc_str_free(&message);
}

/* [-+]digits, [-+]digits with a fraction or exponent, 0xdigits; L or LL at the end of integers. */
static void take_number(reader *r)
{
    const char *p = r->p;
    bool is_float = false, is_hex = false, is_long = false;
    if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && isxdigit((unsigned char)p[2])) {
        is_hex = true;
        for (p += 2; isxdigit((unsigned char)*p);) p++;
    } else {
        if (*p == '+' || *p == '-') p++;
        while (isdigit((unsigned char)*p)) p++;
        if (*p == '.') is_float = true;
        for (p += is_float; is_float && isdigit((unsigned char)*p);) p++;
        const char *e = p + 1 + (p[0] != '\0' && (p[1] == '+' || p[1] == '-'));
        if ((*p == 'e' || *p == 'E') && isdigit((unsigned char)*e)) {
            is_float = true;
            for (p = e; isdigit((unsigned char)*p);) p++;
        }
    }
    size_t n = (size_t)(p - r->p);
    if (!is_float && *p == 'L') is_long = true, p += p[1] == 'L' ? 2 : 1;
    if (!is_float && r->name[0] != '\0') {
        char *digits = must(strndup(r->p, n));
        errno = 0;
        long long value = strtoll(digits, NULL, is_hex ? 16 : 10);
        bool fits_64 = errno != ERANGE;
        if (!fits_64 || (!is_long && (value > INT32_MAX || value < INT32_MIN))) record_wide(r, digits, fits_64);
        free(digits);
    }
    take(r, (size_t)(p - r->p));
}

/* Path in the quotes of an @include line, NULL if the line is none. *n: characters of the line up to the closing quote. */
static char *include_path(const char *line, size_t *n)
{
    const char *p = line + strspn(line, " \t");
    if (strncmp(p, "@include", 8) != 0) return NULL;
    p += 8;
    size_t n_blanks = strspn(p, " \t");
    if (n_blanks == 0 || p[n_blanks] != '"') return NULL;
    p += n_blanks + 1;
    char *path = must(malloc(strcspn(p, "\n") + 1));
    size_t k = 0;
    for (; *p != '"' && *p != '\n' && *p != '\0'; p++) {
        if (*p == '\\' && (p[1] == '\\' || p[1] == '"')) p++;
        path[k++] = *p;
    }
    path[k] = '\0';
    if (*p != '"') path[0] = '\0'; /* no closing quote: as bad as no name */
    *n = (size_t)(p + (*p == '"') - line);
    return path;
}

static bool include(reader *r, const char *path)
{
    sgc_source *s = r->s;
    bool good = false;
    sgc_str full = {0}, where = {0};
    const char *slash = strrchr(r->path, '/');
    if (*path == '\0') {
        fail(r, "write @include \"FILE\"");
        return false;
    }
    if (*path == '/' || slash == NULL) sgc_str_printf(&full, "%s", path);
    else sgc_str_printf(&full, "%.*s/%s", (int)(slash - r->path), r->path, path);
    sgc_str_printf(&where, "%s:%d: %s", r->path, r->line, full.text);
    bool is_loop = r->depth >= MAX_DEPTH;
    for (const reader *up = r; up != NULL; up = up->parent) is_loop = is_loop || strcmp(up->path, full.text) == 0;
    if (is_loop) {
        fail(r, "@include comes back to a file that is being read, or is nested more than ten deep");
    } else {
        s->n_lines--; /* the line of the directive itself: the included file starts there */
        good = read_into(s, r->problems, full.text, where.text, r);
        sgc_str_printf(&s->text, "\n");
        add_line(s, r->file, r->line);
    }
    sgc_str_free(&full);
    sgc_str_free(&where);
    return good;
}

static bool read_all(reader *r)
{
    bool at_line_start = true;
    while (*r->p != '\0') {
        size_t n;
        char *path = at_line_start ? include_path(r->p, &n) : NULL;
        if (path != NULL) {
            bool good = include(r, path);
            free(path);
            if (!good) return false;
            r->p += n;
            at_line_start = false;
            continue;
        }
        char c = *r->p, next = r->p[1];
        at_line_start = c == '\n';
        if (c == '"') {
            if (!take_string(r)) return false;
        } else if (c == '#' || (c == '/' && (next == '/' || next == '*'))) {
            if (!take_comment(r)) return false;
        } else if (isalpha((unsigned char)c) || c == '*') {
            take_name(r);
        } else if (isdigit((unsigned char)c) || c == '.' || ((c == '+' || c == '-') && (isdigit((unsigned char)next) || next == '.'))) {
            take_number(r);
        } else {
            take(r, 1);
        }
    }
    return true;
}

/* The bytes of a file, NULL after a problem. where: how a problem names the file. */
static char *load(const char *path, const char *where, sgc_problems *problems)
{
    struct stat info;
    char *bytes = NULL;
    size_t n = 0;
    if (stat(path, &info) != 0 || access(path, R_OK) != 0) {
        sgc_problem(problems, -1, where, "cannot be read: %s", strerror(errno));
    } else if (S_ISDIR(info.st_mode)) {
        sgc_problem(problems, -1, where, "is a directory: give a configuration file");
    } else if ((!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode)) || info.st_size > MAX_BYTES) {
        sgc_problem(problems, -1, where, "is no file of text of at most %d MiB: give a configuration file", MAX_BYTES >> 20);
    } else if (sgc_read_file(path, &bytes, &n) != SGC_OK) {
        sgc_problem(problems, -1, where, "%s", sgc_err_message());
        sgc_err_clear();
    } else if (memchr(bytes, '\0', n) != NULL) {
        sgc_problem(problems, -1, where, "holds zero bytes: give a configuration file");
        free(bytes);
        bytes = NULL;
    }
    return bytes;
}

static bool read_into(sgc_source *s, sgc_problems *problems, const char *path, const char *where, const reader *parent)
{
    char *bytes = load(path, where, problems);
    if (bytes == NULL) return false;
    reader r = {.s = s, .problems = problems, .parent = parent, .path = path, .line = 1, .depth = parent == NULL ? 1 : parent->depth + 1};
    r.file = add_file(s, path);
    r.p = strncmp(bytes, "\xef\xbb\xbf", 3) == 0 ? bytes + 3 : bytes; /* byte order mark of some editors */
    add_line(s, r.file, 1);
    bool good = read_all(&r);
    free(bytes);
    return good;
}

bool sgc_source_read(sgc_source *s, const char *path, sgc_problems *p)
{
    sgc_str_printf(&s->text, "%s", "");
    return read_into(s, p, path, path, NULL);
}

void sgc_source_free(sgc_source *s)
{
    for (int i = 0; i < s->n_files; i++) free(s->files[i]);
    for (int i = 0; i < s->n_wide; i++) free(s->wide[i].name);
    free(s->files);
    free(s->lines);
    free(s->wide);
    sgc_str_free(&s->text);
}

char *sgc_source_where(const sgc_source *s, int line)
{
    if (line > s->n_lines) line = s->n_lines;
    if (line < 1) line = 1;
    sgc_str where = {0};
    sgc_str_printf(&where, "%s:%d", s->files[s->lines[line - 1].file], s->lines[line - 1].line);
    return where.text;
}

bool sgc_source_is_wide(const sgc_source *s, int line, const char *name)
{
    for (int i = 0; i < s->n_wide; i++)
        if (s->wide[i].line == line && strcmp(s->wide[i].name, name) == 0) return true;
    return false;
}

void sgc_source_excerpt(const sgc_source *s, int line, char out[64])
{
    const char *p = s->text.text;
    for (; line > 1 && p != NULL; line--) {
        p = strchr(p, '\n');
        if (p != NULL) p++;
    }
    out[0] = '\0';
    if (p == NULL) return;
    p += strspn(p, " \t");
    size_t n = strcspn(p, "\r\n");
    snprintf(out, 64, "%.*s%s", (int)(n > 57 ? 57 : n), p, n > 57 ? "..." : "");
    for (char *c = out; *c != '\0'; c++)
        if (iscntrl((unsigned char)*c)) *c = '?';
}

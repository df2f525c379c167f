/* Inside conf/: the rows of options.def as data, values on their way in and out, and the list of what is wrong with them. */
#ifndef SGC_CONF_OPTION_IMPL_H
#define SGC_CONF_OPTION_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"
#include "conf/config.h"

/* SGC_ROW_training_seed, ...: the number of each row. */
enum {
#define BOOL(g, k, d, h) SGC_ROW_##g##_##k,
#define INT(g, k, d, lo, hi, u, h) SGC_ROW_##g##_##k,
#define FLOAT(g, k, d, lo, hi, u, h) SGC_ROW_##g##_##k,
#define STRING(g, k, d, h) SGC_ROW_##g##_##k,
#define CHOICE(g, k, d, c, h) SGC_ROW_##g##_##k,
#define OPTINT(g, k, lo, hi, u, h) SGC_ROW_##g##_##k,
#define OPTFLOAT(g, k, lo, hi, u, h) SGC_ROW_##g##_##k,
#define OPTFLOAT_DEFAULT(g, k, d, lo, hi, u, h) SGC_ROW_##g##_##k,
#define OPTBOOL(g, k, h) SGC_ROW_##g##_##k,
#include "conf/options.def"
    SGC_N_OPTIONS
};
#undef BOOL
#undef INT
#undef FLOAT
#undef STRING
#undef CHOICE
#undef OPTINT
#undef OPTFLOAT
#undef OPTFLOAT_DEFAULT
#undef OPTBOOL

typedef enum sgc_option_type { SGC_OPTION_BOOL, SGC_OPTION_INT, SGC_OPTION_FLOAT, SGC_OPTION_STRING, SGC_OPTION_CHOICE } sgc_option_type;

typedef struct sgc_value {
    bool is_none;
    bool b;
    int64_t i;     /* INT; CHOICE: position in the list */
    double f;
    const char *s; /* borrowed                          */
} sgc_value;

typedef struct sgc_option {
    const char *group, *key, *name; /* "training", "seed", "training.seed"       */
    sgc_option_type type;
    bool optional;                  /* may be none                               */
    size_t offset, has_offset;      /* in sgc_config; has_offset where optional, except for strings, which are NULL */
    sgc_value initial;
    int64_t int_min, int_max;
    double float_min, float_max;
    const char *choices;            /* "a|b|c"                                   */
    const char *unit, *help;        /* unit: "" for none                         */
} sgc_option;

extern const sgc_option sgc_options[SGC_N_OPTIONS];

#define SGC_N_GROUPS 7
typedef struct sgc_option_group { const char *name, *help; } sgc_option_group;
extern const sgc_option_group sgc_option_groups[SGC_N_GROUPS];

int sgc_option_find(const char *group, const char *key); /* -1: none */
int sgc_option_find_name(const char *name);              /* "training.seed"; -1: none */
/* Row that a misspelt name means, -1: none is near. group: where it stands, NULL: anywhere. */
int sgc_option_nearest(const char *group, const char *key);
const char *sgc_option_nearest_group(const char *name);  /* NULL: none */
/* Is this an argument of the Trainer that is not offered yet? advice: what to do instead. */
bool sgc_option_not_offered(const char *key, const char **advice);
/* The n-th of the names in "a|b|c"; false past the end. */
bool sgc_option_choice(const sgc_option *o, int64_t n, char out[64]);
/* Distance below which a name counts as misspelt: a third of its letters. */
bool sgc_option_is_near(const char *name, int distance);

/* Where a value is from. */
typedef enum sgc_source_kind { SGC_FROM_DEFAULT, SGC_FROM_FILE, SGC_FROM_COMMAND_LINE, SGC_FROM_PROGRAM } sgc_source_kind;

struct sgc_config_origins {
    sgc_source_kind kind[SGC_N_OPTIONS];
    char *text[SGC_N_OPTIONS];   /* owned; NULL: default                           */
    char *string[SGC_N_OPTIONS]; /* owned: what the STRING fields of the config point to */
};

sgc_value sgc_option_get(const sgc_config *c, int row);
void sgc_option_put(sgc_config *c, int row, sgc_value v, sgc_source_kind kind, const char *origin);

/* Text of the command line to a value. False with the reason in why: "3e-4x" is no number; write a number from 0 to 1.
 * Ranges are not looked at. v->s is text itself. */
bool sgc_value_parse(const sgc_option *o, const char *text, sgc_value *v, sgc_str *why);
bool sgc_value_in_range(const sgc_option *o, sgc_value v);
void sgc_value_plain(const sgc_option *o, sgc_value v, sgc_str *out);   /* as on the command line: linear    */
void sgc_value_quoted(const sgc_option *o, sgc_value v, sgc_str *out);  /* as in a file: "linear"            */
void sgc_value_json(const sgc_option *o, sgc_value v, sgc_str *out);    /* none is null                      */
void sgc_value_expected(const sgc_option *o, sgc_str *out);             /* "an integer from 0 to 3"          */
void sgc_value_range(const sgc_option *o, sgc_str *out);                /* "0 .. 3", "" where there is none  */

/* Everything that is wrong with a configuration, a line each. */
typedef struct sgc_problems {
    sgc_str lines;
    int n, n_shown;
    bool is_bad[SGC_N_OPTIONS]; /* rows whose value could not be taken: not looked at again */
} sgc_problems;

/* row -1: of no row. where: "conf/x.cfg:12" or "--seed x". */
void sgc_problem(sgc_problems *p, int row, const char *where, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The three readers, and the check of what only values together can violate. They record problems and go on. */
bool sgc_config_read_file(sgc_config *c, const char *path, sgc_problems *p); /* false: nothing of it could be read */
void sgc_config_read_arguments(sgc_config *c, int n_args, char *const *args, sgc_problems *p);
void sgc_config_check(const sgc_config *c, sgc_problems *p);
void sgc_config_check_to_train(const sgc_config *c, sgc_problems *p); /* what else a training needs */

#endif

/* stagecoach ckpt: what its commands share. */
#ifndef SGC_CLI_CKPT_IMPL_H
#define SGC_CLI_CKPT_IMPL_H

#include <jansson.h>

#include "ckpt/inspect.h"
#include "cli/cli.h"

/* The command line of any of them; a row of the table in ckpt.c says what each accepts. */
typedef struct sgc_ckpt_arguments {
    int n_paths;
    char *const *paths;
    bool json, yes, force, weights_only, tensors_only;
    bool has_dtype;
    sgc_dtype dtype;
    int64_t shards;           /* 0: not given  */
    int64_t save_total_limit, keep_every; /* -1: not given */
} sgc_ckpt_arguments;

/* differs: exit status 1 without an error message. Those that share their work are collective, the others run on rank 0. */
sgc_status sgc_cli_ckpt_ls(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_show(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_verify(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_diff(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_convert(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_rm(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);
sgc_status sgc_cli_ckpt_prune(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs);

json_t *sgc_cli_string(const char *text);       /* as JSON must be UTF-8: each byte that is not becomes U+FFFD */
json_t *sgc_cli_number(double x);               /* what is not finite: null, as in metrics.jsonl */
json_t *sgc_cli_field(const sgc_ckpt_field *f, const void *s); /* a field of the struct at s     */
void sgc_cli_field_text(const sgc_ckpt_field *f, const void *s, char text[128]);
json_t *sgc_cli_setting(const sgc_config *c, int row); /* of its own type; none is null */
sgc_status sgc_cli_print_json(json_t *root);    /* takes over the reference                      */

/* Cells of a table: columns as wide as their widest cell, numbers to the right. */
typedef struct sgc_table { int n_columns, n_cells; char **cells; } sgc_table; /* cells: owned, row after row */
void sgc_table_add(sgc_table *t, const char *format, ...) __attribute__((format(printf, 2, 3))); /* the next cell; out of memory aborts */
/* sides: one letter per column, l or r. */
void sgc_table_print(const sgc_table *t, const char *sides);
void sgc_table_free(sgc_table *t);

#endif

/* stagecoach ckpt ls: what checkpoints a run has. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt_impl.h"

static const char *state_of(const sgc_ckpt_entry *e, const char *best)
{
    switch (e->status) {
    case SGC_CKPT_COMPLETE: return strcmp(e->name, best) == 0 ? "best" : "complete";
    case SGC_CKPT_DAMAGED: return "damaged";
    case SGC_CKPT_NEWER: return "newer format";
    case SGC_CKPT_PARTIAL: return "partial";
    case SGC_CKPT_PART: return "part";
    case SGC_CKPT_OLD: break;
    }
    return "old";
}

/* NaN: not known. */
static void add_number(sgc_table *t, double x)
{
    if (isnan(x))
        sgc_table_add(t, "-");
    else
        sgc_table_add(t, "%.6g", x);
}

static void add_row(sgc_table *t, const sgc_ckpt_entry *e, const char *best)
{
    const sgc_ckpt_info *i = &e->info;
    const char *state = state_of(e, best);
    bool is_known = i->id[0];
    char size[32];
    add_number(t, e->step < 0 ? NAN : (double)e->step);
    sgc_table_add(t, "%s", is_known ? i->date : "-");
    sgc_table_add(t, "%s", sgc_format_bytes((double)e->bytes, size));
    add_number(t, is_known ? i->world_size : NAN);
    add_number(t, is_known ? i->stage : NAN);
    sgc_table_add(t, "%s", is_known ? i->dtype : "-");
    add_number(t, is_known ? i->loss : NAN);
    add_number(t, is_known ? i->eval_loss : NAN);
    if (e->status == SGC_CKPT_DAMAGED || e->status == SGC_CKPT_NEWER || e->status == SGC_CKPT_PART)
        sgc_table_add(t, "%s: %s", state, e->problem);
    else if (e->status == SGC_CKPT_PARTIAL || e->status == SGC_CKPT_OLD)
        sgc_table_add(t, "%s: %s", state, e->name);
    else
        sgc_table_add(t, "%s%s", state, e->weights_only ? ", weights only" : "");
}

static json_t *to_json(const sgc_ckpt_entry *e, const char *best)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", sgc_cli_string(e->name));
    json_object_set_new(o, "step", e->step < 0 ? json_null() : json_integer(e->step));
    json_object_set_new(o, "bytes", json_integer(e->bytes));
    json_object_set_new(o, "state", sgc_cli_string(state_of(e, best)));
    if (e->problem[0]) json_object_set_new(o, e->info.id[0] && e->status != SGC_CKPT_DAMAGED ? "part" : "problem", sgc_cli_string(e->problem));
    if (e->weights_only) json_object_set_new(o, "weights_only", json_true());
    if (!e->info.id[0]) return o; /* nothing is known of it */
    for (const sgc_ckpt_field *f = sgc_ckpt_info_fields; f->name; f++)
        if (strcmp(f->name, "step") != 0) json_object_set_new(o, f->name, sgc_cli_field(f, &e->info));
    return o;
}

static sgc_status refuse_empty(const char *directory)
{
    char problem[256];
    if (sgc_ckpt_is_one(directory, problem)) return sgc_err(SGC_EDATA, "%s is itself a checkpoint; give the directory that holds it", directory);
    return sgc_err(SGC_EDATA, "no checkpoints in %s; give the output_dir of a run", directory);
}

sgc_status sgc_cli_ckpt_ls(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)group, (void)differs;
    static const char *const titles[] = {"step", "date", "size", "ranks", "stage", "dtype", "loss", "eval_loss", "state"};
    sgc_status st = SGC_OK;
    const char *directory = a->paths[0];
    sgc_ckpt_entry *entries = NULL;
    sgc_table table = {.n_columns = sizeof(titles) / sizeof(titles[0])};
    json_t *list = NULL;
    int n;
    char best[SGC_NAME_MAX];
    SGC_TRY(sgc_ckpt_list(directory, &entries, &n));
    SGC_TRY(sgc_ckpt_best(directory, best));
    if (n == 0) SGC_TRY(refuse_empty(directory));
    if (a->json) {
        list = json_array();
        for (int k = 0; k < n; k++) json_array_append_new(list, to_json(&entries[k], best));
        SGC_TRY(sgc_cli_print_json(list));
        goto done;
    }
    for (int column = 0; column < table.n_columns; column++) sgc_table_add(&table, "%s", titles[column]);
    for (int k = 0; k < n; k++) add_row(&table, &entries[k], best);
    sgc_table_print(&table, "rrrrrrrrl");
done:
    sgc_table_free(&table);
    free(entries);
    return st;
}

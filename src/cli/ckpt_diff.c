/* stagecoach ckpt diff: in what do two checkpoints differ? */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt_impl.h"

enum { CHUNK = 1 << 16 };

typedef struct difference {
    char name[256];           /* "model/h.0.ln_1.weight"                                        */
    const char *what;         /* "only in A", "only in B", "shape", "values"                     */
    char detail[256];         /* of shapes                                                       */
    int64_t n_differing;      /* of values; NaN equals NaN                                       */
    double absolute, relative; /* largest |a - b|, and that over max(|a|, |b|)                    */
} difference;

typedef struct differences { difference *list; int n; int64_t n_equal; } differences;

static sgc_status add(differences *d, const difference *one)
{
    difference *more = realloc(d->list, (size_t)(d->n + 1) * sizeof(*more));
    if (!more) return sgc_err(SGC_ENOMEM, "no memory for the list of differences");
    d->list = more;
    d->list[d->n++] = *one;
    return SGC_OK;
}

static const sgc_param_spec *find(const sgc_ckpt_view *v, const char *name, const sgc_unit **unit)
{
    for (int u = 0; u < v->model->n_units; u++)
        for (int k = 0; k < v->model->units[u].n_params; k++) {
            *unit = &v->model->units[u];
            if (strcmp((*unit)->params[k].name, name) == 0) return &(*unit)->params[k];
        }
    return NULL;
}

static bool same_shape(const sgc_param_spec *p, const sgc_param_spec *q)
{
    bool same = p->n_dim == q->n_dim;
    for (int d = 0; same && d < p->n_dim; d++) same = p->shape[d] == q->shape[d];
    return same;
}

static void put_shape(const sgc_param_spec *p, char *text, size_t bytes)
{
    size_t n = strlen(text);
    for (int d = 0; d < p->n_dim && n < bytes; d++) n += (size_t)snprintf(text + n, bytes - n, "%s%" PRId64, d ? " x " : "", p->shape[d]);
}

static void compare_values(const float *a, const float *b, int64_t n, difference *d)
{
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof(*a)) == 0 || a[i] == b[i] || (isnan(a[i]) && isnan(b[i]))) continue;
        d->n_differing++;
        double x = a[i], y = b[i], absolute = fabs(x - y), larger = fmax(fabs(x), fabs(y));
        double relative = isfinite(larger) ? absolute / larger : INFINITY;
        if (!(absolute <= d->absolute)) d->absolute = isnan(absolute) ? INFINITY : absolute;
        if (!(relative <= d->relative)) d->relative = isnan(relative) ? INFINITY : relative;
    }
}

/* The same tensor in both, chunk by chunk. */
static sgc_status compare_tensor(const sgc_ckpt_view v[2], const sgc_unit *const unit[2], const sgc_param_spec *const p[2], sgc_slot slot,
                                 float *const chunk[2], difference *d)
{
    sgc_status st = SGC_OK;
    for (int64_t first = 0; first < p[0]->n; first += CHUNK) {
        int64_t n = p[0]->n - first < CHUNK ? p[0]->n - first : CHUNK;
        for (int k = 0; k < 2; k++) SGC_TRY(sgc_ckpt_read(v[k].ckpt, unit[k], slot, p[k]->offset + first, n, chunk[k]));
        compare_values(chunk[0], chunk[1], n, d);
    }
done:
    return st;
}

/* Tensors of side 0, in its order; the other side is asked for each. from: which of the two checkpoints side 0 is. */
static sgc_status compare_side(const sgc_ckpt_view v[2], int from, sgc_slot slot, float *const chunk[2], differences *all)
{
    sgc_status st = SGC_OK;
    const sgc_model *m = v[from].model;
    if (!sgc_ckpt_has_slot(v[from].ckpt, slot)) return SGC_OK;
    for (int u = 0; u < m->n_units; u++)
        for (int k = 0; k < m->units[u].n_params; k++) {
            const sgc_unit *unit[2] = {&m->units[u], &m->units[u]};
            const sgc_param_spec *p[2] = {&m->units[u].params[k], &m->units[u].params[k]};
            difference d = {.what = from == 0 ? "only in A" : "only in B"};
            snprintf(d.name, sizeof(d.name), "%s/%s", sgc_slot_path[slot], p[0]->name);
            p[1 - from] = sgc_ckpt_has_slot(v[1 - from].ckpt, slot) ? find(&v[1 - from], p[from]->name, &unit[1 - from]) : NULL;
            if (!p[1 - from]) {
                SGC_TRY(add(all, &d));
                continue;
            }
            if (from == 1) continue; /* was compared from the other side */
            if (!same_shape(p[0], p[1])) {
                d.what = "shape";
                put_shape(p[0], d.detail, sizeof(d.detail));
                strcat(d.detail, " and ");
                put_shape(p[1], d.detail, sizeof(d.detail));
                SGC_TRY(add(all, &d));
                continue;
            }
            d.what = "values";
            SGC_TRY(compare_tensor(v, unit, p, slot, chunk, &d));
            if (d.n_differing)
                SGC_TRY(add(all, &d));
            else
                all->n_equal++;
        }
done:
    return st;
}

static sgc_status compare_tensors(const sgc_ckpt_view v[2], differences *all)
{
    sgc_status st = SGC_OK;
    float *chunk[2] = {malloc(CHUNK * sizeof(float)), malloc(CHUNK * sizeof(float))};
    if (!chunk[0] || !chunk[1]) {
        st = sgc_err(SGC_ENOMEM, "no memory to compare tensors");
        goto done;
    }
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int from = 0; from < 2; from++) SGC_TRY(compare_side(v, from, slot, chunk, all));
done:
    free(chunk[0]);
    free(chunk[1]);
    return st;
}

/* Names and both values of what differs, as [[name, a, b], ...]. Takes over both. */
static void pair(json_t *list, const char *name, json_t *a, json_t *b)
{
    if (json_equal(a, b)) {
        json_decref(a);
        json_decref(b);
    } else {
        json_array_append_new(list, json_pack("[soo]", name, a, b));
    }
}

static void compare_settings(const sgc_ckpt_view v[2], json_t *list)
{
    for (int row = 0; row < sgc_config_n_rows(); row++)
        pair(list, sgc_config_row_name(row), sgc_cli_setting(&v[0].config, row), sgc_cli_setting(&v[1].config, row));
}

static void compare_state(const sgc_ckpt_view v[2], json_t *list)
{
    for (const sgc_ckpt_field *f = sgc_ckpt_state_fields; f->name; f++)
        pair(list, f->name, sgc_cli_field(f, sgc_ckpt_get_state(v[0].ckpt)), sgc_cli_field(f, sgc_ckpt_get_state(v[1].ckpt)));
}

static sgc_status print_json(const differences *d, json_t *settings, json_t *state)
{
    json_t *o = json_object(), *tensors = json_array();
    for (int i = 0; i < d->n; i++) {
        const difference *x = &d->list[i];
        json_t *t = json_object();
        json_object_set_new(t, "name", sgc_cli_string(x->name));
        json_object_set_new(t, "differs_in", sgc_cli_string(x->what));
        if (x->detail[0]) json_object_set_new(t, "shapes", sgc_cli_string(x->detail));
        if (x->n_differing) {
            json_object_set_new(t, "n", json_integer(x->n_differing));
            json_object_set_new(t, "max_absolute", sgc_cli_number(x->absolute));
            json_object_set_new(t, "max_relative", sgc_cli_number(x->relative));
        }
        json_array_append_new(tensors, t);
    }
    json_object_set_new(o, "tensors", tensors);
    json_object_set_new(o, "n_equal_tensors", json_integer(d->n_equal));
    json_object_set(o, "settings", settings);
    json_object_set(o, "state", state);
    return sgc_cli_print_json(o);
}

static void add_value(sgc_table *t, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    sgc_table_add(t, "%s", text ? text : "");
    free(text);
}

static void print_pairs(const char *title, const json_t *list)
{
    sgc_table table = {.n_columns = 3};
    if (json_array_size(list) == 0) return;
    printf("%s\n", title);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        sgc_table_add(&table, "  %s", json_string_value(json_array_get(p, 0)));
        add_value(&table, json_array_get(p, 1));
        add_value(&table, json_array_get(p, 2));
    }
    sgc_table_print(&table, "lll");
    sgc_table_free(&table);
}

static void print_differences(const differences *d, const json_t *settings, const json_t *state)
{
    sgc_table table = {.n_columns = 3};
    for (int i = 0; i < d->n; i++) {
        const difference *x = &d->list[i];
        sgc_table_add(&table, "  %s", x->name);
        sgc_table_add(&table, "%s", x->what);
        if (x->n_differing)
            sgc_table_add(&table, "%" PRId64 " differ, by at most %.6g, relative %.6g", x->n_differing, x->absolute, x->relative);
        else
            sgc_table_add(&table, "%s", x->detail);
    }
    printf("tensors: %" PRId64 " equal, %d that differ\n", d->n_equal, d->n);
    sgc_table_print(&table, "lll");
    sgc_table_free(&table);
    print_pairs("settings: A, B", settings);
    print_pairs("state: A, B", state);
}

sgc_status sgc_cli_ckpt_diff(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)group;
    sgc_status st = SGC_OK;
    sgc_ckpt_view v[2] = {{0}, {0}};
    differences d = {0};
    json_t *settings = json_array(), *state = json_array();
    for (int k = 0; k < 2; k++) SGC_TRY(sgc_ckpt_view_open(&v[k], a->paths[k]));
    SGC_TRY(compare_tensors(v, &d));
    if (!a->tensors_only) {
        compare_settings(v, settings);
        compare_state(v, state);
    }
    *differs = d.n > 0 || json_array_size(settings) > 0 || json_array_size(state) > 0;
    if (a->json)
        SGC_TRY(print_json(&d, settings, state));
    else
        print_differences(&d, settings, state);
done:
    json_decref(settings);
    json_decref(state);
    free(d.list);
    for (int k = 0; k < 2; k++) sgc_ckpt_view_close(&v[k]);
    return st;
}

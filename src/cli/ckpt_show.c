/* stagecoach ckpt show: what a checkpoint holds, and what a tensor looks like. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ckpt_impl.h"

enum { CHUNK = 1 << 16, N_BINS = 16 };

static void shape_text(const sgc_param_spec *p, char text[96])
{
    int n = 0;
    for (int d = 0; d < p->n_dim; d++) n += snprintf(text + n, 96 - (size_t)n, "%s%" PRId64, d ? " x " : "", p->shape[d]);
}

static void print_fields(const char *title, const sgc_ckpt_field *fields, const void *s)
{
    sgc_table table = {.n_columns = 2};
    printf("%s\n", title);
    for (const sgc_ckpt_field *f = fields; f->name; f++) {
        char text[128];
        sgc_cli_field_text(f, s, text);
        sgc_table_add(&table, "  %s", f->name);
        sgc_table_add(&table, "%s", text);
    }
    sgc_table_print(&table, "ll");
    sgc_table_free(&table);
}

/* Those that differ from their defaults. */
static sgc_status print_settings(const sgc_ckpt_view *v)
{
    sgc_status st = SGC_OK;
    sgc_config defaults = {0};
    sgc_str value = {0}, usual = {0};
    SGC_TRY(sgc_config_load(&defaults, NULL, 0, NULL));
    printf("settings that differ from their defaults (config.cfg has all)\n");
    for (int row = 0; row < sgc_config_n_rows(); row++) {
        sgc_str_free(&value);
        sgc_str_free(&usual);
        SGC_TRY(sgc_config_row_value(&v->config, row, &value));
        SGC_TRY(sgc_config_row_value(&defaults, row, &usual));
        if (strcmp(value.text, usual.text) != 0) printf("  %s = %s\n", sgc_config_row_name(row), value.text);
    }
done:
    sgc_str_free(&value);
    sgc_str_free(&usual);
    sgc_config_free(&defaults);
    return st;
}

static void print_tensors(const sgc_ckpt_view *v)
{
    sgc_table table = {.n_columns = 4};
    char shape[96], size[32];
    int element_bytes = sgc_dtype_bytes(sgc_ckpt_dtype(v->ckpt));
    int64_t n_tensors = 0, n_elements = 0;
    for (int u = 0; u < v->model->n_units; u++)
        for (int k = 0; k < v->model->units[u].n_params; k++) {
            const sgc_param_spec *p = &v->model->units[u].params[k];
            shape_text(p, shape);
            sgc_table_add(&table, "  %s", p->name);
            sgc_table_add(&table, "%s", shape);
            sgc_table_add(&table, "%s", sgc_dtype_name(sgc_ckpt_dtype(v->ckpt)));
            sgc_table_add(&table, "%s", sgc_format_bytes((double)(p->n * element_bytes), size));
            n_tensors++;
            n_elements += p->n;
        }
    printf("tensors in /model: %" PRId64 " with %" PRId64 " parameters\n", n_tensors, n_elements);
    sgc_table_print(&table, "lrlr");
    sgc_table_free(&table);
    if (v->model->options.tie_word_embeddings) printf("  lm_head.weight is wte.weight\n");
    if (sgc_ckpt_is_weights_only(v->ckpt)) printf("weights only: no optimizer states\n");
    for (int slot = SGC_SLOT_MODEL + 1; slot < SGC_N_SLOTS; slot++)
        if (sgc_ckpt_has_slot(v->ckpt, slot)) printf("the same in /%s\n", sgc_slot_path[slot]);
}

static json_t *fields_json(const sgc_ckpt_field *fields, const void *s)
{
    json_t *o = json_object();
    for (const sgc_ckpt_field *f = fields; f->name; f++) json_object_set_new(o, f->name, sgc_cli_field(f, s));
    return o;
}

static json_t *tensor_json(const sgc_ckpt_view *v, const sgc_ckpt_tensor *t)
{
    char name[256];
    json_t *o = json_object(), *shape = json_array();
    snprintf(name, sizeof(name), "%s/%s", sgc_slot_path[t->slot], t->spec->name);
    for (int d = 0; d < t->spec->n_dim; d++) json_array_append_new(shape, json_integer(t->spec->shape[d]));
    json_object_set_new(o, "name", sgc_cli_string(name));
    json_object_set_new(o, "shape", shape);
    json_object_set_new(o, "dtype", sgc_cli_string(sgc_dtype_name(sgc_ckpt_dtype(v->ckpt))));
    json_object_set_new(o, "bytes", json_integer(t->spec->n * sgc_dtype_bytes(sgc_ckpt_dtype(v->ckpt))));
    return o;
}

static json_t *checkpoint_json(const sgc_ckpt_view *v, const char *path)
{
    json_t *o = json_object(), *settings = json_object(), *tensors = json_array();
    json_object_set_new(o, "checkpoint", sgc_cli_string(path));
    json_object_set_new(o, "bytes", json_integer(sgc_ckpt_bytes(v->ckpt)));
    json_object_set_new(o, "weights_only", json_boolean(sgc_ckpt_is_weights_only(v->ckpt)));
    json_object_set_new(o, "attributes", fields_json(sgc_ckpt_info_fields, sgc_ckpt_get_info(v->ckpt)));
    json_object_set_new(o, "state", fields_json(sgc_ckpt_state_fields, sgc_ckpt_get_state(v->ckpt)));
    json_object_set_new(o, "settings", settings);
    json_object_set_new(o, "tensors", tensors);
    for (int row = 0; row < sgc_config_n_rows(); row++) json_object_set_new(settings, sgc_config_row_name(row), sgc_cli_setting(&v->config, row));
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; sgc_ckpt_has_slot(v->ckpt, slot) && u < v->model->n_units; u++)
            for (int k = 0; k < v->model->units[u].n_params; k++) {
                const sgc_ckpt_tensor t = {.unit = &v->model->units[u], .spec = &v->model->units[u].params[k], .slot = slot};
                json_array_append_new(tensors, tensor_json(v, &t));
            }
    return o;
}

typedef struct summary {
    int64_t n, n_finite, n_nan, n_inf;
    double min, max, sum, square;
    int64_t bin[N_BINS];      /* finite ones, equal parts of [min, max] */
} summary;

/* The tensor passes through twice: the bins depend on the extremes. */
static sgc_status summarize(const sgc_ckpt_view *v, const sgc_ckpt_tensor *t, summary *s)
{
    sgc_status st = SGC_OK;
    float *chunk = malloc(CHUNK * sizeof(*chunk));
    *s = (summary){.n = t->spec->n, .min = INFINITY, .max = -INFINITY};
    if (!chunk) return sgc_err(SGC_ENOMEM, "no memory to read %s", t->spec->name);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t first = 0; first < s->n; first += CHUNK) {
            int64_t n = s->n - first < CHUNK ? s->n - first : CHUNK;
            SGC_TRY(sgc_ckpt_read(v->ckpt, t->unit, t->slot, t->spec->offset + first, n, chunk));
            for (int64_t i = 0; i < n; i++) {
                double x = chunk[i];
                if (pass == 1) {
                    if (!isfinite(x)) continue;
                    int bin = s->max > s->min ? (int)((x - s->min) / (s->max - s->min) * N_BINS) : 0;
                    s->bin[bin < N_BINS ? bin : N_BINS - 1]++;
                } else if (isfinite(x)) {
                    s->n_finite++;
                    s->sum += x;
                    s->square += x * x;
                    s->min = fmin(s->min, x);
                    s->max = fmax(s->max, x);
                } else {
                    s->n_nan += isnan(x);
                    s->n_inf += isinf(x);
                }
            }
        }
    if (s->n_finite == 0) s->min = s->max = NAN;
done:
    free(chunk);
    return st;
}

static double mean_of(const summary *s) { return s->n_finite ? s->sum / (double)s->n_finite : NAN; }

static double norm_of(const summary *s) { return s->n_finite ? sqrt(s->square) : NAN; }

static json_t *summary_json(const sgc_ckpt_view *v, const sgc_ckpt_tensor *t, const summary *s)
{
    json_t *o = tensor_json(v, t), *bins = json_array();
    json_object_set_new(o, "unit", sgc_cli_string(t->unit->name));
    json_object_set_new(o, "n", json_integer(s->n));
    json_object_set_new(o, "min", sgc_cli_number(s->min));
    json_object_set_new(o, "max", sgc_cli_number(s->max));
    json_object_set_new(o, "mean", sgc_cli_number(mean_of(s)));
    json_object_set_new(o, "norm", sgc_cli_number(norm_of(s)));
    json_object_set_new(o, "n_nan", json_integer(s->n_nan));
    json_object_set_new(o, "n_inf", json_integer(s->n_inf));
    for (int b = 0; b < N_BINS; b++) json_array_append_new(bins, json_integer(s->bin[b]));
    json_object_set_new(o, "histogram", bins);
    return o;
}

static void print_summary(const sgc_ckpt_view *v, const sgc_ckpt_tensor *t, const summary *s)
{
    enum { WIDTH = 50 };
    char shape[96], size[32];
    int64_t largest = 1;
    shape_text(t->spec, shape);
    printf("%s/%s  %s  %s  %s, unit %s\n", sgc_slot_path[t->slot], t->spec->name, shape, sgc_dtype_name(sgc_ckpt_dtype(v->ckpt)),
           sgc_format_bytes((double)(s->n * sgc_dtype_bytes(sgc_ckpt_dtype(v->ckpt))), size), t->unit->name);
    printf("  min   %.9g\n  max   %.9g\n  mean  %.9g\n  norm  %.9g\n", s->min, s->max, mean_of(s), norm_of(s));
    printf("  NaN   %" PRId64 "\n  Inf   %" PRId64 "\n", s->n_nan, s->n_inf);
    if (s->n_finite == 0) return;
    for (int b = 0; b < N_BINS; b++)
        if (s->bin[b] > largest) largest = s->bin[b];
    sgc_table table = {.n_columns = 3};
    for (int b = 0; b < N_BINS; b++) {
        char bar[WIDTH + 1];
        int length = (int)((s->bin[b] * WIDTH + largest - 1) / largest); /* one element is seen too */
        memset(bar, '#', (size_t)length);
        bar[length] = '\0';
        sgc_table_add(&table, "  from %.4g", s->min + (s->max - s->min) * b / N_BINS);
        sgc_table_add(&table, "%" PRId64, s->bin[b]);
        sgc_table_add(&table, "%s", bar);
        if (s->max == s->min) break;
    }
    sgc_table_print(&table, "lrl");
    sgc_table_free(&table);
}

/* list: for JSON, NULL: to be printed. */
static sgc_status show_tensor(const sgc_ckpt_view *v, const char *name, json_t *list)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_tensor t;
    summary s;
    SGC_TRY(sgc_ckpt_view_find(v, name, &t));
    SGC_TRY(summarize(v, &t, &s));
    if (list)
        json_array_append_new(list, summary_json(v, &t, &s));
    else
        print_summary(v, &t, &s);
done:
    return st;
}

sgc_status sgc_cli_ckpt_show(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)group, (void)differs;
    sgc_status st = SGC_OK;
    sgc_ckpt_view v = {0};
    json_t *list = NULL;
    char size[32];
    SGC_TRY(sgc_ckpt_view_open(&v, a->paths[0]));
    if (a->json && a->n_paths > 1) list = json_array();
    for (int k = 1; k < a->n_paths; k++) SGC_TRY(show_tensor(&v, a->paths[k], list));
    if (list) {
        st = sgc_cli_print_json(list);
        list = NULL;
    }
    if (a->n_paths > 1) goto done;
    if (a->json) {
        SGC_TRY(sgc_cli_print_json(checkpoint_json(&v, a->paths[0])));
        goto done;
    }
    printf("%s: %s\n", a->paths[0], sgc_format_bytes((double)sgc_ckpt_bytes(v.ckpt), size));
    print_fields("attributes", sgc_ckpt_info_fields, sgc_ckpt_get_info(v.ckpt));
    print_fields("state", sgc_ckpt_state_fields, sgc_ckpt_get_state(v.ckpt));
    SGC_TRY(print_settings(&v));
    print_tensors(&v);
done:
    json_decref(list);
    sgc_ckpt_view_close(&v);
    return st;
}

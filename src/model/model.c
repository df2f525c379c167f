#include "model/model_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

static const sgc_architecture *const architectures[] = {&sgc_gpt2}; /* in the order of model.type */

sgc_unit *sgc_model_add_unit(sgc_model *m, const char *name, int layer, sgc_unit_forward forward)
{
    sgc_unit *units = realloc(m->units, (size_t)(m->n_units + 1) * sizeof(*units));
    if (!units) {
        sgc_err(SGC_ENOMEM, "no memory for unit %s of the model", name);
        return NULL;
    }
    m->units = units;
    sgc_unit *u = &units[m->n_units];
    *u = (sgc_unit){.index = m->n_units, .layer = layer, .borrows = -1, .model = m, .forward = forward};
    snprintf(u->name, sizeof(u->name), "%s", name);
    m->n_units++;
    return u;
}

sgc_status sgc_unit_add_param(sgc_unit *u, const char *name, sgc_init init, double std, bool decay, int n_dim, int64_t d0, int64_t d1)
{
    sgc_param_spec *params = realloc(u->params, (size_t)(u->n_params + 1) * sizeof(*params));
    if (!params) return sgc_err(SGC_ENOMEM, "no memory for parameter %s of the model", name);
    u->params = params;
    sgc_param_spec *p = &params[u->n_params++];
    *p = (sgc_param_spec){.n_dim = n_dim, .shape = {d0, n_dim == 2 ? d1 : 0}, .n = n_dim == 2 ? d0 * d1 : d0, .decay = decay, .init = init, .std = std};
    snprintf(p->name, sizeof(p->name), "%s", name);
    return SGC_OK;
}

sgc_status sgc_model_lay_out(sgc_model *m)
{
    uint32_t stream = 0;
    for (int i = 0; i < m->n_units; i++) {
        sgc_unit *u = &m->units[i];
        size_t n_params = (size_t)u->n_params;
        int64_t *n = calloc(2 * n_params, sizeof(*n));
        if (!n) return sgc_err(SGC_ENOMEM, "no memory for the layout of the model");
        for (int k = 0; k < u->n_params; k++)
            n[k] = u->params[k].n;
        u->n = sgc_flat_offsets(u->n_params, n, n + n_params);
        for (int k = 0; k < u->n_params; k++) {
            u->params[k].offset = n[n_params + (size_t)k];
            u->params[k].stream = stream++;
            u->n_parameters += u->params[k].n;
        }
        m->n_parameters += u->n_parameters;
        free(n);
    }
    return SGC_OK;
}

sgc_status sgc_model_make(sgc_model **out, const sgc_model_options *options, int64_t vocab_size)
{
    sgc_status st = SGC_OK;
    sgc_model *m = calloc(1, sizeof(*m));
    *out = NULL;
    if (!m) return sgc_err(SGC_ENOMEM, "no memory for the model");
    m->options = *options;
    if (m->options.vocab_size == 0) m->options.vocab_size = vocab_size;
    if (m->options.vocab_size <= 0) {
        st = sgc_err(SGC_ECONFIG, "model.vocab_size is 0 and there is no tokenizer to take it from; give --model.vocab_size");
        goto done;
    }
    m->type = architectures[options->type]->name;
    SGC_TRY(architectures[options->type]->declare(m));
    SGC_TRY(sgc_model_lay_out(m));
    *out = m;
    m = NULL;
done:
    sgc_model_free(m);
    return st;
}

void sgc_model_free(sgc_model *m)
{
    if (!m) return;
    for (int i = 0; i < m->n_units; i++)
        free(m->units[i].params);
    free(m->units);
    free(m);
}

double sgc_model_flops_per_token(const sgc_model *m, int64_t T)
{
    double in_products = (double)(m->n_parameters - m->n_lookup_parameters);
    return 6 * in_products + 6 * (double)(m->options.n_layer * T * m->options.n_embd);
}

enum { PIECE = 16384 };

static void init_piece(const sgc_unit *u, uint64_t seed, int64_t first, int64_t n, float *out)
{
    memset(out, 0, (size_t)n * sizeof(*out));
    for (int k = 0; k < u->n_params; k++) {
        const sgc_param_spec *p = &u->params[k];
        int64_t from = p->offset > first ? p->offset : first;
        int64_t to = p->offset + p->n < first + n ? p->offset + p->n : first + n;
        if (from >= to) continue;
        float *x = out + (from - first);
        if (p->init == SGC_INIT_NORMAL)
            sgc_normal_fill(x, to - from, seed, SGC_PURPOSE_INIT, p->stream, from - p->offset, 0, p->std);
        else if (p->init == SGC_INIT_ONES)
            for (int64_t i = 0; i < to - from; i++)
                x[i] = 1;
    }
}

/* Memory belongs to where the thread is that touches it first: updates are cut in the same way. */
void sgc_unit_init_slice(const sgc_unit *u, uint64_t seed, int64_t first, int64_t n, float *out)
{
#pragma omp parallel for schedule(static) if (n >= 2 * PIECE)
    for (int64_t i = 0; i < n; i += PIECE) init_piece(u, seed, first + i, n - i < PIECE ? n - i : PIECE, out + i);
}

const sgc_param_spec *sgc_unit_param_at(const sgc_unit *u, int64_t e)
{
    for (int k = 0; k < u->n_params; k++)
        if (e >= u->params[k].offset && e < u->params[k].offset + u->params[k].n) return &u->params[k];
    return NULL;
}

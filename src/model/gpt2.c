/*
 * GPT-2 (Radford et al. 2019), with the tensor names and layouts of the Hugging Face model. B batch, T positions, C = n_embd, V = vocab_size.
 * Initial values as there: normal(initializer_range), projections into the residual stream scaled by 1/sqrt(2 n_layer).
 */
#include "model/model_impl.h"

#include <math.h>
#include <stdio.h>

#define P(name) sgc_param(g, u, name)

static sgc_tensor *embedding(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    (void)x; /* the first unit starts from the tokens */
    return sgc_op_dropout(g, sgc_op_embedding(g, P("wte.weight"), P("wpe.weight")), u->model->options.embd_pdrop); /* [B*T, C] */
}

static sgc_tensor *block(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    const sgc_model_options *c = &u->model->options;
    sgc_tensor *h = sgc_op_layer_norm(g, x, P("ln_1.weight"), P("ln_1.bias"), c->layer_norm_epsilon);
    h = sgc_op_linear(g, h, P("attn.c_attn.weight"), P("attn.c_attn.bias")); /* [B*T, 3C] */
    h = sgc_op_attention(g, h, c->n_head, c->attn_pdrop);                    /* [B*T, C]  */
    h = sgc_op_linear(g, h, P("attn.c_proj.weight"), P("attn.c_proj.bias"));
    x = sgc_op_add(g, x, sgc_op_dropout(g, h, c->resid_pdrop));

    h = sgc_op_layer_norm(g, x, P("ln_2.weight"), P("ln_2.bias"), c->layer_norm_epsilon);
    h = sgc_op_linear(g, h, P("mlp.c_fc.weight"), P("mlp.c_fc.bias"));       /* [B*T, n_inner] */
    h = sgc_op_activation(g, h, c->activation_function);
    h = sgc_op_linear(g, h, P("mlp.c_proj.weight"), P("mlp.c_proj.bias"));
    return sgc_op_add(g, x, sgc_op_dropout(g, h, c->resid_pdrop));
}

static sgc_tensor *head(sgc_graph *g, const sgc_unit *u, sgc_tensor *x)
{
    const sgc_model_options *c = &u->model->options;
    x = sgc_op_layer_norm(g, x, P("ln_f.weight"), P("ln_f.bias"), c->layer_norm_epsilon);
    return sgc_op_lm_head(g, x, P(c->tie_word_embeddings ? "wte.weight" : "lm_head.weight"));
}

static sgc_status add_norm(sgc_unit *u, const char *name, int64_t C)
{
    sgc_status st = SGC_OK;
    char full[96];
    snprintf(full, sizeof(full), "%s.weight", name);
    SGC_TRY(sgc_unit_add_param(u, full, SGC_INIT_ONES, 0, false, 1, C, 0));
    snprintf(full, sizeof(full), "%s.bias", name);
    SGC_TRY(sgc_unit_add_param(u, full, SGC_INIT_ZEROS, 0, false, 1, C, 0));
done:
    return st;
}

static sgc_status add_linear(sgc_unit *u, const char *name, double std, int64_t n_in, int64_t n_out)
{
    sgc_status st = SGC_OK;
    char full[96];
    snprintf(full, sizeof(full), "%s.weight", name);
    SGC_TRY(sgc_unit_add_param(u, full, SGC_INIT_NORMAL, std, true, 2, n_in, n_out));
    snprintf(full, sizeof(full), "%s.bias", name);
    SGC_TRY(sgc_unit_add_param(u, full, SGC_INIT_ZEROS, 0, false, 1, n_out, 0));
done:
    return st;
}

static sgc_status add_block(sgc_model *m, int layer)
{
    sgc_status st = SGC_OK;
    const sgc_model_options *c = &m->options;
    int64_t C = c->n_embd, n_inner = c->has_n_inner ? c->n_inner : 4 * C;
    double std = c->initializer_range, residual_std = std / sqrt(2.0 * (double)c->n_layer);
    char h[32], name[64];
    snprintf(h, sizeof(h), "h.%d", layer);
    sgc_unit *u = sgc_model_add_unit(m, h, layer, block);
    if (!u) return SGC_ENOMEM;
#define IN_BLOCK(part) (snprintf(name, sizeof(name), "%s.%s", h, part), name)
    SGC_TRY(add_norm(u, IN_BLOCK("ln_1"), C));
    SGC_TRY(add_linear(u, IN_BLOCK("attn.c_attn"), std, C, 3 * C));
    SGC_TRY(add_linear(u, IN_BLOCK("attn.c_proj"), residual_std, C, C));
    SGC_TRY(add_norm(u, IN_BLOCK("ln_2"), C));
    SGC_TRY(add_linear(u, IN_BLOCK("mlp.c_fc"), std, C, n_inner));
    SGC_TRY(add_linear(u, IN_BLOCK("mlp.c_proj"), residual_std, n_inner, C));
#undef IN_BLOCK
done:
    return st;
}

static sgc_status declare(sgc_model *m)
{
    sgc_status st = SGC_OK;
    const sgc_model_options *c = &m->options;
    if (c->n_embd % c->n_head != 0)
        return sgc_err(SGC_ECONFIG, "model.n_embd = %lld is not a multiple of model.n_head = %lld; choose an n_head that divides it",
                       (long long)c->n_embd, (long long)c->n_head);
    sgc_unit *u = sgc_model_add_unit(m, "embedding", -1, embedding);
    if (!u) return SGC_ENOMEM;
    SGC_TRY(sgc_unit_add_param(u, "wte.weight", SGC_INIT_NORMAL, c->initializer_range, true, 2, c->vocab_size, c->n_embd));
    SGC_TRY(sgc_unit_add_param(u, "wpe.weight", SGC_INIT_NORMAL, c->initializer_range, true, 2, c->n_positions, c->n_embd));
    m->n_embedding_parameters = (c->vocab_size + c->n_positions) * c->n_embd;
    m->n_lookup_parameters = (c->n_positions + (c->tie_word_embeddings ? 0 : c->vocab_size)) * c->n_embd;

    for (int layer = 0; layer < c->n_layer; layer++)
        SGC_TRY(add_block(m, layer));

    u = sgc_model_add_unit(m, "head", -1, head);
    if (!u) return SGC_ENOMEM;
    SGC_TRY(add_norm(u, "ln_f", c->n_embd));
    if (c->tie_word_embeddings)
        u->borrows = 0;
    else
        SGC_TRY(sgc_unit_add_param(u, "lm_head.weight", SGC_INIT_NORMAL, c->initializer_range, true, 2, c->vocab_size, c->n_embd));
done:
    return st;
}

const sgc_architecture sgc_gpt2 = {"gpt2", declare};

/* The generate command: sgc_generate. Every rank computes the same text, rank 0 prints it. */
#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt.h"
#include "data/data.h"
#include "train/choice_impl.h"
#include "train/device_impl.h"
#include "train/exchange_impl.h"
#include "train/setup_impl.h"
#include "train/threads_impl.h"
#include "train/train.h"

#define CHUNK 32 /* positions of the prompt that go through the model together, if it has so many */

typedef struct generator {
    sgc_world *world;        /* borrowed                                                   */
    const sgc_generate_options *o; /* borrowed                                             */
    sgc_config config;       /* of the checkpoint                                          */
    sgc_ckpt *ckpt;
    const sgc_tokenizer *tokenizer;
    sgc_device_spec device_spec;
    sgc_device device;
    bool has_device;
    sgc_model *model;
    sgc_zero *engine;
    sgc_graph *chunk, *single; /* n_chunk positions, one position; they share arena and cache */
    int64_t n_chunk;
    void *arena;
    int64_t capacity;        /* positions of the cache                                     */
    int32_t *seen;           /* [capacity] tokens in the cache                             */
    int64_t n_seen;
    int32_t *prompt;         /* owned                                                      */
    int64_t n_prompt;
    int32_t *scratch;        /* [V]                                                        */
} generator;

static sgc_status check_prompt(generator *g)
{
    int64_t limit = g->config.model.n_positions;
    if (g->n_prompt < 1) return sgc_err(SGC_ECONFIG, "the prompt is empty: give at least one character by --prompt, --prompt_file or standard input");
    if (g->n_prompt > limit)
        return sgc_err(SGC_ECONFIG, "the prompt has %lld tokens, more than the %lld positions (n_positions) that the model sees: shorten it",
                       (long long)g->n_prompt, (long long)limit);
    int64_t wanted = g->n_prompt + g->o->max_new_tokens - 1; /* the last token is not fed back */
    g->capacity = wanted < limit ? wanted : limit;
    return SGC_OK;
}

/* The run that wrote the checkpoint may have had GPUs. One text is too little work for 16-bit numbers to pay: the master weights are used. */
static void adapt_to_one_text(sgc_config *c)
{
    c->training.bf16 = c->training.fp16 = false;
    if (c->device.type == SGC_DEVICE_CUDA) c->device.type = SGC_DEVICE_AUTO;
    c->training.has_tf32 = false;
    c->device.share = true;
    c->device.attention = SGC_ATTENTION_OWN; /* decoding has no other */
    c->comm.backend = SGC_BACKEND_AUTO;
}

static sgc_status prepare_local(generator *g)
{
    sgc_status st = SGC_OK;
    sgc_graph_spec spec = {.mode = SGC_DECODE, .B = 1};
    g->tokenizer = sgc_tokenizer_at((int)g->config.data.tokenizer);
    if (g->o->eos_token_id >= g->tokenizer->vocab_size)
        return sgc_err(SGC_ECONFIG, "--eos_token_id %lld: the tokenizer has no such token; write a number from 0 to %lld", (long long)g->o->eos_token_id,
                       (long long)g->tokenizer->vocab_size - 1);
    SGC_TRY(g->tokenizer->encode(g->tokenizer, g->o->prompt, g->o->prompt_bytes, &g->prompt, &g->n_prompt));
    SGC_TRY(check_prompt(g));
    spec.capacity = g->capacity;
    spec.T = g->n_chunk = g->config.model.n_positions < CHUNK ? g->config.model.n_positions : CHUNK;
    SGC_TRY(sgc_model_make(&g->model, &g->config.model, g->tokenizer->vocab_size));
    SGC_TRY(sgc_device_open_spec(&g->device, &g->device_spec));
    g->has_device = true;
    SGC_TRY(sgc_graph_build(&g->chunk, g->model, &g->device, &spec));
    spec.T = 1;
    SGC_TRY(sgc_graph_build(&g->single, g->model, &g->device, &spec));
    size_t a = sgc_graph_arena_bytes(g->chunk), b = sgc_graph_arena_bytes(g->single);
    g->arena = sgc_device_alloc(&g->device, SGC_MEM_ACTIVATIONS, a > b ? a : b);
    g->scratch = sgc_mem_alloc(SGC_MEM_DATA, (size_t)g->model->options.vocab_size * sizeof(*g->scratch));
    g->seen = sgc_mem_alloc(SGC_MEM_DATA, (size_t)g->capacity * sizeof(*g->seen));
    if (!g->arena || !g->scratch || !g->seen) return SGC_ENOMEM;
    sgc_graph_bind_arena(g->chunk, g->arena);
    sgc_graph_bind_arena(g->single, g->arena);
done:
    return st;
}

/* Append tokens to what the model has seen; *logits: of the last one. */
static sgc_status feed(generator *g, const int32_t *tokens, int64_t n, const float **logits)
{
    sgc_status st = SGC_OK;
    memmove(g->seen + g->n_seen, tokens, (size_t)n * sizeof(*tokens));
    for (int64_t step; n > 0; n -= step) {
        step = n >= g->n_chunk ? g->n_chunk : 1;
        sgc_graph *graph = step == 1 ? g->single : g->chunk;
        sgc_batch batch = {.tokens = g->seen + g->n_seen, .position = g->n_seen};
        SGC_TRY(sgc_graph_bind_batch(graph, &batch));
        SGC_TRY(sgc_zero_forward(g->engine, graph));
        const void *all;
        SGC_TRY(sgc_graph_logits(graph, &all));
        *logits = (const float *)all + (step - 1) * g->model->options.vocab_size;
        g->n_seen += step;
    }
done:
    return st;
}

/* The context is full: the model forgets its older half. */
static sgc_status slide(generator *g, const float **logits)
{
    int64_t n_kept = g->capacity / 2;
    memmove(g->seen, g->seen + g->n_seen - n_kept, (size_t)n_kept * sizeof(*g->seen));
    g->n_seen = 0;
    return feed(g, g->seen, n_kept, logits);
}

static sgc_status print(const generator *g, const char *text, size_t bytes)
{
    if (g->world->rank != 0) return SGC_OK;
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0) return sgc_err_errno(SGC_EIO, "the text cannot be written to standard output");
    return SGC_OK;
}

/* Local: at stage 0 a forward pass sends nothing. */
static sgc_status generate_local(generator *g)
{
    sgc_status st = SGC_OK;
    sgc_choice_rule rule = {g->o->temperature, g->o->top_k, g->o->top_p};
    const float *logits = NULL;
    sgc_str text = {0};
    int32_t next;
    SGC_TRY(print(g, g->o->prompt, g->o->prompt_bytes));
    SGC_TRY(feed(g, g->prompt, g->n_prompt, &logits));
    for (int64_t i = 0; i < g->o->max_new_tokens; i++) {
        next = sgc_choose(logits, g->tokenizer->vocab_size, &rule, sgc_choice_uniform(g->o->seed, g->n_prompt + i), g->scratch);
        if (next == g->o->eos_token_id) break;
        text.n = 0;
        SGC_TRY(g->tokenizer->decode(g->tokenizer, next, &text));
        SGC_TRY(print(g, text.text, text.n));
        if (i + 1 == g->o->max_new_tokens) break;
        if (g->n_seen == g->capacity) SGC_TRY(slide(g, &logits));
        SGC_TRY(feed(g, &next, 1, &logits));
    }
    SGC_TRY(print(g, "\n", 1));
done:
    sgc_str_free(&text);
    return st;
}

sgc_status sgc_generate(sgc_world *w, const char *checkpoint, const sgc_generate_options *o)
{
    sgc_status st = SGC_OK;
    generator g = {.world = w, .o = o};
    sgc_threads threads;
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_threads_set(&threads, w));
    SGC_TRY(sgc_name_others(sgc_ckpt_open(&g.ckpt, checkpoint, w->all), checkpoint));
    if (w->rank == 0) st = sgc_path_join(path, checkpoint, "config.cfg");
    SGC_AGREE(w->all);
    SGC_TRY(sgc_read_config(w, &g.config, path, 0, NULL, false));
    adapt_to_one_text(&g.config);
    SGC_TRY(sgc_choose_device(w, &g.config, &g.device_spec));
    st = prepare_local(&g);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_exchange_begin(w, &g.config, &g.device, g.model, SGC_F32));
    sgc_zero_spec spec = {.inference = true};
    SGC_TRY(sgc_zero_make(&g.engine, g.model, &g.device, w->all, &spec));
    SGC_TRY(sgc_name_others(sgc_ckpt_load(g.ckpt, g.engine, g.model, true, w->all), checkpoint));
    st = generate_local(&g);
    SGC_AGREE(w->all);
done:
    sgc_zero_free(g.engine);
    sgc_graph_free(g.chunk);
    sgc_graph_free(g.single);
    if (g.has_device) sgc_device_free(&g.device, g.arena);
    sgc_mem_free(g.scratch);
    sgc_mem_free(g.seen);
    free(g.prompt);
    if (g.has_device) sgc_exchange_end(w, &g.device);
    if (g.has_device) sgc_device_close(&g.device);
    sgc_model_free(g.model);
    sgc_ckpt_close(g.ckpt);
    sgc_config_free(&g.config);
    return st;
}

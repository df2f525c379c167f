/* A checkpoint of a small model with every tensor of a real one, for tests that damage or take it apart. */
#ifndef SGC_TESTS_SMALL_CHECKPOINT_H
#define SGC_TESTS_SMALL_CHECKPOINT_H

#include <stdlib.h>
#include <string.h>

#include "ckpt/inspect.h"
#include "ckpt/shard_impl.h"

/* Element e of a slot of a unit's flat buffer. */
static float small_value(const sgc_unit *u, int slot, int64_t e)
{
    return sgc_unit_param_at(u, e) ? (float)(e + 1) / 8 + (float)(u->index * SGC_N_SLOTS + slot) * 1000 : 0;
}

/**
 * Make DIRECTORY/small with n_shards shard files and blocks of 4096 bytes. Width: even.
 * @return SGC_OK, or the first error.
 */
static sgc_status small_checkpoint(const char *directory, int width, int n_shards, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    char n_embd[32], one[SGC_PATH_MAX];
    snprintf(n_embd, sizeof(n_embd), "--model.n_embd=%d", width);
    char *args[] = {"--model.vocab_size=29", "--model.n_positions=12", "--model.n_layer=1", "--model.n_head=2", "--data.block_size=12", n_embd};
    sgc_config config = {0};
    sgc_model *model = NULL;
    sgc_group *group = NULL;
    sgc_str text = {0};
    sgc_ckpt_part parts[16];
    int n_parts = 0;
    sgc_convert_result made;
    const sgc_run_state state = {.step = 7, .samples = 56, .seed = 42, .last_loss = 1.5};
    const sgc_ckpt_info info = {.run_id = "0123456789abcdef", .stage = 2, .global_batch = 8, .dtype = "float32", .isa = "AVX2", .version = "1",
                                .loss = 1.5, .eval_loss = 2.5, .n_parameters = 1};
    SGC_TRY(sgc_config_load(&config, NULL, sizeof(args) / sizeof(args[0]), args));
    SGC_TRY(sgc_config_text(&config, false, &text));
    SGC_TRY(sgc_model_make(&model, &config.model, 0));
    SGC_TRY(sgc_group_null(&group, 1, 0));
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < model->n_units; u++) {
            sgc_flat flat = sgc_flat_make(model->units[u].n, 1);
            float *values = malloc((size_t)flat.n_shard * sizeof(*values));
            if (!values) abort();
            for (int64_t i = 0; i < flat.n_shard; i++) values[i] = small_value(&model->units[u], slot, i);
            parts[n_parts++] = (sgc_ckpt_part){.unit = &model->units[u], .slot = slot, .flat = flat, .values = values};
        }
    const sgc_ckpt_job job = {.output_dir = directory, .group = group, .model = model, .state = &state, .info = &info,
                              .config_text = text.text, .block_size = 4096};
    SGC_TRY(sgc_ckpt_write_parts(&job, parts, n_parts, one));
    SGC_TRY(sgc_path_join(path, directory, "small"));
    SGC_TRY(sgc_ckpt_convert(one, path, &(sgc_convert_spec){.n_shards = n_shards}, group, &made));
    SGC_TRY(sgc_remove_tree(one));
done:
    for (int k = 0; k < n_parts; k++) free((void *)parts[k].values);
    sgc_group_free(group);
    sgc_model_free(model);
    sgc_config_free(&config);
    sgc_str_free(&text);
    return st;
}

/* Everything that resuming reads. same: every element is what was written. */
static inline sgc_status small_read(const char *path, bool *same)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_view v = {0};
    float *values = NULL;
    *same = true;
    SGC_TRY(sgc_ckpt_view_open(&v, path));
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < v.model->n_units; u++) {
            const sgc_unit *unit = &v.model->units[u];
            float *more = realloc(values, (size_t)unit->n * sizeof(*values));
            if (!more) abort();
            values = more;
            SGC_TRY(sgc_ckpt_read(v.ckpt, unit, slot, 0, unit->n, values));
            for (int64_t i = 0; i < unit->n; i++) *same = *same && values[i] == small_value(unit, slot, i);
        }
    SGC_TRY(sgc_ckpt_check_rest(v.ckpt, v.model, 0, 1));
done:
    free(values);
    sgc_ckpt_view_close(&v);
    return st;
}

#endif

#include "train/fit_impl.h"

#include <string.h>

#include "base/log.h"

typedef enum { MUST_FIT, IS_LISTED, IS_QUIET } weight;

/* The first row whose name begins with the text decides. */
static const struct { const char *prefix; weight weight; } weights[] = {
    {"model.init_from", IS_QUIET},
    {"model.resid_pdrop", IS_LISTED},
    {"model.embd_pdrop", IS_LISTED},
    {"model.attn_pdrop", IS_LISTED},
    {"model.initializer_range", IS_QUIET},
    {"model.", MUST_FIT},
    {"data.cache_dir", IS_QUIET},
    {"training.output_dir", IS_QUIET},
    {"training.overwrite_output_dir", IS_QUIET},
    {"training.resume_from_checkpoint", IS_QUIET},
    {"training.gradient_accumulation_steps", IS_QUIET}, /* derived, and logged where it is */
    {"training.log", IS_QUIET},
    {"training.disable_tqdm", IS_QUIET},
    {"training.profile", IS_QUIET},
    {"comm.reduce_dtype", IS_LISTED},
    {"comm.", IS_QUIET},
    {"device.gemm_probe", IS_QUIET},
    {"device.share", IS_QUIET},
    {"device.graphs", IS_QUIET},
    {"", IS_LISTED},
};

static weight weight_of(const char *name)
{
    size_t i = 0;
    while (strncmp(name, weights[i].prefix, strlen(weights[i].prefix)) != 0)
        i++;
    return weights[i].weight;
}

static sgc_status compare_local(const sgc_config *c, const char *checkpoint, bool list_changes)
{
    sgc_status st = SGC_OK;
    sgc_config old = {0};
    sgc_str misfits = {0}, mine = {0}, theirs = {0};
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(path, checkpoint, "config.cfg"));
    SGC_TRY(sgc_config_load(&old, path, 0, NULL));
    for (int row = 0; row < sgc_config_n_rows(); row++) {
        const char *name = sgc_config_row_name(row);
        weight w = weight_of(name);
        if (w == IS_QUIET) continue;
        sgc_str_free(&mine);
        sgc_str_free(&theirs);
        SGC_TRY(sgc_config_row_value(c, row, &mine));
        SGC_TRY(sgc_config_row_value(&old, row, &theirs));
        if (strcmp(mine.text, theirs.text) == 0) continue;
        if (w == MUST_FIT)
            sgc_str_printf(&misfits, "%s%s is %s, there %s", misfits.n ? "; " : "", name, mine.text, theirs.text);
        else if (list_changes)
            sgc_log_info("changed since the checkpoint: %s = %s, was %s", name, mine.text, theirs.text);
    }
    if (misfits.n) st = sgc_err(SGC_ECKPT, "%s is of another model: %s", checkpoint, misfits.text);
done:
    sgc_str_free(&mine);
    sgc_str_free(&theirs);
    sgc_str_free(&misfits);
    sgc_config_free(&old);
    return st;
}

sgc_status sgc_fit_check(sgc_world *w, const sgc_config *c, const char *checkpoint, bool list_changes)
{
    sgc_status st = w->rank == 0 ? compare_local(c, checkpoint, list_changes) : SGC_OK;
    return sgc_agree(w->all, st);
}

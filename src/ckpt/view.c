/* A checkpoint and the model that its configuration declares: tensors by name. */
#include <string.h>
#include <sys/stat.h>

#include "ckpt/ckpt_impl.h"
#include "ckpt/inspect.h"

sgc_status sgc_ckpt_model(const char *path, sgc_config *config, sgc_model **model)
{
    sgc_status st = SGC_OK;
    char file[SGC_PATH_MAX];
    struct stat status;
    *model = NULL;
    SGC_TRY(sgc_path_join(file, path, "config.cfg"));
    if (stat(file, &status) == 0 && !S_ISREG(status.st_mode)) { /* a pipe would be waited for */
        st = sgc_err(SGC_ECKPT, "%s is no file", file);
        goto done;
    }
    SGC_TRY(sgc_config_load(config, file, 0, NULL));
    SGC_TRY(sgc_model_make(model, &config->model, 0));
done:
    if (st == SGC_OK) return st;
    /* not the settings of this command are wrong */
    char why[SGC_ERR_BYTES - SGC_PATH_MAX - 64];
    snprintf(why, sizeof(why), "%s", sgc_err_message());
    sgc_err_clear();
    return sgc_err(st == SGC_ENOMEM ? st : SGC_ECKPT, "the configuration in %s cannot be used: %s", path, why);
}

sgc_status sgc_ckpt_view_open(sgc_ckpt_view *v, const char *path)
{
    sgc_status st = SGC_OK;
    *v = (sgc_ckpt_view){0};
    SGC_TRY(sgc_ckpt_open_local(&v->ckpt, path));
    SGC_TRY(sgc_ckpt_model(v->ckpt->path, &v->config, &v->model));
done:
    if (st != SGC_OK) sgc_ckpt_view_close(v);
    return st;
}

void sgc_ckpt_view_close(sgc_ckpt_view *v)
{
    sgc_model_free(v->model);
    sgc_config_free(&v->config);
    sgc_ckpt_close(v->ckpt);
    *v = (sgc_ckpt_view){0};
}

bool sgc_ckpt_has_slot(const sgc_ckpt *c, sgc_slot slot)
{
    const sgc_manifest *m = &c->manifest;
    for (int file = SGC_FILE_SHARDS; file < m->n_files; file++)
        for (int k = 0; k < m->files[file].n_data; k++)
            if (m->files[file].data[k].slot == slot) return true;
    return false;
}

bool sgc_ckpt_is_weights_only(const sgc_ckpt *c) { return !sgc_ckpt_has_slot(c, SGC_SLOT_EXP_AVG) && !sgc_ckpt_has_slot(c, SGC_SLOT_EXP_AVG_SQ); }

int64_t sgc_ckpt_bytes(const sgc_ckpt *c)
{
    int64_t n_bytes = 0;
    for (int file = 0; file < c->manifest.n_files; file++) n_bytes += c->manifest.files[file].n_bytes;
    return n_bytes;
}

/* A slot's path in front of a name, if there is one; else the name is that of a parameter. */
static const char *split(const char *name, sgc_slot *slot)
{
    name += name[0] == '/';
    for (int s = 0; s < SGC_N_SLOTS; s++) {
        size_t n = strlen(sgc_slot_path[s]);
        if (strncmp(name, sgc_slot_path[s], n) != 0 || name[n] != '/') continue;
        *slot = s;
        return name + n + 1;
    }
    *slot = SGC_SLOT_MODEL;
    return name;
}

sgc_status sgc_ckpt_view_find(const sgc_ckpt_view *v, const char *name, sgc_ckpt_tensor *t)
{
    const char *tensor = split(name, &t->slot), *nearest = NULL;
    int distance = 8;
    if (v->model->options.tie_word_embeddings && strcmp(tensor, "lm_head.weight") == 0) tensor = "wte.weight";
    for (int u = 0; u < v->model->n_units; u++)
        for (int k = 0; k < v->model->units[u].n_params; k++) {
            t->unit = &v->model->units[u];
            t->spec = &t->unit->params[k];
            int d = sgc_edit_distance(tensor, t->spec->name);
            if (d < distance) distance = d, nearest = t->spec->name;
            if (d > 0) continue;
            if (sgc_ckpt_has_slot(v->ckpt, t->slot)) return SGC_OK;
            return sgc_err(SGC_EDATA, "%s holds weights only: there is no %s", v->ckpt->path, sgc_slot_path[t->slot]);
        }
    if (nearest) return sgc_err(SGC_EDATA, "%s has no tensor %s; did you mean %s?", v->ckpt->path, tensor, nearest);
    return sgc_err(SGC_EDATA, "%s has no tensor %s; stagecoach ckpt show %s lists them", v->ckpt->path, tensor, v->ckpt->path);
}

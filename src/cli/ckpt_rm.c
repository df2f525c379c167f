/* stagecoach ckpt rm and prune: what is deleted, and that it is deleted only when asked for. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/ckpt_impl.h"

/* What is to go, in one directory. */
typedef struct victims { char directory[SGC_PATH_MAX], best[SGC_NAME_MAX]; char (*name)[SGC_NAME_MAX]; int64_t *bytes; int n; } victims;

static sgc_status add(victims *v, const char *name, int64_t bytes)
{
    void *names = realloc(v->name, (size_t)(v->n + 1) * sizeof(*v->name));
    if (names) v->name = names;
    int64_t *sizes = realloc(v->bytes, (size_t)(v->n + 1) * sizeof(*v->bytes));
    if (sizes) v->bytes = sizes;
    if (!names || !sizes) return sgc_err(SGC_ENOMEM, "no memory for the list of checkpoints");
    snprintf(v->name[v->n], sizeof(v->name[v->n]), "%s", name);
    v->bytes[v->n++] = bytes;
    return SGC_OK;
}

static void free_victims(victims *v)
{
    free(v->name);
    free(v->bytes);
}

/* The name under which a deletion goes on is longer, so the longest names are left for a shorter one first. */
static sgc_status shorten(const char *directory, char name[SGC_NAME_MAX])
{
    sgc_status st = SGC_OK;
    char id[SGC_ID_CHARS + 1], from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    if (strlen(name) + strlen("..tmp-") + SGC_ID_CHARS <= NAME_MAX) return SGC_OK;
    SGC_TRY(sgc_path_join(from, directory, name));
    sgc_ckpt_new_id(id);
    snprintf(name, SGC_NAME_MAX, ".long-name.tmp-%s", id);
    SGC_TRY(sgc_path_join(to, directory, name));
    if (rename(from, to) != 0) st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", from, to);
done:
    return st;
}

/* Under the lock of the directory, so that no job saves or resumes there. */
static sgc_status delete_all(const victims *v)
{
    sgc_status st = SGC_OK;
    char name[SGC_NAME_MAX];
    bool has_lock = false;
    SGC_TRY(sgc_lock_take_to_delete(v->directory));
    has_lock = true;
    for (int i = 0; i < v->n; i++) {
        if (strcmp(v->name[i], v->best) == 0) SGC_TRY(sgc_ckpt_set_best(v->directory, NULL)); /* first: a link leads somewhere */
        snprintf(name, sizeof(name), "%s", v->name[i]);
        SGC_TRY(shorten(v->directory, name));
        SGC_TRY(sgc_ckpt_delete(v->directory, name));
    }
done:
    if (has_lock) sgc_lock_release();
    return st;
}

static sgc_status act(const victims *v, const sgc_ckpt_arguments *a)
{
    sgc_status st = SGC_OK;
    int64_t n_bytes = 0;
    char size[32];
    for (int i = 0; i < v->n; i++) n_bytes += v->bytes[i];
    if (a->yes && v->n) SGC_TRY(delete_all(v));
    if (a->json) {
        json_t *names = json_array();
        for (int i = 0; i < v->n; i++) json_array_append_new(names, sgc_cli_string(v->name[i]));
        return sgc_cli_print_json(json_pack("{so, sb, so, sI}", "directory", sgc_cli_string(v->directory), "deleted", a->yes, "checkpoints", names, "bytes",
                                            (json_int_t)n_bytes));
    }
    for (int i = 0; i < v->n; i++)
        printf("%s %s/%s (%s)\n", a->yes ? "deleted" : "would delete", v->directory, v->name[i], sgc_format_bytes((double)v->bytes[i], size));
    if (v->n == 0)
        printf("nothing to delete in %s\n", v->directory);
    else
        printf("%s in all%s\n", sgc_format_bytes((double)n_bytes, size), a->yes ? "" : "; add --yes to delete");
done:
    return st;
}

/* A path into its directory and name. "." and ".." name no entry. */
static sgc_status split(const char *path, char directory[SGC_PATH_MAX], char name[SGC_NAME_MAX])
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t begin = n;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    snprintf(name, SGC_NAME_MAX, "%.*s", (int)(n - begin), path + begin);
    if (n >= SGC_PATH_MAX || n - begin >= SGC_NAME_MAX || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || !name[0])
        return sgc_err(SGC_ECONFIG, "'%.200s' does not end in the name of a checkpoint", path);
    snprintf(directory, SGC_PATH_MAX, "%.*s", begin > 1 ? (int)begin - 1 : 1, begin ? path : ".");
    return SGC_OK;
}

static bool is_resumable(const sgc_ckpt_entry *e) { return e->status == SGC_CKPT_COMPLETE && !e->weights_only; }

/* Reads every block. problem: "" if all fit, else what is wrong. Rank 0 alone is here. */
static sgc_status find_damage(const char *directory, const char *name, char problem[1024])
{
    sgc_status st = SGC_OK;
    sgc_group *alone = NULL;
    sgc_ckpt_report r = {0};
    char path[SGC_PATH_MAX];
    problem[0] = '\0';
    SGC_TRY(sgc_path_join(path, directory, name));
    SGC_TRY(sgc_group_null(&alone, 1, 0));
    SGC_TRY(sgc_ckpt_verify(path, alone, &r));
    if (r.n_bad) snprintf(problem, 1024, "%s: %s", r.damages[0].file, r.damages[0].problem);
done:
    sgc_ckpt_report_free(&r);
    if (alone) sgc_group_free(alone);
    return st;
}

/* A newer one stands for one that goes only if its blocks are whole, too: sizes and metadata do not tell. Nor is one kept that is itself damaged. */
static sgc_status check_newer(const char *directory, const sgc_ckpt_entry *entries, int n, int k)
{
    sgc_status st = SGC_OK;
    char problem[1024], newest_problem[1024] = "";
    const char *newest = NULL;
    for (int i = n - 1; i > k; i--) {
        if (!is_resumable(&entries[i]) || strcmp(entries[i].info.run_id, entries[k].info.run_id) != 0) continue;
        SGC_TRY(find_damage(directory, entries[i].name, problem));
        if (!problem[0]) return SGC_OK;
        if (newest) continue;
        newest = entries[i].name;
        memcpy(newest_problem, problem, sizeof(newest_problem));
    }
    SGC_TRY(find_damage(directory, entries[k].name, problem));
    if (newest && !problem[0])
        st = sgc_err(SGC_ECKPT, "%s is the last whole checkpoint of its run, as %s is damaged: %s; add --force to delete it", entries[k].name, newest, newest_problem);
done:
    return st;
}

/* The last complete one of its run, and the best, go only by force. */
static sgc_status check_kept(const sgc_ckpt_entry *entries, int n, int k, const char *best)
{
    const sgc_ckpt_entry *e = &entries[k];
    bool is_last = is_resumable(e);
    for (int i = k + 1; i < n; i++)
        if (is_resumable(&entries[i]) && strcmp(entries[i].info.run_id, e->info.run_id) == 0) is_last = false;
    if (strcmp(e->name, best) == 0) return sgc_err(SGC_ECONFIG, "%s is the best checkpoint of its run; add --force to delete it", e->name);
    if (is_last) return sgc_err(SGC_ECONFIG, "%s is the last whole checkpoint of its run; add --force to delete it", e->name);
    return SGC_OK;
}

/* Of a link, RUN/best above all, only the link would go. */
static sgc_status check_no_link(const char *directory, const char *name)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX], target[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(path, directory, name));
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n >= 0) st = sgc_err(SGC_ECONFIG, "%s is a link to %.*s; give the checkpoint itself", path, (int)n, target);
done:
    return st;
}

/*
 * Only what stagecoach made is deleted. A damaged checkpoint may go: its manifest still begins as ours do, or it has the name of one and
 * a directory of shards. listed: as of sgc_ckpt_list; NULL: one of another name, made by convert or by moving it.
 */
static sgc_status check_is_one(const char *path, const sgc_ckpt_entry *listed)
{
    sgc_status st = SGC_OK;
    char problem[256], shards[SGC_PATH_MAX];
    if (listed && listed->status == SGC_CKPT_PARTIAL) return SGC_OK; /* named by a save or a command that did not finish */
    SGC_TRY(sgc_path_join(shards, path, "shards"));
    if (sgc_ckpt_is_one(path, problem)) {
        bool is_newer = listed && listed->status == SGC_CKPT_NEWER;
        if (problem[0]) sgc_log_warning(is_newer ? "%s is a checkpoint of a newer format: %s" : "%s is a damaged checkpoint: %s", path, problem);
    } else if (listed && sgc_path_exists(shards)) {
        sgc_log_warning("%s is taken for a damaged checkpoint, by its name and its shards: it has no manifest of a checkpoint", path);
    } else {
        st = sgc_err(SGC_EDATA, "%s is no checkpoint", path);
    }
done:
    return st;
}

sgc_status sgc_cli_ckpt_rm(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)group, (void)differs;
    sgc_status st = SGC_OK;
    victims v = {0};
    sgc_ckpt_entry *entries = NULL;
    int n, k = 0;
    char name[SGC_NAME_MAX];
    SGC_TRY(split(a->paths[0], v.directory, name));
    SGC_TRY(check_no_link(v.directory, name));
    SGC_TRY(sgc_ckpt_list(v.directory, &entries, &n));
    SGC_TRY(sgc_ckpt_best(v.directory, v.best));
    while (k < n && strcmp(entries[k].name, name) != 0) k++;
    if (k < n && !a->force) SGC_TRY(check_kept(entries, n, k, v.best));
    if (k < n && !a->force && a->yes && is_resumable(&entries[k])) SGC_TRY(check_newer(v.directory, entries, n, k));
    SGC_TRY(check_is_one(a->paths[0], k < n ? &entries[k] : NULL));
    SGC_TRY(add(&v, name, k < n ? entries[k].bytes : sgc_tree_bytes(a->paths[0])));
    SGC_TRY(act(&v, a));
done:
    free(entries);
    free_victims(&v);
    return st;
}

/* The rules: from the command line, else from the settings in the newest complete checkpoint of the run. */
static sgc_status choose_rules(const sgc_ckpt_arguments *a, const char *directory, const sgc_ckpt_entry *newest, sgc_retention *rules)
{
    sgc_status st = SGC_OK;
    sgc_config config = {0};
    sgc_model *model = NULL;
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(path, directory, newest->name));
    SGC_TRY(sgc_ckpt_model(path, &config, &model));
    rules->limit = a->save_total_limit >= 0 ? a->save_total_limit : config.training.has_save_total_limit ? config.training.save_total_limit : -1;
    rules->keep_every = a->keep_every >= 0 ? a->keep_every : config.checkpoint.keep_every;
    if (rules->limit < 0)
        sgc_log_info("%s was made without save_total_limit: only what did not finish is too much, unless --save_total_limit N is given", path);
done:
    sgc_model_free(model);
    sgc_config_free(&config);
    return st;
}

/* Older ones are what is left to a run whose newest is damaged: every block of it is read before they go. */
static sgc_status check_newest(const char *directory, const char *name)
{
    sgc_status st = SGC_OK;
    char problem[1024];
    SGC_TRY(find_damage(directory, name, problem));
    if (problem[0])
        st = sgc_err(SGC_ECKPT, "nothing is deleted: %s/%s, the newest that would stay, is damaged: %s; delete it first (stagecoach ckpt rm --force)", directory, name,
                     problem);
done:
    return st;
}

sgc_status sgc_cli_ckpt_prune(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)group, (void)differs;
    sgc_status st = SGC_OK;
    victims v = {0};
    sgc_ckpt_entry *entries = NULL;
    bool *surplus = NULL;
    char own[SGC_ID_CHARS + 1]; /* not that of checkpoints of other runs that were copied here */
    int64_t newest_step;
    int n, newest = -1;
    if (snprintf(v.directory, sizeof(v.directory), "%s", a->paths[0]) >= (int)sizeof(v.directory)) {
        st = sgc_err(SGC_ECONFIG, "the path %.60s... is too long", a->paths[0]);
        goto done;
    }
    SGC_TRY(sgc_ckpt_list(v.directory, &entries, &n));
    SGC_TRY(sgc_ckpt_best(v.directory, v.best));
    if (!(surplus = calloc((size_t)n + 1, sizeof(*surplus)))) {
        st = sgc_err(SGC_ENOMEM, "no memory to list %s", v.directory);
        goto done;
    }
    SGC_TRY(sgc_ckpt_newest(v.directory, INT64_MAX, &newest_step, own));
    for (int i = 0; i < n; i++)
        if (is_resumable(&entries[i]) && strcmp(entries[i].info.run_id, own) == 0) newest = i;
    if (newest >= 0) {
        sgc_retention rules = {.best = v.best};
        SGC_TRY(choose_rules(a, v.directory, &entries[newest], &rules));
        sgc_retention_choose(&rules, own, entries, n, surplus);
    }
    bool is_older_to_go = false;
    for (int i = 0; i < n; i++) is_older_to_go |= surplus[i];
    if (a->yes && is_older_to_go) SGC_TRY(check_newest(v.directory, entries[newest].name));
    for (int i = 0; i < n; i++)
        if (surplus[i] || entries[i].status == SGC_CKPT_PARTIAL) SGC_TRY(add(&v, entries[i].name, entries[i].bytes));
    if (newest < 0 && v.n == 0) {
        st = sgc_err(SGC_EDATA, "no complete checkpoint in %s; give the output_dir of a run", v.directory);
        goto done;
    }
    SGC_TRY(act(&v, a));
done:
    free(surplus);
    free(entries);
    free_victims(&v);
    return st;
}

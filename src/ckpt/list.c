/* The checkpoints of a directory: which are there, which is the latest, which are too many, which are of a former run. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/spread_impl.h"

void sgc_ckpt_new_id(char id[SGC_ID_CHARS + 1])
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random)) { /* early in a boot: what differs between processes */
        struct { double time_s; pid_t pid; } seed = {.time_s = sgc_time_s(), .pid = getpid()};
        random = sgc_hash64(&seed, sizeof(seed));
    }
    snprintf(id, SGC_ID_CHARS + 1, "%016" PRIx64, random);
}

bool sgc_ckpt_is_id(const char *text) { return strlen(text) == SGC_ID_CHARS && strspn(text, "0123456789abcdef") == SGC_ID_CHARS; }

/* ".NAME.tmp-ID", as convert, rm and a change of the link to the best name what they have under way. */
static bool has_leftover_name(const char *name)
{
    const char *end = strstr(name, ".tmp-");
    return name[0] == '.' && end && end > name + 1 && sgc_ckpt_is_id(end + strlen(".tmp-"));
}

/* Other programs may have such names too: is it a link to the best, or a directory with nothing but what a checkpoint has? */
static bool is_leftover(const char *name, const char *path, const struct stat *status)
{
    static const char *const ours[] = {".", "..", "shards", "checkpoint.h5", "config.cfg", SGC_MANIFEST_NAME, SGC_NODES_NAME};
    enum { N_OURS = sizeof(ours) / sizeof(ours[0]) };
    DIR *directory;
    bool is_ours = true;
    if (S_ISLNK(status->st_mode)) return strncmp(name, ".best.tmp-", strlen(".best.tmp-")) == 0;
    if (!(directory = opendir(path))) return false;
    for (struct dirent *e; is_ours && (e = readdir(directory));) {
        int k = 0;
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0) n -= 4; /* of a file that was being written */
        while (k < N_OURS && (strncmp(e->d_name, ours[k], n) != 0 || ours[k][n])) k++;
        is_ours = k < N_OURS;
    }
    closedir(directory);
    return is_ours;
}

/* "checkpoint-N", "checkpoint-N.old-ID", ".checkpoint-N.tmp-ID" or ".NAME.tmp-ID" with step -1; false for any other name. */
static bool parse_name(const char *name, int64_t *step, sgc_ckpt_status *status)
{
    static const char prefix[] = "checkpoint-";
    const char *number = name + (name[0] == '.') + strlen(prefix);
    bool is_numbered = strncmp(name + (name[0] == '.'), prefix, strlen(prefix)) == 0;
    size_t n_digits = is_numbered ? strspn(number, "0123456789") : 0;
    bool fits = n_digits > 0 && n_digits <= 18;
    if (name[0] == '.') {
        fits = fits && strncmp(number + n_digits, ".tmp-", 5) == 0 && sgc_ckpt_is_id(number + n_digits + 5);
        *status = SGC_CKPT_PARTIAL;
        *step = fits ? strtoll(number, NULL, 10) : -1;
        return fits || has_leftover_name(name);
    }
    *status = fits && number[n_digits] ? SGC_CKPT_OLD : SGC_CKPT_COMPLETE;
    *step = fits ? strtoll(number, NULL, 10) : -1;
    return fits && (!number[n_digits] || strncmp(number + n_digits, ".old-", 5) == 0);
}

int64_t sgc_tree_bytes(const char *path)
{
    int64_t n_bytes = 0;
    DIR *directory = opendir(path);
    if (!directory) return 0;
    for (struct dirent *e; (e = readdir(directory));) {
        char child[SGC_PATH_MAX];
        struct stat status;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (snprintf(child, sizeof(child), "%s/%s", path, e->d_name) >= (int)sizeof(child) || lstat(child, &status) != 0) continue;
        n_bytes += S_ISDIR(status.st_mode) ? sgc_tree_bytes(child) : (int64_t)status.st_size;
    }
    closedir(directory);
    return n_bytes;
}

/* What a node holds of a checkpoint is not damaged for lack of the rest. */
static bool is_part(sgc_ckpt_entry *e, const char *path)
{
    sgc_nodes nodes;
    bool is = sgc_nodes_read(&nodes, path) == SGC_OK && nodes.n_nodes > 1;
    if (is) snprintf(e->problem, sizeof(e->problem), "node %d's of %d, redundancy %s", nodes.node, nodes.n_nodes, nodes.redundancy);
    sgc_err_clear();
    sgc_nodes_free(&nodes);
    return is;
}

/* What the program knows of a checkpoint that it cannot read: whose it is, and whether it is only of a later format. */
static void tell_damaged(sgc_ckpt_entry *e, const char *path)
{
    sgc_ckpt *c = NULL;
    char file[SGC_PATH_MAX], *text = NULL;
    size_t n_bytes;
    if (sgc_ckpt_open_part(&c, path) == SGC_OK) memcpy(e->info.run_id, sgc_ckpt_get_info(c)->run_id, sizeof(e->info.run_id));
    else if (sgc_path_join(file, path, SGC_MANIFEST_NAME) == SGC_OK && sgc_read_file(file, &text, &n_bytes) == SGC_OK)
        if (e->status == SGC_CKPT_DAMAGED && sgc_manifest_is_newer(text, n_bytes)) e->status = SGC_CKPT_NEWER;
    sgc_err_clear();
    sgc_ckpt_close(c);
    free(text);
}

static void inspect(sgc_ckpt_entry *e, const char *path)
{
    sgc_ckpt *c = NULL;
    char nodes[SGC_PATH_MAX];
    e->bytes = sgc_tree_bytes(path);
    if (e->status == SGC_CKPT_PARTIAL) return;
    e->is_local = sgc_path_join(nodes, path, SGC_NODES_NAME) == SGC_OK && sgc_path_exists(nodes);
    sgc_err_clear();
    bool part = is_part(e, path);
    if ((part ? sgc_ckpt_open_part(&c, path) : sgc_ckpt_open_local(&c, path)) == SGC_OK) {
        e->info = *sgc_ckpt_get_info(c);
        e->weights_only = sgc_ckpt_is_weights_only(c);
        if (e->status == SGC_CKPT_COMPLETE && part) e->status = SGC_CKPT_PART;
        if (e->status != SGC_CKPT_OLD && e->info.step != e->step) {
            e->status = SGC_CKPT_DAMAGED;
            snprintf(e->problem, sizeof(e->problem), "it holds step %" PRId64, e->info.step);
        }
    } else {
        if (e->status == SGC_CKPT_COMPLETE) e->status = SGC_CKPT_DAMAGED;
        snprintf(e->problem, sizeof(e->problem), "%s", sgc_err_message());
        sgc_err_clear();
        tell_damaged(e, path);
    }
    sgc_ckpt_close(c);
}

static int by_step(const void *a, const void *b)
{
    const sgc_ckpt_entry *x = a, *y = b;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    return strcmp(x->name, y->name);
}

sgc_status sgc_ckpt_list(const char *output_dir, sgc_ckpt_entry **entries, int *n)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *list = NULL;
    int n_list = 0;
    DIR *directory = opendir(output_dir);
    *entries = NULL;
    *n = 0;
    if (!directory) return sgc_err_errno(SGC_EDATA, "cannot list %s", output_dir);
    for (struct dirent *d; (d = readdir(directory));) {
        sgc_ckpt_entry e = {0};
        char path[SGC_PATH_MAX];
        struct stat status;
        if (!parse_name(d->d_name, &e.step, &e.status)) continue;
        SGC_TRY(sgc_path_join(path, output_dir, d->d_name));
        /* a link to a checkpoint is one; what is left of a change of the link to the best is not */
        if ((e.status == SGC_CKPT_PARTIAL ? lstat : stat)(path, &status) != 0) continue;
        if (e.step < 0 ? !is_leftover(d->d_name, path, &status) : !S_ISDIR(status.st_mode)) continue;
        snprintf(e.name, sizeof(e.name), "%s", d->d_name);
        if (S_ISDIR(status.st_mode)) inspect(&e, path);
        sgc_ckpt_entry *more = realloc(list, (size_t)(n_list + 1) * sizeof(*list));
        if (!more) {
            st = sgc_err(SGC_ENOMEM, "no memory to list %s", output_dir);
            goto done;
        }
        list = more;
        list[n_list++] = e;
    }
    if (n_list) qsort(list, (size_t)n_list, sizeof(*list), by_step);
    *entries = list;
    *n = n_list;
    list = NULL;
done:
    closedir(directory);
    free(list);
    return st;
}

/* Without a run.json the newest before before_step that tells its run is asked, be it damaged; not those of weights, which somebody made. */
static void own_run_of(const char *output_dir, const sgc_ckpt_entry *entries, int n, int64_t before_step, char id[SGC_ID_CHARS + 1])
{
    sgc_home home;
    sgc_home_read(output_dir, &home);
    memcpy(id, home.run_id, SGC_ID_CHARS + 1);
    for (int i = n - 1; i >= 0 && !id[0]; i--) {
        const sgc_ckpt_entry *e = &entries[i];
        if (e->status != SGC_CKPT_COMPLETE && e->status != SGC_CKPT_DAMAGED) continue;
        if (!e->weights_only && e->step < before_step) memcpy(id, e->info.run_id, SGC_ID_CHARS + 1);
    }
}

/* Checkpoints of another run that were copied here are never this run's latest, whatever became of its own. */
static bool is_foreign(const sgc_ckpt_entry *e, const char *own)
{
    return (e->status == SGC_CKPT_COMPLETE || e->status == SGC_CKPT_DAMAGED) && own[0] && e->info.run_id[0] && strcmp(e->info.run_id, own) != 0;
}

static sgc_status only_foreign(const char *output_dir, const sgc_ckpt_entry *entries, int n, const char *own)
{
    sgc_str names = {0};
    for (int i = n - 1; i >= 0; i--) {
        const sgc_ckpt_entry *e = &entries[i];
        if (e->status != SGC_CKPT_COMPLETE && e->status != SGC_CKPT_DAMAGED && e->status != SGC_CKPT_NEWER) continue;
        sgc_str_printf(&names, "%s%s is %s%s", names.n ? ", " : "", e->name, is_foreign(e, own) ? "of run " : e->weights_only ? "of weights only" :
                       e->status == SGC_CKPT_NEWER ? "of a newer version of stagecoach" : "damaged", is_foreign(e, own) ? e->info.run_id : "");
    }
    sgc_status st = sgc_err(SGC_ECKPT, "no checkpoint of run %s, to which %s belongs, can be used: %s; to go on from one of another run, name its path",
                            own, output_dir, names.text);
    sgc_str_free(&names);
    return st;
}

sgc_status sgc_ckpt_latest(const char *output_dir, int64_t before_step, bool strict, bool with_states, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    char own[SGC_ID_CHARS + 1];
    int n, n_foreign = 0;
    path[0] = '\0';
    if (!sgc_path_exists(output_dir)) return SGC_OK;
    SGC_TRY(sgc_ckpt_list(output_dir, &entries, &n));
    own_run_of(output_dir, entries, n, INT64_MAX, own);
    for (int i = n - 1; i >= 0 && !path[0]; i--) {
        const sgc_ckpt_entry *e = &entries[i];
        if (e->step >= before_step) continue;
        if (is_foreign(e, own)) {
            sgc_log_warning("%s is passed over: it is of another run, %s; this directory's is %s", e->name, e->info.run_id, own);
            n_foreign++;
            continue;
        }
        if (e->status == SGC_CKPT_COMPLETE && with_states && e->weights_only)
            sgc_log_warning("%s is passed over: it holds weights only, without the states of the optimizer; --model.init_from starts a new run from it", e->name);
        else if (e->status == SGC_CKPT_COMPLETE)
            SGC_TRY(sgc_path_join(path, output_dir, e->name));
        if (e->status != SGC_CKPT_DAMAGED && e->status != SGC_CKPT_NEWER) continue;
        if (strict) {
            bool is_newer = e->status == SGC_CKPT_NEWER;
            st = sgc_err(SGC_ECKPT, "%s %s: %s; %s allow an older one with --checkpoint.resume_strict false", e->name,
                         is_newer ? "is of a newer version of stagecoach" : "is damaged", e->problem, is_newer ? "or" : "remove it, or");
            goto done;
        }
        sgc_log_warning("%s is passed over: %s", e->name, e->problem);
    }
    if (!path[0] && n_foreign > 0 && before_step == INT64_MAX) st = only_foreign(output_dir, entries, n, own);
done:
    free(entries);
    return st;
}

sgc_status sgc_ckpt_newest(const char *output_dir, int64_t before_step, int64_t *step, char run_id[SGC_ID_CHARS + 1])
{
    sgc_ckpt_entry *entries = NULL;
    int n = 0;
    sgc_status st = sgc_ckpt_list(output_dir, &entries, &n);
    *step = -1;
    run_id[0] = '\0';
    if (st == SGC_OK) own_run_of(output_dir, entries, n, before_step, run_id);
    for (int i = 0; st == SGC_OK && i < n; i++) {
        const sgc_ckpt_entry *e = &entries[i];
        if (e->status != SGC_CKPT_COMPLETE || e->weights_only || e->step >= before_step || strcmp(e->info.run_id, run_id) != 0) continue;
        *step = e->step;
    }
    free(entries);
    return st;
}

sgc_status sgc_ckpt_delete(const char *output_dir, const char *entry)
{
    sgc_status st = SGC_OK;
    char id[SGC_ID_CHARS + 1], name[sizeof(((sgc_ckpt_entry *)0)->name) + SGC_ID_CHARS + 8], from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    sgc_ckpt_new_id(id);
    snprintf(name, sizeof(name), "%s%.*s.tmp-%s", entry[0] == '.' ? "" : ".", (int)strcspn(entry + 1, ".") + 1, entry, id);
    SGC_TRY(sgc_path_join(from, output_dir, entry));
    SGC_TRY(sgc_path_join(to, output_dir, name));
    if (rename(from, to) != 0) return sgc_err_errno(SGC_EIO, "cannot rename %s to %s", from, to);
    SGC_TRY(sgc_fsync_path(output_dir)); /* or after a power failure the old name may come back, half empty */
    SGC_TRY(sgc_remove_tree(to));
done:
    return st;
}

void sgc_retention_choose(const sgc_retention *rules, const char *run_id, const sgc_ckpt_entry *entries, int n, bool *surplus)
{
    int64_t n_counted = 0;
    int newest = -1;
    for (int i = 0; i < n; i++) {
        const sgc_ckpt_entry *e = &entries[i];
        bool is_own = e->status == SGC_CKPT_COMPLETE && strcmp(e->info.run_id, run_id) == 0 && !e->weights_only; /* those somebody made */
        surplus[i] = rules->limit >= 0 && is_own && !(rules->keep_every > 0 && e->step % rules->keep_every == 0);
        n_counted += surplus[i];
        if (is_own) newest = i;
    }
    for (int i = 0; i < n; i++) {
        if (!surplus[i]) continue;
        surplus[i] = n_counted > rules->limit && i != newest && !(rules->best && strcmp(entries[i].name, rules->best) == 0);
        n_counted -= surplus[i];
    }
}

sgc_status sgc_ckpt_rotate(const char *output_dir, const char *run_id, const sgc_retention *rules)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    bool *surplus = NULL;
    int n;
    SGC_TRY(sgc_ckpt_list(output_dir, &entries, &n));
    if (!(surplus = calloc((size_t)n + 1, sizeof(*surplus)))) {
        st = sgc_err(SGC_ENOMEM, "no memory to list %s", output_dir);
        goto done;
    }
    sgc_retention_choose(rules, run_id, entries, n, surplus);
    for (int i = 0; i < n; i++) {
        if (!surplus[i]) continue;
        SGC_TRY(sgc_ckpt_delete(output_dir, entries[i].name));
        sgc_log_info("%s of %s deleted (save_total_limit)", entries[i].name, output_dir);
    }
done:
    free(surplus);
    free(entries);
    return st;
}

/* What does not tell its run may be anybody's: of a later version of the program, too. */
static bool is_of(const sgc_ckpt_entry *e, const char *run_id) { return strcmp(e->info.run_id, run_id) == 0; }

sgc_status sgc_ckpt_prune_local(const char *local_dir, const char *run_id, int n_kept)
{
    sgc_status st = SGC_OK;
    sgc_ckpt_entry *entries = NULL;
    int n, n_there = 0;
    SGC_TRY(sgc_ckpt_list(local_dir, &entries, &n));
    for (int i = n - 1; i >= 0; i--) {
        if (entries[i].status == SGC_CKPT_PARTIAL || !entries[i].is_local || !is_of(&entries[i], run_id)) continue;
        if (entries[i].status == SGC_CKPT_OLD || ++n_there > n_kept) SGC_TRY(sgc_ckpt_delete(local_dir, entries[i].name));
    }
done:
    free(entries);
    return st;
}

sgc_status sgc_ckpt_local_dir(char path[SGC_PATH_MAX], const char *local_dir, const char *local_id) { return sgc_path_join(path, local_dir, local_id); }

void sgc_ckpt_name_others(const char *local_dir, const char *local_id)
{
    DIR *directory = opendir(local_dir);
    if (!directory) return;
    for (struct dirent *d; (d = readdir(directory));) {
        char path[SGC_PATH_MAX];
        sgc_ckpt_entry *entries = NULL;
        int n = 0;
        if (!sgc_ckpt_is_id(d->d_name) || strcmp(d->d_name, local_id) == 0) continue;
        if (sgc_path_join(path, local_dir, d->d_name) == SGC_OK && sgc_ckpt_list(path, &entries, &n) == SGC_OK && n > 0)
            sgc_log_warning("%s is of another run, and stays: remove it when that run is over", path);
        sgc_err_clear();
        free(entries);
    }
    closedir(directory);
}

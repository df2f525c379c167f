/* Every block of every file against the manifest; what is damaged by file, block, tensor and rank. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "ckpt/inspect.h"
#include "ckpt/recover_impl.h"

/* Damaged blocks of a file that follow each other. first -1: the file as a whole. */
typedef struct span { int64_t file, first, last, error; } span; /* error: errno, 0: the hash does not fit */

typedef struct spans { span *list; int64_t n; } spans;

static sgc_status add_span(spans *s, span one)
{
    span *last = s->n ? &s->list[s->n - 1] : NULL;
    if (last && one.first >= 0 && last->file == one.file && last->last + 1 == one.first && last->error == one.error) {
        last->last = one.last;
        return SGC_OK;
    }
    span *more = realloc(s->list, (size_t)(s->n + 1) * sizeof(*more));
    if (!more) return sgc_err(SGC_ENOMEM, "no memory for the list of damages");
    s->list = more;
    s->list[s->n++] = one;
    return SGC_OK;
}

static sgc_status path_of(const sgc_manifest *m, const char *directory, int file, char path[SGC_PATH_MAX])
{
    char name[64];
    sgc_manifest_path(name, file, m->n_shard_files);
    return sgc_path_join(path, directory, name);
}

/* Whether the directory is one node's part of a checkpoint, by its text `nodes`; damaged: it is one, but of whom and with what is not known. */
typedef struct part { bool is_one, is_damaged; char problem[512]; sgc_nodes nodes; } part;

static void read_part(part *p, const char *directory)
{
    char path[SGC_PATH_MAX];
    *p = (part){0};
    sgc_status st = sgc_nodes_read(&p->nodes, directory);
    if (st == SGC_OK) {
        p->is_one = p->nodes.n_nodes > 1;
        return;
    }
    p->is_one = p->is_damaged = st == SGC_ECKPT || (sgc_path_join(path, directory, SGC_NODES_NAME) == SGC_OK && sgc_path_exists(path));
    snprintf(p->problem, sizeof(p->problem), "%.*s", (int)sizeof(p->problem) - 1, sgc_err_message());
    sgc_err_clear();
}

enum { HOLDS_FILE = 1, HOLDS_PARITY = 2 };

/* What the node of a part holds of a shard file, as the sets tell: there are none without redundancy. */
static int duty(const sgc_nodes *n, int shard_file)
{
    int held = 0;
    bool has_parity = strcmp(n->redundancy, "xor") == 0, has_partner = strcmp(n->redundancy, "partner") == 0;
    for (int s = 0; s < n->n_sets; s++) {
        const int *set = n->sets + (size_t)s * (size_t)n->n_nodes;
        if (set[n->node] == shard_file) held |= has_parity ? HOLDS_FILE | HOLDS_PARITY : HOLDS_FILE;
        if (has_partner && set[(n->node + n->n_nodes - 1) % n->n_nodes] == shard_file) held |= HOLDS_FILE;
    }
    return held;
}

/* Of a node's part: a shard file that is not here and need not be. */
static bool is_elsewhere(const sgc_manifest *m, const char *directory, int file, const part *p)
{
    char path[SGC_PATH_MAX];
    if (!p->is_one || file < SGC_FILE_SHARDS || (duty(&p->nodes, file - SGC_FILE_SHARDS) & HOLDS_FILE)) return false;
    bool is = path_of(m, directory, file, path) == SGC_OK && !sgc_path_exists(path);
    sgc_err_clear();
    return is;
}

/* Blocks [first, end) of a file, if it is there in its size. */
static sgc_status check_file(const sgc_manifest *m, const char *directory, int file, int64_t first, int64_t end, char *block, spans *bad)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    const sgc_manifest_file *f = &m->files[file];
    struct stat status;
    int fd = -1;
    SGC_TRY(path_of(m, directory, file, path));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0 || fstat(fd, &status) != 0) {
        st = add_span(bad, (span){.file = file, .first = -1, .last = -1, .error = errno});
        goto done;
    }
    if (!S_ISREG(status.st_mode) || status.st_size != f->n_bytes) {
        st = add_span(bad, (span){.file = file, .first = -1, .last = -1});
        goto done;
    }
    for (int64_t k = first; k < end; k++) {
        int64_t offset = k * m->block_size, n = f->n_bytes - offset < m->block_size ? f->n_bytes - offset : m->block_size;
        if (sgc_pread_all(fd, block, (size_t)n, offset, path) != SGC_OK) {
            sgc_err_clear();
            SGC_TRY(add_span(bad, (span){.file = file, .first = k, .last = k, .error = EIO}));
        } else if (sgc_hash64(block, (size_t)n) != f->hash[k]) {
            SGC_TRY(add_span(bad, (span){.file = file, .first = k, .last = k}));
        }
    }
done:
    if (fd >= 0) close(fd);
    return st;
}

/* This rank's part of all blocks; rank 0 also looks at files without blocks. */
static sgc_status check_share(const sgc_manifest *m, const char *directory, const part *p, const sgc_group *group, int64_t n_blocks, spans *bad)
{
    sgc_status st = SGC_OK;
    int64_t rank = sgc_group_rank(group), size = sgc_group_size(group), before = 0;
    int64_t begin = n_blocks / size * rank + n_blocks % size * rank / size;
    int64_t end = n_blocks / size * (rank + 1) + n_blocks % size * (rank + 1) / size;
    char *block = sgc_mem_alloc(SGC_MEM_CHECKPOINT, (size_t)m->block_size);
    if (!block) return SGC_ENOMEM;
    for (int file = 0; file < m->n_files; file++) {
        if (is_elsewhere(m, directory, file, p)) continue;
        int64_t n = m->files[file].n_blocks;
        int64_t first = begin > before ? begin - before : 0, last = end - before < n ? end - before : n;
        if (first < last || rank == 0) SGC_TRY(check_file(m, directory, file, first, last, block, bad));
        before += n;
    }
done:
    sgc_mem_free(block);
    return st;
}

/* Names of the tensors below the damaged bytes, and whose shards those are. */
static void name_tensors(const sgc_manifest *m, const sgc_model *model, sgc_ckpt_damage *d, int file)
{
    enum { SHOWN = 6 };
    const sgc_manifest_file *f = &m->files[file];
    int n_named = 0;
    int64_t bytes = sgc_dtype_bytes(m->dtype);
    sgc_str names = {0};
    for (int k = 0; k < f->n_data; k++) {
        const sgc_manifest_data *data = &f->data[k];
        int64_t from = (d->first_byte - data->offset) / bytes, to = (d->last_byte - data->offset) / bytes; /* elements of the dataset */
        if (d->last_byte < data->offset || from >= data->n) continue;
        if (d->first_byte < data->offset) from = 0;
        if (to >= data->n) to = data->n - 1;
        if (d->first_rank < 0 || data->shard < d->first_rank) d->first_rank = data->shard;
        if (data->shard > d->last_rank) d->last_rank = data->shard;
        const sgc_unit *unit = NULL;
        for (int u = 0; model && u < model->n_units; u++)
            if (strcmp(model->units[u].name, data->unit) == 0) unit = &model->units[u];
        for (int i = 0; unit && i < unit->n_params; i++) {
            const sgc_param_spec *p = &unit->params[i];
            int64_t first = data->shard * data->n + from, last = data->shard * data->n + to;
            if (last < p->offset || first >= p->offset + p->n) continue;
            if (n_named++ < SHOWN) sgc_str_printf(&names, "%s%s/%s", names.n ? ", " : "", sgc_slot_path[data->slot], p->name);
        }
        if (!unit && n_named++ < SHOWN)
            sgc_str_printf(&names, "%s%s of unit %s", names.n ? ", " : "", sgc_slot_path[data->slot], data->unit);
    }
    if (n_named > SHOWN) sgc_str_printf(&names, " and %d more", n_named - SHOWN);
    if (!names.n) sgc_str_printf(&names, "%s", file < SGC_FILE_SHARDS ? "" : "no tensor: padding or metadata of HDF5");
    d->tensors = names.text;
}

static sgc_status describe(const sgc_manifest *m, const char *directory, const sgc_model *model, const span *s, sgc_ckpt_damage *d)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    struct stat status;
    const sgc_manifest_file *f = &m->files[s->file];
    *d = (sgc_ckpt_damage){.first_block = s->first, .last_block = s->last, .first_rank = -1, .last_rank = -1};
    sgc_manifest_path(d->file, (int)s->file, m->n_shard_files);
    SGC_TRY(path_of(m, directory, (int)s->file, path));
    d->first_byte = s->first < 0 ? 0 : s->first * m->block_size;
    d->last_byte = s->first < 0 || (s->last + 1) * m->block_size > f->n_bytes ? f->n_bytes - 1 : (s->last + 1) * m->block_size - 1;
    name_tensors(m, model, d, (int)s->file);
    if (s->error)
        snprintf(d->problem, sizeof(d->problem), "cannot be read: %s", strerror((int)s->error));
    else if (s->first >= 0)
        snprintf(d->problem, sizeof(d->problem), "does not fit its hash");
    else if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
        snprintf(d->problem, sizeof(d->problem), "has %" PRId64 " bytes instead of %" PRId64, (int64_t)status.st_size, f->n_bytes);
    else
        snprintf(d->problem, sizeof(d->problem), "is no file");
done:
    return st;
}

static int by_place(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

/* Rank 0: the spans of all ranks, joined where they meet; a file that several ranks could not open once. */
static sgc_status join(span *all, int64_t n_all, spans *joined)
{
    sgc_status st = SGC_OK;
    qsort(all, (size_t)n_all, sizeof(*all), by_place);
    for (int64_t i = 0; i < n_all; i++) {
        const span *last = joined->n ? &joined->list[joined->n - 1] : NULL;
        if (last && all[i].first < 0 && last->file == all[i].file) continue;
        SGC_TRY(add_span(joined, all[i]));
    }
done:
    return st;
}

static sgc_status add_damage(sgc_ckpt_report *r, const sgc_ckpt_damage *d)
{
    sgc_ckpt_damage *more = realloc(r->damages, (size_t)(r->n_damages + 1) * sizeof(*more));
    if (!more) return sgc_err(SGC_ENOMEM, "no memory for the list of damages");
    r->damages = more;
    r->damages[r->n_damages++] = *d;
    return SGC_OK;
}

/* The message of the last error becomes a damage of a file as a whole. */
static sgc_status add_message(sgc_ckpt_report *r, const char *file)
{
    sgc_ckpt_damage d = {.first_block = -1, .last_block = -1, .first_rank = -1, .last_rank = -1, .last_byte = -1};
    snprintf(d.file, sizeof(d.file), "%s", file);
    snprintf(d.problem, sizeof(d.problem), "%.*s", (int)sizeof(d.problem) - 1, sgc_err_message());
    sgc_err_clear();
    return add_damage(r, &d);
}

/* The message becomes a damage of a file as a whole. */
static sgc_status add_problem(sgc_ckpt_report *r, const char *file, const char *problem)
{
    sgc_err_clear();
    sgc_err(SGC_ECKPT, "%s", problem);
    return add_message(r, file);
}

static sgc_status check_parities(sgc_ckpt_report *r, const char *path, const sgc_manifest *m, const sgc_nodes *nodes)
{
    sgc_status st = SGC_OK;
    char name[64];
    for (int k = 0; k < m->n_shard_files; k++) {
        int64_t n_bytes = sgc_parity_bytes(m->files[SGC_FILE_SHARDS + k].n_bytes, nodes->n_nodes);
        sgc_parity_path(name, k);
        bool is_here = sgc_part_file_bytes(path, name) >= 0;
        if (!is_here && (duty(nodes, k) & HOLDS_PARITY)) SGC_TRY(add_problem(r, name, "is no file"));
        if (!is_here) continue;
        r->n_files++;
        r->n_bytes += n_bytes + SGC_PARITY_END_BYTES;
        if (!sgc_parity_fits(path, k, n_bytes)) SGC_TRY(add_problem(r, name, "does not fit its hash"));
    }
done:
    return st;
}

/* Rank 0: where no sets tell what a node holds, it is at least one shard file, as every node has a rank. */
static sgc_status check_some_shard(sgc_ckpt_report *r, const char *path, const sgc_manifest *m, const part *p)
{
    for (int file = SGC_FILE_SHARDS; file < m->n_files; file++)
        if (!is_elsewhere(m, path, file, p)) return SGC_OK;
    return add_problem(r, "shards", "no shard file of this node is here");
}

/* Units and tensors can be told where shards are damaged and the settings are not: these are not parsed then. */
static bool names_tensors(const spans *s)
{
    bool in_shards = false;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->list[i].file == SGC_FILE_CONFIG) return false;
        in_shards = in_shards || s->list[i].file >= SGC_FILE_SHARDS;
    }
    return in_shards;
}

/* Rank 0: from spans to damages. With bytes that all fit, what they say must fit too. */
static sgc_status report_local(sgc_ckpt_report *r, const char *path, const sgc_manifest *m, const part *p, span *all, int64_t n_all)
{
    sgc_status st = SGC_OK;
    spans joined = {0};
    sgc_ckpt *c = NULL;
    sgc_config config = {0};
    sgc_model *model = NULL;
    if (p->is_damaged) SGC_TRY(add_problem(r, SGC_NODES_NAME, p->problem));
    SGC_TRY(join(all, n_all, &joined));
    if (names_tensors(&joined) && sgc_ckpt_model(path, &config, &model) != SGC_OK) sgc_err_clear(); /* units are named then */
    for (int64_t i = 0; i < joined.n; i++) {
        sgc_ckpt_damage d;
        SGC_TRY(describe(m, path, model, &joined.list[i], &d));
        SGC_TRY(add_damage(r, &d));
    }
    if (p->is_one && !p->is_damaged) SGC_TRY(check_parities(r, path, m, &p->nodes));
    if (p->is_one) SGC_TRY(check_some_shard(r, path, m, p));
    if (joined.n) goto done;
    if ((p->is_one ? sgc_ckpt_open_part(&c, path) : sgc_ckpt_open_local(&c, path)) != SGC_OK)
        SGC_TRY(add_message(r, "checkpoint.h5"));
    else if (sgc_ckpt_model(path, &config, &model) != SGC_OK)
        SGC_TRY(add_message(r, "config.cfg"));
done:
    sgc_ckpt_close(c);
    sgc_model_free(model);
    sgc_config_free(&config);
    free(joined.list);
    return st;
}

/* Does a file begin with the first line of a manifest? What is no file, a pipe above all, is not waited for. */
static bool has_title(const char *file)
{
    char line[sizeof(SGC_MANIFEST_TITLE)];
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool has = fd >= 0 && read(fd, line, sizeof(line)) == (ssize_t)sizeof(line) && memcmp(line, SGC_MANIFEST_TITLE "\n", sizeof(line)) == 0;
    if (fd >= 0) close(fd);
    return has;
}

bool sgc_ckpt_is_one(const char *path, char problem[256])
{
    sgc_ckpt *c = NULL;
    char file[SGC_PATH_MAX];
    problem[0] = '\0';
    if (sgc_path_join(file, path, SGC_MANIFEST_NAME) != SGC_OK || !has_title(file)) {
        sgc_err_clear();
        return false;
    }
    if (sgc_ckpt_open_part(&c, path) != SGC_OK) snprintf(problem, 256, "%.255s", sgc_err_message());
    sgc_err_clear();
    sgc_ckpt_close(c);
    return true;
}

bool sgc_ckpt_has_part(const char *path)
{
    static const char *const parts[] = {SGC_MANIFEST_NAME, "checkpoint.h5", "shards"};
    char file[SGC_PATH_MAX];
    bool has = false;
    for (size_t k = 0; k < sizeof(parts) / sizeof(*parts) && !has; k++)
        has = sgc_path_join(file, path, parts[k]) == SGC_OK && sgc_path_exists(file);
    sgc_err_clear();
    return has;
}

/* The manifest as rank 0 sees it, on all ranks. */
static sgc_status share_manifest(sgc_manifest *m, const char *path, sgc_group *group, char **text, int64_t *n_bytes)
{
    sgc_status st = SGC_OK;
    char file[SGC_PATH_MAX];
    size_t size = 0;
    bool is_root = sgc_group_rank(group) == 0;
    if (is_root && (st = sgc_path_join(file, path, SGC_MANIFEST_NAME)) == SGC_OK) st = sgc_read_plain_file(file, text, &size);
    SGC_AGREE(group);
    *n_bytes = (int64_t)size;
    SGC_TRY(sgc_bcast_bytes(group, n_bytes, sizeof(*n_bytes), 0));
    if (!is_root && !(*text = malloc((size_t)*n_bytes + 1))) st = sgc_err(SGC_ENOMEM, "no memory for the manifest of %s", path);
    SGC_AGREE(group);
    SGC_TRY(sgc_bcast_bytes(group, *text, *n_bytes, 0));
    st = sgc_path_join(file, path, SGC_MANIFEST_NAME);
    if (st == SGC_OK) st = sgc_manifest_parse(m, *text, (size_t)*n_bytes, file);
    SGC_AGREE(group);
done:
    return st;
}

sgc_status sgc_ckpt_verify(const char *path, sgc_group *group, sgc_ckpt_report *r)
{
    sgc_status st = SGC_OK;
    sgc_manifest m = {0};
    spans bad = {0};
    char *text = NULL, *all = NULL;
    int64_t *n_bytes_of = NULL, n_bytes = 0, n_manifest_bytes;
    bool is_root = sgc_group_rank(group) == 0;
    double start_s = sgc_time_s();
    *r = (sgc_ckpt_report){0};
    part p;
    read_part(&p, path);
    if (p.is_one && !p.is_damaged) {
        r->n_nodes = p.nodes.n_nodes;
        r->node = p.nodes.node;
    }
    st = share_manifest(&m, path, group, &text, &n_manifest_bytes);
    if (st == SGC_ECKPT || st == SGC_EDATA) { /* agreed on */
        st = SGC_OK;
        if (is_root) st = add_message(r, SGC_MANIFEST_NAME);
        sgc_err_clear();
        SGC_AGREE(group);
        r->n_bad = 1;
        r->is_none = !sgc_ckpt_has_part(path);
        r->is_newer = text && sgc_manifest_is_newer(text, (size_t)n_manifest_bytes);
        goto done;
    }
    if (st != SGC_OK) goto done;
    for (int file = 0; file < m.n_files; file++) {
        if (is_elsewhere(&m, path, file, &p)) continue;
        r->n_files++;
        r->n_blocks += m.files[file].n_blocks;
        r->n_bytes += m.files[file].n_bytes;
    }
    r->n_files++; /* the manifest */
    r->n_bytes += n_manifest_bytes;
    if (!(n_bytes_of = calloc((size_t)sgc_group_size(group), sizeof(*n_bytes_of))))
        st = sgc_err(SGC_ENOMEM, "no memory for the list of damages");
    else
        st = check_share(&m, path, &p, group, r->n_blocks, &bad);
    SGC_AGREE(group);
    SGC_TRY(sgc_gather_bytes(group, bad.list, bad.n * (int64_t)sizeof(span), &all, n_bytes_of, 0));
    for (int rank = 0; is_root && rank < sgc_group_size(group); rank++) n_bytes += n_bytes_of[rank];
    if (is_root) st = report_local(r, path, &m, &p, (span *)(void *)all, n_bytes / (int64_t)sizeof(span));
    SGC_AGREE(group);
    r->n_bad = r->n_damages;
    SGC_TRY(sgc_bcast_bytes(group, &r->n_bad, sizeof(r->n_bad), 0));
done:
    r->seconds = sgc_time_s() - start_s;
    sgc_nodes_free(&p.nodes);
    sgc_manifest_free(&m);
    free(bad.list);
    free(n_bytes_of);
    free(all);
    free(text);
    return st;
}

void sgc_ckpt_report_free(sgc_ckpt_report *r)
{
    for (int i = 0; i < r->n_damages; i++) free(r->damages[i].tensors);
    free(r->damages);
    *r = (sgc_ckpt_report){0};
}

/*
 * Recovery of a node-local checkpoint: nodes say what they have, rank 0 looks whether shards, copies and parities make it whole, the nodes
 * copy their files to the shared directory, what is missing is made of parities, and the result is published as any checkpoint is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/spread_impl.h"

enum { PIECE_BYTES = 1 << 20, N_NODES_MAX = 16384 };

/* One node-local checkpoint as one node has it. Sent as it is, with file_there and parity_there after it. */
typedef struct holding {
    int64_t step, n_file_bytes;
    char id[SGC_ID_CHARS + 1];
    int n_files, n_nodes;
    int rank;                 /* of the node's keeper */
    int set_bytes;            /* of the text "set ..." lines that follow */
} holding;

static int64_t file_bytes(const char *directory, const char *name)
{
    char path[SGC_PATH_MAX];
    struct stat status;
    if (sgc_path_join(path, directory, name) != SGC_OK || stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return -1;
    return (int64_t)status.st_size;
}

/* Is a file of a manifest there, with every block as its hash says? */
static bool fits(const char *directory, const sgc_manifest *m, int file)
{
    const sgc_manifest_file *f = &m->files[file];
    char name[64], path[SGC_PATH_MAX];
    int64_t k = 0;
    sgc_manifest_path(name, file, m->n_shard_files);
    if (file_bytes(directory, name) != f->n_bytes || sgc_path_join(path, directory, name) != SGC_OK) return false;
    void *block = malloc((size_t)(f->n_bytes < m->block_size ? f->n_bytes : m->block_size) + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (; block && fd >= 0 && k < f->n_blocks; k++) {
        int64_t offset = k * m->block_size, n = f->n_bytes - offset < m->block_size ? f->n_bytes - offset : m->block_size;
        if (sgc_pread_all(fd, block, (size_t)n, offset, path) != SGC_OK || sgc_hash64(block, (size_t)n) != f->hash[k]) break;
    }
    if (fd >= 0) close(fd);
    free(block);
    return k == f->n_blocks;
}

/* Which shard files of a manifest are there as it says; and parities, in their size. [n_files] each. */
static void look(const char *directory, const sgc_manifest *m, int n_nodes, char *has_file, char *has_parity)
{
    char name[64];
    for (int k = 0; k < m->n_shard_files; k++) {
        int64_t n_bytes = m->files[SGC_FILE_SHARDS + k].n_bytes;
        has_file[k] = fits(directory, m, SGC_FILE_SHARDS + k);
        sgc_parity_path(name, k);
        has_parity[k] = n_nodes > 1 && file_bytes(directory, name) == sgc_parity_bytes(n_bytes, n_nodes);
    }
}

/* Append what this node has of one checkpoint. Anything unreadable is passed over: other nodes may have it. */
static void report_one(const char *directory, int rank, const char *run_id, int64_t newest_step, sgc_str *out)
{
    char path[SGC_PATH_MAX], *text = NULL, *nodes = NULL, *index = NULL;
    size_t n_text, n_nodes_text, n_index;
    sgc_manifest m = {0};
    sgc_ckpt_info info;
    sgc_run_state state;
    holding h = {.rank = rank};
    if (sgc_path_join(path, directory, SGC_NODES_NAME) != SGC_OK || sgc_read_file(path, &nodes, &n_nodes_text) != SGC_OK) goto done;
    if (sscanf(nodes, "stagecoach node-local checkpoint redundancy %*s nodes %d", &h.n_nodes) != 1 || h.n_nodes < 1 || h.n_nodes > N_NODES_MAX) goto done;
    if (sgc_path_join(path, directory, SGC_MANIFEST_NAME) != SGC_OK || sgc_read_file(path, &text, &n_text) != SGC_OK) goto done;
    if (sgc_manifest_parse(&m, text, n_text, path) != SGC_OK || m.step <= newest_step) goto done;
    if (!fits(directory, &m, SGC_FILE_INDEX) || !fits(directory, &m, SGC_FILE_CONFIG)) goto done;
    if (sgc_path_join(path, directory, "checkpoint.h5") != SGC_OK || sgc_read_file(path, &index, &n_index) != SGC_OK) goto done;
    if ((int64_t)n_index != m.files[SGC_FILE_INDEX].n_bytes || m.files[SGC_FILE_INDEX].n_blocks < 1 ||
        sgc_hash64(index, n_index < (size_t)m.block_size ? n_index : (size_t)m.block_size) != m.files[SGC_FILE_INDEX].hash[0]) goto done;
    if (sgc_index_read(index, n_index, path, &info, &state) != SGC_OK) goto done;
    if (run_id[0] && strcmp(info.run_id, run_id) != 0) goto done;
    const char *sets = strstr(nodes, "\nset ");
    h.step = m.step;
    h.n_files = m.n_shard_files;
    h.n_file_bytes = m.files[SGC_FILE_SHARDS].n_bytes;
    strcpy(h.id, m.id);
    h.set_bytes = sets ? (int)strlen(sets + 1) : 0;
    char *there = calloc(2 * (size_t)h.n_files, 1);
    if (!there) goto done;
    look(directory, &m, h.n_nodes, there, there + h.n_files);
    sgc_str_append(out, &h, sizeof(h));
    sgc_str_append(out, there, 2 * (size_t)h.n_files);
    if (sets) sgc_str_append(out, sets + 1, (size_t)h.set_bytes);
    free(there);
done:
    sgc_err_clear();
    sgc_manifest_free(&m);
    free(text);
    free(nodes);
    free(index);
}

static void report_all(const char *local_dir, int rank, const char *run_id, int64_t newest_step, sgc_str *out)
{
    DIR *directory = opendir(local_dir);
    if (!directory) return; /* a node that lost it, or never had one */
    for (struct dirent *e; (e = readdir(directory));) {
        char path[SGC_PATH_MAX];
        size_t n = strlen("checkpoint-");
        if (strncmp(e->d_name, "checkpoint-", n) != 0 || strspn(e->d_name + n, "0123456789") != strlen(e->d_name + n)) continue;
        if (sgc_path_join(path, local_dir, e->d_name) == SGC_OK) report_one(path, rank, run_id, newest_step, out);
    }
    closedir(directory);
}

/* The choice of rank 0, known to all: from which rank each file is copied. -1: from none. */
typedef struct plan {
    int64_t step;             /* -1: nothing is recovered */
    int64_t n_file_bytes;
    char id[SGC_ID_CHARS + 1];
    int n_files, n_nodes, keeper;
    int n_missing;
    int *from;                /* owned: [n_files] */
    int *parity_from;         /* owned: [n_files] */
    int *set_of;              /* owned: [n_files][n_nodes] the set in which a missing file is, rank 0; 0s else */
} plan;

static void free_plan(plan *p)
{
    free(p->from);
    free(p->parity_from);
    free(p->set_of);
    p->from = p->parity_from = p->set_of = NULL;
}

/* A line of numbers; one that does not fit is left out, and what it would tell with it. */
static void take_set(plan *p, char *line)
{
    int members[N_NODES_MAX], n = 0;
    char *word = line + strcspn(line, " "), *end;
    for (long k = strtol(word, &end, 10); end != word && k >= 0 && k < p->n_files && n < N_NODES_MAX; k = strtol(word, &end, 10)) {
        members[n++] = (int)k;
        word = end;
    }
    for (int i = 0; n == p->n_nodes && i < n; i++) memcpy(p->set_of + (int64_t)members[i] * n, members, (size_t)n * sizeof(int));
}

/* Take in a holding of the wanted checkpoint. */
static const char *take(plan *p, const char *at)
{
    holding h;
    memcpy(&h, at, sizeof(h));
    const char *there = at + sizeof(h), *sets = there + 2 * h.n_files, *end = sets + h.set_bytes;
    if (h.step != p->step || strcmp(h.id, p->id) != 0 || h.n_files != p->n_files) return end;
    for (int k = 0; k < h.n_files; k++) {
        if (there[k] && p->from[k] < 0) p->from[k] = h.rank;
        if (there[h.n_files + k] && p->parity_from[k] < 0) p->parity_from[k] = h.rank;
    }
    if (p->keeper < 0) p->keeper = h.rank;
    char *text = strndup(sets, (size_t)h.set_bytes), *rest = NULL;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) /* "set f0 f1 ..." */
        take_set(p, line);
    free(text);
    return end;
}

/* Can file k be made of the others of its set and all their parities? */
static bool can_rebuild(const plan *p, int k)
{
    const int *set = p->set_of + (int64_t)k * p->n_nodes;
    bool is_member = false;
    if (p->n_nodes < 2 || set[0] == set[1]) return false; /* a file of no set has 0s there */
    for (int i = 0; i < p->n_nodes; i++) {
        if (set[i] == k) is_member = true;
        else if (p->from[set[i]] < 0 || p->parity_from[set[i]] < 0) return false;
    }
    return is_member;
}

/* The newest that can be made whole and is newer than newest_step. */
static sgc_status choose_local(const char *all, int64_t n_bytes, int64_t newest_step, plan *p)
{
    sgc_status st = SGC_OK;
    int64_t before = INT64_MAX;
    for (;;) {
        *p = (plan){.step = -1, .keeper = -1};
        for (const char *at = all; at < all + n_bytes;) {
            holding h;
            memcpy(&h, at, sizeof(h));
            at += sizeof(h) + 2 * (size_t)h.n_files + (size_t)h.set_bytes;
            if (h.step <= newest_step || h.step >= before || h.step <= p->step) continue;
            p->step = h.step;
            p->n_files = h.n_files;
            p->n_nodes = h.n_nodes;
            p->n_file_bytes = h.n_file_bytes;
            strcpy(p->id, h.id);
        }
        if (p->step < 0) return SGC_OK;
        p->from = malloc((size_t)p->n_files * sizeof(int));
        p->parity_from = malloc((size_t)p->n_files * sizeof(int));
        p->set_of = calloc((size_t)p->n_files * (size_t)p->n_nodes, sizeof(int));
        if (!p->from || !p->parity_from || !p->set_of) return sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
        for (int k = 0; k < p->n_files; k++) p->from[k] = p->parity_from[k] = -1;
        for (const char *at = all; at < all + n_bytes;) at = take(p, at);
        int n_lost = 0;
        for (int k = 0; k < p->n_files; k++) {
            p->n_missing += p->from[k] < 0;
            n_lost += p->from[k] < 0 && !can_rebuild(p, k);
        }
        if (n_lost == 0) return st;
        sgc_log_warning("node-local checkpoint-%" PRId64 " is passed over: %d of its %d shard files are lost", p->step, n_lost, p->n_files);
        before = p->step;
        free_plan(p);
    }
}

static sgc_status copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    sgc_status st = SGC_OK;
    char from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    struct stat status;
    char *buffer = sgc_mem_alloc(SGC_MEM_CHECKPOINT, PIECE_BYTES);
    int in = -1, out = -1;
    if (!buffer) return SGC_ENOMEM;
    SGC_TRY(sgc_path_join(from, from_dir, name));
    SGC_TRY(sgc_path_join(to, to_dir, name));
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &status) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot read %s", from);
        goto done;
    }
    SGC_TRY(sgc_room_reserve(to, status.st_size));
    if ((out = open(to, O_WRONLY | O_CLOEXEC)) < 0) {
        st = sgc_err_errno(SGC_EIO, "cannot open %s", to);
        goto done;
    }
    for (int64_t offset = 0; offset < status.st_size; offset += PIECE_BYTES) {
        int64_t n = status.st_size - offset < PIECE_BYTES ? status.st_size - offset : PIECE_BYTES;
        SGC_TRY(sgc_pread_all(in, buffer, (size_t)n, offset, from));
        SGC_TRY(sgc_pwrite_all(out, buffer, (size_t)n, offset, to));
    }
    if (fsync(out) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", to);
done:
    if (in >= 0) close(in);
    if (out >= 0 && close(out) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", to);
    sgc_mem_free(buffer);
    return st;
}

/* What this rank was chosen for. */
static sgc_status copy_own(const plan *p, int rank, const char *local, const char *shared)
{
    sgc_status st = SGC_OK;
    char name[64];
    for (int k = 0; k < p->n_files; k++) {
        sgc_manifest_path(name, SGC_FILE_SHARDS + k, p->n_files);
        if (p->from[k] == rank) SGC_TRY(copy_file(local, shared, name));
        sgc_parity_path(name, k);
        if (p->n_missing > 0 && p->parity_from[k] == rank) SGC_TRY(copy_file(local, shared, name));
    }
    if (p->keeper == rank) {
        SGC_TRY(copy_file(local, shared, "checkpoint.h5"));
        SGC_TRY(copy_file(local, shared, "config.cfg"));
        SGC_TRY(copy_file(local, shared, SGC_MANIFEST_NAME));
    }
done:
    return st;
}

/* a ^= b over a piece of a file; beyond its end are zeros. */
static sgc_status add_piece(const char *directory, const char *name, int64_t offset, int64_t n, unsigned char *a, unsigned char *b)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    int64_t n_bytes = file_bytes(directory, name);
    int fd = -1;
    if (offset >= n_bytes) return SGC_OK;
    if (n > n_bytes - offset) n = n_bytes - offset;
    SGC_TRY(sgc_path_join(path, directory, name));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) return sgc_err_errno(SGC_EIO, "cannot read %s", path);
    SGC_TRY(sgc_pread_all(fd, b, (size_t)n, offset, path));
    for (int64_t i = 0; i < n; i++) a[i] ^= b[i];
done:
    if (fd >= 0) close(fd);
    return st;
}

static sgc_status rebuild(const plan *p, int file, const char *directory)
{
    sgc_status st = SGC_OK;
    const int *set = p->set_of + (int64_t)file * p->n_nodes;
    int lost = 0, n = p->n_nodes, fd = -1;
    int64_t n_chunk = sgc_parity_bytes(p->n_file_bytes, n);
    char name[64], path[SGC_PATH_MAX];
    unsigned char *a = sgc_mem_alloc(SGC_MEM_CHECKPOINT, PIECE_BYTES), *b = sgc_mem_alloc(SGC_MEM_CHECKPOINT, PIECE_BYTES);
    while (set[lost] != file) lost++;
    if (!a || !b) {
        st = SGC_ENOMEM;
        goto done;
    }
    sgc_manifest_path(name, SGC_FILE_SHARDS + file, p->n_files);
    SGC_TRY(sgc_path_join(path, directory, name));
    SGC_TRY(sgc_room_reserve(path, p->n_file_bytes));
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) {
        st = sgc_err_errno(SGC_EIO, "cannot open %s", path);
        goto done;
    }
    for (int at = 0; at < n; at++) { /* the parity at node `at` covers one chunk of the lost file */
        if (at == lost) continue;
        int64_t first = sgc_parity_chunk(lost, at, n) * n_chunk;
        for (int64_t offset = 0; offset < n_chunk && first + offset < p->n_file_bytes; offset += PIECE_BYTES) {
            int64_t m = n_chunk - offset < PIECE_BYTES ? n_chunk - offset : PIECE_BYTES;
            memset(a, 0, PIECE_BYTES);
            sgc_parity_path(name, set[at]);
            SGC_TRY(add_piece(directory, name, offset, m, a, b));
            for (int k = 0; k < n; k++) {
                if (k == at || k == lost) continue;
                sgc_manifest_path(name, SGC_FILE_SHARDS + set[k], p->n_files);
                SGC_TRY(add_piece(directory, name, sgc_parity_chunk(k, at, n) * n_chunk + offset, m, a, b));
            }
            if (m > p->n_file_bytes - first - offset) m = p->n_file_bytes - first - offset;
            SGC_TRY(sgc_pwrite_all(fd, a, (size_t)m, first + offset, path));
        }
    }
    if (fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
done:
    if (fd >= 0) close(fd);
    sgc_mem_free(a);
    sgc_mem_free(b);
    return st;
}

/* Rank 0: missing files, then the final name. */
static sgc_status complete_local(const plan *p, const char *temporary, const char *final, const char *output_dir)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    sgc_manifest m = {0};
    char name[64], path[SGC_PATH_MAX], *text = NULL;
    size_t n_text;
    SGC_TRY(sgc_path_join(path, temporary, SGC_MANIFEST_NAME));
    SGC_TRY(sgc_read_file(path, &text, &n_text));
    SGC_TRY(sgc_manifest_parse(&m, text, n_text, path));
    for (int k = 0; k < p->n_files; k++) {
        if (p->from[k] >= 0) continue;
        SGC_TRY(rebuild(p, k, temporary));
        if (fits(temporary, &m, SGC_FILE_SHARDS + k)) continue;
        sgc_log_warning("node-local checkpoint-%" PRId64 " is passed over: shard file %d, made of parities, does not fit its hashes", p->step, k);
        sgc_err_clear();
        sgc_remove_tree(temporary);
        goto done;
    }
    for (int k = 0; k < p->n_files; k++) {
        sgc_parity_path(name, k);
        SGC_TRY(sgc_path_join(path, temporary, name));
        unlink(path);
    }
    SGC_TRY(sgc_ckpt_open_local(&c, temporary));
    SGC_TRY(sgc_path_join(path, temporary, "shards"));
    SGC_TRY(sgc_fsync_path(path));
    SGC_TRY(sgc_fsync_path(temporary));
    if (rename(temporary, final) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", temporary, final);
        goto done;
    }
    SGC_TRY(sgc_fsync_path(output_dir));
    sgc_log_info("%s is recovered from node-local checkpoints; %d of %d shard files were made of parities", final, p->n_missing, p->n_files);
done:
    sgc_ckpt_close(c);
    sgc_manifest_free(&m);
    free(text);
    return st;
}

/* The plan of rank 0 to all. */
static sgc_status share(plan *p, const sgc_world *w)
{
    sgc_status st = SGC_OK;
    int *from = p->from, *parity_from = p->parity_from, *set_of = p->set_of;
    SGC_TRY(sgc_bcast_bytes(w->all, p, sizeof(*p), 0));
    if (w->rank != 0) p->from = p->parity_from = p->set_of = NULL;
    else p->from = from, p->parity_from = parity_from, p->set_of = set_of;
    if (p->step < 0) return SGC_OK;
    size_t n_bytes = (size_t)p->n_files * sizeof(int);
    if (w->rank != 0 && (!(p->from = malloc(n_bytes)) || !(p->parity_from = malloc(n_bytes)))) st = sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, p->from, (int64_t)n_bytes, 0));
    SGC_TRY(sgc_bcast_bytes(w->all, p->parity_from, (int64_t)n_bytes, 0));
done:
    return st;
}

static sgc_status make_directories_local(const char *output_dir, const char *temporary)
{
    sgc_status st = SGC_OK;
    char shards[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(shards, temporary, "shards"));
    SGC_TRY(sgc_make_dirs(output_dir));
    SGC_TRY(sgc_make_dirs(shards));
done:
    return st;
}

sgc_status sgc_ckpt_recover(const sgc_world *w, const char *local_dir, const char *output_dir, const char *run_id, int64_t newest_step)
{
    sgc_status st = SGC_OK;
    sgc_str mine = {0};
    char *all = NULL, name[128], own_id[SGC_ID_CHARS + 1], local[SGC_PATH_MAX], temporary[SGC_PATH_MAX] = "", final[SGC_PATH_MAX];
    int64_t *n_bytes_of = calloc((size_t)w->size, sizeof(*n_bytes_of)), n_bytes = 0;
    plan p = {.step = -1};
    if (!n_bytes_of) st = sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
    SGC_AGREE(w->all);
    if (w->node_rank == 0) report_all(local_dir, w->rank, run_id, newest_step, &mine);
    SGC_TRY(sgc_gather_bytes(w->all, mine.text, (int64_t)mine.n, &all, n_bytes_of, 0));
    for (int r = 0; w->rank == 0 && r < w->size; r++) n_bytes += n_bytes_of[r];
    if (w->rank == 0) st = choose_local(all, n_bytes, newest_step, &p);
    SGC_AGREE(w->all);
    SGC_TRY(share(&p, w));
    if (p.step < 0) goto done;

    sgc_ckpt_new_id(own_id);
    SGC_TRY(sgc_bcast_bytes(w->all, own_id, sizeof(own_id), 0));
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, p.step);
    st = sgc_path_join(local, local_dir, name);
    if (st == SGC_OK) st = sgc_path_join(final, output_dir, name);
    snprintf(name, sizeof(name), ".checkpoint-%" PRId64 ".tmp-%s", p.step, own_id);
    if (st == SGC_OK) st = sgc_path_join(temporary, output_dir, name);
    if (st == SGC_OK && w->rank == 0) st = make_directories_local(output_dir, temporary);
    SGC_AGREE(w->all);
    st = copy_own(&p, w->rank, local, temporary);
    SGC_AGREE(w->all);
    if (w->rank == 0) st = complete_local(&p, temporary, final, output_dir);
    SGC_AGREE(w->all);
done:
    if (st != SGC_OK && w->rank == 0 && temporary[0]) sgc_remove_tree(temporary);
    free_plan(&p);
    sgc_str_free(&mine);
    free(all);
    free(n_bytes_of);
    return st;
}

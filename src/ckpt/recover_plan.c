/*
 * What nodes hold of node-local checkpoints, checked and told to rank 0, and which of them can be made whole out of it.
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
#include "ckpt/recover_impl.h"

/* One checkpoint as one node has it. Sent as it is; after it file_there and parity_there, [n_files] bytes each, and the sets. */
typedef struct holding {
    int64_t step;
    char id[SGC_ID_CHARS + 1], date[32];
    int n_files, n_nodes, n_sets;
    int rank;                 /* of the node's keeper */
} holding;

static size_t n_set_bytes(const holding *h) { return (size_t)h->n_sets * (size_t)h->n_nodes * sizeof(int); }

int64_t sgc_part_file_bytes(const char *directory, const char *name)
{
    char path[SGC_PATH_MAX];
    struct stat status;
    if (sgc_path_join(path, directory, name) != SGC_OK || stat(path, &status) != 0 || !S_ISREG(status.st_mode)) return -1;
    return (int64_t)status.st_size;
}

bool sgc_part_file_fits(const char *directory, const sgc_manifest *m, int file)
{
    const sgc_manifest_file *f = &m->files[file];
    char name[64], path[SGC_PATH_MAX];
    int64_t k = 0;
    sgc_manifest_path(name, file, m->n_shard_files);
    if (sgc_part_file_bytes(directory, name) != f->n_bytes || sgc_path_join(path, directory, name) != SGC_OK) return false;
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

bool sgc_parity_fits(const char *directory, int file, int64_t n_bytes)
{
    char name[64], path[SGC_PATH_MAX];
    unsigned char stored[SGC_PARITY_END_BYTES], end[SGC_PARITY_END_BYTES];
    int64_t offset = 0;
    int fd = -1;
    sgc_parity_path(name, file);
    if (sgc_part_file_bytes(directory, name) != n_bytes + SGC_PARITY_END_BYTES || sgc_path_join(path, directory, name) != SGC_OK) return false;
    sgc_hasher *hasher = sgc_hasher_new();
    void *piece = sgc_mem_alloc(SGC_MEM_CHECKPOINT, SGC_RECOVERY_PIECE_BYTES);
    bool fits = hasher && piece && (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0;
    for (; fits && offset < n_bytes; offset += SGC_RECOVERY_PIECE_BYTES) {
        int64_t n = n_bytes - offset < SGC_RECOVERY_PIECE_BYTES ? n_bytes - offset : SGC_RECOVERY_PIECE_BYTES;
        if ((fits = sgc_pread_all(fd, piece, (size_t)n, offset, path) == SGC_OK)) sgc_hasher_add(hasher, piece, (size_t)n);
    }
    if (fits) sgc_parity_put_end(hasher, end);
    fits = fits && sgc_pread_all(fd, stored, sizeof(stored), n_bytes, path) == SGC_OK && memcmp(stored, end, sizeof(end)) == 0;
    if (fd >= 0) close(fd);
    sgc_mem_free(piece);
    sgc_hasher_free(hasher);
    return fits;
}

/* What is not there may be on another node; what is there and damaged is worth a word. */
static bool look_at(const char *directory, const char *name, bool fits)
{
    if (!fits && sgc_part_file_bytes(directory, name) >= 0) sgc_log_warning("%s/%s is damaged: it counts as lost", directory, name);
    sgc_err_clear();
    return fits;
}

/* Which shard files of a manifest are there as it says, and which parities. [n_files] each. */
static void look(const char *directory, const sgc_manifest *m, int n_nodes, char *has_file, char *has_parity)
{
    char name[64];
    for (int k = 0; k < m->n_shard_files; k++) {
        sgc_manifest_path(name, SGC_FILE_SHARDS + k, m->n_shard_files);
        has_file[k] = look_at(directory, name, sgc_part_file_fits(directory, m, SGC_FILE_SHARDS + k));
        if (n_nodes < 2) continue;
        sgc_parity_path(name, k);
        has_parity[k] = look_at(directory, name, sgc_parity_fits(directory, k, sgc_parity_bytes(m->files[SGC_FILE_SHARDS + k].n_bytes, n_nodes)));
    }
}

/* Append what this node has of one checkpoint. What cannot be read is passed over: other nodes may have it. */
static void tell_one(const char *directory, int rank, const char *run_id, int64_t newest_step, int64_t before_step, sgc_str *out)
{
    sgc_status st = SGC_OK;
    sgc_nodes nodes = {0};
    sgc_ckpt *c = NULL;
    char *there = NULL;
    holding h = {.rank = rank};
    SGC_TRY(sgc_nodes_read(&nodes, directory));
    SGC_TRY(sgc_ckpt_open_part(&c, directory));
    const sgc_manifest *m = &c->manifest;
    if (m->step <= newest_step || m->step >= before_step || strcmp(c->info.run_id, run_id) != 0) goto done;
    h.step = m->step;
    h.n_files = m->n_shard_files;
    h.n_nodes = nodes.n_nodes;
    h.n_sets = nodes.n_sets;
    memcpy(h.id, m->id, sizeof(h.id));
    memcpy(h.date, c->info.date, sizeof(h.date));
    if (!(there = calloc(2 * (size_t)h.n_files, 1))) goto done;
    look(directory, m, h.n_nodes, there, there + h.n_files);
    sgc_str_append(out, &h, sizeof(h));
    sgc_str_append(out, there, 2 * (size_t)h.n_files);
    sgc_str_append(out, nodes.sets, n_set_bytes(&h));
done:
    if (st != SGC_OK) sgc_log_warning("%s counts as lost: %s", directory, sgc_err_message());
    sgc_err_clear();
    sgc_ckpt_close(c);
    sgc_nodes_free(&nodes);
    free(there);
}

void sgc_parts_tell(const char *local_dir, int rank, const char *run_id, int64_t newest_step, int64_t before_step, sgc_str *out)
{
    DIR *directory = opendir(local_dir);
    if (!directory) return; /* a node that lost it, or never had one */
    for (struct dirent *e; (e = readdir(directory));) {
        char path[SGC_PATH_MAX];
        size_t n = strlen("checkpoint-");
        if (strncmp(e->d_name, "checkpoint-", n) != 0 || strspn(e->d_name + n, "0123456789") != strlen(e->d_name + n)) continue;
        if (sgc_path_join(path, local_dir, e->d_name) == SGC_OK) tell_one(path, rank, run_id, newest_step, before_step, out);
    }
    closedir(directory);
}

void sgc_recovery_free(sgc_recovery *p)
{
    free(p->from);
    free(p->parity_from);
    free(p->set_of);
    p->from = p->parity_from = p->set_of = NULL;
}

/* A set names files that are there, or it is left out, and what it would tell with it. */
static void take_set(sgc_recovery *p, const int *members)
{
    size_t n_bytes = (size_t)p->n_nodes * sizeof(int);
    for (int i = 0; i < p->n_nodes; i++)
        if (members[i] < 0 || members[i] >= p->n_files) return;
    for (int i = 0; i < p->n_nodes; i++) memcpy(p->set_of + (int64_t)members[i] * p->n_nodes, members, n_bytes);
}

/* The next holding of the message. */
static const char *next_holding(const char *at, holding *h, const char **there, const char **sets)
{
    memcpy(h, at, sizeof(*h));
    *there = at + sizeof(*h);
    *sets = *there + 2 * (size_t)h->n_files;
    return *sets + n_set_bytes(h);
}

/* Take in what all nodes hold of the chosen checkpoint. */
static sgc_status take_all(sgc_recovery *p, const char *all, int64_t n_bytes)
{
    holding h;
    const char *there, *sets;
    int *members = malloc((size_t)p->n_nodes * sizeof(int));
    if (!members) return sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
    for (const char *at = all; at < all + n_bytes;) {
        at = next_holding(at, &h, &there, &sets);
        if (h.step != p->step || strcmp(h.id, p->id) != 0 || h.n_files != p->n_files || h.n_nodes != p->n_nodes) continue;
        for (int k = 0; k < h.n_files; k++) {
            if (there[k] && p->from[k] < 0) p->from[k] = h.rank;
            if (there[h.n_files + k] && p->parity_from[k] < 0) p->parity_from[k] = h.rank;
        }
        if (p->keeper < 0) p->keeper = h.rank;
        for (int i = 0; i < h.n_sets; i++) {
            memcpy(members, sets + (size_t)i * (size_t)h.n_nodes * sizeof(int), (size_t)h.n_nodes * sizeof(int));
            take_set(p, members);
        }
    }
    free(members);
    return SGC_OK;
}

/* Can file k be made of the others of its set and all their parities? */
static bool can_rebuild(const sgc_recovery *p, int k)
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

/* Order of trying: the newer step first; of one step, which a run may have reached twice, the one that was written last. */
static int compare(const holding *a, const holding *b)
{
    if (a->step != b->step) return a->step < b->step ? -1 : 1;
    int by_date = strcmp(a->date, b->date);
    return by_date ? by_date : strcmp(a->id, b->id);
}

sgc_status sgc_recovery_choose(const char *all, int64_t n_bytes, sgc_recovery *p)
{
    sgc_status st = SGC_OK;
    holding before = {.step = -1}, best = before, h;
    const char *there, *sets;
    for (;;) {
        *p = (sgc_recovery){.step = -1, .keeper = -1};
        for (const char *at = all; at < all + n_bytes;) {
            at = next_holding(at, &h, &there, &sets);
            if ((before.step < 0 || compare(&h, &before) < 0) && (p->step < 0 || compare(&h, &best) > 0)) {
                best = h;
                p->step = h.step;
            }
        }
        if (p->step < 0) return SGC_OK;
        p->n_files = best.n_files;
        p->n_nodes = best.n_nodes;
        memcpy(p->id, best.id, sizeof(p->id));
        p->from = malloc((size_t)p->n_files * sizeof(int));
        p->parity_from = malloc((size_t)p->n_files * sizeof(int));
        p->set_of = calloc((size_t)p->n_files * (size_t)p->n_nodes, sizeof(int));
        if (!p->from || !p->parity_from || !p->set_of) return sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
        for (int k = 0; k < p->n_files; k++) p->from[k] = p->parity_from[k] = -1;
        SGC_TRY(take_all(p, all, n_bytes));
        int n_lost = 0;
        for (int k = 0; k < p->n_files; k++) {
            p->n_missing += p->from[k] < 0;
            n_lost += p->from[k] < 0 && !can_rebuild(p, k);
        }
        if (n_lost == 0) return SGC_OK;
        sgc_log_warning("node-local checkpoint-%" PRId64 " of %s is passed over: %d of its %d shard files are lost", p->step, best.date, n_lost, p->n_files);
        before = best;
        sgc_recovery_free(p);
    }
done:
    return st;
}

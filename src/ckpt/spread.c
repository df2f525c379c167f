/*
 * Checkpoints in directories that only one node sees: shard files, or what replaces them when a node is lost, travel to other nodes.
 * Files travel in bounded pieces, sent by the main thread; a rank that fails goes on exchanging pieces until all have agreed. What arrives is synced later,
 * by who publishes it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "ckpt/spread_impl.h"

void sgc_parity_path(char path[64], int file) { snprintf(path, 64, "shards/parity-%05d", file); }

int64_t sgc_parity_bytes(int64_t n_file_bytes, int n_nodes) { return (n_file_bytes + n_nodes - 2) / (n_nodes - 1); }

void sgc_parity_put_end(const sgc_hasher *h, unsigned char end[SGC_PARITY_END_BYTES])
{
    uint64_t hash = sgc_hasher_value(h);
    for (int i = 0; i < SGC_PARITY_END_BYTES; i++) end[i] = (unsigned char)(hash >> 8 * i);
}

int sgc_parity_chunk(int node, int at, int n_nodes) { return (at - node - 1 + n_nodes) % n_nodes; }

/* One file of this rank that is written piece by piece; errors are kept until finish. */
typedef struct sink { int fd; char path[SGC_PATH_MAX]; sgc_status st; } sink;

static void open_sink(sink *to, const char *directory, const char *name, int64_t n_bytes)
{
    to->fd = -1;
    to->st = sgc_path_join(to->path, directory, name);
    if (to->st == SGC_OK) to->st = sgc_room_reserve(to->path, n_bytes);
    if (to->st == SGC_OK && (to->fd = open(to->path, O_WRONLY | O_CLOEXEC)) < 0) to->st = sgc_err_errno(SGC_EIO, "cannot open %s", to->path);
}

static void put(sink *to, const void *bytes, int64_t n, int64_t offset)
{
    if (to->st == SGC_OK) to->st = sgc_pwrite_all(to->fd, bytes, (size_t)n, offset, to->path);
}

static sgc_status close_sink(sink *to)
{
    if (to->fd < 0) return to->st;
    if (close(to->fd) != 0 && to->st == SGC_OK) to->st = sgc_err_errno(SGC_EIO, "cannot close %s", to->path);
    return to->st;
}

/* n bytes of a file; what lies beyond its end reads as zero. */
static sgc_status get(int fd, const char *path, void *to, int64_t n, int64_t offset, int64_t n_file_bytes)
{
    int64_t n_there = offset >= n_file_bytes ? 0 : n_file_bytes - offset < n ? n_file_bytes - offset : n;
    memset((char *)to + n_there, 0, (size_t)(n - n_there));
    return n_there ? sgc_pread_all(fd, to, (size_t)n_there, offset, path) : SGC_OK;
}

/* Every file to every node. */
static sgc_status spread_to_all(const sgc_spread_job *j, int fd, char *buffer)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = j->world;
    int64_t *node_of = calloc((size_t)w->size, sizeof(*node_of));
    if (!node_of) st = sgc_err(SGC_ENOMEM, "no memory for the list of nodes");
    SGC_AGREE(w->all);
    node_of[w->rank] = w->node_index;
    SGC_TRY(sgc_sum_int64(w->all, node_of, w->size));
    for (int file = 0; file < j->files->n_files; file++) {
        char name[64];
        int owner = sgc_files_leader(j->files, file);
        int64_t n_bytes = j->n_file_bytes;
        sink to = {.fd = -1};
        bool receives = w->node_rank == 0 && node_of[owner] != w->node_index;
        SGC_TRY(sgc_bcast_bytes(w->all, &n_bytes, sizeof(n_bytes), owner));
        sgc_manifest_path(name, SGC_FILE_SHARDS + file, j->files->n_files);
        if (receives) open_sink(&to, j->directory, name, n_bytes);
        for (int64_t offset = 0; offset < n_bytes; offset += j->piece_bytes) {
            int64_t n = n_bytes - offset < j->piece_bytes ? n_bytes - offset : j->piece_bytes;
            if (w->rank == owner && st == SGC_OK) st = get(fd, j->path, buffer, n, offset, n_bytes);
            sgc_status sent = sgc_bcast_bytes(w->all, buffer, n, owner);
            if (sent != SGC_OK) {
                st = sent;
                goto done;
            }
            if (receives) put(&to, buffer, n, offset);
        }
        sgc_status written = close_sink(&to);
        if (st == SGC_OK) st = written;
        SGC_AGREE(w->all);
    }
done:
    free(node_of);
    return st;
}

/* This rank's file to the next node, that of the node before to here. All files have the same size. */
static sgc_status spread_to_partner(const sgc_spread_job *j, int fd, char *buffer)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = j->world;
    int n_nodes = w->n_nodes, next = (w->node_index + 1) % n_nodes, before = (w->node_index + n_nodes - 1) % n_nodes;
    char name[64];
    sink to;
    sgc_manifest_path(name, SGC_FILE_SHARDS + j->file_of_node[before], j->files->n_files);
    open_sink(&to, j->directory, name, j->n_file_bytes);
    for (int64_t offset = 0; offset < j->n_file_bytes; offset += j->piece_bytes) {
        int64_t n = j->n_file_bytes - offset < j->piece_bytes ? j->n_file_bytes - offset : j->piece_bytes;
        if (st == SGC_OK) st = get(fd, j->path, buffer, n, offset, j->n_file_bytes);
        SGC_TRY(sgc_exchange_bytes(w->across, buffer, next, buffer + j->piece_bytes, before, n));
        put(&to, buffer + j->piece_bytes, n, offset);
    }
    sgc_status written = close_sink(&to);
    if (st == SGC_OK) st = written;
done:
    return st;
}

/*
 * The file of each node is cut into n - 1 chunks; node k keeps the exclusive or of one chunk of every other node. What a node loses can
 * then be made of what all others have (as in SCR, Moody et al., SC'10, doi 10.1109/SC.2010.18).
 */
static sgc_status spread_parity(const sgc_spread_job *j, int fd, char *buffer)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = j->world;
    int n_nodes = w->n_nodes, me = w->node_index;
    int64_t n_chunk = sgc_parity_bytes(j->n_file_bytes, n_nodes);
    char name[64];
    sink to;
    unsigned char end[SGC_PARITY_END_BYTES];
    sgc_hasher *hasher = sgc_hasher_new();
    sgc_parity_path(name, j->file_of_node[me]);
    open_sink(&to, j->directory, name, n_chunk + SGC_PARITY_END_BYTES);
    if (!hasher && to.st == SGC_OK) to.st = SGC_ENOMEM;
    for (int k = 0; k < n_nodes; k++)
        for (int64_t offset = 0; offset < n_chunk; offset += j->piece_bytes) {
            int64_t n = n_chunk - offset < j->piece_bytes ? n_chunk - offset : j->piece_bytes;
            int64_t first = sgc_parity_chunk(me, k, n_nodes) * n_chunk + offset;
            if (k == me) memset(buffer, 0, (size_t)n);
            else if (st == SGC_OK) st = get(fd, j->path, buffer, n, first, j->n_file_bytes);
            SGC_TRY(sgc_xor_bytes(w->across, buffer, n, k));
            if (k == me) put(&to, buffer, n, offset);
            if (k == me && hasher) sgc_hasher_add(hasher, buffer, (size_t)n);
        }
    if (hasher) {
        sgc_parity_put_end(hasher, end);
        put(&to, end, SGC_PARITY_END_BYTES, n_chunk);
    }
    sgc_status written = close_sink(&to);
    if (st == SGC_OK) st = written;
done:
    sgc_hasher_free(hasher);
    return st;
}

sgc_status sgc_spread(const sgc_spread_job *j)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = j->world;
    bool leads = sgc_files_leader(j->files, j->files->file_of[w->rank]) == w->rank;
    int fd = -1;
    if (j->how == SGC_SPREAD_NONE || w->n_nodes == 1) return SGC_OK;
    char *buffer = sgc_mem_alloc(SGC_MEM_CHECKPOINT, 2 * (size_t)j->piece_bytes);
    if (!buffer) st = SGC_ENOMEM;
    if (buffer && leads && (fd = open(j->path, O_RDONLY | O_CLOEXEC)) < 0) st = sgc_err_errno(SGC_EIO, "cannot read back %s", j->path);
    SGC_AGREE(w->all);
    if (j->how == SGC_SPREAD_ALL) st = spread_to_all(j, fd, buffer);
    else if (leads) st = j->how == SGC_SPREAD_PARTNER ? spread_to_partner(j, fd, buffer) : spread_parity(j, fd, buffer);
    SGC_AGREE(w->all);
done:
    if (fd >= 0) close(fd);
    sgc_mem_free(buffer);
    return st;
}

sgc_status sgc_spread_sets(const sgc_world *w, const sgc_ckpt_files *files, int64_t *file_of)
{
    sgc_status st = SGC_OK;
    int64_t least, most;
    double fewest = w->node_size, greatest = w->node_size;
    SGC_TRY(sgc_min_double(w->all, &fewest, 1));
    SGC_TRY(sgc_max_double(w->all, &greatest, 1));
    least = (int64_t)fewest, most = (int64_t)greatest;
    if (least != most)
        return sgc_err(SGC_ECONFIG, "checkpoint.redundancy needs as many ranks on every node; here they have from %lld to %lld", (long long)least,
                       (long long)most);
    for (int i = 0; i < w->size; i++) file_of[i] = 0;
    if (sgc_files_leader(files, files->file_of[w->rank]) == w->rank)
        file_of[w->node_rank * w->n_nodes + w->node_index] = 1 + files->file_of[w->rank];
    SGC_TRY(sgc_sum_int64(w->all, file_of, w->size));
done:
    return st;
}

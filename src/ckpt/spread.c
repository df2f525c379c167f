/*
 * Checkpoints in directories that only one node sees: shard files, or what replaces them when a node is lost, travel to other nodes while training goes
 * on, in pieces of bounded size, numbered alike on all ranks that talk to each other. A rank that fails goes on exchanging pieces until all have agreed.
 * What arrives is synced later, by who publishes it.
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

/* What travels from node `root` (xor: is made there; partner: from every node), one after the other. */
typedef struct item { int root; int64_t n_bytes, first_piece; } item;

/* The file that is read, or the one that is written, at the time. */
typedef struct stream { int fd; char path[SGC_PATH_MAX]; } stream;

struct sgc_spread {
    sgc_spread_job job;
    int me, n_nodes;
    item *items;              /* owned: [n_items + 1], the last tells where they end */
    int n_items;
    int64_t n_pieces, piece_bytes;
    char *memory;             /* [2][piece_bytes], or with a copy for a partner [2][2][piece_bytes]: one to send and one to receive */
    char *own_memory;         /* owned */
    int64_t step;             /* messages of piece step - 1 are under way; piece step - 2 is written, piece step is read */
    stream in, out;
    sgc_hasher *hasher;       /* owned: xor: of the parity */
    sgc_transfer *transfer;   /* owned */
    bool is_cut_off;          /* a message could not be sent: no more are */
    sgc_status st;            /* the first error of this rank's work */
};

typedef struct piece { int item; int64_t offset, n; bool is_last; } piece; /* of an item */

static piece piece_at(const sgc_spread *p, int64_t k)
{
    piece at = {0};
    while (k >= p->items[at.item + 1].first_piece) at.item++;
    const item *of = &p->items[at.item];
    at.offset = (k - of->first_piece) * p->piece_bytes;
    at.n = of->n_bytes - at.offset < p->piece_bytes ? of->n_bytes - at.offset : p->piece_bytes;
    at.is_last = at.offset + at.n == of->n_bytes;
    return at;
}

static char *sent(const sgc_spread *p, int64_t k) { return p->memory + (k % 2) * p->piece_bytes; }
static char *received(const sgc_spread *p, int64_t k) { return sent(p, k) + (p->job.how == SGC_SPREAD_PARTNER ? 2 * p->piece_bytes : 0); }

static sgc_status close_stream(stream *s)
{
    int fd = s->fd;
    s->fd = -1;
    return fd < 0 || close(fd) == 0 ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot close %s", s->path);
}

static sgc_status open_stream(stream *s, const char *directory, const char *name, int flags)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_path_join(s->path, directory, name));
    if ((s->fd = open(s->path, flags | O_CLOEXEC)) < 0) st = sgc_err_errno(SGC_EIO, flags == O_RDONLY ? "cannot read back %s" : "cannot open %s", s->path);
done:
    return st;
}

static sgc_status open_new(stream *s, const char *directory, const char *name, int64_t n_bytes)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_path_join(s->path, directory, name));
    SGC_TRY(sgc_room_reserve(s->path, n_bytes));
    SGC_TRY(open_stream(s, directory, name, O_WRONLY));
done:
    return st;
}

/* n bytes of the file; what lies beyond its end reads as zero. */
static sgc_status get(const stream *s, void *to, int64_t n, int64_t offset, int64_t n_file_bytes)
{
    int64_t n_there = offset >= n_file_bytes ? 0 : n_file_bytes - offset < n ? n_file_bytes - offset : n;
    memset((char *)to + n_there, 0, (size_t)(n - n_there));
    return n_there ? sgc_pread_all(s->fd, to, (size_t)n_there, offset, s->path) : SGC_OK;
}

static sgc_status read_piece(sgc_spread *p, int64_t k)
{
    sgc_status st = SGC_OK;
    const sgc_spread_job *j = &p->job;
    const piece at = piece_at(p, k);
    const item *of = &p->items[at.item];
    int64_t first = at.offset, n_file_bytes = j->how == SGC_SPREAD_ALL ? of->n_bytes : j->n_file_bytes;
    char name[64];
    if (j->how == SGC_SPREAD_ALL && of->root != p->me) return SGC_OK;
    if (j->how == SGC_SPREAD_XOR && of->root == p->me) {
        memset(sent(p, k), 0, (size_t)at.n);
        return SGC_OK;
    }
    if (j->how == SGC_SPREAD_XOR) first += sgc_parity_chunk(p->me, of->root, p->n_nodes) * of->n_bytes;
    if (p->in.fd < 0) {
        sgc_manifest_path(name, SGC_FILE_SHARDS + (j->how == SGC_SPREAD_ALL ? at.item : j->file), j->files->n_files);
        SGC_TRY(open_stream(&p->in, j->directory, name, O_RDONLY));
    }
    SGC_TRY(get(&p->in, sent(p, k), at.n, first, n_file_bytes));
    if (j->how == SGC_SPREAD_ALL && at.is_last) SGC_TRY(close_stream(&p->in));
done:
    return st;
}

/* What came from other nodes. */
static sgc_status write_piece(sgc_spread *p, int64_t k)
{
    sgc_status st = SGC_OK;
    const sgc_spread_job *j = &p->job;
    const piece at = piece_at(p, k);
    const item *of = &p->items[at.item];
    const bool is_parity = j->how == SGC_SPREAD_XOR;
    char name[64];
    unsigned char end[SGC_PARITY_END_BYTES];
    if (j->how != SGC_SPREAD_PARTNER && (of->root == p->me) != is_parity) return SGC_OK;
    if (is_parity) sgc_parity_path(name, j->file);
    else sgc_manifest_path(name, SGC_FILE_SHARDS + (j->how == SGC_SPREAD_ALL ? at.item : j->file_before), j->files->n_files);
    if (at.offset == 0) SGC_TRY(open_new(&p->out, j->directory, name, of->n_bytes + (is_parity ? SGC_PARITY_END_BYTES : 0)));
    SGC_TRY(sgc_pwrite_all(p->out.fd, received(p, k), (size_t)at.n, at.offset, p->out.path));
    if (is_parity) sgc_hasher_add(p->hasher, received(p, k), (size_t)at.n);
    if (!at.is_last) goto done;
    if (is_parity) {
        sgc_parity_put_end(p->hasher, end);
        SGC_TRY(sgc_pwrite_all(p->out.fd, end, sizeof(end), of->n_bytes, p->out.path));
    }
    SGC_TRY(close_stream(&p->out));
done:
    return st;
}

sgc_status sgc_spread_work(sgc_spread *p)
{
    if (p->st == SGC_OK && p->step >= 2) p->st = write_piece(p, p->step - 2);
    if (p->st == SGC_OK && p->step < p->n_pieces) p->st = read_piece(p, p->step);
    return p->st;
}

bool sgc_spread_is_last(const sgc_spread *p) { return p->n_pieces == 0 || p->step == p->n_pieces + 1; }

sgc_status sgc_spread_end(sgc_spread *p, bool waits, bool *has_ended)
{
    sgc_status st = sgc_transfer_end(&p->transfer, waits, has_ended);
    p->is_cut_off = p->is_cut_off || st != SGC_OK;
    return st;
}

static sgc_status send_piece(sgc_spread *p, int64_t k)
{
    const piece at = piece_at(p, k);
    const int root = p->items[at.item].root, n = p->n_nodes;
    sgc_group *across = p->job.world->across;
    if (p->job.how == SGC_SPREAD_ALL) return sgc_transfer_broadcast(&p->transfer, across, sent(p, k), at.n, root);
    if (p->job.how == SGC_SPREAD_XOR) return sgc_transfer_xor(&p->transfer, across, sent(p, k), at.n, root);
    return sgc_transfer_exchange(&p->transfer, across, sent(p, k), (p->me + 1) % n, received(p, k), (p->me + n - 1) % n, at.n);
}

sgc_status sgc_spread_next(sgc_spread *p)
{
    const int64_t k = p->step++;
    sgc_status st = k == p->n_pieces ? SGC_OK : send_piece(p, k); /* the end of the last is followed by nothing */
    p->is_cut_off = st != SGC_OK;
    return st;
}

/*
 * partner: the file of each node goes to the next. All have the same size.
 * xor: the file of each node is cut into n - 1 chunks; node k keeps the exclusive or of one chunk of every other node. What a node loses can then be made
 * of what all others have (as in SCR, Moody et al., SC'10, doi 10.1109/SC.2010.18).
 * all: every file goes to every node, sent by the rank there that keeps the directory. sizes: bytes of each file, then its node.
 */
static sgc_status list_items(sgc_spread *p, const int64_t *sizes)
{
    const sgc_spread_job *j = &p->job;
    int64_t n_pieces = 0;
    p->n_items = j->how == SGC_SPREAD_ALL ? j->files->n_files : j->how == SGC_SPREAD_XOR ? p->n_nodes : 1;
    p->items = calloc((size_t)p->n_items + 1, sizeof(*p->items));
    if (!p->items) return sgc_err(SGC_ENOMEM, "no memory for the list of what goes to other nodes");
    for (int i = 0; i < p->n_items; i++) {
        item *of = &p->items[i];
        *of = (item){.root = i, .n_bytes = j->n_file_bytes, .first_piece = n_pieces};
        if (j->how == SGC_SPREAD_XOR) of->n_bytes = sgc_parity_bytes(j->n_file_bytes, p->n_nodes);
        if (j->how == SGC_SPREAD_ALL) *of = (item){.root = (int)sizes[j->files->n_files + i], .n_bytes = sizes[i], .first_piece = n_pieces};
        n_pieces += (of->n_bytes + p->piece_bytes - 1) / p->piece_bytes;
    }
    p->items[p->n_items].first_piece = n_pieces;
    if (sgc_spread_takes_part(j->world, j->files, j->how)) p->n_pieces = n_pieces;
    return SGC_OK;
}

/* Pieces that memory is needed for at a time: two, of a partner two more; the reduction of MPI that makes a parity takes memory of its own for two. */
static int n_buffers(sgc_spread_kind how) { return how == SGC_SPREAD_ALL ? 2 : 4; }

size_t sgc_spread_own_bytes(sgc_spread_kind how, size_t memory_bytes) { return how == SGC_SPREAD_XOR ? memory_bytes / 2 : memory_bytes; }

static sgc_status begin_local(sgc_spread *p, const int64_t *sizes)
{
    sgc_status st = SGC_OK;
    const sgc_spread_job *j = &p->job;
    const size_t own_bytes = sgc_spread_own_bytes(j->how, j->memory_bytes);
    p->piece_bytes = (int64_t)j->memory_bytes / n_buffers(j->how);
    SGC_TRY(list_items(p, sizes));
    p->memory = j->memory;
    if (p->n_pieces > 0 && !p->memory && !(p->memory = p->own_memory = sgc_mem_alloc(SGC_MEM_CHECKPOINT, own_bytes))) return SGC_ENOMEM;
    if (j->how == SGC_SPREAD_XOR && !(p->hasher = sgc_hasher_new())) return SGC_ENOMEM;
done:
    return st;
}

sgc_status sgc_spread_begin(sgc_spread **out, const sgc_spread_job *j)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = j->world;
    const int n_files = j->files->n_files, own = j->files->file_of[w->rank];
    int64_t *sizes = calloc(2 * (size_t)n_files, sizeof(*sizes));
    sgc_spread *p = *out = calloc(1, sizeof(*p));
    if (p) *p = (sgc_spread){.job = *j, .me = w->node_index, .n_nodes = w->n_nodes, .in.fd = -1, .out.fd = -1};
    if (!p || !sizes) st = sgc_err(SGC_ENOMEM, "no memory for the list of what goes to other nodes");
    SGC_AGREE(w->all);
    if (sgc_files_leader(j->files, own) == w->rank) {
        sizes[own] = j->n_file_bytes;
        sizes[n_files + own] = w->node_index;
    }
    SGC_TRY(sgc_sum_int64(w->all, sizes, 2 * n_files));
    st = begin_local(p, sizes);
    SGC_AGREE(w->all);
done:
    free(sizes);
    if (st != SGC_OK) {
        if (p) p->n_pieces = 0; /* nothing was sent */
        sgc_spread_free(p);
        *out = NULL;
    }
    return st;
}

void sgc_spread_free(sgc_spread *p)
{
    bool has_ended;
    if (!p) return;
    /* Messages cannot be taken back: others may have begun what this rank has not. What is in them does not matter any more. */
    while (!p->is_cut_off && !sgc_spread_is_last(p))
        if (sgc_spread_end(p, true, &has_ended) == SGC_OK) sgc_spread_next(p);
    if (p->is_cut_off) return; /* the job is about to end; its memory may still be written to */
    if (p->in.fd >= 0) close(p->in.fd);
    if (p->out.fd >= 0) close(p->out.fd);
    sgc_hasher_free(p->hasher);
    sgc_mem_free(p->own_memory);
    free(p->items);
    free(p);
}

bool sgc_spread_takes_part(const sgc_world *w, const sgc_ckpt_files *files, sgc_spread_kind how)
{
    if (how == SGC_SPREAD_NONE || w->n_nodes == 1) return false;
    return how == SGC_SPREAD_ALL ? w->node_rank == 0 : sgc_files_leader(files, files->file_of[w->rank]) == w->rank;
}

size_t sgc_spread_most_bytes(const sgc_world *w, const sgc_ckpt_files *files, sgc_spread_kind how, size_t n_shard_bytes)
{
    enum { METADATA_BYTES = 1 << 16 }; /* of a file, about */
    const size_t n_shards = (size_t)((files->n_shards + files->n_files - 1) / files->n_files);
    size_t n_bytes = n_shards * n_shard_bytes + METADATA_BYTES; /* of what travels as one item */
    if (how == SGC_SPREAD_XOR) n_bytes = (size_t)sgc_parity_bytes((int64_t)n_bytes, w->n_nodes);
    return (size_t)n_buffers(how) * n_bytes;
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

/*
 * Collectives between memories that MPI does not reach: what is sent is brought to memory of the host, goes through the mpi backend, and what
 * arrived is brought back. Copies are only asked for here; a message is posted once its copy has arrived, which is looked at when the next
 * collective begins or one is waited for, so that the device computes the next unit meanwhile.
 */
#include <stdlib.h>

#include "base/trace.h"
#include "comm/comm_impl.h"

enum { N_PARCELS = 64, ALIGNMENT = 256 };

typedef enum stage { ASKED, POSTED, DONE } stage;

/* Staging memory of one collective: taken in turn, given back in the same order. */
typedef struct parcel {
    size_t offset, bytes;
    struct sgc_mark *mark;  /* owned: of the download */
    sgc_request *request;   /* borrowed; NULL: was waited for */
} parcel;

typedef struct staged {
    sgc_staging how;
    char *memory;           /* owned */
    size_t bytes;
    parcel parcels[N_PARCELS];
    int oldest, n_parcels;
} staged;

struct sgc_request {
    sgc_group *group;       /* borrowed */
    sgc_collective kind;
    sgc_dtype type;
    int64_t n;              /* elements of a shard; of the whole for a broadcast */
    int root;
    char *full;             /* borrowed: of the device */
    float *shard;           /* borrowed: of the device */
    parcel *parcel;
    char *staging;          /* of full, then what the collective needs besides */
    stage stage;
    sgc_request *inner;
};

static staged *staged_of(const sgc_group *g) { return g->backend; }
static size_t bytes_of(sgc_dtype type, int64_t n) { return (size_t)n * sgc_dtype_bytes(type); }
static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }
static int64_t n_full(const sgc_request *r) { return r->kind == SGC_BROADCAST ? r->n : r->group->size * r->n; }

/* Where the parts of the peers arrive, and where the sum is made if not within full. */
static char *scratch_of(const sgc_request *r) { return r->staging + aligned(bytes_of(r->type, n_full(r))); }
static size_t scratch_bytes(const sgc_request *r) { return aligned(bytes_of(r->type, (r->group->size - 1) * r->n)); }
static float *sum_of(const sgc_request *r)
{
    char *own = r->staging + bytes_of(r->type, r->group->rank * r->n);
    return (float *)(r->type == SGC_F32 ? own : scratch_of(r) + scratch_bytes(r));
}

static size_t staging_bytes(const sgc_request *r)
{
    size_t bytes = aligned(bytes_of(r->type, n_full(r)));
    if (r->kind == SGC_REDUCE_SCATTER || r->kind == SGC_ALL_REDUCE) bytes += scratch_bytes(r);
    if (r->kind == SGC_REDUCE_SCATTER && r->type != SGC_F32) bytes += aligned(bytes_of(SGC_F32, r->n));
    return bytes;
}

static sgc_status wait_for_mark(const staged *s, struct sgc_mark *mark)
{
    double start_s = sgc_trace_now();
    sgc_status st = s->how.mark_wait(s->how.device, mark);
    sgc_trace_wait("staging", start_s);
    return st;
}

static sgc_status post(sgc_request *r)
{
    sgc_status st = SGC_OK;
    const staged *s = staged_of(r->group);
    SGC_TRY(wait_for_mark(s, r->parcel->mark));
    if (r->kind == SGC_ALL_GATHER)
        SGC_TRY(sgc_comm_mpi.all_gather(r->group, r->type, r->staging, r->n, &r->inner));
    else if (r->kind == SGC_REDUCE_SCATTER)
        SGC_TRY(sgc_comm_mpi.reduce_scatter(r->group, r->type, r->staging, sum_of(r), scratch_of(r), r->n, &r->inner));
    else if (r->kind == SGC_ALL_REDUCE)
        SGC_TRY(sgc_comm_mpi.all_reduce(r->group, (float *)r->staging, (float *)scratch_of(r), r->n, &r->inner));
    else
        SGC_TRY(sgc_comm_mpi.broadcast(r->group, r->type, r->staging, r->n, r->root, &r->inner));
    r->stage = POSTED;
done:
    return st;
}

/* In the order in which they were asked for, which is the same on all ranks. */
static sgc_status post_up_to(staged *s, const parcel *last)
{
    sgc_status st = SGC_OK;
    for (int i = 0; i < s->n_parcels; i++) {
        parcel *p = &s->parcels[(s->oldest + i) % N_PARCELS];
        if (p->request && p->request->stage == ASKED) SGC_TRY(post(p->request));
        if (p == last) break;
    }
done:
    return st;
}

/* What arrived goes back: the parts of the others, the sum, or everything. */
static void upload(const sgc_request *r)
{
    const sgc_staging *how = &staged_of(r->group)->how;
    size_t part = bytes_of(r->type, r->n), own = (size_t)r->group->rank * part, end = bytes_of(r->type, n_full(r));
    if (r->kind == SGC_REDUCE_SCATTER) {
        how->upload(how->device, r->shard, sum_of(r), bytes_of(SGC_F32, r->n));
    } else if (r->kind == SGC_ALL_GATHER) {
        if (own > 0) how->upload(how->device, r->full, r->staging, own);
        if (own + part < end) how->upload(how->device, r->full + own + part, r->staging + own + part, end - own - part);
    } else if (r->kind == SGC_ALL_REDUCE || r->group->rank != r->root) {
        how->upload(how->device, r->full, r->staging, end);
    }
}

static sgc_status finish(sgc_request *r)
{
    sgc_status st = SGC_OK;
    staged *s = staged_of(r->group);
    if (r->stage == DONE) return SGC_OK;
    SGC_TRY(post_up_to(s, r->parcel));
    SGC_TRY(sgc_comm_mpi.wait(&r->inner));
    if (r->n > 0) upload(r);
    r->stage = DONE;
done:
    return st;
}

/* Its upload may still be under way: whoever has the memory next touches it after a download that is asked for later. */
static sgc_status retire_oldest(staged *s)
{
    sgc_status st = SGC_OK;
    parcel *p = &s->parcels[s->oldest];
    if (p->request) SGC_TRY(finish(p->request));
    if (p->request) p->request->parcel = NULL;
    p->request = NULL;
    s->oldest = (s->oldest + 1) % N_PARCELS;
    s->n_parcels--;
done:
    return st;
}

/* Is there room behind the newest parcel, or, where that lies behind the oldest, before the oldest? */
static bool find_room(const staged *s, size_t bytes, size_t *offset)
{
    if (s->n_parcels == 0) {
        *offset = 0;
        return true;
    }
    if (s->n_parcels == N_PARCELS) return false;
    const parcel *newest = &s->parcels[(s->oldest + s->n_parcels - 1) % N_PARCELS];
    size_t first = s->parcels[s->oldest].offset, end = newest->offset + newest->bytes;
    bool is_wrapped = newest->offset < first;
    *offset = end;
    if (end + bytes <= (is_wrapped ? first : s->bytes)) return true;
    *offset = 0;
    return !is_wrapped && bytes <= first;
}

/* What is sent is asked for; the rest follows when others begin or this one is waited for. */
static sgc_status start(sgc_request **request, const sgc_request *wanted, size_t first, size_t bytes)
{
    sgc_status st = SGC_OK;
    staged *s = staged_of(wanted->group);
    size_t needed = staging_bytes(wanted), offset;
    sgc_request *r = NULL;
    *request = NULL;
    if (needed == 0) needed = ALIGNMENT;
    if (needed > s->bytes)
        return sgc_err(SGC_EARG, "a collective of %zu bytes does not fit into staging memory of %zu", needed, s->bytes);
    SGC_TRY(post_up_to(s, NULL));
    while (!find_room(s, needed, &offset)) SGC_TRY(retire_oldest(s));
    if (!(r = malloc(sizeof(*r)))) return sgc_err(SGC_ENOMEM, "no memory for a collective");
    *r = *wanted;
    r->parcel = &s->parcels[(s->oldest + s->n_parcels++) % N_PARCELS];
    *r->parcel = (parcel){.offset = offset, .bytes = needed, .mark = r->parcel->mark, .request = r};
    r->staging = s->memory + offset;
    if (bytes > 0) s->how.download(s->how.device, r->staging + first, r->full + first, bytes);
    s->how.mark_set(s->how.device, r->parcel->mark);
    *request = r;
done:
    return st;
}

/* Counts; true: one rank has nothing to send. */
static bool is_alone(sgc_group *g, sgc_collective kind, sgc_dtype type, int64_t n, int root, sgc_request **request)
{
    sgc_group_count_collective(g, kind, type, n, root);
    *request = NULL;
    return g->size == 1;
}

static sgc_status all_gather(sgc_group *g, sgc_dtype type, void *full, int64_t n_shard, sgc_request **request)
{
    if (is_alone(g, SGC_ALL_GATHER, type, n_shard, 0, request)) return SGC_OK;
    sgc_request r = {.group = g, .kind = SGC_ALL_GATHER, .type = type, .n = n_shard, .full = full};
    return start(request, &r, bytes_of(type, g->rank * n_shard), bytes_of(type, n_shard));
}

static sgc_status reduce_scatter(sgc_group *g, sgc_dtype type, void *full, float *shard, void *scratch, int64_t n_shard, sgc_request **request)
{
    (void)scratch; /* of the device; the parts of the others arrive in the host's memory */
    if (is_alone(g, SGC_REDUCE_SCATTER, type, n_shard, 0, request) && type == SGC_F32) {
        const sgc_staging *how = &staged_of(g)->how;
        if (shard != full && n_shard > 0) how->copy(how->device, shard, full, bytes_of(type, n_shard));
        return SGC_OK;
    }
    sgc_request r = {.group = g, .kind = SGC_REDUCE_SCATTER, .type = type, .n = n_shard, .full = full, .shard = shard};
    return start(request, &r, 0, bytes_of(type, n_full(&r)));
}

static sgc_status all_reduce(sgc_group *g, float *full, float *scratch, int64_t n_shard, sgc_request **request)
{
    (void)scratch;
    if (is_alone(g, SGC_ALL_REDUCE, SGC_F32, n_shard, 0, request)) return SGC_OK;
    sgc_request r = {.group = g, .kind = SGC_ALL_REDUCE, .type = SGC_F32, .n = n_shard, .full = (char *)full};
    return start(request, &r, 0, bytes_of(SGC_F32, n_full(&r)));
}

static sgc_status broadcast(sgc_group *g, sgc_dtype type, void *data, int64_t n, int root, sgc_request **request)
{
    if (is_alone(g, SGC_BROADCAST, type, n, root, request)) return SGC_OK;
    sgc_request r = {.group = g, .kind = SGC_BROADCAST, .type = type, .n = n, .root = root, .full = data};
    return start(request, &r, 0, g->rank == root ? bytes_of(type, n) : 0);
}

static sgc_status wait_for(sgc_request **request)
{
    sgc_request *r = *request;
    if (r == NULL) return SGC_OK;
    sgc_status st = finish(r);
    if (r->parcel) r->parcel->request = NULL;
    free(r);
    *request = NULL;
    return st;
}

static bool progress(sgc_group *g) { return sgc_comm_mpi.progress(g); }

static const sgc_comm_ops ops = {
    .name = "mpi", /* that is what carries the messages */
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .all_reduce = all_reduce,
    .broadcast = broadcast,
    .wait = wait_for,
    .progress = progress,
};

static void close_staged(sgc_group *g)
{
    staged *s = staged_of(g);
    for (int i = 0; i < N_PARCELS; i++)
        if (s->parcels[i].mark) s->how.mark_free(s->how.device, s->parcels[i].mark);
    if (s->memory) s->how.free_staging(s->how.device, s->memory);
    free(s);
}

static sgc_status open_staged(staged **out, const sgc_staging *how, size_t bytes)
{
    staged *s = calloc(1, sizeof(*s));
    *out = s;
    if (!s) return sgc_err(SGC_ENOMEM, "no memory for the exchange through the host");
    s->how = *how;
    s->bytes = bytes;
    s->memory = how->alloc_staging(how->device, bytes);
    bool has_all = s->memory != NULL;
    for (int i = 0; i < N_PARCELS && has_all; i++) has_all = (s->parcels[i].mark = how->mark_make(how->device)) != NULL;
    if (has_all) return SGC_OK;
    return sgc_err(SGC_ENOMEM, "the host has no %zu bytes of page-locked memory through which this GPU exchanges: take "
                   "fewer ranks per node, or exchange by NCCL (--comm.backend nccl)", bytes);
}

sgc_status sgc_group_use_staged(sgc_group *g, const sgc_staging *how, sgc_dtype type, int64_t n_shard)
{
    staged *s;
    sgc_request largest = {.group = g, .kind = SGC_REDUCE_SCATTER, .type = type, .n = n_shard};
    bool is_local = g->size == 1 && type == SGC_F32;
    sgc_group_use_mpi(g);
    sgc_status st = open_staged(&s, how, is_local ? ALIGNMENT : 2 * staging_bytes(&largest)); /* one arrives while the next is brought */
    g->backend = s;
    g->close_backend = s ? close_staged : NULL;
    st = sgc_agree(g, st);
    if (st != SGC_OK) sgc_group_use_mpi(g);
    else g->ops = &ops;
    g->is_counted_ahead = st == SGC_OK; /* its messages may leave only after the update that asked for them has been counted */
    return st;
}

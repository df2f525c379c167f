/*
 * Collectives on flat buffers by point-to-point messages: every rank exchanges with every other one directly. So each
 * element is sent once, sums keep one order whatever the MPI library does, and elements are counted at the send.
 */
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"

#include "comm/comm_impl.h"

int64_t sgc_comm_piece = (int64_t)1 << 28; /* 1 GiB */

struct sgc_request {
    sgc_group *group;       /* borrowed */
    sgc_collective kind;
    sgc_status st;          /* of steps that were made by progress */
    MPI_Request *messages;  /* owned, [capacity] */
    void **parts;           /* owned, [size]: what a sum is made of */
    int n_messages, capacity;
    /* What is to be done when all messages have arrived; NULL: nothing. May post further messages. */
    sgc_status (*next)(sgc_request *r);
    sgc_request *next_active;

    sgc_dtype type;                /* of full and scratch */
    char *full, *scratch;          /* borrowed */
    float *shard;                  /* borrowed */
    int64_t n;                     /* elements of a shard; of the whole buffer for a broadcast */
    int tag, second_tag, root;
    bool is_done;                  /* seen by progress: the wait has nothing left to do */
    double start_s, end_s;         /* while a trace is on: posted, and seen to have ended (0: not yet) */
};

static int64_t n_pieces(int64_t n) { return (n + sgc_comm_piece - 1) / sgc_comm_piece; }

static void drop(sgc_request *r)
{
    free(r->messages);
    free(r->parts);
    free(r);
}

/* With room for so many messages. One that has ended is used again: when all collectives of an update have been made once, no memory is taken for more. */
static sgc_request *take_request(sgc_group *g, int64_t n_messages)
{
    sgc_request *r = g->idle ? g->idle : calloc(1, sizeof(*r));
    if (r == NULL) return NULL;
    if (r == g->idle) g->idle = r->next_active;
    if (r->parts == NULL) r->parts = malloc((size_t)g->size * sizeof(*r->parts));
    if (r->messages == NULL || r->capacity < n_messages) {
        free(r->messages);
        r->capacity = (int)(n_messages > 0 ? n_messages : 1);
        r->messages = malloc((size_t)r->capacity * sizeof(*r->messages));
    }
    if (r->parts && r->messages) return r;
    drop(r);
    return NULL;
}

static sgc_status open_request(sgc_request **request, sgc_group *g, sgc_collective kind, sgc_dtype type, int64_t n_messages)
{
    sgc_request *r = *request = take_request(g, n_messages);
    if (r == NULL) return sgc_err(SGC_ENOMEM, "no memory for the %lld messages of %s", (long long)n_messages, sgc_collective_name(kind));
    *r = (sgc_request){.group = g, .kind = kind, .type = type, .messages = r->messages, .parts = r->parts, .capacity = r->capacity, .tag = sgc_group_take_tag(g)};
    r->start_s = sgc_trace_now();
    r->next_active = g->active;
    g->active = r;
    sgc_group_count_call(g, kind);
    return SGC_OK;
}

static void close_request(sgc_request *r)
{
    sgc_group *g = r->group;
    sgc_request **link = &g->active;
    while (*link != r) link = &(*link)->next_active;
    *link = r->next_active;
    r->next_active = g->idle;
    g->idle = r;
}

void sgc_comm_mpi_forget(sgc_group *g)
{
    while (g->idle) {
        sgc_request *r = g->idle;
        g->idle = r->next_active;
        drop(r);
    }
}

static MPI_Datatype mpi_type(sgc_dtype type) { return type == SGC_F32 ? MPI_FLOAT : MPI_UINT16_T; }
static int64_t bytes_of(const sgc_request *r, int64_t n) { return n * (int64_t)sgc_dtype_bytes(r->type); }

static sgc_status post_send(sgc_request *r, const char *data, int64_t n, int peer, int tag)
{
    for (int64_t i = 0; i < n; i += sgc_comm_piece) {
        int m = (int)(n - i < sgc_comm_piece ? n - i : sgc_comm_piece);
        int rc = MPI_Isend(data + bytes_of(r, i), m, mpi_type(r->type), peer, tag, r->group->data, &r->messages[r->n_messages]);
        if (rc != MPI_SUCCESS) return sgc_mpi_check(rc, "MPI_Isend");
        r->n_messages++;
        sgc_group_count(r->group, r->kind, m, bytes_of(r, m));
    }
    return SGC_OK;
}

/* Pieces of one peer and tag arrive in the order of the sends: MPI does not let them overtake each other. */
static sgc_status post_receive(sgc_request *r, char *data, int64_t n, int peer, int tag)
{
    for (int64_t i = 0; i < n; i += sgc_comm_piece) {
        int m = (int)(n - i < sgc_comm_piece ? n - i : sgc_comm_piece);
        int rc = MPI_Irecv(data + bytes_of(r, i), m, mpi_type(r->type), peer, tag, r->group->data, &r->messages[r->n_messages]);
        if (rc != MPI_SUCCESS) return sgc_mpi_check(rc, "MPI_Irecv");
        r->n_messages++;
    }
    return SGC_OK;
}

/* Receives are posted first, so that messages find their place. Peers are taken in turn from the own rank on, which
 * spreads the load: no rank is everybody's first. */
static sgc_status post_all_gather(sgc_request *r, int tag)
{
    sgc_status st = SGC_OK;
    int rank = r->group->rank, size = r->group->size;
    for (int k = 1; k < size; k++) {
        int peer = (rank - k + size) % size;
        SGC_TRY(post_receive(r, r->full + bytes_of(r, peer * r->n), r->n, peer, tag));
    }
    for (int k = 1; k < size; k++) SGC_TRY(post_send(r, r->full + bytes_of(r, rank * r->n), r->n, (rank + k) % size, tag));
done:
    return st;
}

static sgc_status all_gather(sgc_group *g, sgc_dtype type, void *full, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_request(request, g, SGC_ALL_GATHER, type, 2 * (g->size - 1) * n_pieces(n_shard)));
    (*request)->full = full;
    (*request)->n = n_shard;
    SGC_TRY(post_all_gather(*request, (*request)->tag));
done:
    return st;
}

/* The part of rank `peer` as it lies in scratch. */
static char *part_of(const sgc_request *r, int peer) { return r->scratch + bytes_of(r, (peer < r->group->rank ? peer : peer - 1) * r->n); }

static sgc_status post_reduce(sgc_request *r)
{
    sgc_status st = SGC_OK;
    int rank = r->group->rank, size = r->group->size;
    for (int k = 1; k < size; k++) {
        int peer = (rank - k + size) % size;
        SGC_TRY(post_receive(r, part_of(r, peer), r->n, peer, r->tag));
    }
    for (int k = 1; k < size; k++) {
        int peer = (rank + k) % size;
        SGC_TRY(post_send(r, r->full + bytes_of(r, peer * r->n), r->n, peer, r->tag));
    }
done:
    return st;
}

static sgc_status sum_parts(sgc_request *r)
{
    int rank = r->group->rank, size = r->group->size;
    char *own = r->full + bytes_of(r, rank * r->n);
    void **parts = r->parts;
    for (int peer = 0; peer < size; peer++) parts[peer] = peer == rank ? own : part_of(r, peer);
    if (r->type != SGC_F32) {
        sgc_tree_sum_16bit(r->shard, r->type, (const uint16_t *const *)parts, size, r->n);
    } else {
        if ((char *)r->shard != own) memcpy(r->shard, own, (size_t)r->n * sizeof(float)); /* the sum overwrites its sources */
        parts[rank] = r->shard;
        sgc_tree_sum(r->shard, (float *const *)parts, size, r->n);
    }
    return SGC_OK;
}

static sgc_status reduce_scatter(sgc_group *g, sgc_dtype type, void *full, float *shard, void *scratch, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_request(request, g, SGC_REDUCE_SCATTER, type, 2 * (g->size - 1) * n_pieces(n_shard)));
    sgc_request *r = *request;
    r->full = full, r->shard = shard, r->scratch = scratch, r->n = n_shard;
    r->next = sum_parts;
    SGC_TRY(post_reduce(r));
done:
    return st;
}

static sgc_status sum_and_gather(sgc_request *r)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sum_parts(r));
    SGC_TRY(post_all_gather(r, r->second_tag));
done:
    return st;
}

static sgc_status all_reduce(sgc_group *g, float *full, float *scratch, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_request(request, g, SGC_ALL_REDUCE, SGC_F32, 2 * (g->size - 1) * n_pieces(n_shard)));
    sgc_request *r = *request;
    r->full = (char *)full, r->shard = full + g->rank * n_shard, r->scratch = (char *)scratch, r->n = n_shard;
    r->second_tag = sgc_group_take_tag(g);
    r->next = sum_and_gather;
    SGC_TRY(post_reduce(r));
done:
    return st;
}

static sgc_status pass_on(sgc_request *r)
{
    int parent, children[32];
    int n_children = sgc_broadcast_tree(r->group->rank, r->group->size, r->root, &parent, children);
    sgc_status st = SGC_OK;
    for (int i = 0; i < n_children; i++) SGC_TRY(post_send(r, r->full, r->n, children[i], r->tag));
done:
    return st;
}

static sgc_status broadcast(sgc_group *g, sgc_dtype type, void *data, int64_t n, int root, sgc_request **request)
{
    sgc_status st = SGC_OK;
    int parent, children[32];
    int n_children = sgc_broadcast_tree(g->rank, g->size, root, &parent, children);
    SGC_TRY(open_request(request, g, SGC_BROADCAST, type, (n_children > 0 ? n_children : 1) * n_pieces(n)));
    sgc_request *r = *request;
    r->full = data, r->n = n, r->root = root;
    if (parent < 0) {
        SGC_TRY(pass_on(r));
    } else {
        r->next = pass_on;
        SGC_TRY(post_receive(r, data, n, parent, r->tag));
    }
done:
    return st;
}

static sgc_status step(sgc_request *r)
{
    sgc_status (*next)(sgc_request *) = r->next;
    r->next = NULL;
    r->n_messages = 0;
    return next(r);
}

/* What waited, and how long the messages were under way. */
static void record(const sgc_request *r, double wait_s)
{
    const char *name = sgc_collective_name(r->kind);
    sgc_trace_wait(name, wait_s);
    if (r->start_s > 0 && r->group->size > 1) /* not before the trace began; one rank has nothing to send */
        sgc_trace_add(&(sgc_trace_event){.kind = SGC_TRACE_TRAVEL, .name = name, .start_s = r->start_s, .end_s = r->end_s > 0 ? r->end_s : sgc_time_s()});
}

static sgc_status wait_for(sgc_request **request)
{
    sgc_request *r = *request;
    if (r == NULL) return SGC_OK;
    sgc_status st = r->st;
    double start_s = sgc_trace_now();
    while (st == SGC_OK) {
        SGC_MPI(MPI_Waitall(r->n_messages, r->messages, MPI_STATUSES_IGNORE));
        if (r->next == NULL) break;
        SGC_TRY(step(r));
    }
done:
    if (sgc_trace_is_on) record(r, start_s);
    close_request(r);
    *request = NULL;
    return st;
}

/* MPI moves messages only inside its calls. */
static bool progress(sgc_group *g)
{
    bool any = false;
    for (sgc_request *r = g->active; r != NULL; r = r->next_active) {
        int has_arrived;
        if (r->st != SGC_OK || r->is_done) continue;
        any = true;
        r->st = sgc_mpi_check(MPI_Testall(r->n_messages, r->messages, &has_arrived, MPI_STATUSES_IGNORE), "MPI_Testall");
        if (r->st != SGC_OK || !has_arrived) continue;
        r->n_messages = 0;
        if (r->next != NULL) r->st = step(r); /* which may post further messages */
        r->is_done = r->n_messages == 0;
        if (r->is_done) r->end_s = sgc_trace_now();
    }
    return any;
}

const sgc_comm_ops sgc_comm_mpi = {
    .name = "mpi",
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .all_reduce = all_reduce,
    .broadcast = broadcast,
    .wait = wait_for,
    .progress = progress,
};

/*
 * Collectives between GPUs by NCCL. Gathers and broadcasts are NCCL's, since they only move bits. Sums are not: NCCL adds in an order that depends on the
 * algorithm it chooses, so the parts are exchanged and added here, along the tree of comm.h. Host calls only queue.
 */
#include <stdlib.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/comm_impl.h"
#include "comm/nccl_impl.h"

struct sgc_request {
    sgc_group *group; /* borrowed */
    sgc_collective kind;
    int64_t number;   /* of the collective on its stream */
};

static sgc_nccl *nccl_of(const sgc_group *g) { return g->backend; }
static ncclDataType_t nccl_type(sgc_dtype type) { return type == SGC_F32 ? ncclFloat32 : type == SGC_BF16 ? ncclBfloat16 : ncclFloat16; }
static char *at(const void *p, sgc_dtype type, int64_t i) { return (char *)p + i * (int64_t)sgc_dtype_bytes(type); }
static int smaller(int a, int b) { return a < b ? a : b; }
/* Which of the others' parts that of rank `peer` is. */
static int place(int peer, int own) { return peer < own ? peer : peer - 1; }

typedef struct reduction {
    sgc_dtype type;
    const char *full;
    float *shard;
    char *scratch;
    int64_t n;
} reduction;

/* Calls of a group. The first that fails is the last; the group is closed all the same, since nothing can be given up within. */
typedef struct bundle {
    sgc_nccl *s;
    ncclResult_t rc;
    const char *call; /* the last */
} bundle;
#define ADD(b, name, ...) \
    do { if ((b)->rc == ncclSuccess || (b)->rc == ncclInProgress) (b)->rc = (b)->s->library->name(__VA_ARGS__), (b)->call = "nccl" #name; } while (0)

static bundle begin_bundle(sgc_nccl *s)
{
    bundle b = {.s = s, .rc = ncclSuccess};
    ADD(&b, GroupStart);
    return b;
}

static sgc_status end_bundle(const bundle *b)
{
    ncclResult_t rc = b->s->library->GroupEnd();
    if (b->rc != ncclSuccess && b->rc != ncclInProgress) return sgc_nccl_settle(b->s, b->rc, b->call);
    return sgc_nccl_settle(b->s, rc, "ncclGroupEnd");
}

/* Every rank sends every other one its part. Peers are taken in turn from the own rank on. */
static sgc_status queue_exchange(sgc_group *g, const reduction *r)
{
    sgc_nccl *s = nccl_of(g);
    bundle calls = begin_bundle(s);
    for (int k = 1; k < g->size; k++) {
        int to = (g->rank + k) % g->size, from = (g->rank - k + g->size) % g->size;
        ADD(&calls, Send, at(r->full, r->type, to * r->n), (size_t)r->n, nccl_type(r->type), to, s->comm, s->stream);
        ADD(&calls, Recv, at(r->scratch, r->type, place(from, g->rank) * r->n), (size_t)r->n, nccl_type(r->type), from, s->comm, s->stream);
    }
    return end_bundle(&calls);
}

static sgc_status queue_direct(sgc_group *g, const reduction *r)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    SGC_TRY(queue_exchange(g, r));
    sgc_nccl_sum(s->device, s->stream, &(sgc_parts){.type = r->type, .sum = r->shard, .own = at(r->full, r->type, g->rank * r->n), .others = r->scratch,
                                                    .n = r->n, .other_size = r->n, .n_parts = g->size, .own_index = g->rank, .n_segments = 1});
done:
    return st;
}

/*
 * The same sums, first over the ranks of a node, then over nodes, so that a node sends each element once instead of once per rank. L ranks of
 * a node are neighbours and a power of two, so their sum is a subtree. For each of M nodes, the own one first and then the next, this rank adds the
 * L parts of the rank there that has its own number on the node.
 */
typedef struct by_nodes {
    const reduction *r;
    int L, M, own, node; /* own: number on the node */
} by_nodes;

/* The L - 1 parts that arrive for the k-th node. */
static char *parts_for(const by_nodes *b, int k) { return at(b->r->scratch, b->r->type, k * (b->L - 1) * b->r->n); }

/* Their sum. One of floats replaces the first of them; others are twice as long as a part, and stand one behind the other in what has been read. */
static float *sum_for(const by_nodes *b, int k)
{
    if (b->r->type == SGC_F32) return (float *)parts_for(b, k);
    return k == 0 ? b->r->shard : (float *)b->r->scratch + (k - 1) * b->r->n;
}

/* How many sums can be made at once from the k-th on: as many as are the room of the parts of k nodes, where k - 1 sums stand already. */
static int n_at_once(const by_nodes *b, int k)
{
    if (b->r->type == SGC_F32) return b->M;
    return k == 0 ? 1 : (k * (b->L - 1) - 2 * (k - 1)) / 2;
}

static void queue_sums_of_node(sgc_group *g, const by_nodes *b)
{
    const reduction *r = b->r;
    int64_t n = r->n;
    for (int k = 0, n_now; k < b->M; k += n_now) {
        int first = (b->node + k) % b->M;
        n_now = smaller(n_at_once(b, k), smaller(b->M - k, b->M - first));
        sgc_nccl_sum(nccl_of(g)->device, nccl_of(g)->stream,
                     &(sgc_parts){.type = r->type, .sum = sum_for(b, k), .own = at(r->full, r->type, (first * b->L + b->own) * n), .others = parts_for(b, k), .n = n,
                                  .sum_step = r->type == SGC_F32 ? (b->L - 1) * n : n, .own_step = b->L * n, .others_step = (b->L - 1) * n, .other_size = n,
                                  .n_parts = b->L, .own_index = b->own, .n_segments = n_now});
    }
}

static sgc_status queue_by_nodes(sgc_group *g, const reduction *r)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    by_nodes b = {.r = r, .L = s->ranks_per_node, .M = g->size / s->ranks_per_node, .own = g->rank % s->ranks_per_node, .node = g->rank / s->ranks_per_node};
    int L = b.L, M = b.M;
    int64_t n = r->n;
    float *arriving = r->type == SGC_F32 ? (float *)parts_for(&b, M) : sum_for(&b, M); /* [(M - 1) * n] sums of other nodes */
    bundle parts = begin_bundle(s);
    for (int j = 1; j < L; j++) {
        int to = (b.own + j) % L, from = (b.own - j + L) % L;
        for (int k = 0; k < M; k++) {
            char *part = parts_for(&b, k);
            ADD(&parts, Send, at(r->full, r->type, ((b.node + k) % M * L + to) * n), (size_t)n, nccl_type(r->type), b.node * L + to, s->comm, s->stream);
            ADD(&parts, Recv, at(part, r->type, place(from, b.own) * n), (size_t)n, nccl_type(r->type), b.node * L + from, s->comm, s->stream);
        }
    }
    SGC_TRY(end_bundle(&parts));
    queue_sums_of_node(g, &b);
    bundle sums = begin_bundle(s);
    for (int k = 1; k < M; k++) {
        int to = (b.node + k) % M, from = (b.node - k + M) % M;
        ADD(&sums, Send, sum_for(&b, k), (size_t)n, ncclFloat32, to * L + b.own, s->comm, s->stream);
        ADD(&sums, Recv, arriving + place(from, b.node) * n, (size_t)n, ncclFloat32, from * L + b.own, s->comm, s->stream);
    }
    SGC_TRY(end_bundle(&sums));
    sgc_nccl_sum(s->device, s->stream, &(sgc_parts){.type = SGC_F32, .sum = r->shard, .own = sum_for(&b, 0), .others = arriving, .n = n, .other_size = n,
                                                    .n_parts = M, .own_index = b.node, .n_segments = 1});
done:
    return st;
}

/*
 * Scratch has room for L M - 1 parts. Of floats, L - 1 parts for each of M nodes and M - 1 sums fill it. Of shorter ones, M - 1 sums and as many that
 * arrive take the room of 4 (M - 1) parts: there is as much from L = 4 on. With L = 2 nothing would be saved, a sum is as long as both its parts.
 */
static sgc_status queue_reduction(sgc_group *g, const reduction *r)
{
    int L = nccl_of(g)->ranks_per_node;
    return L >= (r->type == SGC_F32 ? 2 : 4) ? queue_by_nodes(g, r) : queue_direct(g, r);
}

static sgc_status queue_gather(sgc_group *g, sgc_dtype type, void *full, int64_t n)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    SGC_NCCL(s, AllGather, at(full, type, g->rank * n), full, (size_t)n, nccl_type(type), s->comm, s->stream);
done:
    return st;
}

/* Counts; false: nothing is to be sent, and request is NULL. */
static bool begins(sgc_group *g, sgc_collective kind, sgc_dtype type, int64_t n, int root, sgc_request **request)
{
    *request = NULL;
    sgc_group_count_collective(g, kind, type, n, root);
    return g->size > 1 && n > 0;
}

static sgc_status end(sgc_group *g, sgc_collective kind, sgc_request **request)
{
    sgc_status st = SGC_OK;
    sgc_request *r = malloc(sizeof(*r));
    if (!r) return sgc_err(SGC_ENOMEM, "no memory for a collective");
    *r = (sgc_request){.group = g, .kind = kind};
    SGC_TRY(sgc_nccl_land(nccl_of(g), &r->number));
    *request = r;
    r = NULL;
done:
    free(r);
    return st;
}

static sgc_status all_gather(sgc_group *g, sgc_dtype type, void *full, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    if (!begins(g, SGC_ALL_GATHER, type, n_shard, 0, request)) return SGC_OK;
    SGC_TRY(sgc_nccl_take_off(nccl_of(g), SGC_ALL_GATHER));
    SGC_TRY(queue_gather(g, type, full, n_shard));
    SGC_TRY(end(g, SGC_ALL_GATHER, request));
done:
    return st;
}

static sgc_status reduce_scatter(sgc_group *g, sgc_dtype type, void *full, float *shard, void *scratch, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    reduction r = {.type = type, .full = full, .shard = shard, .scratch = scratch, .n = n_shard};
    bool is_alone = g->size == 1 && n_shard > 0;
    if (!begins(g, SGC_REDUCE_SCATTER, type, n_shard, 0, request)) {
        if (is_alone && (type != SGC_F32 || (void *)shard != full))
            sgc_nccl_sum(s->device, s->compute, &(sgc_parts){.type = type, .sum = shard, .own = full, .n = n_shard, .n_parts = 1, .n_segments = 1});
        return SGC_OK;
    }
    SGC_TRY(sgc_nccl_take_off(s, SGC_REDUCE_SCATTER));
    SGC_TRY(queue_reduction(g, &r));
    SGC_TRY(end(g, SGC_REDUCE_SCATTER, request));
done:
    return st;
}

static sgc_status all_reduce(sgc_group *g, float *full, float *scratch, int64_t n_shard, sgc_request **request)
{
    sgc_status st = SGC_OK;
    reduction r = {.type = SGC_F32, .full = (char *)full, .shard = full + g->rank * n_shard, .scratch = (char *)scratch, .n = n_shard};
    if (!begins(g, SGC_ALL_REDUCE, SGC_F32, n_shard, 0, request)) return SGC_OK;
    SGC_TRY(sgc_nccl_take_off(nccl_of(g), SGC_ALL_REDUCE));
    SGC_TRY(queue_reduction(g, &r));
    SGC_TRY(queue_gather(g, SGC_F32, full, n_shard));
    SGC_TRY(end(g, SGC_ALL_REDUCE, request));
done:
    return st;
}

static sgc_status broadcast(sgc_group *g, sgc_dtype type, void *data, int64_t n, int root, sgc_request **request)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    if (!begins(g, SGC_BROADCAST, type, n, root, request)) return SGC_OK;
    SGC_TRY(sgc_nccl_take_off(s, SGC_BROADCAST));
    SGC_NCCL(s, Broadcast, data, data, (size_t)n, nccl_type(type), root, s->comm, s->stream);
    SGC_TRY(end(g, SGC_BROADCAST, request));
done:
    return st;
}

static sgc_status wait_for(sgc_request **request)
{
    sgc_request *r = *request;
    if (r == NULL) return SGC_OK;
    sgc_status st = sgc_nccl_join(nccl_of(r->group), r->kind, r->number);
    free(r);
    *request = NULL;
    return st;
}

static sgc_status watch(sgc_group *g) { return sgc_nccl_watch(nccl_of(g)); }

/* What cannot be registered travels all the same, by way of NCCL's own buffers. */
static void lend(sgc_group *g, void *memory, size_t bytes)
{
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0)
    sgc_nccl *s = nccl_of(g);
    void *handle = NULL;
    if (!s->comm || !s->library->CommRegister || !s->library->CommDeregister || s->n_lent == SGC_NCCL_LENT || bytes == 0) return;
    ncclResult_t rc = s->library->CommRegister(s->comm, memory, bytes, &handle);
    if (rc == ncclSuccess && handle) {
        s->lent[s->n_lent].memory = memory;
        s->lent[s->n_lent++].handle = handle;
    }
    sgc_log_debug("NCCL: %zu bytes %s", bytes, rc == ncclSuccess ? "registered" : "not registered");
#else
    (void)g, (void)memory, (void)bytes;
#endif
}

static void take_back(sgc_group *g, void *memory)
{
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0)
    sgc_nccl *s = nccl_of(g);
    for (int i = 0; i < s->n_lent; i++) {
        if (s->lent[i].memory != memory) continue;
        s->library->CommDeregister(s->comm, s->lent[i].handle);
        s->lent[i] = s->lent[--s->n_lent];
        return;
    }
#else
    (void)g, (void)memory;
#endif
}

static const sgc_comm_ops ops = {
    .name = "nccl",
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .all_reduce = all_reduce,
    .broadcast = broadcast,
    .wait = wait_for,
    .watch = watch,
    .lend = lend,
    .take_back = take_back,
};

static sgc_status wait_for_stream(sgc_nccl *s)
{
    sgc_status st = SGC_OK;
    cudaError_t rc;
    while ((rc = cudaStreamQuery(s->stream)) == cudaErrorNotReady) {
        cudaGetLastError();
        SGC_TRY(sgc_nccl_watch(s));
    }
    SGC_CUDA(s, rc);
done:
    return st;
}

enum { TRIAL = 8 }; /* elements per rank */

/* Ones are summed, and the sums gathered. */
static sgc_status try_numbers(sgc_group *g, float *numbers, int n, float *full)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    int64_t number;
    reduction r = {.type = SGC_F32, .full = (char *)full, .shard = full + g->rank * TRIAL, .scratch = (char *)(full + n), .n = TRIAL};
    for (int i = 0; i < n; i++) numbers[i] = 1;
    SGC_CUDA(s, cudaMemcpyAsync(full, numbers, (size_t)n * sizeof(*numbers), cudaMemcpyHostToDevice, s->compute)); /* cudaMemcpy may return before it is there */
    SGC_TRY(sgc_nccl_take_off(s, SGC_ALL_REDUCE));
    SGC_TRY(queue_reduction(g, &r));
    SGC_TRY(queue_gather(g, SGC_F32, full, TRIAL));
    SGC_TRY(sgc_nccl_land(s, &number));
    SGC_TRY(wait_for_stream(s));
    SGC_CUDA(s, cudaMemcpy(numbers, full, (size_t)n * sizeof(*numbers), cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++)
        if (numbers[i] != (float)g->size)
            return sgc_nccl_fail(s, "NCCL brings wrong numbers to GPU %d of node %s: GPUs that reach each other's memory by PCIe may be hindered by the IOMMU or "
                                 "ACS (see NCCL's manual; NCCL_P2P_DISABLE=1 avoids it), or write --comm.backend mpi", s->ordinal, sgc_node_name());
done:
    return st;
}

/* NCCL connects two ranks when they first talk. That belongs here, where it may take its time and its memory, and be told if it fails. */
static sgc_status try_connections(sgc_group *g)
{
    sgc_status st = SGC_OK;
    sgc_nccl *s = nccl_of(g);
    int n = g->size * TRIAL;
    void *full = NULL;
    float *numbers = malloc((size_t)n * sizeof(*numbers));
    if (g->size == 1) goto done;
    if (!numbers) st = sgc_err(SGC_ENOMEM, "no memory to try NCCL's connections");
    if (st == SGC_OK) st = sgc_nccl_check_cuda(s, cudaMalloc(&full, 2 * (size_t)n * sizeof(*numbers)), "cudaMalloc");
    SGC_AGREE(g);
    st = try_numbers(g, numbers, n, full);
    SGC_AGREE(g);
done:
    free(numbers);
    cudaFree(full);
    return st;
}

static void close_nccl(sgc_group *g) { sgc_nccl_free(nccl_of(g)); }

sgc_status sgc_nccl_find(int *version)
{
    const sgc_nccl_library *library;
    sgc_status st = sgc_nccl_open(&library);
    *version = library->version;
    return st;
}

sgc_status sgc_group_use_nccl(sgc_group *g, const sgc_nccl_spec *spec)
{
    sgc_nccl *s = NULL;
    sgc_group_use_mpi(g);
    sgc_status st = sgc_nccl_make(&s, g, spec);
    g->backend = s;
    g->close_backend = s ? close_nccl : NULL;
    SGC_AGREE(g);
    SGC_TRY(sgc_nccl_connect(s, g));
    SGC_TRY(try_connections(g));
    s->is_in_use = true;
    g->ops = &ops;
done:
    if (st != SGC_OK && s) sgc_nccl_give_up(s); /* the others do so, too */
    if (st != SGC_OK) sgc_group_use_mpi(g);
    return st;
}

/*
 * What every backend of the collectives must do, whatever memory it works on. The program that includes this says first what memory that is:
 *     static void *place_alloc(size_t bytes); static void place_free(void *p);
 *     static void place_put(void *to, const void *host, size_t bytes); static void place_get(void *host, const void *from, size_t bytes);
 */
#ifndef SGC_TESTS_COMM_CASES_H
#define SGC_TESTS_COMM_CASES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/philox.h"
#include "mpi_check.h"

static const int64_t sizes[] = {0, 1, 7, 512, 5000}; /* elements of a shard */
static const sgc_dtype types[] = {SGC_F32, SGC_BF16, SGC_F16};
enum { N_SIZES = sizeof(sizes) / sizeof(sizes[0]), N_TYPES = sizeof(types) / sizeof(types[0]), GUARD = 8 };

/* Element i of what rank r holds in round k: of many magnitudes, so that sums depend on their order. */
static float value(sgc_dtype type, int r, int64_t i, int k)
{
    uint32_t w[4];
    uint16_t half;
    sgc_philox((sgc_philox_key){{3, (uint32_t)k}}, (uint32_t[4]){(uint32_t)r, (uint32_t)i, 0, 0}, w);
    float x = ldexpf(sgc_uniform(w[0]) - 0.5f, (int)(w[1] % 24) - 9);
    if (type == SGC_F32) return x;
    sgc_dtype_pack(type, &x, 1, &half);
    sgc_dtype_unpack(type, &half, 1, &x);
    return x;
}

/* The sum over ranks as the contract of reduce_scatter says it, one element at a time. */
static float tree(sgc_dtype type, int first, int n, int64_t i, int k)
{
    if (n == 1) return value(type, first, i, k);
    int left = 1;
    while (2 * left < n) left *= 2;
    return tree(type, first, left, i, k) + tree(type, first + left, n - left, i, k);
}

/* Memory of the place under test with something behind it that nobody may touch. */
typedef struct buffer {
    sgc_dtype type;
    int64_t n;
    char *p;
    float *host; /* [n + GUARD] as last put or fetched */
} buffer;

static void put(buffer *b)
{
    size_t bytes = (size_t)(b->n + GUARD) * sgc_dtype_bytes(b->type);
    char *packed = malloc(bytes);
    sgc_dtype_pack(b->type, b->host, b->n + GUARD, packed);
    place_put(b->p, packed, bytes);
    free(packed);
}

static void fetch(buffer *b)
{
    size_t bytes = (size_t)(b->n + GUARD) * sgc_dtype_bytes(b->type);
    char *packed = malloc(bytes);
    place_get(packed, b->p, bytes);
    sgc_dtype_unpack(b->type, packed, b->n + GUARD, b->host);
    free(packed);
}

/* Holds what rank r has in round k at elements first .. first + m - 1, and elsewhere -1. */
static buffer make(sgc_dtype type, int64_t n, int64_t first, int64_t m, int r, int k)
{
    buffer b = {.type = type, .n = n, .p = place_alloc((size_t)(n + GUARD) * sgc_dtype_bytes(type)), .host = malloc((size_t)(n + GUARD) * sizeof(float))};
    mpi_assert(b.p != NULL && b.host != NULL);
    for (int64_t i = 0; i < n + GUARD; i++) b.host[i] = i >= first && i < first + m ? value(type, r, i, k) : -1;
    put(&b);
    return b;
}

static bool is_guarded(const buffer *b)
{
    for (int64_t i = b->n; i < b->n + GUARD; i++)
        if (b->host[i] != -1) return false;
    return true;
}

/* To be called by all ranks. */
static void drop(buffer *b)
{
    fetch(b);
    mpi_assert(is_guarded(b));
    place_free(b->p);
    free(b->host);
}

static bool is_value(const buffer *b, int64_t from, int64_t n, int r, int k)
{
    for (int64_t i = from; i < from + n; i++)
        if (b->host[i] != value(b->type, r, i, k)) return false;
    return true;
}

/* Elements 0 .. n - 1 of b are the sums of elements first .. first + n - 1 that travelled as type. */
static bool is_tree(const buffer *b, int64_t at, int64_t n, sgc_dtype type, int64_t first, int k)
{
    for (int64_t i = 0; i < n; i++)
        if (b->host[at + i] != tree(type, 0, world.size, first + i, k)) return false;
    return true;
}

START_TEST(all_gather_brings_every_shard)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int t = 0; t < N_TYPES; t++)
        for (int s = 0; s < N_SIZES; s++) {
            int64_t n = sizes[s];
            sgc_request *request;
            buffer full = make(types[t], n * world.size, n * world.rank, n, world.rank, s);
            mpi_assert_ok(ops->all_gather(world.all, types[t], full.p, n, &request));
            mpi_assert_ok(ops->wait(&request));
            mpi_assert(request == NULL);
            fetch(&full);
            for (int r = 0; r < world.size; r++) mpi_assert(is_value(&full, r * n, n, r, s));
            drop(&full);
        }
}
END_TEST

START_TEST(reduce_scatter_adds_in_the_order_of_the_tree)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int t = 0; t < N_TYPES; t++)
        for (int s = 0; s < N_SIZES; s++)
            for (int in_place = 0; in_place < (types[t] == SGC_F32 ? 2 : 1); in_place++) {
                int64_t n = sizes[s], first = world.rank * n;
                sgc_request *request;
                buffer full = make(types[t], n * world.size, 0, n * world.size, world.rank, s);
                buffer scratch = make(types[t], n * (world.size - 1), 0, 0, 0, s), other = make(SGC_F32, n, 0, 0, 0, s);
                float *shard = in_place ? (float *)full.p + first : (float *)other.p;
                mpi_assert_ok(ops->reduce_scatter(world.all, types[t], full.p, shard, scratch.p, n, &request));
                mpi_assert_ok(ops->wait(&request));
                fetch(&full);
                fetch(&other);
                mpi_assert(is_tree(in_place ? &full : &other, in_place ? first : 0, n, types[t], first, s));
                bool is_kept = true; /* the rest of full */
                for (int r = 0; r < world.size; r++)
                    if (!in_place || r != world.rank) is_kept = is_kept && is_value(&full, r * n, n, world.rank, s);
                mpi_assert(is_kept);
                drop(&full);
                drop(&scratch);
                drop(&other);
            }
}
END_TEST

START_TEST(all_reduce_gives_the_bits_of_reduce_scatter_and_all_gather)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int s = 0; s < N_SIZES; s++) {
        int64_t n = sizes[s];
        sgc_request *request;
        buffer full = make(SGC_F32, n * world.size, 0, n * world.size, world.rank, s), scratch = make(SGC_F32, n * (world.size - 1), 0, 0, 0, s);
        mpi_assert_ok(ops->all_reduce(world.all, (float *)full.p, (float *)scratch.p, n, &request));
        for (int i = 0; ops->progress && i < 100; i++) ops->progress(world.all);
        mpi_assert_ok(ops->wait(&request));
        fetch(&full);
        mpi_assert(is_tree(&full, 0, n * world.size, SGC_F32, 0, s));
        drop(&full);
        drop(&scratch);
    }
}
END_TEST

START_TEST(broadcast_reaches_all_from_any_root)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int root = 0; root < world.size; root++)
        for (int s = 0; s < N_SIZES; s++) {
            int64_t n = sizes[s];
            sgc_dtype type = types[s % N_TYPES];
            sgc_request *request;
            buffer data = make(type, n, 0, world.rank == root ? n : 0, root, s);
            mpi_assert_ok(ops->broadcast(world.all, type, data.p, n, root, &request));
            mpi_assert_ok(ops->wait(&request));
            fetch(&data);
            mpi_assert(is_value(&data, 0, n, root, s));
            drop(&data);
        }
}
END_TEST

/* In this order on all ranks, but not in the order of the starts. */
static void wait_all(int n, sgc_request **request)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    for (int i = 0; i < n; i++) mpi_assert_ok(ops->wait(&request[(i + n / 2) % n]));
}

START_TEST(collectives_in_flight_together_do_not_mix)
{
    enum { N = 72 };
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    buffer full[N], scratch[N];
    sgc_request *request[N];
    int64_t n = 300, all = n * world.size, own = n * world.rank;
    for (int k = 0; k < N; k++) {
        int root = k % world.size;
        int64_t first = k % 3 == 1 ? own : 0, m = k % 3 == 0 ? all : k % 3 == 1 ? n : world.rank == root ? n : 0;
        full[k] = make(SGC_F32, all, first, m, world.rank, k);
        scratch[k] = make(SGC_F32, n * (world.size - 1), 0, 0, 0, k);
    }
    for (int k = 0; k < N; k++) {
        if (k % 3 == 0) mpi_assert_ok(ops->reduce_scatter(world.all, SGC_F32, full[k].p, (float *)full[k].p + own, scratch[k].p, n, &request[k]));
        if (k % 3 == 1) mpi_assert_ok(ops->all_gather(world.all, SGC_F32, full[k].p, n, &request[k]));
        if (k % 3 == 2) mpi_assert_ok(ops->broadcast(world.all, SGC_F32, full[k].p, n, k % world.size, &request[k]));
    }
    wait_all(N, request);
    for (int k = 0; k < N; k++) {
        fetch(&full[k]);
        if (k % 3 == 0) mpi_assert(is_tree(&full[k], own, n, SGC_F32, own, k));
        for (int r = 0; k % 3 == 1 && r < world.size; r++) mpi_assert(is_value(&full[k], r * n, n, r, k));
        if (k % 3 == 2) mpi_assert(is_value(&full[k], 0, n, k % world.size, k));
        drop(&full[k]);
        drop(&scratch[k]);
    }
}
END_TEST

static sgc_status one_of_each(sgc_group *g, sgc_dtype type, void *full, void *shard, void *scratch, int64_t n)
{
    sgc_status st = SGC_OK;
    const sgc_comm_ops *ops = sgc_group_ops(g);
    sgc_request *request;
    SGC_TRY(ops->all_gather(g, type, full, n, &request));
    SGC_TRY(ops->wait(&request));
    SGC_TRY(ops->reduce_scatter(g, type, full, shard, scratch, n, &request));
    SGC_TRY(ops->wait(&request));
    SGC_TRY(ops->all_reduce(g, full, scratch, n, &request));
    SGC_TRY(ops->wait(&request));
    for (int root = 0; root < sgc_group_size(g); root++) {
        SGC_TRY(ops->broadcast(g, type, full, n, root, &request));
        SGC_TRY(ops->wait(&request));
    }
done:
    return st;
}

START_TEST(elements_sent_are_counted_as_the_null_backend_counts_them)
{
    int64_t n = 1000, peers = world.size - 1;
    for (int t = 0; t < N_TYPES; t++) {
        buffer full = make(SGC_F32, n * world.size, 0, 0, 0, 0), scratch = make(SGC_F32, n * world.size, 0, 0, 0, 0), shard = make(SGC_F32, n, 0, 0, 0, 0);
        sgc_group *paper;
        sgc_traffic before[SGC_N_COLLECTIVES], sent[SGC_N_COLLECTIVES];
        mpi_assert_ok(sgc_group_null(&paper, world.size, world.rank));
        for (int c = 0; c < SGC_N_COLLECTIVES; c++) before[c] = sgc_group_traffic(world.all, (sgc_collective)c);
        mpi_assert_ok(one_of_each(world.all, types[t], full.p, shard.p, scratch.p, n));
        mpi_assert_ok(one_of_each(paper, types[t], NULL, NULL, NULL, n)); /* the null backend touches no buffer */
        for (int c = 0; c < SGC_N_COLLECTIVES; c++) {
            if (c == SGC_CONTROL) continue;
            sgc_traffic now = sgc_group_traffic(world.all, (sgc_collective)c), planned = sgc_group_traffic(paper, (sgc_collective)c);
            sent[c] = (sgc_traffic){now.n_calls - before[c].n_calls, now.n_elements - before[c].n_elements, now.n_bytes - before[c].n_bytes};
            mpi_assert(memcmp(&sent[c], &planned, sizeof(planned)) == 0);
            mpi_assert(sent[c].n_bytes == (int64_t)sgc_dtype_bytes(c == SGC_ALL_REDUCE ? SGC_F32 : types[t]) * sent[c].n_elements);
        }
        mpi_assert(sent[SGC_ALL_GATHER].n_elements == peers * n);
        mpi_assert(sent[SGC_REDUCE_SCATTER].n_elements == peers * n);
        mpi_assert(sent[SGC_ALL_REDUCE].n_elements == 2 * peers * n);
        int64_t by_all = sent[SGC_BROADCAST].n_elements;
        mpi_assert_ok(sgc_sum_int64(world.all, &by_all, 1));
        mpi_assert(by_all == world.size * peers * n); /* each rank but the root receives once */
        sgc_group_free(paper);
        drop(&full);
        drop(&scratch);
        drop(&shard);
    }
}
END_TEST

#define COMM_CASES                                                                                                       \
    all_gather_brings_every_shard, reduce_scatter_adds_in_the_order_of_the_tree,                                         \
        all_reduce_gives_the_bits_of_reduce_scatter_and_all_gather, broadcast_reaches_all_from_any_root,                 \
        collectives_in_flight_together_do_not_mix, elements_sent_are_counted_as_the_null_backend_counts_them

#endif

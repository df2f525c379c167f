/* NCCL between emulated GPUs: what every backend must do, its order beside the work of the GPU, and what happens when a peer does not answer. */
#include <stdlib.h>

#include "comm/nccl_impl.h"
#include "device/device.h"
#include "emulation.h"
#include "mpi_check.h"

static sgc_device device;

/* One block for all, without the emulation's guards, which take their time at every copy. */
static char *arena;
static size_t arena_used;
static int n_taken;
enum { ARENA_BYTES = 2 << 20 };

static void *place_alloc(size_t bytes)
{
    char *p = arena + arena_used;
    arena_used += (bytes + 255) / 256 * 256;
    if (arena_used > ARENA_BYTES) return NULL;
    n_taken++;
    return p;
}

static void place_free(void *p)
{
    (void)p;
    if (--n_taken == 0) arena_used = 0;
}

static void place_put(void *to, const void *host, size_t bytes)
{
    if (sgc_device_write(&device, to, host, bytes) != SGC_OK) abort();
}
static void place_get(void *host, const void *from, size_t bytes)
{
    if (sgc_device_read(&device, host, from, bytes) != SGC_OK) abort();
}

#include "comm_cases.h"

static sgc_status watch(void *group) { return sgc_group_ops(group)->watch(group); }

static sgc_status use_nccl(int ranks_per_node, double timeout_s)
{
    sgc_nccl_spec spec = {.device = &device, .stream = device.ops->memory->stream(&device), .timeout_s = timeout_s, .ranks_per_node = ranks_per_node};
    sgc_status st = sgc_group_use_nccl(world.all, &spec);
    if (st == SGC_OK) device.watch = watch, device.watched = world.all;
    return st;
}

static void use_mpi(void)
{
    device.watch = NULL;
    sgc_group_use_mpi(world.all);
}

START_TEST(every_rank_has_a_gpu)
{
    setenv("EMULATED_GPUS", "8", 1);
    setenv("EMULATED_GUARD", "0", 0);
    sgc_device_spec spec = {.name = "cuda", .node_rank = world.rank, .node_size = world.size};
    mpi_assert_ok(sgc_device_open_spec(&device, &spec));
    arena = sgc_device_alloc(&device, SGC_MEM_COMM, ARENA_BYTES);
    mpi_assert(arena != NULL);
}
END_TEST

START_TEST(the_group_is_connected)
{
    int version;
    mpi_assert_ok(sgc_nccl_find(&version));
    mpi_assert(version == 22809);
    mpi_assert_ok(use_nccl(0, 60));
    mpi_assert(strcmp(sgc_group_ops(world.all)->name, "nccl") == 0);
}
END_TEST

/* The GPU does its work when it is asked for, as late as it may, or at any time between. */
START_TEST(the_gpu_is_late)
{
    emulated_set_lazy(1);
}
END_TEST

START_TEST(the_gpu_does_as_it_likes)
{
    emulated_set_lazy(17 + world.rank);
}
END_TEST

START_TEST(the_gpu_is_prompt)
{
    emulated_set_lazy(0);
}
END_TEST

/* Copies of the device before and after a collective, with no wait of the host between them. */
START_TEST(a_collective_follows_what_the_gpu_was_asked_for_and_goes_before_what_waits)
{
    enum { ROUNDS = 5 };
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    int64_t n = 600, all = n * world.size, own = n * world.rank;
    buffer source[ROUNDS], result[ROUNDS], full = make(SGC_F32, all, 0, 0, 0, 0), scratch = make(SGC_F32, n * (world.size - 1), 0, 0, 0, 0);
    sgc_request *request;
    for (int k = 0; k < ROUNDS; k++) {
        source[k] = make(SGC_F32, all, 0, all, world.rank, k);
        result[k] = make(SGC_F32, all, 0, 0, 0, k);
    }
    for (int k = 0; k < ROUNDS; k++) {
        sgc_device_copy(&device, full.p, source[k].p, (size_t)all * sizeof(float));
        mpi_assert_ok(ops->reduce_scatter(world.all, SGC_F32, full.p, (float *)full.p + own, scratch.p, n, &request));
        mpi_assert_ok(ops->wait(&request));
        mpi_assert_ok(ops->all_gather(world.all, SGC_F32, full.p, n, &request));
        mpi_assert_ok(ops->wait(&request));
        sgc_device_copy(&device, result[k].p, full.p, (size_t)all * sizeof(float));
        sgc_device_clear(&device, full.p, (size_t)all * sizeof(float));
    }
    for (int k = 0; k < ROUNDS; k++) {
        fetch(&result[k]);
        mpi_assert(is_tree(&result[k], 0, all, SGC_F32, 0, k));
        drop(&source[k]);
        drop(&result[k]);
    }
    drop(&full);
    drop(&scratch);
}
END_TEST

/* What no test has as many ranks for: part r of n_parts is that of a rank r. */
static bool adds_along_the_tree(sgc_dtype type, int n_parts, int64_t n)
{
    int own = (n_parts - 1) * 2 / 3;
    buffer others = make(type, (n_parts - 1) * n, 0, 0, 0, 0), part = make(type, n, 0, n, own, 1), sum = make(SGC_F32, n, 0, 0, 0, 0);
    for (int r = 0, at = 0; r < n_parts; r++) {
        if (r == own) continue;
        for (int64_t i = 0; i < n; i++) others.host[at++] = value(type, r, i, 1);
    }
    put(&others);
    sgc_parts p = {.type = type, .sum = (float *)sum.p, .own = part.p, .others = others.p, .n = n, .other_size = n, .n_parts = n_parts, .own_index = own,
                   .n_segments = 1};
    sgc_nccl_sum(&device, device.ops->memory->stream(&device), &p);
    fetch(&sum);
    bool is_right = true;
    for (int64_t i = 0; i < n; i++) is_right = is_right && sum.host[i] == tree(type, 0, n_parts, i, 1);
    drop(&others);
    drop(&part);
    drop(&sum);
    return is_right;
}

START_TEST(parts_of_thousands_of_ranks_are_added_along_the_tree)
{
    static const int n_parts[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 21, 59, 60, 61, 64, 100, 1023, 4093, 4097};
    for (size_t k = 0; k < sizeof(n_parts) / sizeof(n_parts[0]); k++)
        for (int t = 0; t < N_TYPES; t++) mpi_assert(adds_along_the_tree(types[t], n_parts[k], 8) && adds_along_the_tree(types[t], n_parts[k], 3));
}
END_TEST

START_TEST(lent_memory_is_taken_back)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    ops->lend(world.all, arena, 4000);
    ops->lend(world.all, arena + 8000, 4000);
    ops->take_back(world.all, arena);
    ops->take_back(world.all, arena + 8000);
    ops->take_back(world.all, arena + 8000); /* what is not lent is no error */
}
END_TEST

START_TEST(the_group_goes_back_to_mpi)
{
    use_mpi();
    mpi_assert(sgc_group_ops(world.all) == &sgc_comm_mpi);
}
END_TEST

/* Two ranks count as a node: sums go over the ranks of a node first, and with bits that are the same. */
START_TEST(the_group_knows_its_nodes)
{
    mpi_assert_ok(use_nccl(2, 60));
}
END_TEST

static void refuse(const char *how, const char *text)
{
    int last = world.size - 1;
    char rank[16];
    snprintf(rank, sizeof(rank), "%d", last);
    setenv(how, rank, 1);
    mpi_assert(use_nccl(0, 0.3) == SGC_EDEVICE);
    mpi_assert(strstr(sgc_err_message(), text) != NULL && strstr(sgc_err_message(), "GPU") != NULL);
    mpi_assert(sgc_group_ops(world.all) == &sgc_comm_mpi);
    unsetenv(how);
    sgc_err_clear();
}

START_TEST(a_rank_that_cannot_connect_tells_all)
{
    refuse("EMULATED_NCCL_REFUSES", "the emulated network refuses");
}
END_TEST

START_TEST(a_rank_that_does_not_answer_is_waited_for_only_so_long)
{
    refuse("EMULATED_NCCL_DEAF", "has not connected");
}
END_TEST

/* The first collective after the two calls that try the connections fails on rank 0; the others never get its part. */
static void break_one(const char *how, const char *text_of_first)
{
    const sgc_comm_ops *ops;
    sgc_request *request;
    if (world.size == 1) return;
    setenv(how, "0:3", 1);
    emulated_set_lazy(1); /* or it would not come back from the call */
    buffer full = make(SGC_F32, 10 * world.size, 0, 0, 0, 0);
    mpi_assert_ok(use_nccl(0, 0.5));
    ops = sgc_group_ops(world.all);
    sgc_status st = ops->all_gather(world.all, SGC_F32, full.p, 10, &request);
    if (st == SGC_OK) st = ops->wait(&request);
    if (st == SGC_OK) st = sgc_device_finish(&device);
    mpi_assert(st == SGC_ECOMM);
    mpi_assert(strstr(sgc_err_message(), world.rank == 0 ? text_of_first : "all_gather number 2 by NCCL") != NULL);
    sgc_err_clear();
    mpi_assert(ops->all_gather(world.all, SGC_F32, full.p, 10, &request) == SGC_ECOMM); /* and again by the same text */
    mpi_assert(strstr(sgc_err_message(), "GPU") != NULL);
    sgc_err_clear();
    use_mpi();
    mpi_assert_ok(sgc_device_finish(&device)); /* nothing holds the GPU any more */
    unsetenv(how);
    emulated_set_lazy(0);
    drop(&full);
}

START_TEST(a_failure_under_way_ends_the_wait_for_the_gpu)
{
    break_one("EMULATED_NCCL_FAILS", "the emulated peer closed the connection");
}
END_TEST

START_TEST(a_collective_that_hangs_is_given_up)
{
    break_one("EMULATED_NCCL_HANGS", "has not ended within 0.5 s");
}
END_TEST

START_TEST(the_gpu_is_closed)
{
    sgc_device_free(&device, arena);
    sgc_device_close(&device);
}
END_TEST

MPI_UNIT_MAIN("nccl", every_rank_has_a_gpu, the_group_is_connected, COMM_CASES, a_collective_follows_what_the_gpu_was_asked_for_and_goes_before_what_waits,
              the_gpu_is_late, COMM_CASES, a_collective_follows_what_the_gpu_was_asked_for_and_goes_before_what_waits,
              the_gpu_does_as_it_likes, COMM_CASES, a_collective_follows_what_the_gpu_was_asked_for_and_goes_before_what_waits,
              lent_memory_is_taken_back, the_gpu_is_prompt, parts_of_thousands_of_ranks_are_added_along_the_tree, the_group_goes_back_to_mpi, the_group_knows_its_nodes, COMM_CASES, the_group_goes_back_to_mpi,
              a_rank_that_cannot_connect_tells_all, a_rank_that_does_not_answer_is_waited_for_only_so_long, a_failure_under_way_ends_the_wait_for_the_gpu,
              a_collective_that_hangs_is_given_up, the_gpu_is_closed)

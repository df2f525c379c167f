/*
 * Collectives of memory that MPI does not reach, on a pretended device: its addresses cannot be read, and what it is asked to copy it copies as late as
 * it may, that is when somebody waits for a mark that was set behind it.
 */
#include <stdlib.h>

#include "mpi_check.h"

typedef struct copy {
    void *to;
    const void *from;
    size_t bytes;
} copy;

struct sgc_mark { int64_t n_before; }; /* copies that were asked for before it was set */

static copy *asked;          /* all, from the first on */
static int64_t n_asked, n_done;
static int n_staging_blocks, n_marks;
static bool is_broken;

#define HIDDEN ((uintptr_t)1 << 62) /* no address of a process */
static void *hide(void *p) { return (void *)((uintptr_t)p ^ HIDDEN); }
static void *reveal(const void *p) { return (void *)((uintptr_t)p & HIDDEN ? (uintptr_t)p ^ HIDDEN : (uintptr_t)p); }

static void ask(void *to, const void *from, size_t bytes)
{
    asked = realloc(asked, (size_t)(n_asked + 1) * sizeof(*asked));
    asked[n_asked++] = (copy){to, from, bytes};
}

static void work_until(int64_t n)
{
    for (; n_done < n; n_done++) memmove(reveal(asked[n_done].to), reveal(asked[n_done].from), asked[n_done].bytes);
}

static void *alloc_staging(struct sgc_device *d, size_t bytes)
{
    (void)d;
    if (bytes > (size_t)1 << 30) return NULL;
    n_staging_blocks++;
    return memset(malloc(bytes), 0xee, bytes);
}

static void free_staging(struct sgc_device *d, void *p)
{
    (void)d;
    n_staging_blocks--;
    free(p);
}

static void any_copy(struct sgc_device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    ask(to, from, bytes);
}

static struct sgc_mark *mark_make(struct sgc_device *d)
{
    (void)d;
    n_marks++;
    return calloc(1, sizeof(struct sgc_mark));
}

static void mark_free(struct sgc_device *d, struct sgc_mark *m)
{
    (void)d;
    n_marks--;
    free(m);
}

static void mark_set(struct sgc_device *d, struct sgc_mark *m)
{
    (void)d;
    m->n_before = n_asked;
}

static sgc_status mark_wait(struct sgc_device *d, struct sgc_mark *m)
{
    (void)d;
    work_until(m->n_before);
    return is_broken ? sgc_err(SGC_EDEVICE, "the pretended device is broken") : SGC_OK;
}

static const sgc_staging pretended = {
    .alloc_staging = alloc_staging,
    .free_staging = free_staging,
    .copy = any_copy,
    .upload = any_copy,
    .download = any_copy,
    .mark_make = mark_make,
    .mark_free = mark_free,
    .mark_set = mark_set,
    .mark_wait = mark_wait,
};

static void *place_alloc(size_t bytes) { return hide(malloc(bytes)); }
static void place_free(void *p) { free(reveal(p)); }
static void place_put(void *to, const void *host, size_t bytes)
{
    work_until(n_asked);
    memcpy(reveal(to), host, bytes);
}
static void place_get(void *host, const void *from, size_t bytes)
{
    work_until(n_asked);
    memcpy(host, reveal(from), bytes);
}

#include "comm_cases.h"

START_TEST(the_group_is_given_staging_memory)
{
    mpi_assert(sgc_group_ops(world.all) == &sgc_comm_mpi);
    mpi_assert_ok(sgc_group_use_staged(world.all, &pretended, SGC_BF16, 5000)); /* no collective below is larger */
    mpi_assert(sgc_group_ops(world.all) != &sgc_comm_mpi && n_staging_blocks == 1);
}
END_TEST

START_TEST(a_collective_larger_than_was_said_is_refused)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    buffer full = make(SGC_F32, 0, 0, 0, 0, 0);
    sgc_request *request;
    mpi_assert(ops->broadcast(world.all, SGC_F32, full.p, 1 << 20, 0, &request) == (world.size == 1 ? SGC_OK : SGC_EARG));
    sgc_err_clear();
    drop(&full);
}
END_TEST

START_TEST(a_failure_of_the_device_comes_back_from_the_wait)
{
    const sgc_comm_ops *ops = sgc_group_ops(world.all);
    buffer full = make(SGC_BF16, 8 * world.size, 0, 0, 0, 0), shard = make(SGC_F32, 8, 0, 0, 0, 0);
    sgc_request *request;
    mpi_assert_ok(ops->reduce_scatter(world.all, SGC_BF16, full.p, (float *)shard.p, NULL, 8, &request));
    is_broken = true;
    mpi_assert(ops->wait(&request) == SGC_EDEVICE);
    is_broken = false;
    sgc_err_clear();
    drop(&full);
    drop(&shard);
}
END_TEST

START_TEST(the_group_goes_back_to_mpi_and_keeps_nothing)
{
    sgc_group_use_mpi(world.all);
    mpi_assert(sgc_group_ops(world.all) == &sgc_comm_mpi && n_staging_blocks == 0 && n_marks == 0);
}
END_TEST

START_TEST(without_staging_memory_on_one_rank_all_are_refused)
{
    int64_t too_much = world.rank == world.size - 1 ? (int64_t)1 << 40 : 1000;
    mpi_assert(sgc_group_use_staged(world.all, &pretended, SGC_BF16, too_much) == SGC_ENOMEM);
    mpi_assert(strstr(sgc_err_message(), "page-locked") != NULL);
    sgc_err_clear();
    mpi_assert(sgc_group_ops(world.all) == &sgc_comm_mpi && n_staging_blocks == 0 && n_marks == 0);
    free(asked);
}
END_TEST

MPI_UNIT_MAIN("staged", the_group_is_given_staging_memory, COMM_CASES, a_collective_larger_than_was_said_is_refused,
              a_failure_of_the_device_comes_back_from_the_wait, the_group_goes_back_to_mpi_and_keeps_nothing,
              without_staging_memory_on_one_rank_all_are_refused)

/* Files that travel to other nodes while training goes on; each rank is a node with a directory of its own. */
#include "mpi_check.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "ckpt/save_impl.h"

enum { BLOCK = 4096, N_MEMORIES = 3 };
#define ALL (world.all)
#define IS_ROOT (world.rank == 0)

static char directory[SGC_PATH_MAX], own[SGC_PATH_MAX];
static const size_t memories[N_MEMORIES] = {4096, 1 << 20, 0}; /* many pieces, one, and what a save takes for itself */

/* An engine with values that differ everywhere, and a save of it. */
typedef struct job {
    sgc_model *model;
    sgc_device device;
    sgc_zero *engine;
    sgc_ckpt_files *files;
    void *copy, *travel;
    sgc_save *save;
} job;

static sgc_status start_with(job *j, int64_t n_embd, size_t travel_bytes)
{
    sgc_status st = SGC_OK;
    sgc_model_options o = {.vocab_size = 29, .n_positions = 12, .n_embd = n_embd, .n_layer = 2, .n_head = 2, .layer_norm_epsilon = 1e-5,
                           .tie_word_embeddings = true};
    *j = (job){0};
    SGC_TRY(sgc_world_set_nodes(&world, 1));
    SGC_TRY(sgc_model_make(&j->model, &o, 29));
    SGC_TRY(sgc_device_open(&j->device, "ref32", false));
    SGC_TRY(sgc_zero_make(&j->engine, j->model, &j->device, ALL, &(sgc_zero_spec){.stage = 3, .n_micro = 1}));
    SGC_TRY(sgc_zero_init_weights(j->engine, 5));
    SGC_TRY(sgc_files_make(&j->files, &world, 0));
    j->copy = malloc(sgc_save_buffer_bytes(j->engine, j->model));
    j->travel = malloc(travel_bytes);
    if (!j->copy || !j->travel) return SGC_ENOMEM;
    if (IS_ROOT) {
        const char *tmp = getenv("TMPDIR");
        snprintf(directory, sizeof(directory), "%s/stagecoach-spread.XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(directory)) return SGC_EIO;
    }
    SGC_TRY(sgc_bcast_bytes(ALL, directory, sizeof(directory), 0));
    char name[32];
    snprintf(name, sizeof(name), "of-%d", world.rank);
    SGC_TRY(sgc_path_join(own, directory, name));
done:
    return st;
}

static sgc_status start(job *j) { return start_with(j, 24, 1 << 20); }

static void stop(job *j)
{
    free(j->copy);
    free(j->travel);
    sgc_files_free(j->files);
    sgc_zero_free(j->engine);
    sgc_device_close(&j->device);
    sgc_model_free(j->model);
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
    if (IS_ROOT) sgc_remove_tree(directory);
    mpi_assert(sgc_world_set_nodes(&world, world.size) == SGC_OK);
}

static int64_t n_ready(const job *j)
{
    int64_t n = sgc_save_is_ready(j->save);
    return sgc_sum_int64(ALL, &n, 1) == SGC_OK ? n : -1;
}

/* A save up to where files begin to travel. */
static sgc_status begin(job *j, sgc_spread_kind kind, size_t memory, int64_t step)
{
    sgc_status st = SGC_OK;
    sgc_run_state state = {.step = step};
    sgc_ckpt_info info = {.run_id = "0123456789abcdef", .stage = 3, .dtype = "float32", .isa = "AVX2", .version = "1"};
    sgc_ckpt_job what = {.output_dir = own, .group = ALL, .engine = j->engine, .model = j->model, .state = &state, .info = &info, .config_text = "",
                         .block_size = BLOCK, .files = j->files, .nodes = &world, .spread = kind, .travel = memory ? j->travel : NULL, .travel_bytes = memory};
    SGC_TRY(sgc_ckpt_begin(&j->save, &what, j->copy));
    while (n_ready(j) < world.size) {}
    SGC_TRY(sgc_save_advance(j->save));
done:
    return st;
}

static sgc_status move(job *j)
{
    bool travels;
    return sgc_save_move(j->save, &travels);
}

/* What the main thread does while it trains: other collectives, and now and then a look at what travels. */
static sgc_status train_on(job *j)
{
    sgc_status st = SGC_OK;
    do SGC_TRY(move(j));
    while (n_ready(j) < world.size);
done:
    return st;
}

/* NAME of the checkpoint in the directory of a rank. */
static bool read_there(int rank, int64_t step, const char *name, char **bytes, size_t *n_bytes)
{
    char path[SGC_PATH_MAX];
    snprintf(path, sizeof(path), "%.3000s/of-%d/checkpoint-%lld/%s", directory, rank, (long long)step, name);
    return sgc_read_file(path, bytes, n_bytes) == SGC_OK;
}

/* This rank holds the same bytes of that shard as its own node does. */
static bool has_copy(int64_t step, int shard)
{
    char name[64], *here = NULL, *there = NULL;
    size_t n_here, n_there;
    sgc_manifest_path(name, SGC_FILE_SHARDS + shard, world.size);
    bool same = read_there(world.rank, step, name, &here, &n_here) && read_there(shard, step, name, &there, &n_there) && n_here == n_there &&
                n_here > BLOCK && memcmp(here, there, n_here) == 0;
    free(here);
    free(there);
    return same;
}

/* As docs/file-formats.md says: byte i is the exclusive or of byte i of chunk (k - j - 1) mod n of every other node's j, then the hash. */
static bool has_parity(int64_t step)
{
    char name[64], *parity = NULL, *shard = NULL;
    size_t n_parity, n_bytes, n_chunk = 0;
    snprintf(name, sizeof(name), "shards/parity-%05d", world.rank);
    bool same = read_there(world.rank, step, name, &parity, &n_parity);
    uint64_t hash = same ? sgc_hash64(parity, n_parity - 8) : 0, stands = 0;
    for (int i = 0; same && i < 8; i++) stands |= (uint64_t)(unsigned char)parity[n_parity - 8 + (size_t)i] << 8 * i;
    for (int node = 0; same && node < world.size; node++) {
        if (node == world.rank) continue;
        sgc_manifest_path(name, SGC_FILE_SHARDS + node, world.size);
        same = read_there(node, step, name, &shard, &n_bytes);
        n_chunk = same ? (n_bytes + (size_t)world.size - 2) / ((size_t)world.size - 1) : 0;
        same = same && n_parity == n_chunk + 8;
        size_t first = (size_t)((world.rank - node - 1 + world.size) % world.size) * n_chunk;
        for (size_t i = 0; same && i < n_chunk; i++)
            if (first + i < n_bytes) parity[i] = (char)(parity[i] ^ shard[first + i]);
        free(shard);
        shard = NULL;
    }
    for (size_t i = 0; same && i < n_chunk; i++) same = parity[i] == 0;
    free(parity);
    return same && hash == stands;
}

static bool is_there(sgc_spread_kind kind, int64_t step)
{
    bool is = true;
    if (world.size == 1) return has_copy(step, 0);
    if (kind == SGC_SPREAD_PARTNER) return has_copy(step, (world.rank + world.size - 1) % world.size);
    if (kind == SGC_SPREAD_XOR) return has_parity(step);
    for (int shard = 0; shard < world.size; shard++) is = is && has_copy(step, shard);
    return is;
}

START_TEST(files_travel_while_ranks_do_other_things)
{
    job j;
    mpi_assert_ok(start(&j));
    for (sgc_spread_kind kind = SGC_SPREAD_PARTNER; kind <= SGC_SPREAD_ALL; kind++)
        for (int m = 0; m < N_MEMORIES; m++) {
            const int64_t step = 10 * kind + m;
            mpi_assert_ok(begin(&j, kind, memories[m], step));
            if (world.size > 1) {
                sgc_status st = SGC_OK;
                for (int i = 0; IS_ROOT && st == SGC_OK && i < 1000; i++) st = move(&j); /* the others do not: it must not wait for them */
                mpi_assert_ok(st);
                mpi_assert(j.save->phase == SGC_PHASE_SPREAD && n_ready(&j) == 0);
            }
            mpi_assert_ok(train_on(&j));
            mpi_assert_ok(sgc_save_finish(j.save));
            sgc_save_free(j.save);
            mpi_assert(is_there(kind, step));
        }
    mpi_assert(sgc_mem_held(SGC_MEM_CHECKPOINT) == 0 && sgc_mem_peak(SGC_MEM_CHECKPOINT) <= 2 * BLOCK); /* beyond what it was given */
    stop(&j);
}
END_TEST

START_TEST(who_does_not_train_on_sends_the_rest_at_once)
{
    job j;
    mpi_assert_ok(start(&j));
    for (sgc_spread_kind kind = SGC_SPREAD_PARTNER; kind <= SGC_SPREAD_ALL; kind++)
        for (int n_moves = 0; n_moves <= 6; n_moves += 3) {
            const int64_t step = 10 * kind + n_moves;
            sgc_status st = SGC_OK;
            mpi_assert_ok(begin(&j, kind, memories[0], step));
            for (int i = 0; st == SGC_OK && i < n_moves * world.rank; i++) st = move(&j);
            mpi_assert_ok(st);
            mpi_assert_ok(sgc_save_finish(j.save));
            sgc_save_free(j.save);
            mpi_assert(is_there(kind, step));
        }
    stop(&j);
}
END_TEST

START_TEST(a_save_that_is_given_up_leaves_no_message_behind)
{
    job j;
    mpi_assert_ok(start(&j));
    for (sgc_spread_kind kind = SGC_SPREAD_PARTNER; kind <= SGC_SPREAD_ALL; kind++)
        for (int m = 0; m < N_MEMORIES; m++) {
            const int64_t step = 10 * kind + m;
            sgc_status st = SGC_OK;
            mpi_assert_ok(begin(&j, kind, memories[m], 1000 + step));
            for (int i = 0; st == SGC_OK && i < 5 * world.rank; i++) st = move(&j); /* each has come to another piece */
            mpi_assert_ok(st);
            sgc_save_free(j.save);
            mpi_assert(sgc_mem_held(SGC_MEM_CHECKPOINT) == 0);
            mpi_assert_ok(begin(&j, kind, memories[m], step));
            mpi_assert_ok(train_on(&j));
            mpi_assert_ok(sgc_save_finish(j.save));
            sgc_save_free(j.save);
            mpi_assert(is_there(kind, step));
        }
    stop(&j);
}
END_TEST

static bool holds_nothing(void)
{
    sgc_ckpt_entry *entries = NULL;
    int n = -1;
    bool none = sgc_ckpt_list(own, &entries, &n) == SGC_OK && n == 0;
    free(entries);
    return none;
}

START_TEST(a_node_that_cannot_write_what_comes_fails_the_save_on_all)
{
    job j;
    signal(SIGXFSZ, SIG_IGN);
    mpi_assert_ok(start(&j));
    for (sgc_spread_kind kind = SGC_SPREAD_PARTNER; kind <= SGC_SPREAD_ALL && world.size > 1; kind++)
        for (int rank = 0; rank < world.size; rank++) {
            struct rlimit unlimited, full;
            char origin[32];
            mpi_assert_ok(begin(&j, kind, memories[0], 1));
            getrlimit(RLIMIT_FSIZE, &unlimited);
            full = (struct rlimit){.rlim_cur = 1500, .rlim_max = unlimited.rlim_max};
            if (rank == world.rank) setrlimit(RLIMIT_FSIZE, &full);
            sgc_status st = train_on(&j);
            setrlimit(RLIMIT_FSIZE, &unlimited);
            mpi_assert_ok(st);
            mpi_assert(sgc_save_finish(j.save) == SGC_EIO && strstr(sgc_err_message(), "File too large") && strstr(sgc_err_message(), directory));
            snprintf(origin, sizeof(origin), "rank %d on ", rank);
            mpi_assert(rank == world.rank || strncmp(sgc_err_origin(), origin, strlen(origin)) == 0);
            sgc_err_clear();
            sgc_save_free(j.save);
            mpi_assert(holds_nothing());
        }
    mpi_assert_ok(begin(&j, SGC_SPREAD_ALL, memories[0], 2));
    mpi_assert_ok(sgc_save_finish(j.save));
    sgc_save_free(j.save);
    mpi_assert(is_there(SGC_SPREAD_ALL, 2));
    stop(&j);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which keeps what is freed */
static int64_t peak_resident_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024 * (int64_t)usage.ru_maxrss;
}
#endif

START_TEST(parities_take_no_more_memory_than_they_may_with_what_mpi_takes)
{
#ifndef __SANITIZE_ADDRESS__
    enum { MAY = 8 << 20, OTHERS = 2 << 20 }; /* of a save: lists, and what HDF5 takes */
    job j;
    mpi_assert_ok(start_with(&j, 448, MAY));
    mpi_assert_ok(begin(&j, SGC_SPREAD_PARTNER, 1 << 16, 1)); /* what all saves take is taken */
    mpi_assert_ok(sgc_save_finish(j.save));
    sgc_save_free(j.save);
    int64_t before = peak_resident_bytes();
    mpi_assert_ok(begin(&j, SGC_SPREAD_XOR, MAY, 2));
    mpi_assert_ok(sgc_save_finish(j.save));
    sgc_save_free(j.save);
    mpi_assert(peak_resident_bytes() - before <= MAY + OTHERS);
    mpi_assert(is_there(SGC_SPREAD_XOR, 2));
    stop(&j);
#endif
}
END_TEST

MPI_UNIT_MAIN("spread", files_travel_while_ranks_do_other_things, who_does_not_train_on_sends_the_rest_at_once,
              a_save_that_is_given_up_leaves_no_message_behind, a_node_that_cannot_write_what_comes_fails_the_save_on_all,
              parities_take_no_more_memory_than_they_may_with_what_mpi_takes)

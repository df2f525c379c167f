/* Memory: loading takes the shard and one block, saving the copy and one or two; and any number of ranks and any stage read what any other wrote. */
#include "mpi_check.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/ckpt_impl.h"
#include "comm/comm_impl.h"

enum { BLOCK = 1 << 16, N_RANKS_MAX = 4, N_STAGES = 4 };
#define ALL (world.all)
#define IS_ROOT (world.rank == 0)

static char directory[SGC_PATH_MAX];

static void make_directory(void)
{
    if (IS_ROOT) {
        const char *tmp = getenv("TMPDIR");
        snprintf(directory, sizeof(directory), "%s/stagecoach-load.XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(directory)) abort();
    }
    mpi_assert(sgc_bcast_bytes(ALL, directory, sizeof(directory), 0) == SGC_OK);
}

static void remove_directory(void)
{
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
    if (IS_ROOT) sgc_remove_tree(directory);
    mpi_assert(sgc_barrier(ALL) == SGC_OK);
}

/* Element e of a unit's flat buffer: every bit of a float takes part, no two neighbours are alike. Alignment gaps are 0. */
static uint32_t bits_at(const sgc_unit *u, int slot, int64_t e)
{
    if (!sgc_unit_param_at(u, e)) return 0;
    uint64_t x = ((uint64_t)e * SGC_N_SLOTS + (uint64_t)slot) * 0x9E3779B97F4A7C15u + (uint64_t)u->index;
    return (uint32_t)(x >> 32);
}

static void fill(sgc_zero *z, const sgc_model *m, int rank)
{
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < m->n_units; u++) {
            const sgc_flat flat = sgc_zero_flat(z, u);
            for (int64_t i = 0; i < flat.n_shard; i++) {
                uint32_t bits = bits_at(&m->units[u], slot, rank * flat.n_shard + i);
                memcpy(sgc_zero_shard(z, u, slot) + i, &bits, sizeof(bits));
            }
        }
}

static bool is_filled(sgc_zero *z, const sgc_model *m, int rank)
{
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        for (int u = 0; u < m->n_units; u++) {
            const sgc_flat flat = sgc_zero_flat(z, u);
            for (int64_t i = 0; i < flat.n_shard; i++) {
                uint32_t bits = bits_at(&m->units[u], slot, rank * flat.n_shard + i);
                if (memcmp(sgc_zero_shard(z, u, slot) + i, &bits, sizeof(bits)) != 0) return false;
            }
        }
    return true;
}

/* The engine of one rank of a group and what it needs. */
typedef struct job { sgc_model *model; sgc_device device; sgc_zero *engine; sgc_group *group; } job;

static sgc_status start(job *j, sgc_group *group, int stage, int64_t width)
{
    sgc_status st = SGC_OK;
    sgc_model_options o = {.vocab_size = 29, .n_positions = 12, .n_embd = width, .n_layer = 2, .n_head = 2, .layer_norm_epsilon = 1e-5,
                           .tie_word_embeddings = true};
    *j = (job){.group = group};
    SGC_TRY(sgc_model_make(&j->model, &o, 29));
    SGC_TRY(sgc_device_open(&j->device, "ref32", false));
    SGC_TRY(sgc_zero_make(&j->engine, j->model, &j->device, group, &(sgc_zero_spec){.stage = stage, .n_micro = 1}));
done:
    return st;
}

static void stop(job *j)
{
    sgc_zero_free(j->engine);
    sgc_device_close(&j->device);
    sgc_model_free(j->model);
}

static sgc_status save(job *j, int64_t step, int stage)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    sgc_run_state state = {.step = step};
    sgc_ckpt_info info = {.run_id = "0123456789abcdef", .stage = stage, .dtype = "float32", .isa = "AVX2", .version = "1"};
    sgc_ckpt_job what = {.output_dir = directory, .group = j->group, .engine = j->engine, .model = j->model, .state = &state, .info = &info,
                         .config_text = "", .block_size = BLOCK};
    fill(j->engine, j->model, sgc_group_rank(j->group));
    SGC_TRY(sgc_zero_loaded(j->engine));
    SGC_TRY(sgc_ckpt_write(&what, path));
done:
    return st;
}

static sgc_status load(job *j, int64_t step)
{
    sgc_status st = SGC_OK;
    char name[64], path[SGC_PATH_MAX];
    sgc_ckpt *c = NULL;
    snprintf(name, sizeof(name), "checkpoint-%lld", (long long)step);
    SGC_TRY(sgc_path_join(path, directory, name));
    SGC_TRY(sgc_ckpt_open(&c, path, j->group));
    SGC_TRY(sgc_ckpt_load(c, j->engine, j->model, false, j->group));
done:
    sgc_ckpt_close(c);
    return st;
}

/* kB of a line of /proc/self/status, -1: there is none. */
static int64_t status_kb(const char *name)
{
    char line[256];
    long long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && kb < 0 && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), ": %lld", &kb);
    if (f) fclose(f);
    return kb;
}

static bool forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    return f && fputs("5", f) >= 0 && fclose(f) == 0;
}

/* Stage 3, where every state is a shard. Slack: what the libraries take for themselves; all states of the model are 76 MB. */
START_TEST(loading_takes_the_shard_and_one_block)
{
    enum { SLACK_KB = 2048, WIDTH = 512 };
    job from, to;
    make_directory();
    mpi_assert_ok(start(&from, ALL, 3, WIDTH));
    mpi_assert_ok(save(&from, 1, 3));
    int64_t shard_bytes = 0;
    for (int u = 0; u < from.model->n_units; u++) shard_bytes += SGC_N_SLOTS * sgc_zero_flat(from.engine, u).n_shard * (int64_t)sizeof(float);
    stop(&from);
    mpi_assert(shard_bytes * world.size > 70 << 20);

    mpi_assert_ok(start(&to, ALL, 3, WIDTH));
    size_t peak[SGC_MEM_N_PURPOSES];
    for (int purpose = 0; purpose < SGC_MEM_N_PURPOSES; purpose++) peak[purpose] = sgc_mem_peak(purpose);
    bool is_measured = forget_peak();
    int64_t before_kb = status_kb("VmRSS");
    mpi_assert_ok(load(&to, 1));
    int64_t peak_kb = status_kb("VmHWM");
    mpi_assert(is_filled(to.engine, to.model, world.rank));
    for (int purpose = 0; purpose < SGC_MEM_N_PURPOSES; purpose++)
        mpi_assert(purpose == SGC_MEM_CHECKPOINT || sgc_mem_peak(purpose) == peak[purpose]);
    mpi_assert(sgc_mem_peak(SGC_MEM_CHECKPOINT) <= BLOCK);
    mpi_assert(!is_measured || peak_kb - before_kb <= shard_bytes / 1024 + BLOCK / 1024 + SLACK_KB);
    stop(&to);
    remove_directory();
}
END_TEST

/* One save of copies, to a directory of all ranks or, with sgc_world, to one of each. */
static sgc_status save_copy(job *j, const sgc_world *nodes, sgc_spread_kind spread, int64_t block_size, void *buffer)
{
    sgc_status st = SGC_OK;
    char own[SGC_PATH_MAX], name[32];
    sgc_save *s = NULL;
    sgc_run_state state = {.step = spread};
    sgc_ckpt_files *files = NULL;
    sgc_ckpt_info info = {.run_id = "0123456789abcdef", .stage = 3, .dtype = "float32", .isa = "AVX2", .version = "1"};
    snprintf(name, sizeof(name), "of-%d", nodes ? world.rank : 0);
    SGC_TRY(sgc_path_join(own, directory, name));
    SGC_TRY(sgc_files_make(&files, &world, 0));
    sgc_ckpt_job what = {.output_dir = own, .group = j->group, .engine = j->engine, .model = j->model, .state = &state, .info = &info,
                         .config_text = "", .block_size = block_size, .files = files, .nodes = nodes, .spread = spread};
    SGC_TRY(sgc_ckpt_begin(&s, &what, buffer));
    SGC_TRY(sgc_save_finish(s));
done:
    sgc_save_free(s);
    sgc_files_free(files);
    return st;
}

/* Each rank is a node. Slack: HDF5, and what messages take below MPI. */
START_TEST(saving_takes_the_copy_and_two_blocks)
{
    enum { SLACK_KB = 4096, WIDTH = 512 };
    job j;
    make_directory();
    mpi_assert_ok(start(&j, ALL, 3, WIDTH));
    size_t n_bytes = sgc_save_buffer_bytes(j.engine, j.model);
    void *buffer = malloc(n_bytes);
    mpi_assert(buffer);
    memset(buffer, 1, n_bytes);
    mpi_assert(sgc_mem_peak(SGC_MEM_CHECKPOINT) <= BLOCK); /* of loading */
    mpi_assert_ok(save_copy(&j, NULL, SGC_SPREAD_NONE, BLOCK, buffer));
    mpi_assert(sgc_mem_peak(SGC_MEM_CHECKPOINT) <= BLOCK);
    mpi_assert_ok(sgc_world_set_nodes(&world, 1));
    for (int64_t block = BLOCK; block <= 16 * BLOCK; block *= 16)
        for (sgc_spread_kind spread = SGC_SPREAD_PARTNER; spread <= SGC_SPREAD_ALL; spread++) {
            bool is_measured = forget_peak();
            int64_t before_kb = status_kb("VmRSS");
            mpi_assert_ok(save_copy(&j, &world, spread, block, buffer));
            int64_t peak_kb = status_kb("VmHWM");
            mpi_assert(sgc_mem_peak(SGC_MEM_CHECKPOINT) <= 2 * (size_t)block);
            mpi_assert(!is_measured || peak_kb - before_kb <= 2 * block / 1024 + SLACK_KB);
            if (IS_ROOT) sgc_remove_tree(directory);
            mpi_assert(sgc_barrier(ALL) == SGC_OK);
        }
    mpi_assert(sgc_mem_peak(SGC_MEM_CHECKPOINT) > 2 * BLOCK && sgc_mem_held(SGC_MEM_CHECKPOINT) == 0); /* the option is what bounds it */
    mpi_assert_ok(sgc_world_set_nodes(&world, world.size));
    free(buffer);
    stop(&j);
    remove_directory();
}
END_TEST

/* The group of the first n ranks; NULL on the others. */
static sgc_group *first_ranks(int n)
{
    sgc_group *g = NULL;
    MPI_Comm comm;
    MPI_Comm_split(MPI_COMM_WORLD, world.rank < n ? 0 : MPI_UNDEFINED, world.rank, &comm);
    mpi_assert(comm == MPI_COMM_NULL || sgc_group_make(&g, comm, world.rank) == SGC_OK);
    return g;
}

/* Pairs with fewer ranks than there are here are left to the runs on fewer. */
START_TEST(every_world_size_and_stage_loads_what_every_other_saved)
{
    enum { WIDTH = 24 };
    sgc_group *group[N_RANKS_MAX + 1] = {NULL};
    job j;
    int n_pairs = 0;
    make_directory();
    for (int n = 1; n <= world.size; n++) group[n] = first_ranks(n);
    for (int n = 1; n <= world.size; n++)
        for (int stage = 0; stage < N_STAGES; stage++) {
            mpi_assert(!group[n] || (start(&j, group[n], stage, WIDTH) == SGC_OK && save(&j, n * 10 + stage, stage) == SGC_OK));
            if (group[n]) stop(&j);
        }
    for (int n = 1; n <= world.size; n++)
        for (int stage = 0; stage < N_STAGES; stage++)
            for (int from_n = 1; from_n <= world.size; from_n++)
                for (int from_stage = 0; from_stage < N_STAGES; from_stage++) {
                    if ((n == from_n && stage == from_stage) || (n < world.size && from_n < world.size)) continue;
                    mpi_assert(!group[n] || (start(&j, group[n], stage, WIDTH) == SGC_OK && load(&j, from_n * 10 + from_stage) == SGC_OK));
                    mpi_assert(!group[n] || is_filled(j.engine, j.model, world.rank));
                    if (group[n]) stop(&j);
                    n_pairs++;
                }
    mpi_assert(n_pairs == 16 * world.size * world.size - 16 * (world.size - 1) * (world.size - 1) - 4);
    for (int n = 1; n <= world.size; n++) sgc_group_free(group[n]);
    remove_directory();
}
END_TEST

MPI_UNIT_MAIN("ckpt_load", loading_takes_the_shard_and_one_block, saving_takes_the_copy_and_two_blocks, every_world_size_and_stage_loads_what_every_other_saved)

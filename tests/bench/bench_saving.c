/*
 * Saves beside plain write and fsync of the same bytes, what training waits for one beside a plain copy in memory, and what checking hashes takes of a
 * resume. In turns, the best of each; with the engine of a GPT-2 of about so many MiB of weights and optimizer states per rank.
 *   mpirun -n RANKS bench_saving [DIRECTORY [MIB_PER_RANK [TURNS]]]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/ckpt_impl.h"

enum { PIECE = 1 << 20, WIDTH = 768, TRAVEL = 32 << 20 };

typedef struct bench {
    sgc_world w;
    sgc_model *model;
    sgc_device device;
    bool has_device;
    sgc_zero *engine;
    sgc_run_state state;
    sgc_ckpt_info info;
    sgc_ckpt_job job;
    char *copy, *other;       /* [n_bytes], touched */
    char *travel;             /* [TRAVEL], touched */
    int64_t n_bytes;          /* of this rank's shards */
    int64_t index_bytes;      /* kept from save to save, as training does */
    /* the best of all turns; what training waits, with the copy in it that it waits for; the longest look at files that travel */
    double plain_s, saved_s, plain_copy_s, copy_s, waited_s, partner_copy_s, partner_waited_s, longest_s, cold_s, warm_s, cold_share, warm_share;
} bench;

static void keep_best(double *best, double s)
{
    if (*best == 0 || s < *best) *best = s;
}

/* Since start_s, on the slowest rank. */
static double agreed_s(bench *b, double start_s)
{
    double s = sgc_time_s() - start_s;
    return sgc_max_double(b->w.all, &s, 1) == SGC_OK ? s : 0;
}

static sgc_status write_plainly(bench *b)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    snprintf(path, sizeof(path), "%s/plain-%d", b->job.output_dir, b->w.rank);
    sgc_barrier(b->w.all);
    double start_s = sgc_time_s();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) st = sgc_err_errno(SGC_EIO, "cannot create %s", path);
    for (int64_t at = 0; st == SGC_OK && at < b->n_bytes; at += PIECE)
        st = sgc_pwrite_all(fd, b->copy + at, (size_t)(b->n_bytes - at < PIECE ? b->n_bytes - at : PIECE), at, path);
    if (st == SGC_OK && (fsync(fd) != 0 || close(fd) != 0)) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    keep_best(&b->plain_s, agreed_s(b, start_s));
    unlink(path);
    return sgc_agree(b->w.all, st);
}

/* As a thread of each core would. */
static void copy_plainly(bench *b)
{
    sgc_barrier(b->w.all);
    double start_s = sgc_time_s();
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < b->n_bytes; at += PIECE)
        memcpy(b->other + at, b->copy + at, (size_t)(b->n_bytes - at < PIECE ? b->n_bytes - at : PIECE));
    keep_best(&b->plain_copy_s, agreed_s(b, start_s));
}

/* All that the main thread does for a save that a thread writes, looked at as often as every millisecond. */
static sgc_status save_behind(bench *b, const sgc_ckpt_job *job, double *best_copy_s, double *best_waited_s)
{
    sgc_status st = SGC_OK;
    sgc_save *s = NULL;
    char path[SGC_PATH_MAX];
    sgc_barrier(b->w.all);
    double start_s = sgc_time_s(), waited_s, moved_s = 0, longest_s = 0;
    SGC_TRY(sgc_ckpt_begin(&s, job, b->copy));
    waited_s = agreed_s(b, start_s);
    double copy_s = sgc_save_copy_s(s);
    SGC_TRY(sgc_max_double(b->w.all, &copy_s, 1));
    while (!sgc_save_is_over(s)) {
        bool travels;
        start_s = sgc_time_s();
        SGC_TRY(sgc_save_move(s, &travels));
        double look_s = sgc_time_s() - start_s;
        moved_s += look_s;
        if (look_s > longest_s) longest_s = look_s;
        double n_late = !sgc_save_is_ready(s);
        SGC_TRY(sgc_max_double(b->w.all, &n_late, 1));
        if (n_late > 0) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        start_s = sgc_time_s();
        SGC_TRY(sgc_save_advance(s));
        waited_s += agreed_s(b, start_s);
    }
    SGC_TRY(sgc_max_double(b->w.all, &moved_s, 1));
    SGC_TRY(sgc_max_double(b->w.all, &longest_s, 1));
    if (job->nodes) keep_best(&b->longest_s, longest_s);
    keep_best(best_copy_s, copy_s);
    keep_best(best_waited_s, waited_s + moved_s);
    strcpy(path, sgc_save_path(s));
    if (b->w.rank == 0 || job->nodes) st = sgc_remove_tree(path);
    SGC_AGREE(b->w.all);
done:
    sgc_save_free(s);
    return st;
}

/* Each rank is a node with a directory of its own, and sends a copy to the next. */
static sgc_status save_to_partners(bench *b)
{
    sgc_status st = SGC_OK;
    char own[SGC_PATH_MAX], name[32];
    sgc_ckpt_job job = b->job;
    sgc_ckpt_files *files = NULL;
    snprintf(name, sizeof(name), "of-%d", b->w.rank);
    SGC_TRY(sgc_path_join(own, b->job.output_dir, name));
    SGC_TRY(sgc_files_make(&files, &b->w, 0));
    job.output_dir = own;
    job.files = files;
    job.nodes = &b->w;
    job.spread = SGC_SPREAD_PARTNER;
    job.travel = b->travel;
    job.travel_bytes = TRAVEL;
    SGC_TRY(save_behind(b, &job, &b->partner_copy_s, &b->partner_waited_s));
    st = sgc_remove_tree(own);
    SGC_AGREE(b->w.all);
done:
    sgc_files_free(files);
    return st;
}

static sgc_status load(bench *b, const char *path, double *best_s, double *share)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    SGC_TRY(sgc_ckpt_open(&c, path, b->w.all));
    sgc_barrier(b->w.all);
    double start_s = sgc_time_s();
    SGC_TRY(sgc_ckpt_load(c, b->engine, b->model, false, b->w.all));
    double s = agreed_s(b, start_s), hash_s = c->hash_s;
    SGC_TRY(sgc_max_double(b->w.all, &hash_s, 1));
    if (*best_s == 0 || s < *best_s) *share = hash_s / s;
    keep_best(best_s, s);
done:
    sgc_ckpt_close(c);
    return st;
}

/* This rank's shard leaves the page cache. */
static void forget(const bench *b, const char *path)
{
    char name[64], file[SGC_PATH_MAX];
    sgc_manifest_path(name, SGC_FILE_SHARDS + b->w.rank, b->w.size);
    if (sgc_path_join(file, path, name) != SGC_OK) return;
    int fd = open(file, O_RDONLY);
    if (fd < 0) return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static sgc_status turn(bench *b)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    SGC_TRY(write_plainly(b));
    sgc_barrier(b->w.all);
    double start_s = sgc_time_s();
    SGC_TRY(sgc_ckpt_write(&b->job, path));
    keep_best(&b->saved_s, agreed_s(b, start_s));
    forget(b, path);
    SGC_TRY(load(b, path, &b->cold_s, &b->cold_share));
    SGC_TRY(load(b, path, &b->warm_s, &b->warm_share));
    if (b->w.rank == 0) st = sgc_remove_tree(path);
    SGC_AGREE(b->w.all);
    copy_plainly(b);
    SGC_TRY(save_behind(b, &b->job, &b->copy_s, &b->waited_s));
    if (b->w.size > 1) SGC_TRY(save_to_partners(b));
done:
    return st;
}

static sgc_status make_local(bench *b, int64_t mib)
{
    sgc_status st = SGC_OK;
    sgc_model_options o = {.vocab_size = 256, .n_positions = 64, .n_embd = WIDTH, .n_layer = 1, .n_head = 12, .layer_norm_epsilon = 1e-5, .tie_word_embeddings = true};
    const double layer_bytes = 12.0 * 12 * WIDTH * WIDTH; /* weights, and two moments */
    o.n_layer = (int64_t)((double)(mib << 20) * b->w.size / layer_bytes + 0.5);
    if (o.n_layer < 1) o.n_layer = 1;
    SGC_TRY(sgc_model_make(&b->model, &o, 256));
    SGC_TRY(sgc_device_open(&b->device, "cpu", false));
    b->has_device = true;
done:
    return st;
}

static void print(const bench *b, int n_turns)
{
    const double mib = (double)b->n_bytes / (1 << 20), total = mib * b->w.size;
    printf("%d rank%s, %.0f MiB each, best of %d\n", b->w.size, b->w.size == 1 ? "" : "s", mib, n_turns);
    printf("  write and fsync %.0f MiB/s, save %.0f MiB/s (%.0f %%)\n", total / b->plain_s, total / b->saved_s, 100 * b->plain_s / b->saved_s);
    printf("  training waits %.3f s for a save in the background, %.3f s of it for the copy; a plain copy takes %.3f s\n", b->waited_s, b->copy_s, b->plain_copy_s);
    if (b->w.size > 1)
        printf("  training waits %.3f s for one that sends a copy to the next rank, %.3f s of it for the copy in memory, %.3f s at most at a time afterwards\n",
               b->partner_waited_s, b->partner_copy_s, b->longest_s);
    printf("  resume reads %.0f MiB/s from the disk (hashes take %.1f %% of the time), %.0f MiB/s from the page cache (%.1f %%)\n", total / b->cold_s, 100 * b->cold_share,
           total / b->warm_s, 100 * b->warm_share);
}

int main(int argc, char **argv)
{
    sgc_status st = SGC_OK;
    bench b = {.state = {.step = 1}, .info = {.run_id = "0123456789abcdef", .dtype = "float32"}};
    const int n_turns = argc > 3 ? atoi(argv[3]) : 5;
    if (sgc_world_start(&b.w, &argc, &argv) != SGC_OK) return EXIT_FAILURE;
    SGC_TRY(sgc_world_set_nodes(&b.w, 1));
    st = make_local(&b, argc > 2 ? atoll(argv[2]) : 256);
    SGC_AGREE(b.w.all);
    SGC_TRY(sgc_zero_make(&b.engine, b.model, &b.device, b.w.all, &(sgc_zero_spec){.stage = 3, .n_micro = 1}));
    SGC_TRY(sgc_zero_init_weights(b.engine, 1));
    b.n_bytes = (int64_t)sgc_save_buffer_bytes(b.engine, b.model);
    b.job = (sgc_ckpt_job){.output_dir = argc > 1 ? argv[1] : ".", .group = b.w.all, .engine = b.engine, .model = b.model, .state = &b.state, .info = &b.info,
                           .config_text = "", .block_size = PIECE, .index_bytes = &b.index_bytes};
    b.copy = malloc((size_t)b.n_bytes);
    b.other = malloc((size_t)b.n_bytes);
    b.travel = malloc(TRAVEL);
    if (!b.copy || !b.other || !b.travel) st = sgc_err(SGC_ENOMEM, "no memory for two copies of the shards");
    SGC_AGREE(b.w.all);
    memset(b.copy, 1, (size_t)b.n_bytes);
    memset(b.other, 1, (size_t)b.n_bytes);
    memset(b.travel, 1, TRAVEL);
    for (int k = 0; k < n_turns; k++) SGC_TRY(turn(&b));
    if (b.w.rank == 0) print(&b, n_turns);
done:
    if (st != SGC_OK && b.w.rank == 0) fprintf(stderr, "bench_saving: %s\n", sgc_err_message());
    free(b.copy);
    free(b.other);
    free(b.travel);
    sgc_zero_free(b.engine);
    if (b.has_device) sgc_device_close(&b.device);
    sgc_model_free(b.model);
    sgc_world_stop(&b.w);
    return st == SGC_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

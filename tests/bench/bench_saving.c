/*
 * Bandwidth of a save beside that of plain write and fsync of the same bytes, in turns.
 *   mpirun -n RANKS bench_saving [DIRECTORY [MIB_PER_RANK [TURNS]]]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/ckpt_impl.h"

enum { PIECE = 1 << 20 };

static double agreed_s(sgc_world *w, double start_s)
{
    double s = sgc_time_s() - start_s;
    return sgc_max_double(w->all, &s, 1) == SGC_OK ? s : 0;
}

static double write_plainly(sgc_world *w, const char *directory, const char *bytes, int64_t n_bytes)
{
    char path[SGC_PATH_MAX];
    snprintf(path, sizeof(path), "%s/plain-%d", directory, w->rank);
    sgc_barrier(w->all);
    double start_s = sgc_time_s();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    sgc_status st = fd < 0 ? SGC_EIO : SGC_OK;
    for (int64_t offset = 0; st == SGC_OK && offset < n_bytes; offset += PIECE) st = sgc_pwrite_all(fd, bytes + offset, PIECE, offset, path);
    if (st == SGC_OK && (fsync(fd) != 0 || close(fd) != 0)) st = SGC_EIO;
    double s = agreed_s(w, start_s);
    unlink(path);
    return st == SGC_OK ? s : 0;
}

static double save(sgc_world *w, const sgc_ckpt_job *job, const sgc_ckpt_part *part)
{
    char path[SGC_PATH_MAX];
    sgc_barrier(w->all);
    double start_s = sgc_time_s();
    sgc_status st = sgc_ckpt_write_parts(job, part, 1, path);
    double s = agreed_s(w, start_s);
    if (st == SGC_OK && w->rank == 0) sgc_remove_tree(path);
    return st == SGC_OK ? s : 0;
}

int main(int argc, char **argv)
{
    sgc_world w;
    if (sgc_world_start(&w, &argc, &argv) != SGC_OK) return EXIT_FAILURE;
    const char *directory = argc > 1 ? argv[1] : ".";
    int64_t mib = argc > 2 ? atoll(argv[2]) : 256, n_bytes = mib << 20;
    int n_turns = argc > 3 ? atoi(argv[3]) : 5;
    int64_t n_shard = n_bytes / (int64_t)sizeof(float);
    float *values = malloc((size_t)n_bytes);
    if (!values) return EXIT_FAILURE;
    for (int64_t i = 0; i < n_shard; i++) values[i] = (float)(i * 2654435761 % 1000003);

    sgc_param_spec tensor = {.name = "w", .n_dim = 1, .shape = {n_shard * w.size}, .n = n_shard * w.size};
    sgc_unit unit = {.name = "only", .n_params = 1, .params = &tensor, .n = tensor.n};
    sgc_model model = {.n_units = 1, .units = &unit};
    sgc_run_state state = {.step = 1};
    sgc_ckpt_info info = {.run_id = "0123456789abcdef", .dtype = "float32"};
    sgc_ckpt_part part = {.unit = &unit, .flat = sgc_flat_make(tensor.n, w.size), .values = values};
    sgc_ckpt_job job = {.output_dir = directory, .group = w.all, .model = &model, .state = &state, .info = &info, .config_text = "",
                        .block_size = PIECE};
    double plain_s = 0, saved_s = 0;
    bool failed = false;
    for (int turn = 0; turn < n_turns && !failed; turn++) {
        double plain = write_plainly(&w, directory, (const char *)values, n_bytes), saved = save(&w, &job, &part);
        failed = plain <= 0 || saved <= 0;
        if (plain_s == 0 || plain < plain_s) plain_s = plain;
        if (saved_s == 0 || saved < saved_s) saved_s = saved;
    }
    double total = (double)n_bytes * w.size / (1 << 20);
    if (w.rank == 0 && failed) fprintf(stderr, "bench_saving: %s\n", sgc_err_message());
    if (w.rank == 0 && !failed)
        printf("%d rank%s, %lld MiB each, best of %d: write and fsync %.0f MiB/s, save %.0f MiB/s (%.0f %%)\n", w.size, w.size == 1 ? "" : "s",
               (long long)mib, n_turns, total / plain_s, total / saved_s, 100 * plain_s / saved_s);
    free(values);
    sgc_world_stop(&w);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

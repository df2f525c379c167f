/*
 * ceilings DIRECTORY: what this machine can do, measured: matrix products, copying memory, writing and syncing a file in DIRECTORY.
 * The products go through the device, so that the library and its settings are those of training.
 */
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

enum { COPY_BYTES = 128 << 20, FILE_BYTES = 256 << 20 };

typedef struct product {
    sgc_device *device;
    void *a, *b, *c;
    int64_t m, n, k;
} product;

static void run_product(void *arg)
{
    product *p = arg;
    p->device->ops->matmul(p->device, &(sgc_matmul){.c = p->c, .a = p->a, .b = p->b, .m = p->m, .n = p->n, .k = p->k});
}

/* A large square, and the first product of GPT-2 124M's feed-forward layer. */
static int products(const char *device_name, const char *type, int n_threads)
{
    static const struct { const char *name; int64_t m, n, k; } shapes[] = {{"2048x2048x2048", 2048, 2048, 2048}, {"1024x3072x768", 1024, 3072, 768}};
    sgc_device device;
    char metric[96];
    omp_set_num_threads(n_threads);
    if (sgc_device_open(&device, device_name, false) != SGC_OK) {
        fprintf(stderr, "ceilings: %s\n", sgc_err_message());
        return 1;
    }
    const sgc_dtype value = device.ops->value;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        int64_t m = shapes[i].m, n = shapes[i].n, k = shapes[i].k;
        product p = {&device, bench_numbers(value, m * k, -1, 1), bench_numbers(value, k * n, -1, 1), bench_numbers(value, m * n, 0, 0), m, n, k};
        snprintf(metric, sizeof(metric), "%s product %s, %d thread%s", type, shapes[i].name, n_threads, n_threads == 1 ? "" : "s");
        bench_rate((bench_what){"ceilings", metric, "machine", "GFLOP/s"}, 2e-9 * (double)m * (double)n * (double)k, 0.2, run_product, &p);
        free(p.a);
        free(p.b);
        free(p.c);
    }
    sgc_device_close(&device);
    return 0;
}

/* Bytes read and bytes written both count, as in STREAM. */
static void copies(int n_threads)
{
    char metric[96];
    omp_set_num_threads(n_threads);
    bench_copy c = {bench_numbers(SGC_F32, COPY_BYTES / 4, 0, 1), bench_numbers(SGC_F32, COPY_BYTES / 4, 0, 1), COPY_BYTES};
    snprintf(metric, sizeof(metric), "copy of %d MiB, %d thread%s", COPY_BYTES >> 20, n_threads, n_threads == 1 ? "" : "s");
    bench_rate((bench_what){"ceilings", metric, "machine", "GB/s"}, 2e-9 * COPY_BYTES, 0.2, bench_run_copy, &c);
    free(c.to);
    free(c.from);
}

static int disk(const char *directory)
{
    char path[SGC_PATH_MAX], *data = bench_numbers(SGC_F32, FILE_BYTES / 4, 0, 1);
    int bad = 0;
    if (sgc_path_join(path, directory, "bench-disk.tmp") != SGC_OK) bad = 1;
    for (int i = 0; i < BENCH_REPETITIONS && !bad; i++) {
        double start_s = sgc_time_s();
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        bad = fd < 0 || sgc_pwrite_all(fd, data, FILE_BYTES, 0, path) != SGC_OK || fsync(fd) != 0;
        if (fd >= 0) close(fd);
        if (!bad) bench_say((bench_what){"ceilings", "write and sync of 256 MiB", "machine", "GB/s"}, 1e-9 * FILE_BYTES / (sgc_time_s() - start_s));
    }
    if (bad) fprintf(stderr, "ceilings: %s: %s\n", path, strerror(errno));
    unlink(path);
    free(data);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0, all = omp_get_max_threads();
    if (argc != 2) {
        fprintf(stderr, "usage: ceilings DIRECTORY\n");
        return 2;
    }
    for (int n = all; n >= 1 && !bad; n = n > 1 ? 1 : 0) {
        bad = products("cpu", "fp32", n) || products("cpu_bf16", "bf16", n);
        copies(n);
    }
    return bad || disk(argv[1]);
}

/*
 * For the programs of `make bench`: how fast something goes, and the one form in which every result is said:
 *     row TAB metric TAB side TAB unit TAB value
 * one line per repetition. report.awk makes medians and spreads of them.
 */
#ifndef SGC_TESTS_BENCH_H
#define SGC_TESTS_BENCH_H

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "device/device.h"

enum { BENCH_REPETITIONS = 5 };

/* What a line says beside the value. */
typedef struct bench_what { const char *row, *metric, *side, *unit; } bench_what;

static inline void bench_say(bench_what w, double value) { printf("%s\t%s\t%s\t%s\t%.6g\n", w.row, w.metric, w.side, w.unit, value); }

static inline void bench_fail(sgc_status st)
{
    if (st == SGC_OK) return;
    fprintf(stderr, "bench: %s\n", sgc_err_message());
    exit(1);
}

/* Says work / seconds of one call, once per repetition of at least min_s. The first call prepares and is not counted.
 * d: where the work is done; NULL: in the call itself. */
static inline void bench_rate_on(sgc_device *d, bench_what w, double work, double min_s, void (*run)(void *), void *arg)
{
    /* calls of a GPU are only asked for: waiting after each would be what is measured */
    const int batch = d && d->ops->memory && min_s > 0.001 ? 20 : 1;
    run(arg);
    if (d) bench_fail(sgc_device_finish(d));
    for (int i = 0; i < BENCH_REPETITIONS; i++) {
        double start_s = sgc_time_s(), spent_s;
        int n_calls = 0;
        do {
            for (int k = 0; k < batch; k++) run(arg);
            if (d) bench_fail(sgc_device_finish(d));
            n_calls += batch;
            spent_s = sgc_time_s() - start_s;
        } while (spent_s < min_s);
        bench_say(w, work * n_calls / spent_s);
    }
    fflush(stdout);
}

static inline void bench_rate(bench_what w, double work, double min_s, void (*run)(void *), void *arg) { bench_rate_on(NULL, w, work, min_s, run, arg); }

static inline void *bench_memory(size_t bytes)
{
    void *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (p) return p;
    fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
    exit(1);
}

/* n numbers between low and high, of a device's type; touched first by the threads that will use them. */
static inline void *bench_numbers(sgc_dtype type, int64_t n, double low, double high)
{
    void *p = bench_memory((size_t)n * sgc_dtype_bytes(type));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(low + (high - low) * (double)((uint32_t)i * 2654435761u >> 8) * 0x1p-24);
        sgc_dtype_pack(type, &x, 1, (char *)p + (size_t)i * sgc_dtype_bytes(type));
    }
    return p;
}

/* Copying memory, cut among the threads. */
typedef struct bench_copy { char *to, *from; size_t bytes; } bench_copy;

static inline void bench_run_copy(void *arg)
{
    bench_copy *c = arg;
#pragma omp parallel
    {
        size_t n = (size_t)omp_get_num_threads(), i = (size_t)omp_get_thread_num(), first = c->bytes * i / n;
        memcpy(c->to + first, c->from + first, c->bytes * (i + 1) / n - first);
    }
}

#endif

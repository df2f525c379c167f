#include "train/profile_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trace.h"

enum { MAX_EVENTS = 1 << 18, MIN_EVENTS = 4096 }; /* of all ranks, of one */

void sgc_profile_plan(sgc_profile *p, int64_t n, int64_t step, int64_t last_step, bool goes_on)
{
    *p = (sgc_profile){.first = last_step - step > 1 ? step + 1 : step, .n = last_step > step ? n : 0, .goes_on = goes_on};
}

sgc_status sgc_profile_before(sgc_profile *p, sgc_group *group, int64_t step)
{
    sgc_status st = SGC_OK;
    if (p->n == 0 || step < p->first) return SGC_OK;
    if (!p->is_open) {
        int64_t n_events = MAX_EVENTS / sgc_group_size(group);
        st = sgc_trace_start(n_events > MIN_EVENTS ? n_events : MIN_EVENTS);
        SGC_AGREE(group);
        SGC_TRY(sgc_barrier(group)); /* one zero of time for all ranks */
        p->start_s = sgc_time_s();
        p->is_open = true;
    }
    sgc_trace_resume();
done:
    return st;
}

static int by_time(const void *a, const void *b)
{
    const sgc_trace_row *x = a, *y = b;
    return (x->time_s < y->time_s) - (x->time_s > y->time_s);
}

static void log_row(const sgc_profile *p, const sgc_trace_row *r)
{
    char name[64], unit[32], rate[32] = "";
    double n = (double)p->n_recorded;
    snprintf(name, sizeof(name), "%s%s", r->name, r->kind == SGC_TRACE_WAIT ? ", waited" : r->repeated ? ", again" : "");
    snprintf(unit, sizeof(unit), "%.*s", r->unit_chars, r->unit ? r->unit : "");
    if (r->flop > 0) snprintf(rate, sizeof(rate), "%.1f GFLOP/s", r->flop / r->time_s * 1e-9);
    else if (r->bytes > 0) snprintf(rate, sizeof(rate), "%.1f GB/s", r->bytes / r->time_s * 1e-9);
    sgc_log_info("  %-28s %-10s %8.1f %10.3f ms %6.1f %%  %s", name, unit, (double)r->n_calls / n, 1e3 * r->time_s / n, 100 * r->time_s / p->recorded_s, rate);
}

/* Messages are hidden while any are under way and nobody waits for them. */
static void log_table(const sgc_profile *p)
{
    int n_rows;
    const sgc_trace_row *all = sgc_trace_rows(&n_rows);
    sgc_trace_row rows[256];
    double per_kind[SGC_TRACE_N_KINDS] = {0}, awaited_s = 0; /* for messages that travel */
    memcpy(rows, all, (size_t)n_rows * sizeof(*rows));
    qsort(rows, (size_t)n_rows, sizeof(*rows), by_time);
    sgc_log_info("***** Profile: updates %lld to %lld on rank 0, %.3f ms each *****", (long long)p->first + 1, (long long)(p->first + p->n_recorded),
                 1e3 * p->recorded_s / (double)p->n_recorded);
    sgc_log_info("  %-28s %-10s %8s %13s %8s  %s", "operation", "unit", "calls", "time", "share", "rate");
    for (int i = 0; i < n_rows; i++) {
        per_kind[rows[i].kind] += rows[i].time_s;
        if (rows[i].kind != SGC_TRACE_TRAVEL) log_row(p, &rows[i]);
        if (rows[i].kind == SGC_TRACE_WAIT && strcmp(rows[i].name, "control") != 0) awaited_s += rows[i].time_s;
    }
    double n = (double)p->n_recorded, other_s = p->recorded_s - per_kind[SGC_TRACE_WORK] - per_kind[SGC_TRACE_WAIT];
    double hidden_s = sgc_trace_traveled_s() - awaited_s;
    if (hidden_s < 0) hidden_s = 0;
    sgc_log_info("  %-28s %-10s %8s %10.3f ms %6.1f %%", "other", "", "", 1e3 * other_s / n, 100 * other_s / p->recorded_s);
    sgc_log_info("  communication of an update: %.3f ms exposed, %.3f ms hidden", 1e3 * per_kind[SGC_TRACE_WAIT] / n, 1e3 * hidden_s / n);
}

/* One rank's events in the Chrome trace format, each line ended by a comma. */
static void write_events(sgc_str *s, int rank, double zero_s)
{
    int64_t n, n_dropped;
    const sgc_trace_event *events = sgc_trace_events(&n, &n_dropped);
    sgc_str_printf(s, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"rank %d %s\"}},\n", rank, rank, sgc_node_name());
    sgc_str_printf(s, "{\"name\":\"process_sort_index\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"sort_index\":%d}},\n", rank, rank);
    for (int64_t i = 0; i < n; i++) {
        const sgc_trace_event *e = &events[i];
        double start_us = 1e6 * (e->start_s - zero_s), end_us = 1e6 * (e->end_s - zero_s);
        const char *repeated = e->repeated ? ", again" : "";
        if (e->kind == SGC_TRACE_TRAVEL)
            sgc_str_printf(s, "{\"name\":\"%s\",\"cat\":\"under way\",\"ph\":\"b\",\"id\":%lld,\"pid\":%d,\"tid\":0,\"ts\":%.3f},\n"
                           "{\"name\":\"%s\",\"cat\":\"under way\",\"ph\":\"e\",\"id\":%lld,\"pid\":%d,\"tid\":0,\"ts\":%.3f},\n", e->name, (long long)i, rank,
                           start_us, e->name, (long long)i, rank, end_us);
        else
            sgc_str_printf(s, "{\"name\":\"%s%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":0,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"unit\":\"%s\",\"flop\":%.0f,"
                           "\"bytes\":%.0f}},\n", e->name, repeated, e->kind == SGC_TRACE_WAIT ? "wait" : "work", rank, start_us, end_us - start_us,
                           e->unit ? e->unit : "", e->flop, e->bytes);
    }
}

static sgc_status write_file_local(const char *dir, const char *parts, size_t n_bytes)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    sgc_str file = {0};
    SGC_TRY(sgc_path_join(path, dir, "trace.json"));
    sgc_str_printf(&file, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
    sgc_str_append(&file, parts, n_bytes - 2); /* without the last comma */
    sgc_str_printf(&file, "\n]}\n");
    SGC_TRY(sgc_write_file_atomic(path, file.text, file.n));
    sgc_log_info("  %s: the trace of all ranks, for chrome://tracing or ui.perfetto.dev", path);
done:
    sgc_str_free(&file);
    return st;
}

/* Collective. */
static sgc_status write_trace(const sgc_profile *p, sgc_group *group, const char *dir)
{
    sgc_str own = {0};
    char *parts = NULL;
    int n_ranks = sgc_group_size(group), rank = sgc_group_rank(group);
    int64_t *n_bytes_of = malloc((size_t)n_ranks * sizeof(*n_bytes_of)), n_events, n_dropped, n_bytes = 0;
    sgc_status st = n_bytes_of ? SGC_OK : sgc_err(SGC_ENOMEM, "no memory to gather the trace of %d ranks", n_ranks);
    SGC_AGREE(group);
    write_events(&own, rank, p->start_s);
    SGC_TRY(sgc_gather_bytes(group, own.text, (int64_t)own.n, &parts, n_bytes_of, 0));
    for (int r = 0; rank == 0 && r < n_ranks; r++) n_bytes += n_bytes_of[r];
    if (rank == 0) st = write_file_local(dir, parts, (size_t)n_bytes);
    if (st == SGC_EIO && p->goes_on) {
        sgc_log_error("%s. Training goes on", sgc_err_message());
        sgc_err_clear();
        st = SGC_OK;
    }
    SGC_AGREE(group);
    sgc_trace_events(&n_events, &n_dropped);
    if (n_dropped > 0 && rank == 0)
        sgc_log_warning("trace.json holds the first %lld events of a rank, %lld more are only in the table: profile fewer updates", (long long)n_events,
                        (long long)n_dropped);
done:
    sgc_str_free(&own);
    free(n_bytes_of);
    free(parts);
    return st;
}

sgc_status sgc_profile_after(sgc_profile *p, sgc_group *group, const char *dir, double update_s)
{
    if (!p->is_open) return SGC_OK;
    sgc_trace_stop();
    p->n_recorded++;
    p->recorded_s += update_s;
    return p->n_recorded == p->n ? sgc_profile_end(p, group, dir) : SGC_OK;
}

sgc_status sgc_profile_end(sgc_profile *p, sgc_group *group, const char *dir)
{
    sgc_status st = SGC_OK;
    bool has_any = p->is_open && p->n_recorded > 0;
    p->n = 0;
    p->is_open = false;
    if (has_any) {
        if (sgc_group_rank(group) == 0) log_table(p);
        SGC_TRY(write_trace(p, group, dir));
    }
done:
    sgc_trace_free();
    return st;
}

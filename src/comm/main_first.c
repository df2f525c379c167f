#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/comm_impl.h"

sgc_status sgc_barrier_quiet(sgc_group *g, double interval_s, bool is_speaker, const char *text)
{
    sgc_status st = SGC_OK;
    sgc_group_count_call(g, SGC_CONTROL);
    if (g->is_null || g->size == 1) return SGC_OK;

    MPI_Request request;
    int is_done = 0;
    double start_s = sgc_time_s(), said_s = start_s;
    SGC_MPI(MPI_Ibarrier(g->control, &request));
    for (;;) {
        SGC_MPI(MPI_Test(&request, &is_done, MPI_STATUS_IGNORE));
        if (is_done) break;
        /* A barrier takes several messages one after the other, each noticed at the next test: the pause is a small part of what was waited. */
        double now_s = sgc_time_s(), pause_s = (now_s - start_s) / 16;
        pause_s = pause_s < 1e-4 ? 1e-4 : pause_s > 0.05 ? 0.05 : pause_s;
        nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * pause_s)}, NULL);
        now_s = sgc_time_s();
        if (is_speaker && interval_s > 0.0 && now_s - said_s >= interval_s) {
            said_s = now_s;
            /* Printed at once: the main process, which prints the lines of replicas, is the one that is waited for. */
            char prefix[320], line[1024];
            snprintf(prefix, sizeof(prefix), "[rank %d %s] ", g->world_rank, sgc_node_name());
            snprintf(line, sizeof(line), "%s (%.0f s so far)", text, now_s - start_s);
            sgc_log_print(SGC_LOG_INFO, g->world_rank == 0 ? "" : prefix, line);
        }
    }
done:
    return st;
}

sgc_status sgc_main_process_first(sgc_world *w, bool local, const char *description, double progress_interval_s,
                                  sgc_status (*body)(void *arg, bool is_main), void *arg)
{
    sgc_status st = SGC_OK;
    sgc_group *g = local ? w->node : w->all;
    bool is_main = g->is_null || g->rank == 0;
    char text[512];

    /* The first waiting rank speaks for all, at the level of the process for which it speaks. */
    int32_t is_info = sgc_log_get_level() <= SGC_LOG_INFO;
    SGC_TRY(sgc_bcast_bytes(g, &is_info, sizeof(is_info), 0));

    if (is_main) st = body(arg, true);
    snprintf(text, sizeof(text), "waiting for the main process: %s", description);
    sgc_status waited = sgc_barrier_quiet(g, progress_interval_s, g->rank == 1 && is_info, text);
    if (waited != SGC_OK) return waited;
    st = sgc_agree(g, st); /* what the main process could not do, the others do not try */
    if (!is_main && st == SGC_OK) st = body(arg, false);

    snprintf(text, sizeof(text), "waiting for the other ranks: %s", description);
    waited = sgc_barrier_quiet(w->all, progress_interval_s, w->rank == 0 && is_info, text);
    if (waited != SGC_OK) return waited;
    SGC_AGREE(w->all);
done:
    return st;
}

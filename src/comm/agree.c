#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/comm_impl.h"

typedef struct verdict {
    int32_t status, world_rank;
    char node[256]; /* and how many more ranks failed */
    char message[SGC_ERR_BYTES];
} verdict;

/* What the lowest failing rank tells the others. An error that it took over itself keeps the rank where it began. */
static void describe(const sgc_group *g, sgc_status st, int64_t n_failed, verdict *v)
{
    v->status = (int32_t)st;
    snprintf(v->message, sizeof(v->message), "%s", sgc_err_message());
    int rank;
    if (sscanf(sgc_err_origin(), "rank %d on %255[^\n]", &rank, v->node) == 2) {
        v->world_rank = rank;
        return;
    }
    v->world_rank = g->world_rank;
    int n = snprintf(v->node, sizeof(v->node), "%.200s", sgc_node_name());
    if (n_failed > 1)
        snprintf(v->node + n, sizeof(v->node) - (size_t)n, " (and %lld more rank%s)", (long long)n_failed - 1, n_failed > 2 ? "s" : "");
}

sgc_status sgc_agree(sgc_group *g, sgc_status st)
{
    sgc_group_count_call(g, SGC_CONTROL);
    if (g->is_null || g->size == 1) return st;

    sgc_status own = st;
    st = SGC_OK;
    int lowest = own == SGC_OK ? g->size : g->rank;
    SGC_MPI(MPI_Allreduce(MPI_IN_PLACE, &lowest, 1, MPI_INT, MPI_MIN, g->control));
    sgc_group_count(g, SGC_CONTROL, 0, sizeof(lowest));
    if (lowest == g->size) return SGC_OK;

    int64_t n_failed = own != SGC_OK;
    SGC_MPI(MPI_Allreduce(MPI_IN_PLACE, &n_failed, 1, MPI_INT64_T, MPI_SUM, g->control));
    sgc_group_count(g, SGC_CONTROL, 0, sizeof(n_failed));
    verdict v = {0};
    if (g->rank == lowest) describe(g, own, n_failed, &v);
    SGC_TRY(sgc_bcast_bytes(g, &v, sizeof(v), lowest));
    st = (sgc_status)v.status;
    if (g->rank == lowest) return st;
    /* the same error on several ranks, or one that was agreed before and is on its way up */
    if (own != SGC_OK && strcmp(sgc_err_message(), v.message) == 0) return st;
    if (own != SGC_OK) sgc_log_debug("another error of this rank: %s", sgc_err_message());
    sgc_err_clear();
    return sgc_err_remote(st, v.world_rank, v.node, v.message);
done:
    return st;
}

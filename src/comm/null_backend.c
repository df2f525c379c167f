/* Moves nothing and touches no buffer: counts what one rank of a job of any size would send. */
#include "comm/comm_impl.h"

static sgc_status all_gather(sgc_group *g, sgc_dtype type, void *full, int64_t n_shard, sgc_request **request)
{
    (void)full;
    *request = NULL;
    sgc_group_count_collective(g, SGC_ALL_GATHER, type, n_shard, 0);
    return SGC_OK;
}

static sgc_status reduce_scatter(sgc_group *g, sgc_dtype type, void *full, float *shard, void *scratch, int64_t n_shard, sgc_request **request)
{
    (void)full, (void)shard, (void)scratch;
    *request = NULL;
    sgc_group_count_collective(g, SGC_REDUCE_SCATTER, type, n_shard, 0);
    return SGC_OK;
}

static sgc_status all_reduce(sgc_group *g, float *full, float *scratch, int64_t n_shard, sgc_request **request)
{
    (void)full, (void)scratch;
    *request = NULL;
    sgc_group_count_collective(g, SGC_ALL_REDUCE, SGC_F32, n_shard, 0);
    return SGC_OK;
}

static sgc_status broadcast(sgc_group *g, sgc_dtype type, void *data, int64_t n, int root, sgc_request **request)
{
    (void)data;
    *request = NULL;
    sgc_group_count_collective(g, SGC_BROADCAST, type, n, root);
    return SGC_OK;
}

static sgc_status wait_for(sgc_request **request)
{
    (void)request; /* always NULL: everything was done at once */
    return SGC_OK;
}

const sgc_comm_ops sgc_comm_null = {
    .name = "null",
    .all_gather = all_gather,
    .reduce_scatter = reduce_scatter,
    .all_reduce = all_reduce,
    .broadcast = broadcast,
    .wait = wait_for,
};

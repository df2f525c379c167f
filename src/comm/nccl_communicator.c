/*
 * A communicator that never lets the host hang: it is made and used in NCCL's non-blocking mode, where calls return at once and are asked
 * about until they are done, or until the time is over.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/nccl_impl.h"
#include "device/cuda/cuda_impl.h"

static void pause_us(long us) { nanosleep(&(struct timespec){.tv_nsec = 1000 * us}, NULL); }

void sgc_nccl_give_up(sgc_nccl *s)
{
    if (s->comm) s->library->CommAbort(s->comm);
    s->comm = NULL;
    s->n_lent = 0; /* NCCL has forgotten it, too */
}

sgc_status sgc_nccl_fail(sgc_nccl *s, const char *format, ...)
{
    va_list arguments;
    if (!s->failure[0]) {
        va_start(arguments, format);
        vsnprintf(s->failure, sizeof(s->failure), format, arguments);
        va_end(arguments);
    }
    sgc_nccl_give_up(s);
    return sgc_err(s->is_in_use ? SGC_ECOMM : SGC_EDEVICE, "%s", s->failure);
}

sgc_status sgc_nccl_check_cuda(sgc_nccl *s, cudaError_t rc, const char *call)
{
    if (rc == cudaSuccess) return SGC_OK;
    sgc_cuda_check(s->device, rc, call);
    sgc_status st = sgc_cuda_status(s->device); /* it may have failed before, and knows where */
    if (!s->failure[0]) snprintf(s->failure, sizeof(s->failure), "%s", sgc_err_message());
    sgc_nccl_give_up(s);
    return st;
}

static sgc_status fail_by(sgc_nccl *s, ncclResult_t rc, const char *call)
{
    const char *detail = s->library->GetLastError(s->comm);
    return sgc_nccl_fail(s, "NCCL failed on GPU %d of node %s: %s%s%s (%s); NCCL_DEBUG=WARN in the environment tells more, --comm.backend mpi goes without it",
                         s->ordinal, sgc_node_name(), s->library->GetErrorString(rc), detail && detail[0] ? ": " : "", detail ? detail : "", call);
}

static ncclResult_t state_of(const sgc_nccl *s)
{
    ncclResult_t state = ncclSuccess, rc = s->library->CommGetAsyncError(s->comm, &state);
    return rc == ncclSuccess ? state : rc;
}

sgc_status sgc_nccl_settle(sgc_nccl *s, ncclResult_t rc, const char *call)
{
    double start_s = 0;
    if (rc == ncclSuccess && s->comm) rc = state_of(s); /* some versions say so of sends and receives that are not queued yet */
    for (int n = 0; rc == ncclInProgress; n++) {
        rc = state_of(s);
        if (n < 1000) continue; /* most calls take microseconds */
        if (start_s == 0) start_s = sgc_time_s();
        if (rc == ncclInProgress && sgc_time_s() - start_s > s->timeout_s)
            return sgc_nccl_fail(s, "NCCL has not taken %s on GPU %d of node %s within %g s (comm.timeout_s): a peer is gone or does not answer", call,
                                 s->ordinal, sgc_node_name(), s->timeout_s);
        pause_us(20);
    }
    return rc == ncclSuccess ? SGC_OK : fail_by(s, rc, call);
}

sgc_status sgc_nccl_watch(sgc_nccl *s)
{
    if (!pthread_equal(s->thread, pthread_self())) return SGC_OK; /* this one looks, and NCCL is called by one thread at a time */
    if (s->failure[0]) return sgc_err(SGC_ECOMM, "%s", s->failure);
    double now_s = sgc_time_s();
    if (now_s - s->watched_s > 1) s->moved_s = now_s; /* nobody has waited in between, so nobody has looked either */
    s->watched_s = now_s;
    ncclResult_t state = state_of(s);
    if (state != ncclSuccess && state != ncclInProgress) return fail_by(s, state, "a collective under way");
    sgc_nccl_look(s);
    const sgc_nccl_span *oldest = &s->flights.last[s->flights.n_ended % SGC_NCCL_SPANS];
    if (s->flights.n_ended == s->flights.n || now_s - s->moved_s <= s->timeout_s) return SGC_OK;
    if (cudaEventQuery(oldest->start) != cudaSuccess) { /* the device itself is not that far */
        cudaGetLastError();
        return SGC_OK;
    }
    return sgc_nccl_fail(s, "the %s number %lld by NCCL on GPU %d of node %s has not ended within %g s (comm.timeout_s): a peer is gone, or does something "
                         "else for so long", sgc_collective_name(oldest->kind), (long long)s->flights.n_ended + 1, s->ordinal, sgc_node_name(), s->timeout_s);
}

sgc_status sgc_nccl_make(sgc_nccl **out, sgc_group *g, const sgc_nccl_spec *spec)
{
    sgc_status st = SGC_OK;
    int least = 0, greatest = 0;
    sgc_nccl *s = calloc(1, sizeof(*s));
    *out = s;
    if (!s) return sgc_err(SGC_ENOMEM, "no memory for NCCL's communicator");
    int L = spec->ranks_per_node, n = sgc_group_size(g);
    bool has_nodes = L > 1 && L < n && n % L == 0 && (L & (L - 1)) == 0;
    *s = (sgc_nccl){.device = spec->device, .compute = spec->stream, .timeout_s = spec->timeout_s, .n_ranks = n, .ranks_per_node = has_nodes ? L : 0,
                    .thread = pthread_self()};
    SGC_TRY(sgc_nccl_open(&s->library));
    SGC_CUDA(s, cudaGetDevice(&s->ordinal));
    SGC_CUDA(s, cudaDeviceGetStreamPriorityRange(&least, &greatest));
    SGC_CUDA(s, cudaStreamCreateWithPriority(&s->stream, cudaStreamNonBlocking, greatest)); /* few blocks, which others wait for */
    SGC_TRY(sgc_nccl_spans_make(s));
done:
    return st;
}

/* One look at the connection per round, until all ranks are connected, one has failed, or one's time is over; all see the same rounds. */
static sgc_status wait_for_all(sgc_nccl *s, sgc_group *g, ncclResult_t rc)
{
    sgc_status st = SGC_OK;
    double start_s = sgc_time_s(), waited_s;
    enum { FAILED, WAITING, LATE };
    int64_t n[3];
    do {
        for (int i = 0; i < 10 && rc == ncclInProgress; i++) {
            rc = state_of(s);
            if (rc == ncclInProgress) pause_us(1000);
        }
        waited_s = sgc_time_s() - start_s;
        n[FAILED] = rc != ncclSuccess && rc != ncclInProgress;
        n[WAITING] = rc == ncclInProgress;
        n[LATE] = rc == ncclInProgress && waited_s > s->timeout_s;
        SGC_TRY(sgc_sum_int64(g, n, 3));
    } while (n[WAITING] > 0 && n[FAILED] == 0 && n[LATE] == 0);
    if (rc != ncclSuccess && rc != ncclInProgress)
        st = fail_by(s, rc, "ncclCommInitRankConfig");
    else if (n[FAILED] == 0 && n[LATE] > 0 && rc == ncclInProgress)
        st = sgc_nccl_fail(s, "NCCL has not connected GPU %d of node %s within %g s (comm.timeout_s), as %lld of %d ranks: a network that it chose may be closed "
                           "(NCCL_SOCKET_IFNAME chooses another, NCCL_DEBUG=INFO tells more), or write --comm.backend mpi", s->ordinal, sgc_node_name(),
                           s->timeout_s, (long long)n[WAITING], s->n_ranks);
    else if (n[FAILED] > 0 || n[LATE] > 0)
        sgc_nccl_give_up(s); /* the ranks that have a complaint tell it */
done:
    return st;
}

static sgc_status check_versions(const sgc_nccl *s, sgc_group *g)
{
    sgc_status st = SGC_OK;
    double high = s->library->version, low = s->library->version;
    SGC_TRY(sgc_max_double(g, &high, 1));
    SGC_TRY(sgc_min_double(g, &low, 1));
    if (high > low)
        st = sgc_err(SGC_EDEVICE, "node %s has NCCL %d.%d.%d, and others of this job have another version: load the same module on all, or write --comm.backend mpi",
                     sgc_node_name(), s->library->version / 10000, s->library->version / 100 % 100, s->library->version % 100);
done:
    return st;
}

sgc_status sgc_nccl_connect(sgc_nccl *s, sgc_group *g)
{
    sgc_status st = SGC_OK;
    ncclUniqueId id = {{0}};
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    st = check_versions(s, g);
    SGC_AGREE(g);
    if (sgc_group_rank(g) == 0) st = sgc_nccl_settle(s, s->library->GetUniqueId(&id), "ncclGetUniqueId");
    SGC_AGREE(g);
    SGC_TRY(sgc_bcast_bytes(g, &id, sizeof(id), 0));
    ncclResult_t rc = s->library->CommInitRankConfig(&s->comm, s->n_ranks, id, sgc_group_rank(g), &config);
    st = wait_for_all(s, g, rc);
    SGC_AGREE(g);
done:
    return st;
}

/* Ranks come here together, when all has been waited for; what does not end is given up. */
void sgc_nccl_free(sgc_nccl *s)
{
    if (s->comm && s->library->CommFinalize(s->comm) == ncclInProgress) {
        double start_s = sgc_time_s();
        while (state_of(s) == ncclInProgress && sgc_time_s() - start_s < s->timeout_s) pause_us(100);
    }
    if (s->comm && state_of(s) == ncclSuccess) {
        s->library->CommDestroy(s->comm);
        s->comm = NULL;
    }
    sgc_nccl_give_up(s);
    sgc_nccl_spans_free(s);
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s);
}

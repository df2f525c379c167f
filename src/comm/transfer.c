/* Bytes that travel beside the training: between ranks of a group that has nothing else under way on its communicator of flat buffers. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"

struct sgc_transfer {
    MPI_Request messages[2];
    int n_messages;
};

static sgc_status open_transfer(sgc_transfer **out, sgc_group *g, int64_t n_bytes)
{
    *out = NULL;
    if (n_bytes > INT_MAX) return sgc_err(SGC_EARG, "%lld bytes are too many for one message", (long long)n_bytes);
    *out = calloc(1, sizeof(**out));
    if (!*out) return sgc_err(SGC_ECOMM, "no memory for a message"); /* others are on their way to it */
    sgc_group_count_call(g, SGC_CONTROL);
    return SGC_OK;
}

static bool is_alone(const sgc_group *g) { return g->is_null || g->size == 1; }

sgc_status sgc_transfer_exchange(sgc_transfer **out, sgc_group *g, const void *sent, int to, void *received, int from, int64_t n_bytes)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_transfer(out, g, n_bytes));
    sgc_transfer *t = *out;
    if (is_alone(g)) {
        memcpy(received, sent, (size_t)n_bytes);
        return SGC_OK;
    }
    SGC_MPI(MPI_Irecv(received, (int)n_bytes, MPI_BYTE, from, 0, g->data, &t->messages[t->n_messages]));
    t->n_messages++;
    SGC_MPI(MPI_Isend(sent, (int)n_bytes, MPI_BYTE, to, 0, g->data, &t->messages[t->n_messages]));
    t->n_messages++;
    sgc_group_count(g, SGC_CONTROL, 0, n_bytes);
done:
    return st;
}

sgc_status sgc_transfer_xor(sgc_transfer **out, sgc_group *g, void *data, int64_t n_bytes, int root)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_transfer(out, g, n_bytes));
    sgc_transfer *t = *out;
    bool is_root = g->rank == root;
    if (is_alone(g)) return SGC_OK;
    SGC_MPI(MPI_Ireduce(is_root ? MPI_IN_PLACE : data, is_root ? data : NULL, (int)n_bytes, MPI_BYTE, MPI_BXOR, root, g->data, &t->messages[0]));
    t->n_messages = 1;
    sgc_group_count(g, SGC_CONTROL, 0, n_bytes);
done:
    return st;
}

sgc_status sgc_transfer_broadcast(sgc_transfer **out, sgc_group *g, void *data, int64_t n_bytes, int root)
{
    sgc_status st = SGC_OK;
    SGC_TRY(open_transfer(out, g, n_bytes));
    sgc_transfer *t = *out;
    if (is_alone(g)) return SGC_OK;
    SGC_MPI(MPI_Ibcast(data, (int)n_bytes, MPI_BYTE, root, g->data, &t->messages[0]));
    t->n_messages = 1;
    if (g->rank == root) sgc_group_count(g, SGC_CONTROL, 0, n_bytes);
done:
    return st;
}

sgc_status sgc_transfer_end(sgc_transfer **transfer, bool waits, bool *has_ended)
{
    sgc_status st = SGC_OK;
    sgc_transfer *t = *transfer;
    int has_arrived = 1;
    if (t && waits) SGC_MPI(MPI_Waitall(t->n_messages, t->messages, MPI_STATUSES_IGNORE));
    if (t && !waits) SGC_MPI(MPI_Testall(t->n_messages, t->messages, &has_arrived, MPI_STATUSES_IGNORE));
    *has_ended = has_arrived;
    if (has_arrived) {
        free(t);
        *transfer = NULL;
    }
done:
    return st;
}

/* Small blocking collectives of set-up, control and checkpoints. */
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "comm/comm_impl.h"

static bool is_alone(const sgc_group *g) { return g->is_null || g->size == 1; }

static sgc_status all_reduce(sgc_group *g, void *x, int n, MPI_Datatype type, MPI_Op op)
{
    sgc_status st = SGC_OK;
    sgc_group_count_call(g, SGC_CONTROL);
    if (is_alone(g)) return SGC_OK;
    double start_s = sgc_trace_now();
    SGC_MPI(MPI_Allreduce(MPI_IN_PLACE, x, n, type, op, g->control));
    sgc_trace_wait("control", start_s);
    sgc_group_count(g, SGC_CONTROL, 0, 8 * (int64_t)n); /* what is handed to MPI: who sends how much inside is its affair */
done:
    return st;
}

sgc_status sgc_sum_int64(sgc_group *g, int64_t *x, int n) { return all_reduce(g, x, n, MPI_INT64_T, MPI_SUM); }
sgc_status sgc_max_double(sgc_group *g, double *x, int n) { return all_reduce(g, x, n, MPI_DOUBLE, MPI_MAX); }
sgc_status sgc_min_double(sgc_group *g, double *x, int n) { return all_reduce(g, x, n, MPI_DOUBLE, MPI_MIN); }

sgc_status sgc_sum_exact(sgc_group *g, sgc_exact *x, int n)
{
    for (int i = 0; i < n; i++) sgc_exact_normalize(&x[i]);
    return all_reduce(g, x, n * SGC_EXACT_N_INT64, MPI_INT64_T, MPI_SUM);
}

/* Bytes of the message that starts at `done` of `total`. */
static int piece_bytes(int64_t total, int64_t done)
{
    int64_t most = sgc_comm_piece * (int64_t)sizeof(float);
    return (int)(total - done < most ? total - done : most);
}

sgc_status sgc_bcast_bytes(sgc_group *g, void *data, int64_t n_bytes, int root)
{
    sgc_status st = SGC_OK;
    sgc_group_count_call(g, SGC_CONTROL);
    if (is_alone(g)) return SGC_OK;
    for (int64_t i = 0; i < n_bytes;) {
        int m = piece_bytes(n_bytes, i);
        SGC_MPI(MPI_Bcast((char *)data + i, m, MPI_BYTE, root, g->control));
        i += m;
    }
    if (g->rank == root) sgc_group_count(g, SGC_CONTROL, 0, n_bytes);
done:
    return st;
}

static sgc_status send_bytes(sgc_group *g, const char *data, int64_t n_bytes, int peer)
{
    sgc_status st = SGC_OK;
    for (int64_t i = 0; i < n_bytes;) {
        int m = piece_bytes(n_bytes, i);
        SGC_MPI(MPI_Send(data + i, m, MPI_BYTE, peer, 0, g->control));
        i += m;
    }
    sgc_group_count(g, SGC_CONTROL, 0, n_bytes);
done:
    return st;
}

static sgc_status receive_bytes(sgc_group *g, char *data, int64_t n_bytes, int peer)
{
    sgc_status st = SGC_OK;
    for (int64_t i = 0; i < n_bytes;) {
        int m = piece_bytes(n_bytes, i);
        SGC_MPI(MPI_Recv(data + i, m, MPI_BYTE, peer, 0, g->control, MPI_STATUS_IGNORE));
        i += m;
    }
done:
    return st;
}

sgc_status sgc_gather_bytes(sgc_group *g, const void *data, int64_t n_bytes, char **all, int64_t *n_bytes_of, int root)
{
    sgc_status st = SGC_OK;
    bool is_root = is_alone(g) || g->rank == root;
    int own = is_alone(g) ? 0 : root;
    int64_t total = n_bytes;
    char *parts = NULL;
    sgc_group_count_call(g, SGC_CONTROL);

    if (is_alone(g)) n_bytes_of[0] = n_bytes;
    else SGC_MPI(MPI_Gather(&n_bytes, 1, MPI_INT64_T, n_bytes_of, 1, MPI_INT64_T, root, g->control));
    if (is_root && !is_alone(g)) {
        total = 0;
        for (int r = 0; r < g->size; r++) total += n_bytes_of[r];
    }
    if (is_root && (parts = malloc((size_t)total + 1)) == NULL) st = sgc_err(SGC_ENOMEM, "no memory to gather %lld bytes of all ranks", (long long)total);
    SGC_AGREE(g);

    if (!is_root) {
        SGC_TRY(send_bytes(g, data, n_bytes, root));
    } else {
        char *p = parts;
        for (int r = 0; r < (is_alone(g) ? 1 : g->size); r++) {
            if (r != own) SGC_TRY(receive_bytes(g, p, n_bytes_of[r], r));
            else if (n_bytes > 0) memcpy(p, data, (size_t)n_bytes);
            p += n_bytes_of[r];
        }
        *all = parts;
        parts = NULL;
    }
done:
    free(parts);
    return st;
}

sgc_status sgc_barrier(sgc_group *g)
{
    sgc_status st = SGC_OK;
    sgc_group_count_call(g, SGC_CONTROL);
    if (!is_alone(g)) SGC_MPI(MPI_Barrier(g->control));
done:
    return st;
}

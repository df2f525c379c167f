#include <stdlib.h>

#include "comm/comm_impl.h"

static const char *const names[SGC_N_COLLECTIVES] = {
    [SGC_ALL_GATHER] = "all_gather", [SGC_REDUCE_SCATTER] = "reduce_scatter", [SGC_ALL_REDUCE] = "all_reduce",
    [SGC_BROADCAST] = "broadcast",   [SGC_CONTROL] = "control",
};

const char *sgc_collective_name(sgc_collective c) { return names[c]; }
int sgc_group_rank(const sgc_group *g) { return g->rank; }
int sgc_group_size(const sgc_group *g) { return g->size; }
const sgc_comm_ops *sgc_group_ops(const sgc_group *g) { return g->ops; }
sgc_traffic sgc_group_traffic(const sgc_group *g, sgc_collective c) { return g->traffic[c]; }

static bool is_counted_ahead(const sgc_group *g, sgc_collective c) { return g->is_counted_ahead && c != SGC_CONTROL; }

void sgc_group_count_call(sgc_group *g, sgc_collective c)
{
    if (!is_counted_ahead(g, c)) g->traffic[c].n_calls++;
}

void sgc_group_count(sgc_group *g, sgc_collective c, int64_t n_elements, int64_t n_bytes)
{
    if (is_counted_ahead(g, c)) return;
    g->traffic[c].n_elements += n_elements;
    g->traffic[c].n_bytes += n_bytes;
}

void sgc_group_count_collective(sgc_group *g, sgc_collective c, sgc_dtype type, int64_t n, int root)
{
    int parent, children[32];
    int64_t n_copies = c == SGC_BROADCAST    ? sgc_broadcast_tree(g->rank, g->size, root, &parent, children)
                       : c == SGC_ALL_REDUCE ? 2 * (g->size - 1)
                                             : g->size - 1;
    g->traffic[c].n_calls++;
    g->traffic[c].n_elements += n_copies * n;
    g->traffic[c].n_bytes += n_copies * n * (int64_t)sgc_dtype_bytes(type);
}

int sgc_group_take_tag(sgc_group *g)
{
    int tag = g->next_tag;
    g->next_tag = (tag + 1) % g->n_tags;
    return tag;
}

sgc_status sgc_mpi_check(int rc, const char *call)
{
    if (rc == MPI_SUCCESS) return SGC_OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int n;
    MPI_Error_string(rc, text, &n);
    return sgc_err(SGC_ECOMM, "message passing failed: %s (in %s)", text, call);
}

sgc_status sgc_group_make(sgc_group **group, MPI_Comm comm, int world_rank)
{
    sgc_status st = SGC_OK;
    *group = NULL;
    sgc_group *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        MPI_Comm_free(&comm);
        return sgc_err(SGC_ENOMEM, "no memory for a process group");
    }
    *g = (sgc_group){.ops = &sgc_comm_mpi, .world_rank = world_rank, .data = comm, .control = MPI_COMM_NULL};
    SGC_MPI(MPI_Comm_set_errhandler(g->data, MPI_ERRORS_RETURN));
    SGC_MPI(MPI_Comm_rank(g->data, &g->rank));
    SGC_MPI(MPI_Comm_size(g->data, &g->size));
    SGC_MPI(MPI_Comm_dup(g->data, &g->control));
    SGC_MPI(MPI_Comm_set_errhandler(g->control, MPI_ERRORS_RETURN));

    int *tag_ub, is_known;
    SGC_MPI(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, (void *)&tag_ub, &is_known));
    g->n_tags = is_known && *tag_ub < 1 << 20 ? *tag_ub : 1 << 20;
done:
    if (st != SGC_OK) sgc_group_free(g);
    else *group = g;
    return st;
}

sgc_status sgc_group_null(sgc_group **group, int size, int rank)
{
    *group = NULL;
    if (size < 1 || rank < 0 || rank >= size) return sgc_err(SGC_EARG, "rank %d is not in a group of %d", rank, size);
    sgc_group *g = calloc(1, sizeof(*g));
    if (g == NULL) return sgc_err(SGC_ENOMEM, "no memory for a process group");
    *g = (sgc_group){.ops = &sgc_comm_null, .rank = rank, .size = size, .world_rank = rank, .is_null = true,
                     .data = MPI_COMM_NULL, .control = MPI_COMM_NULL, .n_tags = 1};
    *group = g;
    return SGC_OK;
}

void sgc_group_use_mpi(sgc_group *g)
{
    if (g->close_backend) g->close_backend(g);
    g->backend = NULL;
    g->close_backend = NULL;
    g->is_counted_ahead = false;
    if (!g->is_null) g->ops = &sgc_comm_mpi;
}

void sgc_group_free(sgc_group *g)
{
    if (g == NULL) return;
    sgc_group_use_mpi(g);
    sgc_comm_mpi_forget(g);
    if (g->control != MPI_COMM_NULL) MPI_Comm_free(&g->control);
    if (g->data != MPI_COMM_NULL) MPI_Comm_free(&g->data);
    free(g);
}

int sgc_broadcast_tree(int rank, int size, int root, int *parent, int children[32])
{
    int v = (rank - root + size) % size; /* the root is number 0; the parent of v is v without its lowest bit */
    int bit = 1;
    while (bit < size && !(v & bit)) bit *= 2;
    *parent = v == 0 ? -1 : (v - bit + root) % size;
    int n = 0;
    for (bit /= 2; bit > 0; bit /= 2)
        if (v + bit < size) children[n++] = (v + bit + root) % size;
    return n;
}

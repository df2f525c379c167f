#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "comm/comm_impl.h"

static bool we_started_mpi;

static sgc_status start_mpi(int *argc, char ***argv)
{
    sgc_status st = SGC_OK;
    int is_running, provided;
    SGC_MPI(MPI_Initialized(&is_running));
    if (!is_running) {
        SGC_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
        we_started_mpi = true;
    } else {
        SGC_MPI(MPI_Query_thread(&provided));
    }
    if (provided < MPI_THREAD_FUNNELED) return sgc_err(SGC_ECOMM, "this MPI library does not allow threads (MPI_THREAD_FUNNELED); use another build of it");
    SGC_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
done:
    return st;
}

/* The ranks of a node, numbered as the world numbers them; and one rank of each node. */
static sgc_status make_node_groups(sgc_world *w, MPI_Comm comm)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_group_make(&w->node, comm, w->rank));
    w->node_rank = w->node->rank;
    w->node_size = w->node->size;

    /* Nodes are numbered by their first ranks, whichever of their ranks speaks for them; every node has one of those. */
    int first = w->rank;
    SGC_MPI(MPI_Bcast(&first, 1, MPI_INT, 0, w->node->control));
    SGC_MPI(MPI_Comm_split(MPI_COMM_WORLD, w->node_rank, first, &comm));
    SGC_TRY(sgc_group_make(&w->across, comm, w->rank));
    int node[2] = {w->across->rank, w->across->size};
    SGC_MPI(MPI_Bcast(node, 2, MPI_INT, 0, w->node->control));
    w->node_index = node[0];
    w->n_nodes = node[1];
done:
    return st;
}

sgc_status sgc_world_set_nodes(sgc_world *w, int64_t ranks_per_node)
{
    sgc_status st = SGC_OK;
    MPI_Comm comm;
    if (ranks_per_node <= 0) return SGC_OK;
    sgc_group_free(w->across);
    sgc_group_free(w->node);
    w->across = w->node = NULL;
    SGC_MPI(MPI_Comm_split(MPI_COMM_WORLD, (int)(w->rank / ranks_per_node), w->rank, &comm));
    SGC_TRY(make_node_groups(w, comm));
done:
    return st;
}

static sgc_status make_groups(sgc_world *w)
{
    sgc_status st = SGC_OK;
    MPI_Comm comm;
    SGC_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &w->rank));
    SGC_MPI(MPI_Comm_size(MPI_COMM_WORLD, &w->size));
    SGC_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
    SGC_TRY(sgc_group_make(&w->all, comm, w->rank));

    SGC_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, w->rank, MPI_INFO_NULL, &comm));
    SGC_TRY(make_node_groups(w, comm));
done:
    return st;
}

sgc_status sgc_world_start(sgc_world *w, int *argc, char ***argv)
{
    sgc_status st = SGC_OK;
    *w = (sgc_world){.size = 1, .node_size = 1, .n_nodes = 1};
    SGC_TRY(start_mpi(argc, argv));
    SGC_TRY(make_groups(w));
    sgc_log_identity(w->rank, sgc_node_name(), w->rank == 0);
done:
    return st;
}

void sgc_world_stop(sgc_world *w)
{
    int is_running = 0, is_over = 0;
    MPI_Initialized(&is_running);
    MPI_Finalized(&is_over);
    if (is_running && !is_over) {
        if (w->all != NULL && sgc_log_flush(w->all) != SGC_OK) sgc_log_flush_local();
        sgc_log_status_line(NULL);
        sgc_group_free(w->across);
        sgc_group_free(w->node);
        sgc_group_free(w->all);
        if (we_started_mpi) MPI_Finalize();
    }
    *w = (sgc_world){.size = 1, .node_size = 1, .n_nodes = 1};
}

void sgc_world_abort(sgc_world *w, int code)
{
    (void)w;
    sgc_log_status_line(NULL);
    sgc_log_flush_local();
    int is_running = 0, is_over = 0;
    MPI_Initialized(&is_running);
    MPI_Finalized(&is_over);
    if (is_running && !is_over) MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

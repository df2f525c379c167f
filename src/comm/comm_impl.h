/* What the files of comm/ share: the group, its counters, checked MPI calls. */
#ifndef SGC_COMM_COMM_IMPL_H
#define SGC_COMM_COMM_IMPL_H

#include <mpi.h>

#include "comm/comm.h"

struct sgc_group {
    const sgc_comm_ops *ops;
    int rank, size;
    int world_rank;     /* of this process, for messages                                                       */
    bool is_null;       /* no peers: control collectives act as for one rank                                    */
    MPI_Comm data;      /* owned; flat buffers                                                                  */
    MPI_Comm control;   /* owned; another context, so that a control message never matches a flat buffer        */
    int n_tags;         /* tags 0 .. n_tags - 1 are used in turn                                                */
    int next_tag;
    sgc_request *active; /* borrowed; what progress looks at; of the mpi backend                                */
    sgc_request *idle;   /* owned; those that have ended and wait to be used again; of the mpi backend          */
    void *backend;       /* owned: what the backend keeps besides                                               */
    void (*close_backend)(sgc_group *g); /* NULL: nothing to release                                            */
    sgc_traffic traffic[SGC_N_COLLECTIVES];
    bool is_counted_ahead; /* collectives are counted as a whole when they are asked for, not message by message */
};

/* Longest message in elements; longer ones are cut, as counts of MPI 3 are int. The same on all ranks; tests make it small. */
extern int64_t sgc_comm_piece;

/* Takes over comm, makes the second communicator. Collective on comm. */
sgc_status sgc_group_make(sgc_group **g, MPI_Comm comm, int world_rank);
int sgc_group_take_tag(sgc_group *g);
void sgc_group_count_call(sgc_group *g, sgc_collective c);
void sgc_group_count(sgc_group *g, sgc_collective c, int64_t n_elements, int64_t n_bytes);
/* A whole collective at once, as the mpi backend counts it message by message. n: of a shard, of the whole for a broadcast. */
void sgc_group_count_collective(sgc_group *g, sgc_collective c, sgc_dtype type, int64_t n, int root);

/* Frees what the mpi backend keeps for collectives to come. */
void sgc_comm_mpi_forget(sgc_group *g);

/* SGC_OK for MPI_SUCCESS, else SGC_ECOMM with MPI's own text. */
sgc_status sgc_mpi_check(int rc, const char *call);
#define SGC_MPI(call) SGC_TRY(sgc_mpi_check((call), #call))

/* Binomial tree of a broadcast: this rank's parent (-1 on the root), and its children, the farthest first. */
int sgc_broadcast_tree(int rank, int size, int root, int *parent, int children[32]);

/* Wait until all ranks of the group are here without burning a core. Every interval_s (0: never) is_speaker's text is logged. */
sgc_status sgc_barrier_quiet(sgc_group *g, double interval_s, bool is_speaker, const char *text);

#endif

/* Ranks: process groups, collectives on flat buffers, agreement, main_process_first. */
#ifndef SGC_COMM_COMM_H
#define SGC_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/exact.h"
#include "base/status.h"

/* What is counted where messages are sent. Elements are those of the flat buffers (floats); control messages are counted apart. */
typedef enum sgc_collective { SGC_ALL_GATHER, SGC_REDUCE_SCATTER, SGC_ALL_REDUCE, SGC_BROADCAST, SGC_CONTROL, SGC_N_COLLECTIVES } sgc_collective;

typedef struct sgc_traffic { int64_t n_calls, n_elements, n_bytes; } sgc_traffic; /* sent by this rank */

typedef struct sgc_group sgc_group;     /* a process group: one communicator and its counters */
typedef struct sgc_request sgc_request; /* a collective under way */

typedef struct sgc_world {
    sgc_group *all;   /* every rank of the job                                   */
    sgc_group *node;  /* the ranks that share this node's memory                 */
    sgc_group *across; /* one rank per node: those with this node-local rank     */
    int rank, size, node_rank, node_size, node_index, n_nodes;
} sgc_world;

/* Collective. Starts MPI if needed (MPI_THREAD_FUNNELED), makes the groups, sets the log identity (main: rank 0). */
sgc_status sgc_world_start(sgc_world *w, int *argc, char ***argv);
/* Collective: consecutive ranks_per_node ranks count as a node, whatever memory they share; 0: nothing changes. */
sgc_status sgc_world_set_nodes(sgc_world *w, int64_t ranks_per_node);
/* Collective when st is SGC_OK everywhere (agreed); ends MPI. */
void sgc_world_stop(sgc_world *w);
/* End the job without the peers: flushes this rank's log, then MPI_Abort(code). Does not return. */
void sgc_world_abort(sgc_world *w, int code) __attribute__((noreturn));

int sgc_group_rank(const sgc_group *g);
int sgc_group_size(const sgc_group *g);
sgc_traffic sgc_group_traffic(const sgc_group *g, sgc_collective c);
const char *sgc_collective_name(sgc_collective c); /* "all_gather", ... as in run.json */

/* The collectives of the training step. A backend is a row of this table. All ranks of the group call them, and the waits, in the
 * same order; each is asynchronous: buffers are lent until the wait. An error (SGC_ECOMM, SGC_ENOMEM) is fatal for the job. */
typedef struct sgc_comm_ops {
    const char *name;
    /* full [size * n_shard] of type: rank r's part is at r * n_shard; this rank's part is read from there, the others are written. */
    sgc_status (*all_gather)(sgc_group *g, sgc_dtype type, void *full, int64_t n_shard, sgc_request **request);
    /* shard[i] = sum over ranks of full[rank * n_shard + i], added along one neighbour-first binary tree over ranks:
     * ((r0 + r1) + (r2 + r3)) + ...; the same bits wherever it is computed. scratch: [(size - 1) * n_shard]. full and
     * scratch are of type SGC_F32, SGC_BF16 or SGC_F16, sums are made in float. shard may be this rank's part of a full of floats. full is
     * unchanged otherwise. The sum is made in the wait, or in progress. */
    sgc_status (*reduce_scatter)(sgc_group *g, sgc_dtype type, void *full, float *shard, void *scratch, int64_t n_shard, sgc_request **request);
    /* full [size * n_shard] becomes the sum over ranks, added as in reduce_scatter. scratch: [(size - 1) * n_shard]. */
    sgc_status (*all_reduce)(sgc_group *g, float *full, float *scratch, int64_t n_shard, sgc_request **request);
    sgc_status (*broadcast)(sgc_group *g, sgc_dtype type, void *data, int64_t n, int root, sgc_request **request);
    /* Finish one collective and free the request; *request becomes NULL. NULL is allowed. */
    sgc_status (*wait)(sgc_request **request);
    /* Let messages move without waiting; false: none were under way. NULL where the backend does that by itself. */
    bool (*progress)(sgc_group *g);
    /* Where collectives are the work of a device, their wait makes the device wait, not the host. While the host waits for the device it calls this
     * again and again: SGC_ECOMM if a collective has failed or hangs; it is then given up, so that the device comes to an end. NULL: not needed. */
    sgc_status (*watch)(sgc_group *g);
    /* Memory of a device that collectives will use again and again; and before it is freed. NULL: nothing is won by knowing. */
    void (*lend)(sgc_group *g, void *memory, size_t bytes);
    void (*take_back)(sgc_group *g, void *memory);
} sgc_comm_ops;

extern const sgc_comm_ops sgc_comm_mpi;  /* buffers are in the host's memory */
extern const sgc_comm_ops sgc_comm_null; /* moves nothing, counts as if it had: paper runs of any size */

const sgc_comm_ops *sgc_group_ops(const sgc_group *g);
/* A group of the null backend: this process plays one of `size` ranks. */
sgc_status sgc_group_null(sgc_group **g, int size, int rank);
void sgc_group_free(sgc_group *g);

/* How memory of a device is reached from the host: calls of sgc_device_memory, device/device.h, which says what they promise. */
typedef struct sgc_staging {
    struct sgc_device *device;
    void *(*alloc_staging)(struct sgc_device *d, size_t bytes);
    void (*free_staging)(struct sgc_device *d, void *p);
    void (*copy)(struct sgc_device *d, void *to, const void *from, size_t bytes);
    void (*upload)(struct sgc_device *d, void *to, const void *staging, size_t bytes);
    void (*download)(struct sgc_device *d, void *staging, const void *from, size_t bytes);
    struct sgc_mark *(*mark_make)(struct sgc_device *d);
    void (*mark_free)(struct sgc_device *d, struct sgc_mark *m);
    void (*mark_set)(struct sgc_device *d, struct sgc_mark *m);
    sgc_status (*mark_wait)(struct sgc_device *d, struct sgc_mark *m);
} sgc_staging;

/**
 * From now on the buffers of this group's collectives are memory of a device, and travel through the host's. Collective.
 * @param type     what gradients travel as
 * @param n_shard  elements of the largest shard: staging memory is taken here for two such reductions, and none later
 * @return SGC_ENOMEM: no staging memory on some rank; the group is as before.
 */
sgc_status sgc_group_use_staged(sgc_group *g, const sgc_staging *how, sgc_dtype type, int64_t n_shard);
/* NCCL, between memories of CUDA devices. These are linked with the CUDA device only: who may run without declares them weak. */
typedef struct sgc_nccl_spec {
    struct sgc_device *device; /* of CUDA; failures of kernels are kept there                                  */
    void *stream;              /* cudaStream_t on which the device computes                                    */
    double timeout_s;          /* after which peers that do not connect, or do not answer, are given up        */
    int ranks_per_node;        /* so many consecutive ranks share a node, on all nodes; 0: it is not so regular */
} sgc_nccl_spec;

/* Local: can libnccl be opened? SGC_EDEVICE says what to do. version: 22809 for 2.28.9 */
sgc_status sgc_nccl_find(int *version);
/**
 * From now on the buffers of this group's collectives are memory of CUDA devices and travel by NCCL, on a stream of their own: a collective
 * starts when the device has done what it was asked for before the call; the wait makes the device wait, not the host. Sums have the bits
 * of the mpi backend. Collective; connects all ranks and sends a few numbers between each two.
 * @return SGC_EDEVICE: a rank has no NCCL, or another version, or they do not connect within timeout_s; the group is as before.
 */
sgc_status sgc_group_use_nccl(sgc_group *g, const sgc_nccl_spec *spec);

/* Back to MPI and the host's memory; nothing is under way any more. Local. */
void sgc_group_use_mpi(sgc_group *g);

/* dst[i] = tree sum over the n_src buffers (see reduce_scatter); sources are overwritten. dst may be any of them. Local. */
void sgc_tree_sum(float *dst, float *const *src, int n_src, int64_t n);
/* The same sum of SGC_BF16 or SGC_F16 numbers, added as floats; sources are kept. */
void sgc_tree_sum_16bit(float *dst, sgc_dtype type, const uint16_t *const *src, int n_src, int64_t n);

/* Small blocking collectives of set-up, control and checkpoints; on the null backend they act as for one rank. */
sgc_status sgc_sum_int64(sgc_group *g, int64_t *x, int n);  /* in place */
sgc_status sgc_max_double(sgc_group *g, double *x, int n);
sgc_status sgc_min_double(sgc_group *g, double *x, int n);
sgc_status sgc_sum_exact(sgc_group *g, sgc_exact *x, int n); /* normalizes, then sums */
sgc_status sgc_bcast_bytes(sgc_group *g, void *data, int64_t n_bytes, int root);
/* Different sizes per rank, result on root only (owned, free): parts one after the other, sizes in n_bytes_of [size] (owned by caller). */
sgc_status sgc_gather_bytes(sgc_group *g, const void *data, int64_t n_bytes, char **all, int64_t *n_bytes_of, int root);
sgc_status sgc_barrier(sgc_group *g);
/*
 * Bytes that travel while other things go on. Each is asynchronous: buffers are lent until its end. All ranks of the group start the same ones in the
 * same order. A rank starts the next only after the end of the last; none waits for the others but in an end that waits. One message each: up to
 * 2 GiB. SGC_ECOMM, also for lack of memory, is fatal for the job.
 */
typedef struct sgc_transfer sgc_transfer;
/* n_bytes to one rank, as many from another; buffers do not overlap. Only with as many bytes on all ranks of the ring. */
sgc_status sgc_transfer_exchange(sgc_transfer **t, sgc_group *g, const void *sent, int to, void *received, int from, int64_t n_bytes);
sgc_status sgc_transfer_xor(sgc_transfer **t, sgc_group *g, void *data, int64_t n_bytes, int root); /* exclusive or over ranks; on root in place */
sgc_status sgc_transfer_broadcast(sgc_transfer **t, sgc_group *g, void *data, int64_t n_bytes, int root);
/* Let messages move; waits: until they are there. Then *t is freed and becomes NULL, which is allowed too. */
sgc_status sgc_transfer_end(sgc_transfer **t, bool waits, bool *has_ended);

/**
 * Agree on a status. Collective; every rank must call it. If any rank failed, all return the status of the lowest failing
 * rank, and those that did not fail take over its message with rank and node (sgc_err_remote).
 */
sgc_status sgc_agree(sgc_group *g, sgc_status st);
#define SGC_AGREE(group)                                        \
    do {                                                        \
        if ((st = sgc_agree((group), st)) != SGC_OK) goto done; \
    } while (0)

/* Collective: merge the queued lines of all ranks and print them on rank 0: equal ones once, with a rank range. */
sgc_status sgc_log_flush(sgc_group *g);

/**
 * Let one process run body first while the others wait without burning a core, for as long as it takes; then the others run
 * it. Collective on w->all. local: one main process per node instead of one per job.
 * @param body  called as body(arg, true) on main processes, then body(arg, false) on the others; its status is agreed.
 * @param description  what the others are waiting for; logged every progress_interval_s.
 */
sgc_status sgc_main_process_first(sgc_world *w, bool local, const char *description, double progress_interval_s,
                                  sgc_status (*body)(void *arg, bool is_main), void *arg);

#endif

/* Threads of a rank: as OMP_NUM_THREADS says, else as many as its binding leaves to it. */
#ifndef SGC_TRAIN_THREADS_IMPL_H
#define SGC_TRAIN_THREADS_IMPL_H

#include "comm/comm.h"

typedef struct sgc_threads {
    int n;            /* threads of this rank                                             */
    int n_cores;      /* cores that it is bound to                                        */
    int n_sharing;    /* ranks of the node that are bound to the same ones, this included */
    int n_node_cores; /* cores that the ranks of the node have together                   */
    int n_node;       /* threads of all ranks of the node                                 */
} sgc_threads;

/**
 * Collective. Sets the number of OpenMP threads. What the user should know is logged: threads that share cores.
 * @return SGC_ECONFIG if OMP_NUM_THREADS is no number of threads.
 */
sgc_status sgc_threads_set(sgc_threads *t, sgc_world *w);

/* Binds each thread to a core of its own, if the rank has just as many cores, none of them shared with another rank, and the environment does not say
 * how OpenMP binds. Else the system may keep two threads on one core for seconds. For threads that compute: not where a GPU does. */
void sgc_threads_bind(const sgc_threads *t);

/* The arithmetic, for tests. mask: [n_ranks][words] of the CPUs of each rank of the node; core: [64 * words] the core of each CPU. */
void sgc_threads_share(sgc_threads *t, const uint64_t *mask, int n_ranks, int rank, int words, const int *core);
/* What to do about more threads than cores on a node with so many ranks. Returns advice. */
const char *sgc_threads_advice(const sgc_threads *t, int n_ranks, char advice[96]);
/* 0: text is NULL or empty. A list (nested regions) counts by its first number. SGC_ECONFIG. */
sgc_status sgc_threads_parse(const char *text, int *n);

#endif

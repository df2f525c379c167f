/* Shard files, copies and parities in directories of single nodes. */
#ifndef SGC_CKPT_SPREAD_IMPL_H
#define SGC_CKPT_SPREAD_IMPL_H

#include "ckpt/shard_impl.h"

typedef struct sgc_spread_job {
    sgc_spread_kind how;
    const sgc_world *world;
    const sgc_ckpt_files *files;
    const char *directory;    /* of this node's checkpoint; borrowed until the end */
    int64_t n_file_bytes;     /* of the shard file that this rank leads */
    int file, file_before;    /* partner and xor: that file, and the one that this rank's counterpart on the node before leads */
    void *memory;             /* borrowed until the end; NULL: it is taken */
    size_t memory_bytes;      /* with what MPI takes (sgc_spread_own_bytes), the same on all ranks */
} sgc_spread_job;

/*
 * What travels to other nodes, after all shard files are written, is cut into pieces. Two are on their way at a time: while the messages of one are under
 * way (sgc_spread_next), what came with the one before is written and the one after is read (sgc_spread_work). What came is not synced.
 *   begin  collective, agreed.
 *   work   local, by whichever thread, once after begin and after each next. Its first error comes back from each call from then on, while messages go on.
 *   end    of the messages under way: sgc_transfer_end.
 *   next   after work and end: starts the messages of the next piece. By the main thread, as begin and end. Not collective: each rank in its own time.
 *   free   by all ranks; first sends what others may be waiting for.
 */
typedef struct sgc_spread sgc_spread;
sgc_status sgc_spread_begin(sgc_spread **p, const sgc_spread_job *j);
sgc_status sgc_spread_work(sgc_spread *p);
sgc_status sgc_spread_end(sgc_spread *p, bool waits, bool *has_ended);
sgc_status sgc_spread_next(sgc_spread *p);
bool sgc_spread_is_last(const sgc_spread *p); /* no messages are under way or to come: the work that follows is the last */
void sgc_spread_free(sgc_spread *p);          /* NULL is allowed */

/* Collective. file_of [world size]: 1 + the file that node-local rank q of node k leads, or 0, at q * n_nodes + k. SGC_ECONFIG: uneven nodes. */
sgc_status sgc_spread_sets(const sgc_world *w, const sgc_ckpt_files *files, int64_t *file_of);

/* A parity file: the bytes of the parity, then their XXH3 as 8 bytes, lowest first. */
enum { SGC_PARITY_END_BYTES = 8 };
void sgc_parity_path(char path[64], int file);
int64_t sgc_parity_bytes(int64_t n_file_bytes, int n_nodes); /* without the hash */
void sgc_parity_put_end(const sgc_hasher *h, unsigned char end[SGC_PARITY_END_BYTES]);
/* Which chunk of a node's file goes into the parity at another node. */
int sgc_parity_chunk(int node, int at, int n_nodes);

/* The text `nodes` in a node's directory. */
enum { SGC_N_NODES_MAX = 16384 };
typedef struct sgc_nodes {
    char redundancy[16];
    int n_nodes, node, n_sets;
    int *sets;                /* owned: [n_sets][n_nodes] shard files, one of each node */
} sgc_nodes;
/* sets: as of sgc_spread_sets; NULL: none. */
void sgc_nodes_put(sgc_str *text, sgc_spread_kind kind, const sgc_world *w, const int64_t *sets);
/* text is changed. path: for messages. SGC_ECKPT. */
sgc_status sgc_nodes_parse(sgc_nodes *n, char *text, size_t n_bytes, const char *path);
/* Local. SGC_EDATA: there is none; SGC_ECKPT: it is damaged. */
sgc_status sgc_nodes_read(sgc_nodes *n, const char *directory);
void sgc_nodes_free(sgc_nodes *n);

#endif

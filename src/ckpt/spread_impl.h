/* Shard files, copies and parities in directories of single nodes. */
#ifndef SGC_CKPT_SPREAD_IMPL_H
#define SGC_CKPT_SPREAD_IMPL_H

#include "ckpt/shard_impl.h"

typedef struct sgc_spread_job {
    sgc_spread_kind how;
    const sgc_world *world;
    const sgc_ckpt_files *files;
    const char *directory;    /* of this node's checkpoint */
    const char *path;         /* of the shard file that this rank leads */
    int64_t n_file_bytes, piece_bytes; /* piece: what travels at a time */
    const int *file_of_node;  /* [n_nodes] files that this rank's counterparts lead; partner and xor */
} sgc_spread_job;

/* Collective, agreed, after all shard files are written. What other nodes sent is not synced. */
sgc_status sgc_spread(const sgc_spread_job *j);

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

/* Shard files: which ranks' shards lie in which file, at which bytes, and how each rank writes its own. */
#ifndef SGC_CKPT_SHARD_IMPL_H
#define SGC_CKPT_SHARD_IMPL_H

#include "base/h5.h"
#include "ckpt/ckpt_impl.h"

/* Which shard lies in which file; the same on all ranks. A file is written by ranks of one node: the lowest leads. */
struct sgc_ckpt_files {
    int n_shards, n_files;
    int *file_of;             /* owned: [n_shards], ascending with the leaders' ranks */
};
static inline bool sgc_files_are_shared(const sgc_ckpt_files *f) { return f->n_files < f->n_shards; }
int sgc_files_leader(const sgc_ckpt_files *f, int file); /* its lowest rank */

/* One file per shard. SGC_ENOMEM. */
sgc_status sgc_files_single(sgc_ckpt_files **f, int n_shards);

/* The type in HDF5: bfloat16 and float16 as types of their own fields. Closed by the caller. */
hid_t sgc_dtype_h5(sgc_dtype dtype);

/* Name of a shard's dataset: /ID/SLOT/UNIT, or /ID/RANK/SLOT/UNIT where files hold several shards. */
void sgc_shard_dataset(char path[256], const sgc_ckpt_files *files, const char *id, int shard, const sgc_ckpt_part *part);

typedef struct sgc_shard_piece {
    int64_t offset, n_bytes;
    const char *bytes;        /* NULL: another rank writes it */
    struct sgc_device *device; /* whose memory they are in, NULL: the host's */
    int rank;                 /* who writes it */
} sgc_shard_piece;

/* A shard file as this rank sees it: every byte is zero but for the pieces. */
typedef struct sgc_shard_layout {
    int64_t n_bytes;
    sgc_shard_piece *pieces;  /* owned: in order of offset */
    int n_pieces;
    int64_t *offset;          /* owned: [n_parts] of this rank's datasets */
    sgc_h5_sketch sketch;     /* owned: what HDF5 makes of it */
    int rank, leader;         /* the leader writes what belongs to no shard */
    struct sgc_device *device; /* borrowed: of the own pieces, NULL: the host has them all */
} sgc_shard_layout;

/* Local; uses HDF5, touches no file. parts: of this rank; those of the others have the same sizes. */
sgc_status sgc_shard_layout_make(sgc_shard_layout *l, const sgc_ckpt_files *files, const char *id, int rank, const sgc_ckpt_part *parts, int n_parts);
void sgc_shard_layout_free(sgc_shard_layout *l);

typedef enum sgc_block_owner { SGC_BLOCK_OTHERS, SGC_BLOCK_OWN, SGC_BLOCK_MIXED } sgc_block_owner;
typedef struct sgc_shard_hashes {
    int64_t n_blocks;
    uint64_t *hash;           /* owned: [n_blocks] where the block is own */
    unsigned char *owner;     /* owned: [n_blocks] sgc_block_owner */
} sgc_shard_hashes;

/* Write this rank's pieces to a file that is there, hash each block before it is written. SGC_EIO. No HDF5. What only a device has comes to the host
 * block by block. fd [out]: of the file, which the disk is still at work on; -1 after an error. */
sgc_status sgc_shard_put(const sgc_shard_layout *l, const char *path, int64_t block_size, sgc_shard_hashes *h, int *fd);
sgc_status sgc_shard_sync(int fd, const char *path); /* and close. SGC_EIO */
/* After all ranks of the file have written: its leader reads back the blocks that are of several and makes them its own. */
sgc_status sgc_shard_hash_mixed(const sgc_shard_layout *l, const char *path, int64_t block_size, sgc_shard_hashes *h);
void sgc_shard_hashes_free(sgc_shard_hashes *h);

/* Room on the file system of `path`: SGC_EIO names what is needed, what is free, and the path. */
sgc_status sgc_room_check(const char *path, int64_t n_bytes);
/* Make a new file without any bytes; take its room, where the file system has a call for that, which in memory takes as long as filling it; both. */
sgc_status sgc_room_make(const char *path);
sgc_status sgc_room_take(const char *path, int64_t n_bytes);
sgc_status sgc_room_reserve(const char *path, int64_t n_bytes);

#endif

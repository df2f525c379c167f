/*
 * The manifest: what the raw bytes of a checkpoint must be. HDF5 reads a missing shard as fill values and crashes on some damaged
 * bytes, so every file is checked against the manifest before, or while, it is used. A text of lines, each ended by one newline:
 *
 *   stagecoach checkpoint manifest
 *   version 1
 *   id 0123456789abcdef             of the checkpoint; also the first part of dataset paths in shards
 *   step 500
 *   world_size 2                    number of shards
 *   files 1                         number of shard files, if it is not that of the shards
 *   block_size 1048576              bytes under one hash
 *   dtype bfloat16                  of the tensors, if it is not float32
 *   file 7216 checkpoint.h5         bytes, path; then the XXH3 (64 bits) of each block
 *   hash 7b3c0e0d4f0f1a2b
 *   file 2048 config.cfg
 *   hash ...
 *   file 8390656 shards/shard-00000-of-00002.h5
 *   hash ...                        9 lines
 *   shard 0                         whose datasets follow, if there is a line "files"; else file r holds shard r
 *   data 2048 1048576 model embedding                 offset in bytes, elements, slot, unit
 *   data 4196352 524288 optimizer/exp_avg embedding
 *   file 8390656 shards/shard-00001-of-00002.h5
 *   ...
 *   end 9a0d...                     XXH3 of all lines above
 *
 * Files stand in this order, and only these. The first two lines and the last keep their meaning in later versions.
 */
#ifndef SGC_CKPT_MANIFEST_IMPL_H
#define SGC_CKPT_MANIFEST_IMPL_H

#include <stdint.h>

#include "base/status.h"
#include "base/util.h"
#include "ckpt/ckpt.h"

#define SGC_CKPT_VERSION 1
#define SGC_MANIFEST_NAME "manifest"
#define SGC_MANIFEST_TITLE "stagecoach checkpoint manifest" /* its first line */
#define SGC_NODES_NAME "nodes" /* of a node-local checkpoint: what else other nodes hold */

enum { SGC_FILE_INDEX, SGC_FILE_CONFIG, SGC_FILE_SHARDS }; /* files of a manifest; shard file k is SGC_FILE_SHARDS + k */

typedef struct sgc_manifest_data { /* one dataset of a shard */
    char unit[64];
    sgc_slot slot;
    int shard;      /* whose    */
    int64_t offset; /* bytes    */
    int64_t n;      /* elements */
} sgc_manifest_data;

typedef struct sgc_manifest_file {
    int64_t n_bytes, n_blocks;
    uint64_t *hash;           /* owned: [n_blocks] */
    int n_data;
    sgc_manifest_data *data;  /* owned: [n_data]   */
} sgc_manifest_file;

typedef struct sgc_manifest {
    char id[SGC_ID_CHARS + 1];
    int64_t step, block_size;
    sgc_dtype dtype;
    int world_size;           /* shards */
    int n_shard_files;
    int *file_of;             /* owned: [world_size] number among the files of the one that holds a shard */
    int *first_data_of;       /* owned: [world_size] where the shard's datasets begin in that file */
    int n_files;
    sgc_manifest_file *files; /* owned: [n_files]  */
} sgc_manifest;

/* Path of a file inside the checkpoint's directory. */
void sgc_manifest_path(char path[64], int file, int n_shard_files);

/* Writing: the lines in their order, appended to the text. */
void sgc_manifest_put_head(sgc_str *text, const char *id, int64_t step, int world_size, int n_shard_files, int64_t block_size);
void sgc_manifest_put_dtype(sgc_str *text, sgc_dtype dtype);                 /* after the head; nothing for float32 */
void sgc_manifest_put_file(sgc_str *text, int file, int n_shard_files, int64_t n_bytes);
void sgc_manifest_put_hash(sgc_str *text, uint64_t hash);                     /* of the file's next block */
/* Size and hashes of a file whose bytes lie in memory. */
void sgc_manifest_put_bytes(sgc_str *text, int file, int n_shard_files, const void *bytes, size_t n_bytes, int64_t block_size);
void sgc_manifest_put_shard(sgc_str *text, int shard);                        /* only with several shards in a file */
void sgc_manifest_put_data(sgc_str *text, int64_t offset, int64_t n, sgc_slot slot, const char *unit);
void sgc_manifest_put_end(sgc_str *text);

/**
 * Read a manifest. Any text is allowed as input.
 * @param m     [out] owned by the caller: sgc_manifest_free, also after an error.
 * @param path  for messages.
 * @return SGC_ECKPT: the hash does not fit, another version, or what is wrong in which line.
 */
sgc_status sgc_manifest_parse(sgc_manifest *m, const char *text, size_t n_bytes, const char *path);
bool sgc_manifest_is_newer(const char *text, size_t n_bytes); /* it fits its hash, but its version is a later one */
void sgc_manifest_free(sgc_manifest *m);

/* NULL if the shard has no such dataset. It lies in file m->file_of[shard]. */
const sgc_manifest_data *sgc_manifest_find(const sgc_manifest *m, int shard, sgc_slot slot, const char *unit);

#endif

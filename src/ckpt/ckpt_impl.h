/* What the files of this folder share. */
#ifndef SGC_CKPT_CKPT_IMPL_H
#define SGC_CKPT_CKPT_IMPL_H

#include "ckpt/ckpt.h"
#include "ckpt/manifest_impl.h"

/* One slot of one unit on this rank. */
typedef struct sgc_ckpt_part {
    const sgc_unit *unit;
    sgc_slot slot;
    sgc_flat flat;
    const float *values;      /* [flat.n_shard], borrowed */
    struct sgc_device *device; /* borrowed: whose memory they are in, NULL: the host's */
} sgc_ckpt_part;

/* sgc_ckpt_write without the engine: job->engine is not used. Collective; the same units, slots and flats on every rank. */
sgc_status sgc_ckpt_write_parts(const sgc_ckpt_job *job, const sgc_ckpt_part *parts, int n_parts, char path[SGC_PATH_MAX]);

/* As sgc_ckpt_begin; values are not copied. in_background: threads write. */
sgc_status sgc_save_begin(sgc_save **s, const sgc_ckpt_job *job, const sgc_ckpt_part *parts, int n_parts, bool in_background);

/* The bytes of checkpoint.h5, owned by the caller (free). Local; uses HDF5, touches no file. */
sgc_status sgc_index_make(const sgc_model *model, const sgc_ckpt_info *info, const sgc_run_state *state, const sgc_ckpt_part *parts, int n_parts,
                          const sgc_ckpt_files *files, char **bytes, size_t *n_bytes);
/* Read /state and the root attributes of a checkpoint.h5 whose bytes were checked. SGC_ECKPT. */
sgc_status sgc_index_read(void *bytes, size_t n_bytes, const char *path, sgc_ckpt_info *info, sgc_run_state *state);

struct sgc_ckpt {
    char path[SGC_PATH_MAX];
    sgc_manifest manifest;
    char *manifest_text;      /* owned: n_manifest_bytes, until the other ranks have it */
    size_t n_manifest_bytes;
    sgc_ckpt_info info;
    sgc_run_state state;
    char *config_text;        /* owned: on the rank that opened the files, NULL on the others */
    int fd, open_file;        /* the one shard file that is open, -1: none */
    char *block;              /* owned: manifest.block_size bytes, once something is read */
    int block_file;           /* what block holds, -1: nothing */
    int64_t block_number;
    int64_t n_bytes_read;     /* of shards, and the time that checking them took */
    double hash_s;
};

/* Open without a group: what rank 0 does in sgc_ckpt_open. Local. */
sgc_status sgc_ckpt_open_local(sgc_ckpt **c, const char *path);
/* The same of what one node holds of a checkpoint: shards may be elsewhere. */
sgc_status sgc_ckpt_open_part(sgc_ckpt **c, const char *path);

#endif

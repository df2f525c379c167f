/* A save under way: what its files share. */
#ifndef SGC_CKPT_SAVE_IMPL_H
#define SGC_CKPT_SAVE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "ckpt/spread_impl.h"

typedef enum sgc_save_phase { SGC_PHASE_WRITE, SGC_PHASE_SPREAD, SGC_PHASE_PUBLISH, SGC_PHASE_FOLLOW, SGC_PHASE_OVER } sgc_save_phase;

struct sgc_save {
    sgc_group *group;         /* borrowed */
    const sgc_model *model;   /* borrowed */
    const sgc_world *nodes;   /* borrowed; NULL: one directory for all */
    sgc_spread_kind spread;
    void *travel;             /* borrowed; NULL: none yet */
    size_t travel_bytes;
    int rank, world_size;
    bool keeps;               /* this rank keeps the directory: rank 0, or the first of each node */
    char output_dir[SGC_PATH_MAX], temporary[SGC_PATH_MAX], final[SGC_PATH_MAX], shard[SGC_PATH_MAX];
    char aside[SGC_PATH_MAX]; /* where a checkpoint of the same name went, "": there was none */
    char id[SGC_ID_CHARS + 1];
    sgc_run_state state;
    sgc_ckpt_info info;
    char *config_text;        /* owned */
    int64_t block_size;
    const sgc_ckpt_files *files;
    sgc_ckpt_files *own_files; /* owned: if the caller has none */
    sgc_ckpt_part *parts;     /* owned; their values are borrowed */
    int n_parts;
    double start_s, copy_s;
    bool has_directory;

    sgc_shard_layout layout;
    sgc_shard_hashes hashes;
    char *index;              /* owned: checkpoint.h5 */
    int64_t n_index;
    sgc_str manifest;         /* owned */
    int64_t *sets;            /* owned: [world_size] as of sgc_spread_sets */
    sgc_spread *spreading;    /* owned: while files travel to other nodes */
    bool is_published;        /* by this rank */
    char *lines;              /* owned: rank 0: what the ranks sent, world_size reports */
    int64_t *n_lines_of;      /* owned: [world_size] */
    int64_t n_bytes;          /* of all files, but the manifest's and the index' */

    sgc_save_phase phase;
    bool in_background, has_thread;
    pthread_t thread;
    sgc_status (*follow)(void *); /* the local work of the phase that the caller added, NULL: none */
    void *follow_arg;         /* borrowed */
    atomic_bool is_ready;     /* the local work of the phase, or of its part, is done */
    sgc_status local;         /* its result, the first that is not good, and why */
    char message[SGC_ERR_BYTES];
};

/* Sizes, before the first byte is written. Local. */
sgc_status sgc_save_index_bytes(const sgc_save *s, int64_t *n_index_bytes);
int64_t sgc_save_manifest_bytes(const sgc_save *s, int64_t n_index_bytes); /* but for the lines of shards */
void sgc_save_put_data_lines(const sgc_save *s, sgc_str *text);            /* this rank's lines of the manifest */

/* Collective: hashes and lines of the manifest to rank 0. */
sgc_status sgc_save_gather(sgc_save *s);
/* Rank 0: the bytes of checkpoint.h5. Local; uses HDF5. */
sgc_status sgc_save_index(sgc_save *s);
/* Rank 0, then: those of the manifest. Local. */
sgc_status sgc_save_compose(sgc_save *s);
/* Collective: the same, and every rank has them. */
sgc_status sgc_save_compose_shared(sgc_save *s);

#endif

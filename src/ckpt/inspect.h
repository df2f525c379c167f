/* Looking into checkpoints: their models and tensors, every byte of them, and making others of them. */
#ifndef SGC_CKPT_INSPECT_H
#define SGC_CKPT_INSPECT_H

#include "ckpt/ckpt.h"
#include "conf/config.h"

/* The settings and the model that a checkpoint's config.cfg declares. Local. config: to be freed, also after an error. SGC_ECKPT. */
sgc_status sgc_ckpt_model(const char *path, sgc_config *config, sgc_model **model);

/* A checkpoint on one rank, with its model: tensors by name. */
typedef struct sgc_ckpt_view { sgc_ckpt *ckpt; sgc_config config; sgc_model *model; } sgc_ckpt_view;
typedef struct sgc_ckpt_tensor { const sgc_unit *unit; const sgc_param_spec *spec; sgc_slot slot; } sgc_ckpt_tensor; /* borrowed from the view */
sgc_status sgc_ckpt_view_open(sgc_ckpt_view *v, const char *path); /* local */
void sgc_ckpt_view_close(sgc_ckpt_view *v);
/* name: "h.0.ln_1.weight", "model/h.0.ln_1.weight", "optimizer/exp_avg/h.0.ln_1.weight". SGC_EDATA names the nearest. */
sgc_status sgc_ckpt_view_find(const sgc_ckpt_view *v, const char *name, sgc_ckpt_tensor *t);

/**
 * Was this directory made as a checkpoint, in whatever state it is? Only its manifest tells: other programs have files of that name. Local.
 * @param problem  [out] of a checkpoint, what is damaged as far as metadata and sizes tell; "" if nothing is.
 */
bool sgc_ckpt_is_one(const char *path, char problem[256]);

/* Is there a file at this path that belongs to a checkpoint? An output_dir has none, nor has a misspelt path. Local. */
bool sgc_ckpt_has_part(const char *path);

typedef struct sgc_ckpt_damage {
    char file[64];            /* inside the checkpoint                                            */
    int64_t first_block, last_block; /* -1: the file as a whole                                    */
    int64_t first_byte, last_byte;
    int first_rank, last_rank; /* whose shards are hit; -1: none                                   */
    char *tensors;            /* owned, NULL: none: "model/h.0.ln_1.weight, ..."                    */
    char problem[512];
} sgc_ckpt_damage;
typedef struct sgc_ckpt_report {
    int64_t n_bad;            /* damages, on all ranks; the rest of what is found is on rank 0      */
    int n_damages;
    sgc_ckpt_damage *damages; /* owned, in order of file and block                                */
    bool is_none;             /* nothing of a checkpoint is there: the path is wrong                  */
    bool is_newer;            /* of a later format: nothing but the manifest's own hash could be checked */
    int64_t n_files, n_blocks, n_bytes;
    int n_nodes, node;        /* what node `node` of so many holds of a checkpoint; 0: the checkpoint is whole in itself */
    double seconds;
} sgc_ckpt_report;
/**
 * Check every block of every file, and what the metadata say. Collective: the ranks share the blocks.
 * @return SGC_OK also for a damaged checkpoint, see n_bad.
 */
sgc_status sgc_ckpt_verify(const char *path, sgc_group *group, sgc_ckpt_report *r);
void sgc_ckpt_report_free(sgc_ckpt_report *r);

typedef struct sgc_convert_spec {
    int n_shards;             /* 0: as they are                                                    */
    bool weights_only;
    bool has_dtype;           /* false: as it is                                                   */
    sgc_dtype dtype;          /* other than float32 only with weights_only or of weights           */
} sgc_convert_spec;
typedef struct sgc_convert_result { int n_shards; sgc_dtype dtype; bool weights_only; int64_t n_bytes, n_overflows; } sgc_convert_result;
/**
 * Make the checkpoint TO of the checkpoint FROM, whose blocks are checked on the way. Collective: the ranks share the shards of TO.
 * Memory: one block of FROM and one buffer. Under a temporary name until everything is synced.
 * @param result  [out] n_overflows: numbers beyond the range of the element type, which became infinite; on all ranks.
 * @return SGC_ECONFIG: TO exists, or the wishes contradict each other; SGC_ECKPT: FROM is damaged; SGC_EIO.
 */
sgc_status sgc_ckpt_convert(const char *from, const char *to, const sgc_convert_spec *spec, sgc_group *group, sgc_convert_result *result);

#endif

/* Recovery of node-local checkpoints: what nodes hold, and what is made of it. */
#ifndef SGC_CKPT_RECOVER_IMPL_H
#define SGC_CKPT_RECOVER_IMPL_H

#include "ckpt/spread_impl.h"

enum { SGC_RECOVERY_PIECE_BYTES = 1 << 20 };

/* The choice of rank 0, known to all: from which rank each file is copied. -1: from none. */
typedef struct sgc_recovery {
    int64_t step;             /* -1: nothing is recovered */
    char id[SGC_ID_CHARS + 1];
    int n_files, n_nodes, keeper;
    int n_missing;
    int *from;                /* owned: [n_files] */
    int *parity_from;         /* owned: [n_files] */
    int *set_of;              /* owned: [n_files][n_nodes] the set in which a file is, on rank 0; 0s: in none */
} sgc_recovery;

/* Append, as bytes for sgc_recovery_choose, what a node holds of checkpoints of that run between the two steps; every file is checked. Local. */
void sgc_parts_tell(const char *local_dir, int rank, const char *run_id, int64_t newest_step, int64_t before_step, sgc_str *out);
/* all: what the nodes told. The newest checkpoint that can be made whole. Local. SGC_ENOMEM. To be freed also after an error. */
sgc_status sgc_recovery_choose(const char *all, int64_t n_bytes, sgc_recovery *p);
void sgc_recovery_free(sgc_recovery *p);

/* A whole checkpoint that was put together under a temporary name is synced and gets its own. What has that name already is damaged, or of another run,
 * and is set aside. Local. */
sgc_status sgc_ckpt_publish_copy(const char *temporary, const char *final, const char *output_dir);

int64_t sgc_part_file_bytes(const char *directory, const char *name); /* -1: there is no such file */
/* Is a file of a manifest there, with every block as its hash says? */
bool sgc_part_file_fits(const char *directory, const sgc_manifest *m, int file);
/* Is the parity of a shard file there, of n_bytes and with its own hash? */
bool sgc_parity_fits(const char *directory, int file, int64_t n_bytes);

#endif

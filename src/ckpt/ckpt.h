/* Checkpoints: shard files, the virtual index, the manifest; writing, reading, listing. See docs/file-formats.md. */
#ifndef SGC_CKPT_CKPT_H
#define SGC_CKPT_CKPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/util.h"
#include "base/dtype.h"
#include "comm/comm.h"
#include "model/model.h"
#include "zero/zero.h"

#define SGC_NAME_MAX 256 /* of a file, NUL included */
#define SGC_ID_CHARS 16 /* hexadecimal digits of a run or checkpoint id */

/* What a run is made of besides tensors: group /state. Independent of world size and stage. */
typedef struct sgc_run_state {
    int64_t step;             /* updates done                                                    */
    int64_t samples;          /* training samples taken by the whole job                          */
    int64_t epoch, epoch_position; /* place in the sample stream: epoch, samples taken of it       */
    int64_t tokens;           /* tokens that were scored                                          */
    int64_t seed, data_seed;
    double total_flos;
    double train_loss_sum;    /* over updates, for train_loss                                     */
    int64_t train_loss_n;
    double window_loss_sum;   /* since the last log                                               */
    int64_t window_loss_n;
    double last_loss, last_eval_loss; /* NaN: none yet                                            */
    double best_metric;       /* NaN: none yet                                                    */
    int64_t best_step;        /* -1: none yet                                                     */
    double plateau_rate, plateau_best;
    int64_t plateau_n_bad, plateau_has_best;
    double loss_scale;        /* of the next update; 0: losses are not scaled                     */
    int64_t loss_scale_n_good; /* updates without an overflow since it last changed               */
    int64_t n_skipped;        /* updates whose gradients overflowed: they changed no weights      */
} sgc_run_state;

typedef struct sgc_ckpt_info { /* root attributes */
    char id[SGC_ID_CHARS + 1], run_id[SGC_ID_CHARS + 1];
    int64_t step;
    int world_size, stage;
    int bf16, fp16;           /* trained in mixed precision; what is stored are the fp32 master weights */
    int64_t global_batch;     /* B * G * W in samples                                             */
    char date[32], host[64], dtype[16], isa[16], version[32];
    double loss, eval_loss;   /* NaN: none                                                        */
    double save_s;            /* time of the save until the tensors were written, but not synced  */
    int64_t n_parameters;
} sgc_ckpt_info;

/* How the fields of the two structs are stored, by name. */
typedef enum sgc_field_type { SGC_FIELD_INT64, SGC_FIELD_INT, SGC_FIELD_FLAG /* an int that older files do not have: 0 */, SGC_FIELD_DOUBLE, SGC_FIELD_TEXT } sgc_field_type;
typedef struct sgc_ckpt_field {
    const char *name;
    sgc_field_type type;
    size_t offset, bytes;
    bool is_newer;            /* of the state: a number that older files do not have: 0 */
} sgc_ckpt_field;
extern const sgc_ckpt_field sgc_ckpt_state_fields[], sgc_ckpt_info_fields[]; /* end with the name NULL */

/* Which ranks write into which file. */
typedef struct sgc_ckpt_files sgc_ckpt_files;
/* Collective. writers_per_node: shard files that a node's ranks share; 0: each rank has its own. */
sgc_status sgc_files_make(sgc_ckpt_files **f, const sgc_world *w, int64_t writers_per_node);
int sgc_files_count(const sgc_ckpt_files *f);
void sgc_files_free(sgc_ckpt_files *f);

/* Collective. Makes the directory. SGC_ECONFIG: several nodes see the same. */
sgc_status sgc_ckpt_check_apart(const sgc_world *w, const char *directory);

/* What nodes with directories of their own hold of each other's shards; the first three as checkpoint.redundancy. */
typedef enum sgc_spread_kind { SGC_SPREAD_NONE, SGC_SPREAD_PARTNER, SGC_SPREAD_XOR, SGC_SPREAD_ALL } sgc_spread_kind;

/* Does this rank exchange files with other nodes? */
bool sgc_spread_takes_part(const sgc_world *w, const sgc_ckpt_files *files, sgc_spread_kind kind);
/* Memory that files of shards of so many bytes can make use of at most while they travel among several nodes; with less, they travel in more pieces. */
size_t sgc_spread_most_bytes(const sgc_world *w, const sgc_ckpt_files *files, sgc_spread_kind kind, size_t n_shard_bytes);
/* Of so much, what the caller gives or a save takes; MPI takes the rest. */
size_t sgc_spread_own_bytes(sgc_spread_kind kind, size_t memory_bytes);

typedef struct sgc_ckpt_job {
    const char *output_dir;
    sgc_group *group;
    sgc_zero *engine;
    const sgc_model *model;
    const sgc_run_state *state;
    const sgc_ckpt_info *info; /* id, date, host, save_s, step are filled by the writer            */
    const char *config_text;   /* config.cfg                                                      */
    int64_t block_size;        /* bytes under one hash (checkpoint.block_size)                    */
    const sgc_ckpt_files *files; /* NULL: one shard file per rank                                  */
    const sgc_world *nodes;    /* output_dir is another directory on every node; NULL: all ranks see the same */
    sgc_spread_kind spread;    /* then                                                            */
    void *travel;              /* memory for what travels to other nodes, of ranks that sgc_spread_takes_part; NULL: two blocks, taken for the time */
    size_t travel_bytes;       /* with what MPI takes (sgc_spread_own_bytes), the same on all ranks */
    int64_t *index_bytes;      /* [in,out] size of checkpoint.h5, kept from save to save; 0: not known yet. NULL is allowed */
} sgc_ckpt_job;

/**
 * Write OUTPUT_DIR/checkpoint-STEP. Collective. Under a temporary name until every file and directory is synced and all ranks agree.
 * @param path  [out] the published directory.
 * @return SGC_EIO (which file, why) on all ranks; then nothing is left under a final name and the temporary directory is removed.
 */
sgc_status sgc_ckpt_write(const sgc_ckpt_job *job, char path[SGC_PATH_MAX]);

/**
 * The same while training goes on. begin and advance are collective, called by the main thread; between them each rank's thread writes.
 * It uses HDF5, so the main thread must not until the save is over.
 *   begin    copies the shards into `buffer` (sgc_save_buffer_bytes; NULL: nothing is copied and all is written at once), makes the
 *            directory and asks for the room on the disk.
 *   advance  to be called once all ranks are ready; waits for those that are not. Errors as of sgc_ckpt_write; the save is then over.
 */
typedef struct sgc_save sgc_save;
sgc_status sgc_ckpt_begin(sgc_save **s, const sgc_ckpt_job *job, void *buffer);
size_t sgc_save_buffer_bytes(const sgc_zero *engine, const sgc_model *model);
/* While files travel to other nodes: those that have arrived make room for the next; again and again, by the main thread. Not collective; waits for
 * nothing. SGC_ECOMM is fatal for the job. travels: there is more to come. */
sgc_status sgc_save_move(sgc_save *s, bool *travels);
bool sgc_save_is_ready(const sgc_save *s);   /* this rank has done its part                              */
bool sgc_save_is_over(const sgc_save *s);
sgc_status sgc_save_advance(sgc_save *s);
sgc_status sgc_save_finish(sgc_save *s);     /* advance until it is over                                  */
/* Of a save that is over: adds a phase of the caller's own local work, to be advanced like the others; by all ranks. It may use HDF5. */
void sgc_save_follow(sgc_save *s, sgc_status (*follow)(void *), void *arg);
sgc_status sgc_save_followed(sgc_save *s);   /* its result on this rank, once that is over too            */
const char *sgc_save_path(const sgc_save *s);
double sgc_save_start_s(const sgc_save *s);
double sgc_save_copy_s(const sgc_save *s);   /* what copying the shards into the buffer took             */
int64_t sgc_save_bytes(const sgc_save *s);   /* of a directory, to who keeps it, once the save is over    */
void sgc_save_free(sgc_save *s);             /* NULL is allowed; by all ranks, as messages may be under way */

typedef struct sgc_ckpt sgc_ckpt;
/**
 * Open a checkpoint for reading. Collective: rank 0 reads and checks manifest, config.cfg, checkpoint.h5 and the presence and size of
 * every shard, and broadcasts. SGC_ECKPT names the file and what is wrong; also a format version from the future.
 */
sgc_status sgc_ckpt_open(sgc_ckpt **c, const char *path, sgc_group *group);
void sgc_ckpt_close(sgc_ckpt *c);
const sgc_ckpt_info *sgc_ckpt_get_info(const sgc_ckpt *c);
const sgc_run_state *sgc_ckpt_get_state(const sgc_ckpt *c);
sgc_dtype sgc_ckpt_dtype(const sgc_ckpt *c);
bool sgc_ckpt_has_slot(const sgc_ckpt *c, sgc_slot slot);
int64_t sgc_ckpt_bytes(const sgc_ckpt *c);           /* of all files */
bool sgc_ckpt_is_weights_only(const sgc_ckpt *c); /* it holds no optimizer states */
/**
 * Read elements [first, first + n) of a slot of a unit's flat buffer (padding reads as 0). Local; every block is checked against its
 * hash while it is read, through one bounded buffer or, if all of it is wanted, straight to `out`, whose content means nothing after an error. SGC_ECKPT
 * names file and tensor.
 */
sgc_status sgc_ckpt_read(sgc_ckpt *c, const sgc_unit *unit, sgc_slot slot, int64_t first, int64_t n, float *out);
/**
 * Check the blocks of shard files that hold no element of a tensor, which no sgc_ckpt_read meets: padding, and what HDF5 wrote. Local; of every n_ranks-th
 * file, from the rank-th on. SGC_ECKPT names the file.
 */
sgc_status sgc_ckpt_check_rest(sgc_ckpt *c, const sgc_model *model, int rank, int n_ranks);
/* Collective: this rank's shards of all slots (weights_only: parameters) into the engine; agreed, then sgc_zero_loaded. All blocks of all files are then
 * checked; weights_only: but for those with the optimizer's states. */
sgc_status sgc_ckpt_load(sgc_ckpt *c, sgc_zero *engine, const sgc_model *model, bool weights_only, sgc_group *group);

typedef enum sgc_ckpt_status {
    SGC_CKPT_COMPLETE, SGC_CKPT_DAMAGED, SGC_CKPT_NEWER /* of a later format, which this program cannot read */, SGC_CKPT_PARTIAL, SGC_CKPT_OLD,
    SGC_CKPT_PART /* of a node */
} sgc_ckpt_status;
typedef struct sgc_ckpt_entry {
    char name[SGC_NAME_MAX];  /* "checkpoint-500"                                                 */
    int64_t step, bytes;      /* step -1: PARTIAL, of another name, which convert or rm left       */
    sgc_ckpt_status status;   /* COMPLETE: manifest and metadata fit, all files are there          */
    bool weights_only;
    bool is_local;            /* a save to local_dir: there is a text `nodes`                     */
    sgc_ckpt_info info;       /* of a complete one, and of a node's part; of a damaged one run_id, if it can be read */
    char problem[256];        /* of a damaged or newer one; of a node's part which it is          */
} sgc_ckpt_entry;
/* All checkpoints of a directory in order of step; local; *entries is owned by the caller (free). */
sgc_status sgc_ckpt_list(const char *output_dir, sgc_ckpt_entry **entries, int *n);

/* An output_dir, and what its run.json says of it. */
typedef struct sgc_home {
    char path[SGC_PATH_MAX];  /* the real one */
    int64_t device, inode;
    char run_id[SGC_ID_CHARS + 1]; /* "": not known */
    char local_id[SGC_ID_CHARS + 1]; /* the name of its directory below checkpoint.local_dir; "": not known, or of a directory that this is a copy of */
} sgc_home;
sgc_status sgc_home_find(const char *output_dir, sgc_home *h); /* without the ids. Local. SGC_EIO */
void sgc_home_read(const char *output_dir, sgc_home *h);       /* what is not there is ""; local */

/* The run that output_dir belongs to (by run.json, else by its newest checkpoint that tells it; "": to none) and the step of its newest checkpoint before
 * before_step (-1: none). Local. */
sgc_status sgc_ckpt_newest(const char *output_dir, int64_t before_step, int64_t *step, char run_id[SGC_ID_CHARS + 1]);

/**
 * The newest checkpoint of a directory that is of its own run (the one of its run.json), older than before_step, and complete as far as
 * metadata and sizes tell. Local.
 * @param before_step  INT64_MAX: any.
 * @param strict       a damaged one that is later, or one of a newer format, is SGC_ECKPT; else it is named in the log and passed over.
 * @param with_states  to be resumed: one of weights only is named in the log and passed over.
 * @param path         [out] "" if there is none.
 * @return SGC_ECKPT   also if none of its own can be used, but others' are there: all are named. Not with a before_step.
 */
sgc_status sgc_ckpt_latest(const char *output_dir, int64_t before_step, bool strict, bool with_states, char path[SGC_PATH_MAX]);
/**
 * The same, with states, where each node has an output_dir of its own: the newest that any node holds, of the run of rank 0 if it has one; nodes that
 * lack it are given a copy. Collective. SGC_ECKPT: the nodes hold those of several runs.
 * @param suspect  step of a checkpoint that some node could not read: it is lacking where a byte of it is damaged. -1: none.
 */
sgc_status sgc_ckpt_latest_of_nodes(const sgc_world *w, const char *output_dir, int64_t before_step, int64_t suspect, bool strict, char path[SGC_PATH_MAX]);
/* Which stay: the newest and the one named best always, those at multiples of keep_every beside the limit. */
typedef struct sgc_retention {
    int64_t limit;            /* -1: all                                                          */
    int64_t keep_every;       /* updates; 0: no milestones                                        */
    const char *best;         /* name of a checkpoint, "" or NULL: none                           */
} sgc_retention;
/* surplus[i]: entry i is a complete one of run_id that the rules do not keep. Entries in order of step. */
void sgc_retention_choose(const sgc_retention *rules, const char *run_id, const sgc_ckpt_entry *entries, int n, bool *surplus);
int64_t sgc_tree_bytes(const char *path); /* of all files below a directory; what cannot be read is not counted */
/* Delete OUTPUT_DIR/NAME, by a rename first: what is half deleted does not look like a checkpoint. Local. SGC_EIO. */
sgc_status sgc_ckpt_delete(const char *output_dir, const char *name);
/* Delete what the rules do not keep of run_id. Local: rank 0. */
sgc_status sgc_ckpt_rotate(const char *output_dir, const char *run_id, const sgc_retention *rules);
/* The link OUTPUT_DIR/best: the name that it points to, "" if there is none. Local. */
sgc_status sgc_ckpt_best(const char *output_dir, char name[SGC_NAME_MAX]);
sgc_status sgc_ckpt_set_best(const char *output_dir, const char *name); /* NULL: none. Local */
/* After sgc_ckpt_set_aside: a link that leads nowhere goes to the checkpoint of best_step, or away. Local. */
sgc_status sgc_ckpt_repair_best(const char *output_dir, int64_t best_step);
/* Where an output_dir saves below a node's local_dir: several may share that, and forks of one checkpoint do. */
sgc_status sgc_ckpt_local_dir(char path[SGC_PATH_MAX], const char *local_dir, const char *local_id);
void sgc_ckpt_name_others(const char *local_dir, const char *local_id); /* in the log: what others have there. Local */
/* Delete all but the newest n_kept of what the run saved into a node's local_dir, and of that what was set aside. What has no text `nodes`,
 * or does not tell its run, stays. Local. */
sgc_status sgc_ckpt_prune_local(const char *local_dir, const char *run_id, int n_kept);
/**
 * Publish in output_dir the newest checkpoint of a run that nodes hold in local_dir (of sgc_ckpt_local_dir) and that can be made whole, if it is newer than
 * newest_step and older than before_step. Collective.
 */
sgc_status sgc_ckpt_recover(const sgc_world *w, const char *local_dir, const char *output_dir, const char *run_id, int64_t newest_step, int64_t before_step);
/**
 * Rename checkpoints of a directory beyond after_step (-1: all) to NAME.old-ID, and sweep leftovers of broken saves; those of commands
 * are named. Local.
 * @param run_id  only those of this run, the others are named and stay; NULL: of all.
 */
sgc_status sgc_ckpt_set_aside(const char *output_dir, int64_t after_step, const char *run_id);
/**
 * The run goes on from the checkpoint at `path`. If it had been set aside (NAME.old-ID), it gets its name back, and what another attempt made meanwhile is set
 * aside: another one of its step, and what was saved after it. Local, after sgc_ckpt_set_aside.
 * @param run_id  only those of this run; NULL: of all.
 */
sgc_status sgc_ckpt_take_up(const char *output_dir, const char *path, const sgc_ckpt_info *resumed, const char *run_id);
void sgc_ckpt_new_id(char id[SGC_ID_CHARS + 1]); /* random */
bool sgc_ckpt_is_id(const char *text);

/* OUTPUT_DIR/run.lock: one job at a time; also in directories of nodes, two at most. Release: of all. Local: who keeps the directory. SGC_ECONFIG names job id, host and pid of the holder; a stale lock is logged
 * and taken over. */
sgc_status sgc_lock_take(const char *output_dir);
/* The same for who makes room: on a full disk it is held without naming its holder. */
sgc_status sgc_lock_take_to_delete(const char *output_dir);
void sgc_lock_release(void);

#endif

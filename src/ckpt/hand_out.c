/* Whole checkpoints in directories of nodes: the newest that any node has, and a copy of it for those that lack it. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/recover_impl.h"

/* The latest of a node. */
typedef struct offer {
    int64_t step;             /* -1: none */
    char id[SGC_ID_CHARS + 1], run_id[SGC_ID_CHARS + 1], date[32];
} offer;

typedef struct choice {
    int node;                 /* -1: no node has one */
    int64_t step;
    char id[SGC_ID_CHARS + 1];
} choice;

/* Every byte of it. */
static bool is_whole(const sgc_ckpt *c, const char *path)
{
    int file = 0;
    while (file < c->manifest.n_files && sgc_part_file_fits(path, &c->manifest, file)) file++;
    sgc_err_clear();
    return file == c->manifest.n_files;
}

static bool is_whole_at(const char *path)
{
    sgc_ckpt *c = NULL;
    bool is = sgc_ckpt_open_local(&c, path) == SGC_OK && is_whole(c, path);
    sgc_err_clear();
    sgc_ckpt_close(c);
    return is;
}

static sgc_status look_local(const char *output_dir, int64_t before_step, int64_t suspect, bool strict, offer *mine)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    char path[SGC_PATH_MAX];
    SGC_TRY(sgc_ckpt_latest(output_dir, before_step, strict, true, path));
    if (!path[0]) return SGC_OK;
    SGC_TRY(sgc_ckpt_open_local(&c, path));
    const sgc_ckpt_info *i = sgc_ckpt_get_info(c);
    if (i->step == suspect && !is_whole(c, path)) {
        sgc_log_warning("%s is damaged here: that of another node takes its place, if one has it whole", path);
        SGC_TRY(look_local(output_dir, suspect, -1, strict, mine));
        goto done;
    }
    mine->step = i->step;
    memcpy(mine->id, i->id, sizeof(mine->id));
    memcpy(mine->run_id, i->run_id, sizeof(mine->run_id));
    memcpy(mine->date, i->date, sizeof(mine->date));
done:
    sgc_ckpt_close(c);
    return st;
}

/* Rank 0. own: the run of its output_dir; "": a new disk, and the other nodes say. */
static sgc_status choose_local(const offer *offers, int n, const char *own, choice *chosen)
{
    const offer *best = NULL;
    for (int k = 0; k < n; k++) {
        const offer *o = &offers[k];
        if (o->step < 0) continue;
        if (own[0] && strcmp(o->run_id, own) != 0) {
            sgc_log_warning("checkpoint-%" PRId64 " of node %d is passed over: it is of another run, %s; that of node 0 is %s", o->step, k, o->run_id, own);
            continue;
        }
        if (best && strcmp(best->run_id, o->run_id) != 0)
            return sgc_err(SGC_ECKPT, "the nodes hold checkpoints of several runs, %s (node %d) and %s (node %d): remove those that are not meant", best->run_id,
                           chosen->node, o->run_id, k);
        if (best && (o->step < best->step || (o->step == best->step && strcmp(o->date, best->date) <= 0))) continue;
        best = o;
        chosen->node = k;
        chosen->step = o->step;
        memcpy(chosen->id, o->id, sizeof(chosen->id));
    }
    return SGC_OK;
}

typedef struct copy_job {
    sgc_group *group;         /* one rank per node */
    int root;
    bool sends, receives;
    const char *from, *to;    /* directories */
    char *piece;
} copy_job;

/* Collective on the group. n_bytes: on the root. */
static sgc_status copy_file(const copy_job *j, const char *name, int64_t n_bytes)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    int fd = -1;
    if (j->sends || j->receives) st = sgc_path_join(path, j->sends ? j->from : j->to, name);
    SGC_AGREE(j->group);
    SGC_TRY(sgc_bcast_bytes(j->group, &n_bytes, sizeof(n_bytes), j->root));
    if (j->receives) st = sgc_room_reserve(path, n_bytes);
    if (st == SGC_OK && (j->sends || j->receives) && (fd = open(path, (j->sends ? O_RDONLY : O_WRONLY) | O_CLOEXEC)) < 0)
        st = sgc_err_errno(SGC_EIO, "cannot open %s", path);
    SGC_AGREE(j->group);
    for (int64_t offset = 0; offset < n_bytes; offset += SGC_RECOVERY_PIECE_BYTES) {
        int64_t n = n_bytes - offset < SGC_RECOVERY_PIECE_BYTES ? n_bytes - offset : SGC_RECOVERY_PIECE_BYTES;
        if (j->sends && st == SGC_OK) st = sgc_pread_all(fd, j->piece, (size_t)n, offset, path);
        sgc_status sent = sgc_bcast_bytes(j->group, j->piece, n, j->root);
        if (sent != SGC_OK) {
            st = sent;
            goto done;
        }
        if (j->receives && st == SGC_OK) st = sgc_pwrite_all(fd, j->piece, (size_t)n, offset, path);
    }
    if (j->receives && st == SGC_OK && fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    SGC_AGREE(j->group);
done:
    if (fd >= 0) close(fd);
    return st;
}

/* Collective on the group. n_damaged: copies that do not fit their hashes; then none is published. */
static sgc_status copy_checkpoint(sgc_group *group, const choice *chosen, bool sends, bool receives, const char *output_dir, int64_t *n_damaged)
{
    sgc_status st = SGC_OK;
    sgc_ckpt *c = NULL;
    char name[128], id[SGC_ID_CHARS + 1], final[SGC_PATH_MAX], temporary[SGC_PATH_MAX] = "", shards[SGC_PATH_MAX];
    int n_files[2] = {0};     /* all, shard files */
    copy_job j = {.group = group, .root = chosen->node, .sends = sends, .receives = receives, .from = final, .to = temporary,
                  .piece = sgc_mem_alloc(SGC_MEM_CHECKPOINT, SGC_RECOVERY_PIECE_BYTES)};
    if (!j.piece) st = SGC_ENOMEM;
    sgc_ckpt_new_id(id);
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, chosen->step);
    if (st == SGC_OK) st = sgc_path_join(final, output_dir, name);
    snprintf(name, sizeof(name), ".checkpoint-%" PRId64 ".tmp-%s", chosen->step, id);
    if (st == SGC_OK) st = sgc_path_join(temporary, output_dir, name);
    if (st == SGC_OK) st = sgc_path_join(shards, temporary, "shards");
    if (st == SGC_OK && receives) st = sgc_make_dirs(shards);
    if (st == SGC_OK && sends) st = sgc_ckpt_open_local(&c, final);
    SGC_AGREE(group);
    if (c) n_files[0] = c->manifest.n_files, n_files[1] = c->manifest.n_shard_files;
    SGC_TRY(sgc_bcast_bytes(group, n_files, sizeof(n_files), chosen->node));
    for (int k = 0; k < n_files[0]; k++) {
        sgc_manifest_path(name, k, n_files[1]);
        SGC_TRY(copy_file(&j, name, c ? c->manifest.files[k].n_bytes : 0));
    }
    SGC_TRY(copy_file(&j, SGC_MANIFEST_NAME, c ? (int64_t)c->n_manifest_bytes : 0));
    *n_damaged = receives && !is_whole_at(temporary);
    SGC_TRY(sgc_sum_int64(group, n_damaged, 1));
    if (receives) st = *n_damaged ? sgc_remove_tree(temporary) : sgc_ckpt_publish_copy(temporary, final, output_dir);
    SGC_AGREE(group);
    if (receives && !*n_damaged) sgc_log_warning("%s lacked checkpoint-%" PRId64 ": it is copied from node %d", output_dir, chosen->step, chosen->node);
done:
    if (st != SGC_OK && receives && temporary[0]) sgc_remove_tree(temporary);
    sgc_ckpt_close(c);
    sgc_mem_free(j.piece);
    return st;
}

/* The first rank of each node. *n_damaged: copies that were made of what is damaged. */
static sgc_status hand_out(const sgc_world *w, const char *output_dir, const offer *mine, choice *chosen, int64_t *n_damaged)
{
    sgc_status st = SGC_OK;
    char *all = NULL, own[SGC_ID_CHARS + 1];
    int64_t step, n_lacking, *n_bytes_of = calloc((size_t)w->n_nodes, sizeof(*n_bytes_of));
    if (!n_bytes_of) st = sgc_err(SGC_ENOMEM, "no memory for the list of nodes");
    SGC_AGREE(w->across);
    SGC_TRY(sgc_gather_bytes(w->across, mine, sizeof(*mine), &all, n_bytes_of, 0));
    if (w->rank == 0) st = sgc_ckpt_newest(output_dir, INT64_MAX, &step, own);
    if (w->rank == 0 && st == SGC_OK) st = choose_local((const offer *)all, w->n_nodes, own, chosen);
    SGC_AGREE(w->across);
    SGC_TRY(sgc_bcast_bytes(w->across, chosen, sizeof(*chosen), 0));
    if (chosen->node < 0) goto done;
    bool lacks = mine->step != chosen->step || strcmp(mine->id, chosen->id) != 0;
    n_lacking = lacks;
    SGC_TRY(sgc_sum_int64(w->across, &n_lacking, 1));
    if (n_lacking > 0) SGC_TRY(copy_checkpoint(w->across, chosen, w->node_index == chosen->node, lacks, output_dir, n_damaged));
done:
    free(all);
    free(n_bytes_of);
    return st;
}

/* One attempt. Collective. *is_damaged: what was chosen could not be handed out. */
static sgc_status choose_and_hand_out(const sgc_world *w, const char *output_dir, int64_t before_step, int64_t suspect, bool strict, choice *chosen, bool *is_damaged)
{
    sgc_status st = SGC_OK;
    offer mine = {.step = -1};
    int64_t n_damaged = 0;
    *chosen = (choice){.node = -1};
    if (w->node_rank == 0) st = look_local(output_dir, before_step, suspect, strict, &mine);
    SGC_AGREE(w->all);
    if (w->node_rank == 0) st = hand_out(w, output_dir, &mine, chosen, &n_damaged);
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, chosen, sizeof(*chosen), 0));
    SGC_TRY(sgc_bcast_bytes(w->all, &n_damaged, sizeof(n_damaged), 0));
    *is_damaged = n_damaged > 0;
done:
    return st;
}

sgc_status sgc_ckpt_latest_of_nodes(const sgc_world *w, const char *output_dir, int64_t before_step, int64_t suspect, bool strict, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    choice chosen;
    bool is_damaged;
    char name[64];
    path[0] = '\0';
    for (;;) {
        SGC_TRY(choose_and_hand_out(w, output_dir, before_step, suspect, strict, &chosen, &is_damaged));
        if (!is_damaged) break;
        if (strict) return sgc_err(SGC_ECKPT, "checkpoint-%" PRId64 " of node %d is damaged; allow another one with --checkpoint.resume_strict false", chosen.step, chosen.node);
        if (chosen.step == suspect) /* node chosen.node has just read it whole */
            return sgc_err(SGC_EIO, "checkpoint-%" PRId64 " of node %d arrives damaged on another node: its disk, or the network, changes bytes", chosen.step, chosen.node);
        if (w->rank == 0) sgc_log_warning("checkpoint-%" PRId64 " of node %d is damaged: it is not handed out", chosen.step, chosen.node);
        suspect = chosen.step; /* now every node that has it reads its own */
        before_step = chosen.step + 1;
    }
    if (chosen.node < 0) goto done;
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, chosen.step);
    SGC_TRY(sgc_path_join(path, output_dir, name));
done:
    return st;
}

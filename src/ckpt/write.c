/*
 * Saving: everything under a temporary name, synced, hashed and agreed on; then one rename. A save is a row of phases. What takes
 * time in a phase is local and may be done by a thread while training goes on; between phases all ranks meet, in the main thread,
 * which alone sends messages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cores.h"
#include "base/log.h"
#include "ckpt/save_impl.h"

static sgc_status make_directory(const char *path)
{
    return mkdir(path, 0777) == 0 ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot make the directory %s", path);
}

/* Bytes that this rank adds to the checkpoint: of its file, if it leads it, and of lines in the manifest. */
static int64_t own_bytes(const sgc_save *s)
{
    sgc_str text = {0};
    const sgc_shard_layout *l = &s->layout;
    int64_t n = 0;
    sgc_save_put_data_lines(s, &text);
    if (l->leader == s->rank) {
        sgc_manifest_put_file(&text, SGC_FILE_SHARDS + s->files->file_of[s->rank], s->files->n_files, l->n_bytes);
        for (int64_t k = 0; k < (l->n_bytes + s->block_size - 1) / s->block_size; k++) sgc_manifest_put_hash(&text, 0);
        n = l->n_bytes;
    }
    n += (int64_t)text.n;
    sgc_str_free(&text);
    return n;
}

static sgc_status prepare_local(sgc_save *s, const sgc_ckpt_job *job, const sgc_ckpt_part *parts)
{
    sgc_status st = SGC_OK;
    char name[64], shards[SGC_PATH_MAX];
    s->config_text = strdup(job->config_text);
    s->parts = malloc(((size_t)s->n_parts + 1) * sizeof(*s->parts));
    s->n_lines_of = calloc((size_t)s->world_size, sizeof(*s->n_lines_of));
    if (!s->config_text || !s->parts || !s->n_lines_of) return sgc_err(SGC_ENOMEM, "no memory for a save");
    if (s->n_parts) memcpy(s->parts, parts, (size_t)s->n_parts * sizeof(*s->parts));
    if (!s->files) {
        SGC_TRY(sgc_files_single(&s->own_files, s->world_size));
        s->files = s->own_files;
    }
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, s->state.step);
    SGC_TRY(sgc_path_join(s->final, s->output_dir, name));
    snprintf(name, sizeof(name), ".checkpoint-%" PRId64 ".tmp-%s", s->state.step, s->id);
    SGC_TRY(sgc_path_join(s->temporary, s->output_dir, name));
    sgc_manifest_path(name, SGC_FILE_SHARDS + s->files->file_of[s->rank], s->files->n_files);
    SGC_TRY(sgc_path_join(s->shard, s->temporary, name));
    SGC_TRY(sgc_path_join(shards, s->temporary, "shards"));
    SGC_TRY(sgc_shard_layout_make(&s->layout, s->files, s->id, s->rank, s->parts, s->n_parts));
    s->n_bytes = own_bytes(s);
done:
    return st;
}

/* Of the whole directory, once the ranks have summed theirs. */
static int64_t total_bytes(const sgc_save *s, int64_t n_index)
{
    return s->n_bytes + n_index + (int64_t)strlen(s->config_text) + sgc_save_manifest_bytes(s, n_index);
}

/* Who keeps the directory: is there room for all of it? Then it is made. */
static sgc_status make_directories_local(sgc_save *s, int64_t *index_bytes)
{
    sgc_status st = SGC_OK;
    char shards[SGC_PATH_MAX];
    int64_t n_index = index_bytes ? *index_bytes : 0;
    if (!s->keeps) return SGC_OK;
    if (!n_index) SGC_TRY(sgc_save_index_bytes(s, &n_index));
    if (index_bytes) *index_bytes = n_index;
    SGC_TRY(sgc_path_join(shards, s->temporary, "shards"));
    SGC_TRY(sgc_make_dirs(s->output_dir));
    SGC_TRY(sgc_room_check(s->output_dir, total_bytes(s, n_index)));
    SGC_TRY(make_directory(s->temporary));
    SGC_TRY(make_directory(shards));
done:
    return st;
}

/* Collective: bytes of the checkpoint in one directory, but for the index and what the manifest has of it. */
static sgc_status sum_bytes(sgc_save *s)
{
    sgc_status st = SGC_OK;
    if (!s->nodes || s->spread == SGC_SPREAD_ALL) return sgc_sum_int64(s->group, &s->n_bytes, 1);
    double most;
    SGC_TRY(sgc_sum_int64(s->nodes->node, &s->n_bytes, 1));
    most = (double)s->n_bytes;
    SGC_TRY(sgc_max_double(s->group, &most, 1));
    if (s->spread == SGC_SPREAD_PARTNER) s->n_bytes += (int64_t)most;
    if (s->spread == SGC_SPREAD_XOR && s->nodes->n_nodes > 1)
        s->n_bytes += sgc_parity_bytes((int64_t)most, s->nodes->n_nodes) + SGC_PARITY_END_BYTES * (int64_t)s->nodes->node_size;
done:
    return st;
}

static sgc_status write_local(sgc_save *s)
{
    sgc_status st = SGC_OK;
    int fd = -1;
    if (s->layout.leader == s->rank) SGC_TRY(sgc_room_take(s->shard, s->layout.n_bytes));
    SGC_TRY(sgc_shard_put(&s->layout, s->shard, s->block_size, &s->hashes, &fd));
    SGC_TRY(sgc_save_index(s)); /* while the disk is at work */
done:
    if (fd >= 0) SGC_KEEP(sgc_shard_sync(fd, s->shard));
    return st;
}

/* Rename to the final name. A checkpoint of that name (the run was resumed before it) is set aside, and put back if this fails. */
static sgc_status rename_local(sgc_save *s)
{
    sgc_status st = SGC_OK;
    char aside[SGC_PATH_MAX] = "";
    bool published = false;
    if (sgc_path_exists(s->final)) {
        if (snprintf(aside, sizeof(aside), "%s.old-%s", s->final, s->id) >= (int)sizeof(aside))
            return sgc_err(SGC_EIO, "the path %.60s... is too long", s->final);
        if (rename(s->final, aside) != 0) return sgc_err_errno(SGC_EIO, "cannot rename %s to %s", s->final, aside);
    }
    published = rename(s->temporary, s->final) == 0;
    if (!published)
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", s->temporary, s->final);
    else
        st = sgc_fsync_path(s->output_dir);
    /* What cannot be put back is found at the next start: as a checkpoint that is whole, or one set aside. */
    if (st != SGC_OK && (!published || rename(s->final, s->temporary) == 0) && aside[0] && rename(aside, s->final) == 0) aside[0] = '\0';
    if (st == SGC_OK) strcpy(s->aside, aside);
    return st;
}

/* Into the temporary directory, which is synced once, when all is in it. */
static sgc_status write_file(const sgc_save *s, const char *name, const char *bytes, size_t n_bytes)
{
    char path[SGC_PATH_MAX];
    sgc_status st = sgc_path_join(path, s->temporary, name);
    if (st != SGC_OK) return st;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return sgc_err_errno(SGC_EIO, "cannot create %s", path);
    st = sgc_pwrite_all(fd, bytes, n_bytes, 0, path);
    if (st == SGC_OK && fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
    if (close(fd) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", path);
    return st;
}

/* What a node must know to take part in a recovery: docs/file-formats.md. */
static sgc_status write_nodes_file(const sgc_save *s)
{
    sgc_str text = {0};
    if (s->spread == SGC_SPREAD_ALL) return SGC_OK; /* a checkpoint like any other */
    sgc_nodes_put(&text, s->spread, s->nodes, s->sets);
    sgc_status st = write_file(s, SGC_NODES_NAME, text.text, text.n);
    sgc_str_free(&text);
    return st;
}

/* What other nodes sent, too. */
static sgc_status sync_shards(const char *shards)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    DIR *directory = opendir(shards);
    if (!directory) return sgc_err_errno(SGC_EIO, "cannot read %s", shards);
    for (struct dirent *d; errno = 0, (d = readdir(directory));) {
        if (d->d_name[0] == '.') continue;
        SGC_TRY(sgc_path_join(path, shards, d->d_name));
        SGC_TRY(sgc_fsync_path(path));
    }
    if (errno) st = sgc_err_errno(SGC_EIO, "cannot read %s", shards);
done:
    closedir(directory);
    return st;
}

/* Who keeps the directory: everything but the shards; the manifest comes last. */
static sgc_status publish_local(sgc_save *s)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    if (!s->keeps) return SGC_OK;
    SGC_TRY(sgc_path_join(path, s->temporary, "shards"));
    if (s->nodes) SGC_TRY(sync_shards(path));
    SGC_TRY(sgc_fsync_path(path));
    if (!s->nodes) SGC_TRY(sgc_save_compose(s));
    SGC_TRY(write_file(s, "checkpoint.h5", s->index, (size_t)s->n_index));
    SGC_TRY(write_file(s, "config.cfg", s->config_text, strlen(s->config_text)));
    if (s->nodes) SGC_TRY(write_nodes_file(s));
    SGC_TRY(write_file(s, SGC_MANIFEST_NAME, s->manifest.text, s->manifest.n));
    SGC_TRY(sgc_fsync_path(s->temporary));
    SGC_TRY(sgc_fsync_path(s->output_dir));
    SGC_TRY(rename_local(s));
    s->is_published = true;
done:
    return st;
}

/* Collective: files, or their replacement, begin to travel to other nodes. */
static sgc_status begin_spread(sgc_save *s)
{
    sgc_status st = SGC_OK;
    const sgc_world *w = s->nodes;
    sgc_spread_job job = {.how = s->spread, .world = w, .files = s->files, .directory = s->temporary, .n_file_bytes = s->layout.n_bytes,
                          .memory = s->travel, .memory_bytes = s->travel_bytes};
    if (s->spread != SGC_SPREAD_ALL) {
        s->sets = calloc((size_t)s->world_size, sizeof(*s->sets));
        if (!s->sets) st = sgc_err(SGC_ENOMEM, "no memory for the list of nodes");
        SGC_AGREE(s->group);
        SGC_TRY(sgc_spread_sets(w, s->files, s->sets));
        const int64_t *set = &s->sets[w->node_rank * w->n_nodes];
        job.file = (int)set[w->node_index] - 1;
        job.file_before = (int)set[(w->node_index + w->n_nodes - 1) % w->n_nodes] - 1;
    }
    SGC_TRY(sgc_spread_begin(&s->spreading, &job));
done:
    return st;
}

static bool spreads(const sgc_save *s) { return s->spread != SGC_SPREAD_NONE && s->nodes && s->nodes->n_nodes > 1; }

static sgc_status work_of_phase(sgc_save *s)
{
    switch (s->phase) {
    case SGC_PHASE_WRITE: return write_local(s);
    case SGC_PHASE_SPREAD: return sgc_spread_work(s->spreading);
    case SGC_PHASE_PUBLISH: return publish_local(s);
    default: return s->follow(s->follow_arg);
    }
}

/* The local work of a phase, in whichever thread. Errors are kept by thread: the message is taken along. */
static void *work(void *arg)
{
    sgc_save *s = arg;
    sgc_status st = work_of_phase(s);
    if (st != SGC_OK && s->local == SGC_OK) {
        s->local = st;
        snprintf(s->message, sizeof(s->message), "%s", sgc_err_message());
    }
    sgc_err_clear();
    atomic_store(&s->is_ready, true);
    return NULL;
}

static void *work_in_thread(void *arg)
{
    sgc_cores_unbind(); /* else it shares the core of the thread that made it */
    return work(arg);
}

static void enter(sgc_save *s, sgc_save_phase next)
{
    sigset_t all, before;
    s->phase = next;
    atomic_store(&s->is_ready, false);
    if (s->in_background) {
        sigfillset(&all); /* signals are the main thread's */
        pthread_sigmask(SIG_SETMASK, &all, &before);
        s->has_thread = pthread_create(&s->thread, NULL, work_in_thread, s) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (!s->has_thread) work(s);
}

static void join(sgc_save *s)
{
    if (s->has_thread) pthread_join(s->thread, NULL);
    s->has_thread = false;
}

/* The end of the local work; waits for it. */
static sgc_status leave(sgc_save *s)
{
    join(s);
    return s->local == SGC_OK ? SGC_OK : sgc_err(s->local, "%s", s->message);
}

/* As long as it is done with what it has, the thread gets the next piece, and so do other nodes. waits: for all of them. Messages are the main thread's. */
static sgc_status move(sgc_save *s, bool waits)
{
    sgc_status st = SGC_OK;
    while (!sgc_spread_is_last(s->spreading)) {
        bool has_ended;
        if (waits) join(s);
        SGC_TRY(sgc_spread_end(s->spreading, waits, &has_ended));
        if (!has_ended || !atomic_load(&s->is_ready)) break;
        join(s);
        SGC_TRY(sgc_spread_next(s->spreading));
        enter(s, SGC_PHASE_SPREAD);
    }
done:
    return st;
}

sgc_status sgc_save_move(sgc_save *s, bool *travels)
{
    sgc_status st = s->phase == SGC_PHASE_SPREAD ? move(s, false) : SGC_OK;
    *travels = s->phase == SGC_PHASE_SPREAD && !sgc_spread_is_last(s->spreading);
    return st;
}

static void fail(sgc_save *s)
{
    /* After a failed agreement no rank writes any more. A node may have published before another failed. */
    if (s->is_published && s->nodes && rename(s->final, s->temporary) == 0) sgc_fsync_path(s->output_dir);
    if (s->has_directory && s->keeps) sgc_remove_tree(s->temporary);
    s->has_directory = false;
    s->phase = SGC_PHASE_OVER;
}

sgc_status sgc_save_begin(sgc_save **out, const sgc_ckpt_job *job, const sgc_ckpt_part *parts, int n_parts, bool in_background)
{
    sgc_status st = SGC_OK;
    sgc_save *s = *out = calloc(1, sizeof(*s));
    if (!s) st = sgc_err(SGC_ENOMEM, "no memory for a save");
    SGC_AGREE(job->group);
    *s = (sgc_save){.group = job->group, .model = job->model, .rank = sgc_group_rank(job->group), .world_size = sgc_group_size(job->group),
                    .nodes = job->nodes, .spread = job->spread, .travel = job->travel,
                    .travel_bytes = job->travel ? job->travel_bytes : 2 * (size_t)job->block_size,
                    .state = *job->state, .info = *job->info, .block_size = job->block_size, .files = job->files, .n_parts = n_parts,
                    .start_s = sgc_time_s(), .phase = SGC_PHASE_OVER, .in_background = in_background};
    s->keeps = s->nodes ? s->nodes->node_rank == 0 : s->rank == 0;
    if (s->rank == 0) sgc_ckpt_new_id(s->id);
    SGC_TRY(sgc_bcast_bytes(s->group, s->id, sizeof(s->id), 0));
    strcpy(s->info.id, s->id);
    s->info.step = s->state.step;
    s->info.world_size = s->world_size;
    sgc_time_iso(s->info.date);
    snprintf(s->info.host, sizeof(s->info.host), "%.*s", (int)sizeof(s->info.host) - 1, sgc_node_name());
    if (snprintf(s->output_dir, sizeof(s->output_dir), "%s", job->output_dir) >= (int)sizeof(s->output_dir))
        st = sgc_err(SGC_EIO, "the path %.60s... is too long", job->output_dir);
    if (st == SGC_OK) st = prepare_local(s, job, parts);
    SGC_AGREE(s->group);
    SGC_TRY(sum_bytes(s));
    s->has_directory = true;
    st = make_directories_local(s, job->index_bytes);
    SGC_AGREE(s->group);
    if (s->layout.leader == s->rank) st = sgc_room_make(s->shard);
    SGC_AGREE(s->group);
    enter(s, SGC_PHASE_WRITE);
done:
    if (st != SGC_OK) {
        if (s) fail(s);
        sgc_save_free(s);
        *out = NULL;
    }
    return st;
}

bool sgc_save_is_ready(const sgc_save *s) { return atomic_load(&s->is_ready) && (s->phase != SGC_PHASE_SPREAD || sgc_spread_is_last(s->spreading)); }
bool sgc_save_is_over(const sgc_save *s) { return s->phase == SGC_PHASE_OVER; }
const char *sgc_save_path(const sgc_save *s) { return s->final; }
double sgc_save_start_s(const sgc_save *s) { return s->start_s; }
double sgc_save_copy_s(const sgc_save *s) { return s->copy_s; }
int64_t sgc_save_bytes(const sgc_save *s) { return total_bytes(s, s->n_index); }

sgc_status sgc_save_advance(sgc_save *s)
{
    sgc_status st = SGC_OK;
    if (s->phase == SGC_PHASE_OVER) return SGC_OK;
    if (s->phase == SGC_PHASE_FOLLOW) {
        join(s);
        s->phase = SGC_PHASE_OVER;
        return SGC_OK;
    }
    if (s->phase == SGC_PHASE_SPREAD) SGC_TRY(move(s, true));
    st = leave(s);
    SGC_AGREE(s->group);
    if (s->phase == SGC_PHASE_WRITE && sgc_files_are_shared(s->files)) {
        st = sgc_shard_hash_mixed(&s->layout, s->shard, s->block_size, &s->hashes);
        SGC_AGREE(s->group);
    }
    if (s->phase == SGC_PHASE_WRITE && spreads(s)) {
        SGC_TRY(begin_spread(s));
        if (s->rank == 0) sgc_log_debug("files of %s travel to other nodes", s->final);
        enter(s, SGC_PHASE_SPREAD);
    } else if (s->phase != SGC_PHASE_PUBLISH) {
        sgc_spread_free(s->spreading);
        s->spreading = NULL;
        SGC_TRY(sgc_save_gather(s));
        if (s->nodes) SGC_TRY(sgc_save_compose_shared(s));
        enter(s, SGC_PHASE_PUBLISH);
    } else {
        s->phase = SGC_PHASE_OVER;
        if (s->aside[0]) sgc_log_info("the checkpoint that was %s is kept as %s", s->final, s->aside);
    }
done:
    if (st != SGC_OK) fail(s);
    return st;
}

void sgc_save_follow(sgc_save *s, sgc_status (*follow)(void *), void *arg)
{
    s->follow = follow;
    s->follow_arg = arg;
    enter(s, SGC_PHASE_FOLLOW);
}

sgc_status sgc_save_followed(sgc_save *s) { return s->follow ? leave(s) : SGC_OK; }

sgc_status sgc_save_finish(sgc_save *s)
{
    sgc_status st = SGC_OK;
    while (st == SGC_OK && !sgc_save_is_over(s)) st = sgc_save_advance(s);
    return st;
}

void sgc_save_free(sgc_save *s)
{
    if (!s) return;
    join(s);
    sgc_spread_free(s->spreading);
    sgc_shard_layout_free(&s->layout);
    sgc_shard_hashes_free(&s->hashes);
    sgc_files_free(s->own_files);
    free(s->config_text);
    free(s->parts);
    free(s->lines);
    free(s->index);
    sgc_str_free(&s->manifest);
    free(s->sets);
    free(s->n_lines_of);
    free(s);
}

sgc_status sgc_ckpt_write_parts(const sgc_ckpt_job *job, const sgc_ckpt_part *parts, int n_parts, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    sgc_save *s = NULL;
    SGC_TRY(sgc_save_begin(&s, job, parts, n_parts, false));
    SGC_TRY(sgc_save_finish(s));
    strcpy(path, sgc_save_path(s));
done:
    sgc_save_free(s);
    return st;
}

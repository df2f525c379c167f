/* Saving: everything under a temporary name, synced, hashed and agreed on; then one rename. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/ckpt_impl.h"

typedef struct save {
    const sgc_ckpt_job *job;
    const sgc_ckpt_part *parts;
    int n_parts, rank, world_size;
    double start_s;
    char id[SGC_ID_CHARS + 1];
    char temporary[SGC_PATH_MAX], final[SGC_PATH_MAX];
} save;

static sgc_status make_directory(const char *path)
{
    return mkdir(path, 0777) == 0 ? SGC_OK : sgc_err_errno(SGC_EIO, "cannot make the directory %s", path);
}

static sgc_status make_directories_local(const save *s)
{
    sgc_status st = SGC_OK;
    char shards[SGC_PATH_MAX];
    if (s->rank != 0) return SGC_OK;
    SGC_TRY(sgc_path_join(shards, s->temporary, "shards"));
    SGC_TRY(sgc_make_dirs(s->job->output_dir));
    SGC_TRY(make_directory(s->temporary));
    SGC_TRY(make_directory(shards));
done:
    return st;
}

/* Everything but the shards; the manifest comes last. sgc_write_file_atomic also syncs the directory, after both of its files. */
static sgc_status write_rest(const save *s, const char *shard_lines)
{
    sgc_status st = SGC_OK;
    const sgc_ckpt_job *job = s->job;
    char path[SGC_PATH_MAX];
    sgc_str manifest = {0};
    sgc_ckpt_info info = *job->info;
    strcpy(info.id, s->id);
    info.step = job->state->step;
    info.world_size = s->world_size;
    sgc_time_iso(info.date);
    snprintf(info.host, sizeof(info.host), "%.*s", (int)sizeof(info.host) - 1, sgc_node_name());
    info.save_s = sgc_time_s() - s->start_s;

    SGC_TRY(sgc_path_join(path, s->temporary, "shards"));
    SGC_TRY(sgc_fsync_path(path));
    SGC_TRY(sgc_index_write(s->temporary, job->model, &info, job->state, s->parts, s->n_parts));
    SGC_TRY(sgc_path_join(path, s->temporary, "config.cfg"));
    SGC_TRY(sgc_write_file_atomic(path, job->config_text, strlen(job->config_text)));
    sgc_manifest_put_head(&manifest, s->id, info.step, s->world_size, job->block_size);
    SGC_TRY(sgc_manifest_put_file(&manifest, s->temporary, SGC_FILE_INDEX, s->world_size, job->block_size));
    SGC_TRY(sgc_manifest_put_file(&manifest, s->temporary, SGC_FILE_CONFIG, s->world_size, job->block_size));
    sgc_str_printf(&manifest, "%s", shard_lines);
    sgc_manifest_put_end(&manifest);
    SGC_TRY(sgc_path_join(path, s->temporary, SGC_MANIFEST_NAME));
    SGC_TRY(sgc_write_file_atomic(path, manifest.text, manifest.n));
    SGC_TRY(sgc_fsync_path(job->output_dir));
done:
    sgc_str_free(&manifest);
    return st;
}

/* Each rank's lines of the manifest go to rank 0, which writes the other files. */
static sgc_status gather_and_write_rest(const save *s, const sgc_str *lines)
{
    sgc_status st = SGC_OK;
    char *all = NULL, *text = NULL;
    int64_t *n_bytes_of = calloc((size_t)s->world_size, sizeof(*n_bytes_of)), n_bytes = 0;
    if (!n_bytes_of) st = sgc_err(SGC_ENOMEM, "no memory for the manifest");
    SGC_AGREE(s->job->group);
    SGC_TRY(sgc_gather_bytes(s->job->group, lines->text, (int64_t)lines->n, &all, n_bytes_of, 0));
    if (s->rank == 0) {
        for (int r = 0; r < s->world_size; r++) n_bytes += n_bytes_of[r];
        text = strndup(all, (size_t)n_bytes);
        st = text ? write_rest(s, text) : sgc_err(SGC_ENOMEM, "no memory for the manifest");
    }
    SGC_AGREE(s->job->group);
done:
    free(text);
    free(all);
    free(n_bytes_of);
    return st;
}

/* Rename to the final name. A checkpoint of that name (the run was resumed before it) is set aside, and put back if this fails. */
static sgc_status publish_local(const save *s)
{
    sgc_status st = SGC_OK;
    char aside[SGC_PATH_MAX] = "";
    bool published = false;
    if (s->rank != 0) return SGC_OK;
    if (sgc_path_exists(s->final)) {
        if (snprintf(aside, sizeof(aside), "%s.old-%s", s->final, s->id) >= (int)sizeof(aside))
            return sgc_err(SGC_EIO, "the path %.60s... is too long", s->final);
        if (rename(s->final, aside) != 0) return sgc_err_errno(SGC_EIO, "cannot rename %s to %s", s->final, aside);
    }
    published = rename(s->temporary, s->final) == 0;
    if (!published)
        st = sgc_err_errno(SGC_EIO, "cannot rename %s to %s", s->temporary, s->final);
    else
        st = sgc_fsync_path(s->job->output_dir);
    if (st != SGC_OK && published && rename(s->final, s->temporary) != 0)
        sgc_log_error("%s cannot be renamed back to %s: %s", s->final, s->temporary, strerror(errno));
    if (st != SGC_OK && aside[0] && rename(aside, s->final) != 0)
        sgc_log_error("%s cannot be renamed back to %s: %s", aside, s->final, strerror(errno));
    if (st == SGC_OK && aside[0]) sgc_log_info("the checkpoint that was %s is kept as %s", s->final, aside);
    return st;
}

sgc_status sgc_ckpt_write_parts(const sgc_ckpt_job *job, const sgc_ckpt_part *parts, int n_parts, char path[SGC_PATH_MAX])
{
    sgc_status st = SGC_OK;
    save s = {.job = job, .parts = parts, .n_parts = n_parts, .rank = sgc_group_rank(job->group),
              .world_size = sgc_group_size(job->group), .start_s = sgc_time_s()};
    sgc_str lines = {0};
    char name[64];
    bool made = false;
    if (s.rank == 0) sgc_ckpt_new_id(s.id);
    SGC_TRY(sgc_bcast_bytes(job->group, s.id, sizeof(s.id), 0));
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, job->state->step);
    SGC_TRY(sgc_path_join(s.final, job->output_dir, name)); /* the same on all ranks */
    snprintf(name, sizeof(name), ".checkpoint-%" PRId64 ".tmp-%s", job->state->step, s.id);
    SGC_TRY(sgc_path_join(s.temporary, job->output_dir, name));

    made = true;
    st = make_directories_local(&s);
    SGC_AGREE(job->group);
    st = sgc_shard_write(s.temporary, s.id, s.rank, s.world_size, job->block_size, parts, n_parts, &lines);
    SGC_AGREE(job->group);
    SGC_TRY(gather_and_write_rest(&s, &lines));
    st = publish_local(&s);
    SGC_AGREE(job->group);
    strcpy(path, s.final);
done:
    /* After a failed agreement no rank writes any more. */
    if (st != SGC_OK && made && s.rank == 0) SGC_KEEP(sgc_remove_tree(s.temporary));
    sgc_str_free(&lines);
    return st;
}

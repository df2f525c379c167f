/*
 * Recovery of a node-local checkpoint: nodes say what they have, rank 0 looks whether shards, copies and parities make it whole, the nodes
 * copy their files to the shared directory, what is missing is made of parities, and the result is published as any checkpoint is.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/recover_impl.h"

static sgc_status copy_file(const char *from_dir, const char *to_dir, const char *name)
{
    sgc_status st = SGC_OK;
    char from[SGC_PATH_MAX], to[SGC_PATH_MAX];
    struct stat status;
    char *buffer = sgc_mem_alloc(SGC_MEM_CHECKPOINT, SGC_RECOVERY_PIECE_BYTES);
    int in = -1, out = -1;
    if (!buffer) return SGC_ENOMEM;
    SGC_TRY(sgc_path_join(from, from_dir, name));
    SGC_TRY(sgc_path_join(to, to_dir, name));
    in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &status) != 0) {
        st = sgc_err_errno(SGC_EIO, "cannot read %s", from);
        goto done;
    }
    SGC_TRY(sgc_room_reserve(to, status.st_size));
    if ((out = open(to, O_WRONLY | O_CLOEXEC)) < 0) {
        st = sgc_err_errno(SGC_EIO, "cannot open %s", to);
        goto done;
    }
    for (int64_t offset = 0; offset < status.st_size; offset += SGC_RECOVERY_PIECE_BYTES) {
        int64_t n = status.st_size - offset < SGC_RECOVERY_PIECE_BYTES ? status.st_size - offset : SGC_RECOVERY_PIECE_BYTES;
        SGC_TRY(sgc_pread_all(in, buffer, (size_t)n, offset, from));
        SGC_TRY(sgc_pwrite_all(out, buffer, (size_t)n, offset, to));
    }
    if (fsync(out) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", to);
done:
    if (in >= 0) close(in);
    if (out >= 0 && close(out) != 0 && st == SGC_OK) st = sgc_err_errno(SGC_EIO, "cannot close %s", to);
    sgc_mem_free(buffer);
    return st;
}

/* What this rank was chosen for. */
static sgc_status copy_own(const sgc_recovery *p, int rank, const char *local, const char *shared)
{
    sgc_status st = SGC_OK;
    char name[64];
    for (int k = 0; k < p->n_files; k++) {
        sgc_manifest_path(name, SGC_FILE_SHARDS + k, p->n_files);
        if (p->from[k] == rank) SGC_TRY(copy_file(local, shared, name));
        sgc_parity_path(name, k);
        if (p->n_missing > 0 && p->parity_from[k] == rank) SGC_TRY(copy_file(local, shared, name));
    }
    if (p->keeper == rank) {
        SGC_TRY(copy_file(local, shared, "checkpoint.h5"));
        SGC_TRY(copy_file(local, shared, "config.cfg"));
        SGC_TRY(copy_file(local, shared, SGC_MANIFEST_NAME));
    }
done:
    return st;
}

/* a ^= b over a piece of a file; beyond its end are zeros. */
static sgc_status add_piece(const char *directory, const char *name, int64_t offset, int64_t n, unsigned char *a, unsigned char *b)
{
    sgc_status st = SGC_OK;
    char path[SGC_PATH_MAX];
    int64_t n_bytes = sgc_part_file_bytes(directory, name);
    int fd = -1;
    if (offset >= n_bytes) return SGC_OK;
    if (n > n_bytes - offset) n = n_bytes - offset;
    SGC_TRY(sgc_path_join(path, directory, name));
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) return sgc_err_errno(SGC_EIO, "cannot read %s", path);
    SGC_TRY(sgc_pread_all(fd, b, (size_t)n, offset, path));
    for (int64_t i = 0; i < n; i++) a[i] ^= b[i];
done:
    if (fd >= 0) close(fd);
    return st;
}

static sgc_status rebuild(const sgc_recovery *p, int file, int64_t n_file_bytes, const char *directory)
{
    sgc_status st = SGC_OK;
    const int *set = p->set_of + (int64_t)file * p->n_nodes;
    int lost = 0, n = p->n_nodes, fd = -1;
    int64_t n_chunk = sgc_parity_bytes(n_file_bytes, n);
    char name[64], path[SGC_PATH_MAX];
    unsigned char *a = sgc_mem_alloc(SGC_MEM_CHECKPOINT, SGC_RECOVERY_PIECE_BYTES), *b = sgc_mem_alloc(SGC_MEM_CHECKPOINT, SGC_RECOVERY_PIECE_BYTES);
    while (set[lost] != file) lost++;
    if (!a || !b) {
        st = SGC_ENOMEM;
        goto done;
    }
    sgc_manifest_path(name, SGC_FILE_SHARDS + file, p->n_files);
    SGC_TRY(sgc_path_join(path, directory, name));
    SGC_TRY(sgc_room_reserve(path, n_file_bytes));
    if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) {
        st = sgc_err_errno(SGC_EIO, "cannot open %s", path);
        goto done;
    }
    for (int at = 0; at < n; at++) { /* the parity at node `at` covers one chunk of the lost file */
        if (at == lost) continue;
        int64_t first = sgc_parity_chunk(lost, at, n) * n_chunk;
        for (int64_t offset = 0; offset < n_chunk && first + offset < n_file_bytes; offset += SGC_RECOVERY_PIECE_BYTES) {
            int64_t m = n_chunk - offset < SGC_RECOVERY_PIECE_BYTES ? n_chunk - offset : SGC_RECOVERY_PIECE_BYTES;
            memset(a, 0, SGC_RECOVERY_PIECE_BYTES);
            sgc_parity_path(name, set[at]);
            SGC_TRY(add_piece(directory, name, offset, m, a, b));
            for (int k = 0; k < n; k++) {
                if (k == at || k == lost) continue;
                sgc_manifest_path(name, SGC_FILE_SHARDS + set[k], p->n_files);
                SGC_TRY(add_piece(directory, name, sgc_parity_chunk(k, at, n) * n_chunk + offset, m, a, b));
            }
            if (m > n_file_bytes - first - offset) m = n_file_bytes - first - offset;
            SGC_TRY(sgc_pwrite_all(fd, a, (size_t)m, first + offset, path));
        }
    }
    if (fsync(fd) != 0) st = sgc_err_errno(SGC_EIO, "cannot sync %s", path);
done:
    if (fd >= 0) close(fd);
    sgc_mem_free(a);
    sgc_mem_free(b);
    return st;
}

/* Rank 0: missing files, then the final name. */
static sgc_status complete_local(const sgc_recovery *p, const char *temporary, const char *final, const char *output_dir)
{
    sgc_status st = SGC_OK;
    sgc_manifest m = {0};
    char name[64], path[SGC_PATH_MAX], *text = NULL;
    size_t n_text;
    SGC_TRY(sgc_path_join(path, temporary, SGC_MANIFEST_NAME));
    SGC_TRY(sgc_read_plain_file(path, &text, &n_text));
    SGC_TRY(sgc_manifest_parse(&m, text, n_text, path));
    for (int k = 0; k < p->n_files; k++) {
        if (p->from[k] >= 0) continue;
        SGC_TRY(rebuild(p, k, m.files[SGC_FILE_SHARDS + k].n_bytes, temporary));
        if (sgc_part_file_fits(temporary, &m, SGC_FILE_SHARDS + k)) continue;
        sgc_log_warning("node-local checkpoint-%" PRId64 " is passed over: shard file %d, made of parities, does not fit its hashes", p->step, k);
        sgc_err_clear();
        sgc_remove_tree(temporary);
        goto done;
    }
    for (int k = 0; k < p->n_files; k++) {
        sgc_parity_path(name, k);
        SGC_TRY(sgc_path_join(path, temporary, name));
        unlink(path);
    }
    SGC_TRY(sgc_ckpt_publish_copy(temporary, final, output_dir));
    sgc_log_info("%s is recovered from node-local checkpoints; %d of %d shard files were made of parities", final, p->n_missing, p->n_files);
done:
    sgc_manifest_free(&m);
    free(text);
    return st;
}

/* The plan of rank 0 to all. */
static sgc_status share(sgc_recovery *p, const sgc_world *w)
{
    sgc_status st = SGC_OK;
    int *from = p->from, *parity_from = p->parity_from, *set_of = p->set_of;
    SGC_TRY(sgc_bcast_bytes(w->all, p, sizeof(*p), 0));
    if (w->rank != 0) p->from = p->parity_from = p->set_of = NULL;
    else p->from = from, p->parity_from = parity_from, p->set_of = set_of;
    if (p->step < 0) return SGC_OK;
    size_t n_bytes = (size_t)p->n_files * sizeof(int);
    if (w->rank != 0 && (!(p->from = malloc(n_bytes)) || !(p->parity_from = malloc(n_bytes)))) st = sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
    SGC_AGREE(w->all);
    SGC_TRY(sgc_bcast_bytes(w->all, p->from, (int64_t)n_bytes, 0));
    SGC_TRY(sgc_bcast_bytes(w->all, p->parity_from, (int64_t)n_bytes, 0));
done:
    return st;
}

static sgc_status make_directories_local(const char *output_dir, const char *temporary)
{
    sgc_status st = SGC_OK;
    char shards[SGC_PATH_MAX];
    SGC_TRY(sgc_path_join(shards, temporary, "shards"));
    SGC_TRY(sgc_make_dirs(output_dir));
    SGC_TRY(sgc_make_dirs(shards));
done:
    return st;
}

sgc_status sgc_ckpt_recover(const sgc_world *w, const char *local_dir, const char *output_dir, const char *run_id, int64_t newest_step, int64_t before_step)
{
    sgc_status st = SGC_OK;
    sgc_str mine = {0};
    char *all = NULL, name[128], own_id[SGC_ID_CHARS + 1], local[SGC_PATH_MAX], temporary[SGC_PATH_MAX] = "", final[SGC_PATH_MAX];
    int64_t *n_bytes_of = calloc((size_t)w->size, sizeof(*n_bytes_of)), n_bytes = 0;
    sgc_recovery p = {.step = -1};
    if (!n_bytes_of) st = sgc_err(SGC_ENOMEM, "no memory to recover a checkpoint");
    SGC_AGREE(w->all);
    if (w->node_rank == 0) sgc_parts_tell(local_dir, w->rank, run_id, newest_step, before_step, &mine);
    SGC_TRY(sgc_gather_bytes(w->all, mine.text, (int64_t)mine.n, &all, n_bytes_of, 0));
    for (int r = 0; w->rank == 0 && r < w->size; r++) n_bytes += n_bytes_of[r];
    if (w->rank == 0) st = sgc_recovery_choose(all, n_bytes, &p);
    SGC_AGREE(w->all);
    SGC_TRY(share(&p, w));
    if (p.step < 0) goto done;

    sgc_ckpt_new_id(own_id);
    SGC_TRY(sgc_bcast_bytes(w->all, own_id, sizeof(own_id), 0));
    snprintf(name, sizeof(name), "checkpoint-%" PRId64, p.step);
    st = sgc_path_join(local, local_dir, name);
    if (st == SGC_OK) st = sgc_path_join(final, output_dir, name);
    snprintf(name, sizeof(name), ".checkpoint-%" PRId64 ".tmp-%s", p.step, own_id);
    if (st == SGC_OK) st = sgc_path_join(temporary, output_dir, name);
    if (st == SGC_OK && w->rank == 0) st = make_directories_local(output_dir, temporary);
    SGC_AGREE(w->all);
    st = copy_own(&p, w->rank, local, temporary);
    SGC_AGREE(w->all);
    if (w->rank == 0) st = complete_local(&p, temporary, final, output_dir);
    SGC_AGREE(w->all);
done:
    if (st != SGC_OK && w->rank == 0 && temporary[0]) sgc_remove_tree(temporary);
    sgc_recovery_free(&p);
    sgc_str_free(&mine);
    free(all);
    free(n_bytes_of);
    return st;
}

/* What rank 0 writes of a checkpoint: the index and the manifest, put together from what all ranks tell. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/save_impl.h"

/* What each rank tells rank 0: this, then {block, hash} of each block it hashed, then its lines of the manifest. */
typedef struct report { int64_t n_file_bytes, n_hashes, n_text_bytes; } report;
typedef struct numbered_hash { int64_t block; uint64_t hash; } numbered_hash;

/* Bytes of checkpoint.h5: known from the first save on, as only numbers in it change. */
sgc_status sgc_save_index_bytes(const sgc_save *s, int64_t *n_index_bytes)
{
    sgc_status st = SGC_OK;
    char *bytes = NULL;
    size_t n_bytes;
    SGC_TRY(sgc_index_make(s->model, &s->info, &s->state, s->parts, s->n_parts, s->files, &bytes, &n_bytes));
    *n_index_bytes = (int64_t)n_bytes;
done:
    free(bytes);
    return st;
}

int64_t sgc_save_manifest_bytes(const sgc_save *s, int64_t n_index_bytes)
{
    sgc_str text = {0};
    const int64_t hash_line = 22, n_config = (int64_t)strlen(s->config_text);
    sgc_manifest_put_head(&text, s->id, s->state.step, s->world_size, s->files->n_files, s->block_size);
    sgc_manifest_put_file(&text, SGC_FILE_INDEX, s->files->n_files, n_index_bytes);
    sgc_manifest_put_file(&text, SGC_FILE_CONFIG, s->files->n_files, n_config);
    sgc_manifest_put_end(&text);
    int64_t n = (int64_t)text.n + hash_line * ((n_index_bytes + s->block_size - 1) / s->block_size + (n_config + s->block_size - 1) / s->block_size);
    sgc_str_free(&text);
    return n;
}

void sgc_save_put_data_lines(const sgc_save *s, sgc_str *text)
{
    sgc_str_printf(text, "%s", "");
    if (sgc_files_are_shared(s->files)) sgc_manifest_put_shard(text, s->rank);
    for (int k = 0; k < s->n_parts; k++)
        sgc_manifest_put_data(text, s->layout.offset[k], s->parts[k].flat.n_shard, s->parts[k].slot, s->parts[k].unit->name);
}

sgc_status sgc_save_gather(sgc_save *s)
{
    sgc_status st = SGC_OK;
    sgc_str text = {0}, message = {0};
    report r = {.n_file_bytes = s->layout.n_bytes};
    sgc_save_put_data_lines(s, &text);
    r.n_text_bytes = (int64_t)text.n;
    for (int64_t k = 0; k < s->hashes.n_blocks; k++) r.n_hashes += s->hashes.owner[k] == SGC_BLOCK_OWN;
    sgc_str_append(&message, &r, sizeof(r));
    for (int64_t k = 0; k < s->hashes.n_blocks; k++) {
        numbered_hash h = {.block = k, .hash = s->hashes.hash[k]};
        if (s->hashes.owner[k] == SGC_BLOCK_OWN) sgc_str_append(&message, &h, sizeof(h));
    }
    sgc_str_append(&message, text.text, text.n);
    SGC_TRY(sgc_gather_bytes(s->group, message.text, (int64_t)message.n, &s->lines, s->n_lines_of, 0));
done:
    sgc_str_free(&text);
    sgc_str_free(&message);
    return st;
}

/* The shard files' part of the manifest, out of the reports of all ranks. */
static sgc_status put_shard_files(const sgc_save *s, sgc_str *manifest)
{
    sgc_status st = SGC_OK;
    int n_files = s->files->n_files;
    struct { int64_t n_bytes, n_blocks, n_hashed; uint64_t *hash; sgc_str text; } *file = calloc((size_t)n_files, sizeof(*file));
    const char *at = s->lines;
    if (!file) return sgc_err(SGC_ENOMEM, "no memory for the manifest");
    for (int rank = 0; rank < s->world_size; rank++) {
        report r;
        int k = s->files->file_of[rank];
        memcpy(&r, at, sizeof(r));
        at += sizeof(r);
        if (!file[k].hash) {
            file[k].n_bytes = r.n_file_bytes;
            file[k].n_blocks = (r.n_file_bytes + s->block_size - 1) / s->block_size;
            if (!(file[k].hash = calloc((size_t)file[k].n_blocks + 1, sizeof(uint64_t)))) {
                st = sgc_err(SGC_ENOMEM, "no memory for the manifest");
                goto done;
            }
        }
        for (int64_t i = 0; i < r.n_hashes; i++, at += sizeof(numbered_hash)) {
            numbered_hash h;
            memcpy(&h, at, sizeof(h));
            file[k].hash[h.block] = h.hash;
            file[k].n_hashed++;
        }
        sgc_str_append(&file[k].text, at, (size_t)r.n_text_bytes);
        at += r.n_text_bytes;
    }
    for (int k = 0; k < n_files; k++) {
        if (file[k].n_hashed != file[k].n_blocks) { /* each block has one writer */
            st = sgc_err(SGC_EARG, "%" PRId64 " of %" PRId64 " blocks of shard file %d were hashed", file[k].n_hashed, file[k].n_blocks, k);
            goto done;
        }
        sgc_manifest_put_file(manifest, SGC_FILE_SHARDS + k, n_files, file[k].n_bytes);
        for (int64_t i = 0; i < file[k].n_blocks; i++) sgc_manifest_put_hash(manifest, file[k].hash[i]);
        sgc_str_append(manifest, file[k].text.text, file[k].text.n);
    }
done:
    for (int k = 0; k < n_files; k++) {
        free(file[k].hash);
        sgc_str_free(&file[k].text);
    }
    free(file);
    return st;
}

sgc_status sgc_save_index(sgc_save *s)
{
    sgc_status st = SGC_OK;
    size_t n_index;
    if (s->rank != 0) return SGC_OK;
    s->info.save_s = sgc_time_s() - s->start_s;
    SGC_TRY(sgc_index_make(s->model, &s->info, &s->state, s->parts, s->n_parts, s->files, &s->index, &n_index));
    s->n_index = (int64_t)n_index;
done:
    return st;
}

sgc_status sgc_save_compose(sgc_save *s)
{
    sgc_status st = SGC_OK;
    int n_files = s->files->n_files;
    if (s->rank != 0) return SGC_OK;
    sgc_manifest_put_head(&s->manifest, s->id, s->state.step, s->world_size, n_files, s->block_size);
    sgc_manifest_put_bytes(&s->manifest, SGC_FILE_INDEX, n_files, s->index, (size_t)s->n_index, s->block_size);
    sgc_manifest_put_bytes(&s->manifest, SGC_FILE_CONFIG, n_files, s->config_text, strlen(s->config_text), s->block_size);
    SGC_TRY(put_shard_files(s, &s->manifest));
    sgc_manifest_put_end(&s->manifest);
done:
    return st;
}

sgc_status sgc_save_compose_shared(sgc_save *s)
{
    sgc_status st = sgc_save_compose(s);
    int64_t n[2] = {s->n_index, (int64_t)s->manifest.n};
    char *manifest = NULL;
    SGC_AGREE(s->group);
    SGC_TRY(sgc_bcast_bytes(s->group, n, sizeof(n), 0));
    if (s->rank != 0 && (!(s->index = malloc((size_t)n[0])) || !(manifest = malloc((size_t)n[1])))) st = sgc_err(SGC_ENOMEM, "no memory for the manifest");
    SGC_AGREE(s->group);
    SGC_TRY(sgc_bcast_bytes(s->group, s->index, n[0], 0));
    SGC_TRY(sgc_bcast_bytes(s->group, s->rank == 0 ? s->manifest.text : manifest, n[1], 0));
    s->n_index = n[0];
    if (s->rank != 0) sgc_str_append(&s->manifest, manifest, (size_t)n[1]);
done:
    free(manifest);
    return st;
}

/* checkpoint.h5: every tensor whole, as a virtual dataset over the shards; the state of the run; root attributes. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/h5.h"
#include "ckpt/shard_impl.h"

#define FIELD(type, s, name, is_newer) {#name, type, offsetof(s, name), sizeof(((s *)0)->name), is_newer}

const sgc_ckpt_field sgc_ckpt_state_fields[] = {
#define INT64(name) FIELD(SGC_FIELD_INT64, sgc_run_state, name, false)
#define DOUBLE(name) FIELD(SGC_FIELD_DOUBLE, sgc_run_state, name, false)
#define NEWER(type, name) FIELD(SGC_FIELD_##type, sgc_run_state, name, true)
    INT64(step), INT64(samples), INT64(epoch), INT64(epoch_position), INT64(tokens), INT64(seed), INT64(data_seed),
    DOUBLE(total_flos), DOUBLE(train_loss_sum), INT64(train_loss_n), DOUBLE(window_loss_sum), INT64(window_loss_n),
    DOUBLE(last_loss), DOUBLE(last_eval_loss), DOUBLE(best_metric), INT64(best_step), DOUBLE(plateau_rate), DOUBLE(plateau_best),
    INT64(plateau_n_bad), INT64(plateau_has_best), NEWER(DOUBLE, loss_scale), NEWER(INT64, loss_scale_n_good), NEWER(INT64, n_skipped), {0},
#undef INT64
#undef DOUBLE
#undef NEWER
};
enum { N_STATE_FIELDS = sizeof(sgc_ckpt_state_fields) / sizeof(sgc_ckpt_state_fields[0]) - 1 };
_Static_assert(N_STATE_FIELDS * 8 == sizeof(sgc_run_state), "every field of the state has a row");

const sgc_ckpt_field sgc_ckpt_info_fields[] = {
#define INFO(type, name) FIELD(type, sgc_ckpt_info, name, false)
    INFO(SGC_FIELD_TEXT, id), INFO(SGC_FIELD_TEXT, run_id), INFO(SGC_FIELD_INT64, step), INFO(SGC_FIELD_INT, world_size), INFO(SGC_FIELD_INT, stage), INFO(SGC_FIELD_FLAG, bf16), INFO(SGC_FIELD_FLAG, fp16),
    INFO(SGC_FIELD_INT64, global_batch), INFO(SGC_FIELD_TEXT, date), INFO(SGC_FIELD_TEXT, host), INFO(SGC_FIELD_TEXT, dtype), INFO(SGC_FIELD_TEXT, isa),
    INFO(SGC_FIELD_TEXT, version), INFO(SGC_FIELD_DOUBLE, loss), INFO(SGC_FIELD_DOUBLE, eval_loss), INFO(SGC_FIELD_DOUBLE, save_s),
    INFO(SGC_FIELD_INT64, n_parameters), {0},
#undef INFO
};

hid_t sgc_dtype_h5(sgc_dtype dtype)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (dtype == SGC_F32) return type;
    size_t n_exponent = dtype == SGC_BF16 ? 8 : 5, n_fraction = 15 - n_exponent;
    H5Tset_fields(type, 15, n_fraction, n_exponent, 0, n_fraction); /* of the 32 bits that it still has */
    H5Tset_precision(type, 16);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, ((size_t)1 << (n_exponent - 1)) - 1);
    return type;
}

/* Map the elements of a tensor that lie in shard `rank` to that shard's dataset. A slice may start in mid-row: several boxes. */
static sgc_status map_shard(hid_t creation, const char *id, const sgc_ckpt_files *files, const sgc_ckpt_part *part, const sgc_param_spec *tensor,
                            int rank)
{
    sgc_status st = SGC_OK;
    char file[64], dataset[256];
    sgc_box boxes[2 * SGC_MAX_DIM - 1];
    int64_t n_slice, n_shard = part->flat.n_shard;
    int64_t first = sgc_flat_overlap(&part->flat, rank, tensor->offset, tensor->n, &n_slice);
    if (n_slice == 0) return SGC_OK;
    sgc_manifest_path(file, SGC_FILE_SHARDS + files->file_of[rank], files->n_files);
    sgc_shard_dataset(dataset, files, id, rank, part);
    hsize_t shape[SGC_MAX_DIM];
    for (int d = 0; d < tensor->n_dim; d++) shape[d] = (hsize_t)tensor->shape[d];
    hid_t to = H5Screate_simple(tensor->n_dim, shape, NULL);
    hid_t from = H5Screate_simple(1, (hsize_t[]){(hsize_t)n_shard}, NULL);
    int n_boxes = sgc_flat_boxes(tensor->n_dim, tensor->shape, first - tensor->offset, n_slice, boxes);
    for (int b = 0; b < n_boxes && st == SGC_OK; b++) {
        hsize_t start[SGC_MAX_DIM], count[SGC_MAX_DIM], n = 1;
        for (int d = 0; d < tensor->n_dim; d++) {
            start[d] = (hsize_t)boxes[b].start[d];
            count[d] = (hsize_t)boxes[b].count[d];
            n *= count[d];
        }
        hsize_t source = (hsize_t)(first - rank * n_shard + boxes[b].first);
        if (H5Sselect_hyperslab(to, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
            H5Sselect_hyperslab(from, H5S_SELECT_SET, &source, NULL, &n, NULL) < 0 || H5Pset_virtual(creation, to, file, dataset, from) < 0)
            st = sgc_err(SGC_EIO, "HDF5 cannot map %s to %s", tensor->name, file);
    }
    H5Sclose(to);
    H5Sclose(from);
    return st;
}

/* NaN is the fill value: HDF5 reads what a missing shard should hold as the fill value, without an error. */
static sgc_status write_tensor(hid_t file, hid_t type, const char *id, const sgc_ckpt_files *files, const sgc_ckpt_part *part,
                               const sgc_param_spec *tensor)
{
    sgc_status st = SGC_OK;
    char path[256];
    const float nan_fill = NAN;
    hsize_t shape[SGC_MAX_DIM];
    for (int d = 0; d < tensor->n_dim; d++) shape[d] = (hsize_t)tensor->shape[d];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(tensor->n_dim, shape, NULL), dataset = H5I_INVALID_HID;
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(creation, false);
    H5Pset_fill_value(creation, H5T_NATIVE_FLOAT, &nan_fill);
    int first_rank = (int)(tensor->offset / part->flat.n_shard), last_rank = (int)((tensor->offset + tensor->n - 1) / part->flat.n_shard);
    for (int rank = first_rank; rank <= last_rank; rank++) SGC_TRY(map_shard(creation, id, files, part, tensor, rank));
    snprintf(path, sizeof(path), "/%s/%s", sgc_slot_path[part->slot], tensor->name);
    dataset = H5Dcreate2(file, path, type, space, links, creation, H5P_DEFAULT);
    if (dataset < 0) st = sgc_err(SGC_EIO, "HDF5 cannot make the virtual dataset %s", path);
done:
    if (dataset >= 0) H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(creation);
    H5Pclose(links);
    return st;
}

/* A tied output layer is the embedding under a second name. */
static sgc_status link_tied_head(hid_t file, sgc_slot slot)
{
    char embedding[64], head[64];
    snprintf(embedding, sizeof(embedding), "/%s/wte.weight", sgc_slot_path[slot]);
    snprintf(head, sizeof(head), "/%s/lm_head.weight", sgc_slot_path[slot]);
    if (H5Lcreate_hard(file, embedding, file, head, H5P_DEFAULT, H5P_DEFAULT) < 0)
        return sgc_err(SGC_EIO, "HDF5 cannot link %s to %s", head, embedding);
    return SGC_OK;
}

static sgc_status write_state(hid_t file, const sgc_run_state *state)
{
    sgc_status st = SGC_OK;
    char path[64];
    for (const sgc_ckpt_field *f = sgc_ckpt_state_fields; f->name; f++) {
        snprintf(path, sizeof(path), "/state/%s", f->name);
        SGC_TRY(sgc_h5_write(file, path, f->type == SGC_FIELD_DOUBLE ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, 0, NULL,
                             (const char *)state + f->offset));
    }
done:
    return st;
}

static sgc_status write_info(hid_t file, const sgc_ckpt_info *info)
{
    sgc_status st = SGC_OK;
    SGC_TRY(sgc_h5_attr_int(file, "format_version", SGC_CKPT_VERSION));
    for (const sgc_ckpt_field *f = sgc_ckpt_info_fields; f->name; f++) {
        const void *value = (const char *)info + f->offset;
        switch (f->type) {
        case SGC_FIELD_INT64: SGC_TRY(sgc_h5_attr_int(file, f->name, *(const int64_t *)value)); break;
        case SGC_FIELD_INT:
        case SGC_FIELD_FLAG: SGC_TRY(sgc_h5_attr_int(file, f->name, *(const int *)value)); break;
        case SGC_FIELD_DOUBLE: SGC_TRY(sgc_h5_attr_double(file, f->name, *(const double *)value)); break;
        case SGC_FIELD_TEXT: SGC_TRY(sgc_h5_attr_text(file, f->name, value)); break;
        }
    }
done:
    return st;
}

/* One piece of memory out of the sketch: what lies between its pieces is zero. */
static sgc_status flatten(const sgc_h5_sketch *sketch, char **bytes)
{
    if (!(*bytes = calloc(1, (size_t)sketch->n_bytes + 1))) return sgc_err(SGC_ENOMEM, "no memory for checkpoint.h5");
    for (int i = 0; i < sketch->n_pieces; i++) {
        const sgc_h5_piece *p = &sketch->pieces[i];
        int64_t n = p->offset + p->n_bytes <= sketch->n_bytes ? p->n_bytes : sketch->n_bytes - p->offset;
        if (n > 0) memcpy(*bytes + p->offset, p->bytes, (size_t)n);
    }
    return SGC_OK;
}

sgc_status sgc_index_make(const sgc_model *model, const sgc_ckpt_info *info, const sgc_run_state *state, const sgc_ckpt_part *parts, int n_parts,
                          const sgc_ckpt_files *files, char **bytes, size_t *n_bytes)
{
    sgc_status st = SGC_OK;
    bool has_slot[SGC_N_SLOTS] = {false};
    sgc_h5 *f = NULL;
    sgc_h5_sketch sketch = {0};
    sgc_dtype dtype = SGC_F32;
    sgc_dtype_find(info->dtype, &dtype);
    hid_t type = sgc_dtype_h5(dtype);
    SGC_TRY(sgc_h5_create_sketch(&f, "checkpoint.h5"));
    for (int k = 0; k < n_parts; k++) {
        has_slot[parts[k].slot] = true;
        for (int i = 0; i < parts[k].unit->n_params; i++)
            SGC_TRY(write_tensor(sgc_h5_id(f), type, info->id, files, &parts[k], &parts[k].unit->params[i]));
    }
    for (int slot = 0; slot < SGC_N_SLOTS; slot++)
        if (has_slot[slot] && model->options.tie_word_embeddings) SGC_TRY(link_tied_head(sgc_h5_id(f), slot));
    SGC_TRY(write_state(sgc_h5_id(f), state));
    SGC_TRY(write_info(sgc_h5_id(f), info));
    SGC_TRY(sgc_h5_close_sketch(&f, &sketch));
    SGC_TRY(flatten(&sketch, bytes));
    *n_bytes = (size_t)sketch.n_bytes;
done:
    if (f) SGC_KEEP(sgc_h5_close(&f));
    H5Tclose(type);
    sgc_h5_sketch_free(&sketch);
    return st;
}

static sgc_status read_state(hid_t file, sgc_run_state *state)
{
    for (const sgc_ckpt_field *f = sgc_ckpt_state_fields; f->name; f++) {
        char path[64];
        snprintf(path, sizeof(path), "/state/%s", f->name);
        if (f->is_newer && H5Lexists(file, path, H5P_DEFAULT) == 0) continue; /* the state is zero */
        hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(dataset);
        bool read = H5Sget_simple_extent_npoints(space) == 1 &&
                    H5Dread(dataset, f->type == SGC_FIELD_DOUBLE ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                            (char *)state + f->offset) >= 0;
        if (space >= 0) H5Sclose(space);
        if (dataset >= 0) H5Dclose(dataset);
        if (!read) return sgc_err(SGC_EDATA, "dataset %s is missing or is no number", path);
    }
    return SGC_OK;
}

static sgc_status read_info(hid_t file, sgc_ckpt_info *info)
{
    sgc_status st = SGC_OK;
    for (const sgc_ckpt_field *f = sgc_ckpt_info_fields; f->name; f++) {
        void *value = (char *)info + f->offset;
        int64_t number = 0;
        switch (f->type) {
        case SGC_FIELD_INT64: SGC_TRY(sgc_h5_get_int(file, f->name, value)); break;
        case SGC_FIELD_INT: SGC_TRY(sgc_h5_get_int(file, f->name, &number)); *(int *)value = (int)number; break;
        case SGC_FIELD_FLAG:
            if (H5Aexists(file, f->name) > 0) SGC_TRY(sgc_h5_get_int(file, f->name, &number));
            *(int *)value = (int)number;
            break;
        case SGC_FIELD_DOUBLE: SGC_TRY(sgc_h5_get_double(file, f->name, value)); break;
        case SGC_FIELD_TEXT: SGC_TRY(sgc_h5_get_text(file, f->name, value, f->bytes)); break;
        }
    }
done:
    return st;
}

sgc_status sgc_index_read(void *bytes, size_t n_bytes, const char *path, sgc_ckpt_info *info, sgc_run_state *state)
{
    sgc_status st = SGC_OK;
    hid_t file = H5I_INVALID_HID;
    int64_t version;
    SGC_TRY(sgc_h5_open_image(&file, bytes, n_bytes));
    SGC_TRY(sgc_h5_get_int(file, "format_version", &version));
    if (version != SGC_CKPT_VERSION) {
        st = sgc_err(SGC_EDATA, "format version %lld, this program reads version %d", (long long)version, SGC_CKPT_VERSION);
        goto done;
    }
    SGC_TRY(read_info(file, info));
    SGC_TRY(read_state(file, state));
done:
    if (file >= 0) H5Fclose(file);
    if (st == SGC_OK) return SGC_OK;
    char what[512];
    snprintf(what, sizeof(what), "%s", sgc_err_message());
    sgc_err_clear();
    return sgc_err(SGC_ECKPT, "%s: %s", path, what);
}

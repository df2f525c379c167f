/* A shard file: this rank's slices of the flat buffers, one contiguous dataset each. */
#include <stdlib.h>

#include "base/h5.h"
#include "ckpt/ckpt_impl.h"

sgc_status sgc_shard_write(const char *directory, const char *id, int rank, int world_size, int64_t block_size, const sgc_ckpt_part *parts,
                           int n_parts, sgc_str *manifest)
{
    sgc_status st = SGC_OK;
    char name[64], path[SGC_PATH_MAX], dataset[256];
    sgc_h5 *f = NULL;
    int64_t *offset = calloc((size_t)n_parts + 1, sizeof(*offset)), n_bytes;
    if (!offset) return sgc_err(SGC_ENOMEM, "no memory for the offsets of a shard");
    sgc_manifest_path(name, SGC_FILE_SHARDS + rank, world_size);
    SGC_TRY(sgc_path_join(path, directory, name));
    SGC_TRY(sgc_h5_create(&f, path));
    for (int k = 0; k < n_parts; k++) {
        const hsize_t shape[1] = {(hsize_t)parts[k].flat.n_shard};
        snprintf(dataset, sizeof(dataset), "/%s/%s/%s", id, sgc_slot_path[parts[k].slot], parts[k].unit->name);
        SGC_TRY(sgc_h5_write(sgc_h5_id(f), dataset, H5T_IEEE_F32LE, 1, shape, parts[k].values));
        SGC_TRY(sgc_h5_offset(sgc_h5_id(f), dataset, &offset[k], &n_bytes));
    }
    SGC_TRY(sgc_h5_close(&f));
    SGC_TRY(sgc_manifest_put_file(manifest, directory, SGC_FILE_SHARDS + rank, world_size, block_size));
    for (int k = 0; k < n_parts; k++)
        sgc_manifest_put_data(manifest, offset[k], parts[k].flat.n_shard, parts[k].slot, parts[k].unit->name);
done:
    SGC_KEEP(sgc_h5_close(&f));
    free(offset);
    return st;
}

/* stagecoach ckpt convert: another number of shards, weights only, another element type. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "cli/ckpt_impl.h"

sgc_status sgc_cli_ckpt_convert(const sgc_ckpt_arguments *a, sgc_group *group, bool *differs)
{
    (void)differs;
    sgc_status st = SGC_OK;
    const sgc_convert_spec spec = {.n_shards = (int)a->shards, .weights_only = a->weights_only, .has_dtype = a->has_dtype, .dtype = a->dtype};
    sgc_convert_result r;
    char size[32];
    SGC_TRY(sgc_ckpt_convert(a->paths[0], a->paths[1], &spec, group, &r));
    if (sgc_group_rank(group) != 0) goto done;
    if (r.n_overflows)
        sgc_log_warning("%" PRId64 " numbers are beyond the range of %s and became infinite", r.n_overflows, sgc_dtype_name(r.dtype));
    if (a->json)
        st = sgc_cli_print_json(json_pack("{so, si, ss, sb, sI, sI}", "checkpoint", sgc_cli_string(a->paths[1]), "shards", r.n_shards, "dtype",
                                          sgc_dtype_name(r.dtype), "weights_only", r.weights_only, "bytes", (json_int_t)r.n_bytes, "n_overflows",
                                          (json_int_t)r.n_overflows));
    else
        printf("%s: %d shard%s of %s%s, %s\n", a->paths[1], r.n_shards, r.n_shards == 1 ? "" : "s", sgc_dtype_name(r.dtype),
               r.weights_only ? ", weights only" : "", sgc_format_bytes((double)r.n_bytes, size));
done:
    return sgc_agree(group, st);
}

/* Which rank's shard goes into which file. */
#include <stdlib.h>

#include "ckpt/shard_impl.h"

int sgc_files_leader(const sgc_ckpt_files *f, int file)
{
    int rank = 0;
    while (f->file_of[rank] != file) rank++;
    return rank;
}

static sgc_status new_files(sgc_ckpt_files **out, int n_shards)
{
    sgc_ckpt_files *f = *out = calloc(1, sizeof(*f));
    if (f) *f = (sgc_ckpt_files){.n_shards = n_shards, .n_files = n_shards, .file_of = calloc((size_t)n_shards, sizeof(*f->file_of))};
    if (f && f->file_of) return SGC_OK;
    free(f);
    *out = NULL;
    return sgc_err(SGC_ENOMEM, "no memory for the list of shard files");
}

sgc_status sgc_files_single(sgc_ckpt_files **out, int n_shards)
{
    sgc_status st = SGC_OK;
    SGC_TRY(new_files(out, n_shards));
    for (int shard = 0; shard < n_shards; shard++) (*out)->file_of[shard] = shard;
done:
    return st;
}

sgc_status sgc_files_make(sgc_ckpt_files **out, const sgc_world *w, int64_t writers_per_node)
{
    sgc_status st = SGC_OK;
    int64_t *leader_of = calloc((size_t)w->size, sizeof(*leader_of)), mine = -1;
    *out = NULL;
    st = new_files(out, w->size);
    if (st == SGC_OK && !leader_of) st = sgc_err(SGC_ENOMEM, "no memory for the list of shard files");
    SGC_AGREE(w->all);
    if (writers_per_node <= 0 || writers_per_node > w->node_size) writers_per_node = w->node_size;
    /* Node-local ranks go to writers in equal runs; the first of a run leads. World and node number ranks in the same order. */
    int64_t writer = w->node_rank * writers_per_node / w->node_size;
    bool leads = w->node_rank == 0 || (w->node_rank - 1) * writers_per_node / w->node_size != writer;
    for (int64_t k = 0; k < writers_per_node; k++) {
        double leader = leads && k == writer ? w->rank : w->size;
        SGC_TRY(sgc_min_double(w->node, &leader, 1));
        if (k == writer) mine = (int64_t)leader;
    }
    leader_of[w->rank] = mine;
    SGC_TRY(sgc_sum_int64(w->all, leader_of, w->size));
    (*out)->n_files = 0;
    for (int rank = 0; rank < w->size; rank++) {
        bool is_leader = leader_of[rank] == rank;
        (*out)->file_of[rank] = is_leader ? (*out)->n_files : (*out)->file_of[leader_of[rank]];
        (*out)->n_files += is_leader;
    }
done:
    free(leader_of);
    if (st != SGC_OK) {
        sgc_files_free(*out);
        *out = NULL;
    }
    return st;
}

int sgc_files_count(const sgc_ckpt_files *f) { return f->n_files; }

void sgc_files_free(sgc_ckpt_files *f)
{
    if (!f) return;
    free(f->file_of);
    free(f);
}

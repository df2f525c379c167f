#include "shard/flat.h"

static int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t sgc_flat_offsets(int n_tensors, const int64_t *n_elements, int64_t *offsets)
{
    int64_t n = 0;
    for (int i = 0; i < n_tensors; i++) {
        offsets[i] = round_up(n, SGC_FLAT_ALIGN);
        n = offsets[i] + n_elements[i];
    }
    return n;
}

sgc_flat sgc_flat_make(int64_t n, int world)
{
    int64_t n_shard = round_up((n + world - 1) / world, SGC_FLAT_BLOCK);
    return (sgc_flat){.n = n, .n_padded = n_shard * world, .n_shard = n_shard, .world = world};
}

int64_t sgc_flat_overlap(const sgc_flat *f, int rank, int64_t first, int64_t n, int64_t *n_overlap)
{
    int64_t begin = larger(first, rank * f->n_shard);
    int64_t end = smaller(first + n, (rank + 1) * f->n_shard);
    *n_overlap = larger(end - begin, 0);
    return begin;
}

/*
 * Greedy: from where the run stands, take as many whole rows as there are of the outermost dimension possible. Rows get
 * longer up to some dimension and shorter after it, at most one box for each dimension on the way out and on the way in.
 */
int sgc_flat_boxes(int n_dim, const int64_t *shape, int64_t first, int64_t n, sgc_box boxes[2 * SGC_MAX_DIM - 1])
{
    int64_t stride[SGC_MAX_DIM];
    for (int64_t d = n_dim - 1, s = 1; d >= 0; s *= shape[d], d--) stride[d] = s;

    int n_boxes = 0;
    for (int64_t i = first, end = first + n; i < end; n_boxes++) {
        /* the outermost dimension in which the run is at the start of a row, and has a whole row ahead */
        int d = n_dim - 1;
        while (d > 0 && i % stride[d - 1] == 0 && end - i >= stride[d - 1]) d--;
        /* whole rows of this dimension, but not beyond the row of the dimension outside it */
        int64_t n_rows = (end - i) / stride[d];
        if (d > 0) n_rows = smaller(n_rows, (stride[d - 1] - i % stride[d - 1]) / stride[d]);
        sgc_box *box = &boxes[n_boxes];
        *box = (sgc_box){.first = i - first};
        for (int k = 0; k < n_dim; k++) {
            box->start[k] = i / stride[k] % shape[k];
            box->count[k] = k < d ? 1 : k == d ? n_rows : shape[k];
        }
        i += n_rows * stride[d];
    }
    return n_boxes;
}

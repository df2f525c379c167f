#include <string.h>

#include "shard/flat.h"
#include "unit.h"

START_TEST(tensors_start_on_aligned_offsets_and_do_not_overlap)
{
    const int64_t n[] = {1, 16, 17, 0, 5000, 3};
    int64_t offset[6], end = sgc_flat_offsets(6, n, offset);
    ck_assert_int_eq(offset[0], 0);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(offset[i] % SGC_FLAT_ALIGN, 0);
        if (i > 0) ck_assert_int_ge(offset[i], offset[i - 1] + n[i - 1]);
        if (i > 0) ck_assert_int_lt(offset[i] - offset[i - 1] - n[i - 1], SGC_FLAT_ALIGN);
    }
    ck_assert_int_eq(end, offset[5] + 3);
}
END_TEST

START_TEST(shards_are_whole_blocks_and_hold_everything)
{
    const int64_t sizes[] = {1, 511, 512, 513, 4096, 100000, (int64_t)5 << 32};
    for (int world = 1; world <= 17; world++)
        for (int i = 0; i < 7; i++) {
            sgc_flat f = sgc_flat_make(sizes[i], world);
            ck_assert_int_eq(f.n, sizes[i]);
            ck_assert_int_eq(f.world, world);
            ck_assert_int_eq(f.n_shard % SGC_FLAT_BLOCK, 0);
            ck_assert_int_eq(f.n_padded, f.n_shard * world);
            ck_assert_int_ge(f.n_padded, f.n);
            ck_assert_int_lt(f.n_padded - f.n, (int64_t)world * SGC_FLAT_BLOCK);
        }
}
END_TEST

START_TEST(overlaps_of_all_ranks_make_the_range)
{
    for (int world = 1; world <= 5; world++) {
        sgc_flat f = sgc_flat_make(3000, world);
        for (int64_t first = 0; first < 3000; first += 123)
            for (int64_t n = 0; first + n <= 3000; n += 77) {
                int64_t next = first;
                for (int rank = 0; rank < world; rank++) {
                    int64_t n_overlap, begin = sgc_flat_overlap(&f, rank, first, n, &n_overlap);
                    if (n_overlap == 0) continue;
                    ck_assert_int_eq(begin, next);
                    ck_assert_int_ge(begin, rank * f.n_shard);
                    ck_assert_int_le(begin + n_overlap, (rank + 1) * f.n_shard);
                    next += n_overlap;
                }
                ck_assert_int_eq(next, first + n);
            }
    }
}
END_TEST

/* Whether the boxes are, element by element and in order, the run. */
static const char *wrong(int n_dim, const int64_t *shape, int64_t first, int64_t n)
{
    sgc_box boxes[2 * SGC_MAX_DIM - 1];
    int n_boxes = sgc_flat_boxes(n_dim, shape, first, n, boxes);
    if (n_boxes > 2 * n_dim - 1) return "too many boxes";
    int64_t done = 0;
    for (int k = 0; k < n_boxes; k++) {
        if (boxes[k].first != done) return "the place in the run is wrong";
        int64_t n_elements = 1;
        for (int d = 0; d < n_dim; d++) {
            if (boxes[k].count[d] < 1 || boxes[k].start[d] < 0 || boxes[k].start[d] + boxes[k].count[d] > shape[d]) return "a box is not in the tensor";
            n_elements *= boxes[k].count[d];
        }
        for (int64_t e = 0; e < n_elements; e++, done++) {
            int64_t rest = e, index = 0, stride = 1;
            for (int d = n_dim - 1; d >= 0; d--) {
                index += (boxes[k].start[d] + rest % boxes[k].count[d]) * stride;
                rest /= boxes[k].count[d];
                stride *= shape[d];
            }
            if (index != first + done) return "an element is wrong";
        }
    }
    return done == n ? NULL : "elements are missing";
}

static void try_all_runs(int n_dim, const int64_t *shape)
{
    int64_t n_elements = 1;
    for (int d = 0; d < n_dim; d++) n_elements *= shape[d];
    for (int64_t first = 0; first <= n_elements; first++)
        for (int64_t n = 0; first + n <= n_elements; n++) {
            const char *what = wrong(n_dim, shape, first, n);
            if (what != NULL)
                ck_abort_msg("%d-d %lld %lld %lld %lld, %lld from %lld: %s", n_dim, (long long)shape[0], (long long)shape[1],
                             (long long)shape[2], (long long)shape[3], (long long)n, (long long)first, what);
        }
}

START_TEST(boxes_are_the_run_for_every_small_shape)
{
    const int64_t longest[] = {0, 20, 6, 4, 3};
    for (int n_dim = 1; n_dim <= 4; n_dim++) {
        int64_t shape[4] = {1, 1, 1, 1};
        for (;;) {
            try_all_runs(n_dim, shape);
            int d = 0;
            while (d < n_dim && shape[d] == longest[n_dim]) shape[d++] = 1;
            if (d == n_dim) break;
            shape[d]++;
        }
    }
}
END_TEST

START_TEST(boxes_of_huge_tensors_do_not_overflow)
{
    const int64_t shape[] = {100000, 60000};
    sgc_box boxes[2 * SGC_MAX_DIM - 1];
    int n = sgc_flat_boxes(2, shape, 59999, (int64_t)60000 * 90000, boxes);
    ck_assert_int_eq(n, 3);
    ck_assert_int_eq(boxes[0].start[1], 59999);
    ck_assert_int_eq(boxes[1].start[0], 1);
    ck_assert_int_eq(boxes[1].count[0], 89999);
    ck_assert_int_eq(boxes[1].count[1], 60000);
    ck_assert_int_eq(boxes[2].first, 1 + (int64_t)89999 * 60000);
    ck_assert_int_eq(boxes[2].count[1], 59999);
}
END_TEST

UNIT_MAIN("flat", tensors_start_on_aligned_offsets_and_do_not_overlap, shards_are_whole_blocks_and_hold_everything,
          overlaps_of_all_ranks_make_the_range, boxes_are_the_run_for_every_small_shape, boxes_of_huge_tensors_do_not_overflow)

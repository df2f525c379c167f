/*
 * Index arithmetic of flat shards. A unit's parameters stand one after the other in one flat buffer; the buffer is padded to
 * world size and block, and cut into equal contiguous shards. No MPI, no I/O, no memory.
 */
#ifndef SGC_SHARD_FLAT_H
#define SGC_SHARD_FLAT_H

#include <stdint.h>

/* Sums over a shard go block by block. A shard is a whole number of blocks, so that cuts never depend on the world size. */
#define SGC_FLAT_BLOCK 512
/* Every tensor starts on a multiple of this many elements (64 bytes of fp32). */
#define SGC_FLAT_ALIGN 16

typedef struct sgc_flat {
    int64_t n;        /* elements up to the end of the last tensor, alignment gaps included */
    int64_t n_padded; /* n_shard * world                                                    */
    int64_t n_shard;  /* multiple of SGC_FLAT_BLOCK                                         */
    int world;
} sgc_flat;

/* Offsets of n_tensors tensors of the given sizes; returns n of the flat buffer. */
int64_t sgc_flat_offsets(int n_tensors, const int64_t *n_elements, int64_t *offsets);
sgc_flat sgc_flat_make(int64_t n, int world);

/* The part of [first, first + n) that rank r holds: start in the flat buffer and count (0: none). */
int64_t sgc_flat_overlap(const sgc_flat *f, int rank, int64_t first, int64_t n, int64_t *n_overlap);

/* A run of elements of an N-dimensional tensor (row major) as at most 2 * n_dim - 1 boxes, in order: what a hyperslab
 * selection needs when a slice starts in mid-row. boxes[k].start/count have n_dim entries. Returns the number of boxes. */
#define SGC_MAX_DIM 4
typedef struct sgc_box { int64_t start[SGC_MAX_DIM], count[SGC_MAX_DIM]; int64_t first; /* in the run */ } sgc_box;
int sgc_flat_boxes(int n_dim, const int64_t *shape, int64_t first, int64_t n, sgc_box boxes[2 * SGC_MAX_DIM - 1]);

#endif

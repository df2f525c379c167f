/*
 * Radix sort, eight bits at a time from the lowest. Each pass counts the digits of every tile; then each block finds where its numbers go from the counts
 * of all tiles. A thread has one digit and walks the tile in order, which makes the sort stable without atomic operations.
 */
#include "device/cuda/sort.cuh"

#include "device/cuda/elements.cuh"

enum { DIGITS = 256, PASSES = 4, SORT_TILE = 512 };

static size_t place_bytes(int64_t n) { return (size_t)divide_up(n, 64) * 64 * sizeof(int32_t); }

static __device__ __forceinline__ int32_t digit_of(int32_t key, int shift) { return key >> shift & (DIGITS - 1); }

/* The tile's digits into shared memory, -1 beyond the end. */
static __device__ void load_digits(int32_t *digit, const int32_t *key, int64_t n, int shift)
{
    for (int i = threadIdx.x; i < SORT_TILE; i += DIGITS) {
        const int64_t at = (int64_t)blockIdx.x * SORT_TILE + i;
        digit[i] = at < n ? digit_of(key[at], shift) : -1;
    }
    __syncthreads();
}

/* counts [tiles, DIGITS] */
static __global__ void __launch_bounds__(DIGITS) count_digits(int32_t *counts, const int32_t *key, const int64_t n, const int shift)
{
    SGC_SHARED(int32_t, digit, [SORT_TILE]);
    int32_t count = 0;
    load_digits(digit, key, n, shift);
#pragma unroll 16
    for (int i = 0; i < SORT_TILE; i++) count += digit[i] == (int32_t)threadIdx.x;
    counts[(int64_t)blockIdx.x * DIGITS + threadIdx.x] = count;
}

/* from_place NULL: numbers are still where they were */
static __global__ void __launch_bounds__(DIGITS)
    move_to_digits(int32_t *key, int32_t *place, const int32_t *from_key, const int32_t *from_place, const int32_t *counts, const int64_t n, const int shift)
{
    SGC_SHARED(int32_t, digit, [SORT_TILE]);
    SGC_SHARED(int32_t, ends, [DIGITS]);
    const int d = threadIdx.x;
    int32_t in_tiles_before = 0, in_all = 0;
    load_digits(digit, from_key, n, shift);
#pragma unroll 8
    for (int64_t tile = 0; tile < gridDim.x; tile++) {
        const int32_t count = counts[tile * DIGITS + d];
        in_all += count;
        if (tile < blockIdx.x) in_tiles_before += count;
    }
    ends[d] = in_all;
    for (int step = 1; step < DIGITS; step *= 2) { /* sums over the digits up to each */
        __syncthreads();
        const int32_t before = d >= step ? ends[d - step] : 0;
        __syncthreads();
        ends[d] += before;
    }
    int32_t to = ends[d] - in_all + in_tiles_before; /* own */
#pragma unroll 8
    for (int i = 0; i < SORT_TILE; i++)
        if (digit[i] == d) {
            const int64_t from = (int64_t)blockIdx.x * SORT_TILE + i;
            key[to] = from_key[from];
            place[to] = from_place ? from_place[from] : (int32_t)from;
            to++;
        }
}

size_t sgc_cuda_sort_bytes(int64_t n) { return 4 * place_bytes(n) + (size_t)divide_up(n, SORT_TILE) * DIGITS * sizeof(int32_t); }

void sgc_cuda_sort(sgc_device *d, const int32_t *from, int64_t n, void *scratch, const int32_t **key, const int32_t **place)
{
    const size_t bytes = place_bytes(n);
    const unsigned n_tiles = (unsigned)divide_up(n, SORT_TILE);
    int32_t *keys[2], *places[2], *counts = (int32_t *)((char *)scratch + 4 * bytes);
    const int32_t *from_place = NULL;
    for (int k = 0; k < 2; k++) {
        keys[k] = (int32_t *)((char *)scratch + (size_t)(2 * k) * bytes);
        places[k] = (int32_t *)((char *)scratch + (size_t)(2 * k + 1) * bytes);
    }
    for (int pass = 0; pass < PASSES; pass++) {
        SGC_LAUNCH(d, count_digits, n_tiles, DIGITS, 0, counts, from, n, 8 * pass);
        SGC_LAUNCH(d, move_to_digits, n_tiles, DIGITS, 0, keys[pass % 2], places[pass % 2], from, from_place, counts, n, 8 * pass);
        from = keys[pass % 2];
        from_place = places[pass % 2];
    }
    *key = from;
    *place = from_place;
}

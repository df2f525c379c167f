/*
 * What the attention kernels on tensor cores share: tiles of rows of one head in shared memory, their way there and into registers, products of
 * them, and masks. A warp owns 16 or 32 rows of a tile (M = 1 or 2 times 16) and all columns, so sums over a row stay among four lanes, and weights
 * go from one product to the next in registers. g = lane / 4, t = lane % 4, and operands as in mma.cuh.
 */
#ifndef SGC_DEVICE_CUDA_ATTENTION_TILE_CUH
#define SGC_DEVICE_CUDA_ATTENTION_TILE_CUH

#include "device/cuda/attention.cuh"
#include "device/cuda/mma.cuh"

enum { MMA_THREADS = 128 };

/* Eight elements, 16 bytes, are a piece. Piece c of row r lies where piece c ^ r % 8 would: so the same piece of eight neighbouring rows, which is
 * what matrices are loaded from, lies in all banks. */
template <int D> static __device__ __forceinline__ int in_tile(int row, int piece) { return (row * (D / 8) + (piece ^ (row & 7))) * 16; }

/* Rows of a head, first[r * stride ..]; of those from n on there is nothing, they become zeros. */
template <typename V> struct head {
    const V *first;
    int64_t stride;
    int n;
};

/* Queues copies of rows row0 .. row0 + ROWS - 1 to a tile. */
template <typename V, int D, int ROWS, int THREADS> static __device__ __forceinline__ void load_tile(char *tile, const head<V> &m, int row0)
{
    constexpr int PIECES = D / 8, STEP = THREADS / PIECES; /* rows of one step of the loop */
    const int piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
    const V *from = m.first + (row0 + row) * m.stride + piece * 8;
    char *to = tile + in_tile<D>(row, piece); /* STEP is a multiple of 8, so further rows have the same place in them */
#pragma unroll
    for (int k = 0; k < ROWS / STEP; k++, from += STEP * m.stride) {
        const bool is_there = row0 + row + k * STEP < m.n;
        copy16_async(to + k * STEP * D * 2, is_there ? from : m.first, is_there);
    }
}

/* Where a lane's rows of matrices lie, in a tile that is the left operand of a product or, loaded transposed, has the terms of its sums as rows; and
 * in one whose rows are multiplied with those of the left. Both are for row 0, piece 0; other rows that are multiples of 16 are added, other pieces
 * that are multiples of 2 exchanged by ^. */
template <int D> static __device__ __forceinline__ int lane_of_left(int lane) { return in_tile<D>(lane % 16, lane / 16); }
template <int D> static __device__ __forceinline__ int lane_of_right(int lane) { return in_tile<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2); }
template <int D> static __device__ __forceinline__ int matrices_at(int of_lane, int row, int piece) { return (of_lane ^ piece * 16) + row * D * 2; }

/* s += products of the M * 16 rows of the left tile from left0 with N rows of the right one from right0. */
template <typename V, int D, int M, int N>
static __device__ __forceinline__ void multiply_rows(float (&s)[M][N / 8][4], const char *left, int left0, const char *right, int right0)
{
    const int lane = threadIdx.x % WARP, at_left = lane_of_left<D>(lane), at_right = lane_of_right<D>(lane);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) load_matrices(a[m], left + matrices_at<D>(at_left, left0 + 16 * m, 2 * k));
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            uint32_t b[4];
            load_matrices(b, right + matrices_at<D>(at_right, right0 + 16 * n, 2 * k));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<V>(s[m][2 * n], a[m], b[0], b[1]);
                mma_16x8x16<V>(s[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

/* out += weights, packed, times N rows of the tile from row0: those are the terms of the sum. */
template <typename V, int D, int M, int N>
static __device__ __forceinline__ void add_product(float (&out)[M][D / 8][4], const float (&weights)[M][N / 8][4], const char *tile, int row0)
{
    const int at = lane_of_left<D>(threadIdx.x % WARP);
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int w = 0; w < 4; w++) a[m][w] = pack2<V>(weights[m][2 * k + w / 2][w % 2 * 2], weights[m][2 * k + w / 2][w % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            load_matrices_transposed(b, tile + matrices_at<D>(at, row0 + 16 * k, 2 * n));
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<V>(out[m][2 * n], a[m], b[0], b[1]);
                mma_16x8x16<V>(out[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

template <int M, int N> static __device__ __forceinline__ void set_zero(float (&s)[M][N][4])
{
#pragma unroll
    for (int k = 0; k < M * N * 4; k++) s[k / (N * 4)][k / 4 % N][k % 4] = 0;
}

/* Numbers of a warp's rows, which are `first` of the result on, through its own part of shared memory so that rows leave in 16 bytes a lane.
 * factor: of rows g and g + 8 of each 16. */
template <typename V, int D, int M>
static __device__ __forceinline__ void put_rows(V *rows, int64_t stride, int first, int n_rows, const float (&out)[M][D / 8][4], const float (*factor)[2],
                                                char *part)
{
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int k = 0; k < M * (D / 8) * 2; k++) {
        const int m = k / (D / 8 * 2), n = k / 2 % (D / 8), upper = k % 2;
        *(uint32_t *)(part + in_tile<D>(16 * m + 8 * upper + g, n) + 4 * t) =
            pack2<V>(out[m][n][2 * upper] * factor[m][upper], out[m][n][2 * upper + 1] * factor[m][upper]);
    }
    __syncwarp();
#pragma unroll
    for (int k = 0; k < M * 16 * (D / 8) / WARP; k++) {
        const int r = (k * WARP + lane) / (D / 8), piece = lane % (D / 8);
        if (first + r < n_rows) *(uint4 *)(rows + (first + r) * stride + piece * 8) = *(const uint4 *)(part + in_tile<D>(r, piece));
    }
    __syncwarp();
}

/*
 * Which weights are kept, of 16 rows by 8 n columns as a product leaves them: bit 4 n + e is of number e of s[n]. A word of random bits decides four
 * neighbouring keys of a query, which lie in different lanes: each lane makes some of these for all, so that none is made twice.
 */

/* Rows are queries from i0, columns keys from j0. Lanes 2t and 2t + 1 need the same words: the even one makes those of row g, the odd one of row g + 8. */
template <int N> static __device__ __forceinline__ uint32_t kept_of_queries(const attention &a, int64_t first_element, int i0, int j0, int64_t sample)
{
    static_assert(N <= 8, "four bits each");
    const int lane = threadIdx.x % WARP, odd = lane & 1;
    const uint64_t e = (uint64_t)(first_element + (i0 + lane / 4 + 8 * odd) * a.T + j0 + lane % 4 / 2 * 4);
    uint32_t own = 0;
#pragma unroll 2
    for (int n = 0; n < N; n++) own |= kept_4(a.drop, e + 8 * n, sample) << 4 * n;
    const uint32_t other = __shfl_xor_sync(ALL_LANES, own, 1);
    /* Of each row's four bits the even lane has the lower two columns, the odd lane the upper two. */
    return odd ? (other >> 2 & 0x33333333u) | (own & 0xccccccccu) : (own & 0x33333333u) | (other << 2 & 0xccccccccu);
}

/* Rows are keys from j0, columns queries from i0. Lanes g = 4u .. 4u + 3 of one t need the same words: those of keys 4u.. and 8 + 4u.. for
 * queries 2t and 2t + 1; lane 4u + r makes those of query 2t + r % 2 and keys 4u + r / 2 * 8. */
template <int N> static __device__ __forceinline__ uint32_t kept_of_keys(const attention &a, int64_t first_element, int i0, int j0, int64_t sample)
{
    static_assert(N <= 8, "four bits each");
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4, r = g % 4;
    const uint64_t e = (uint64_t)(first_element + (i0 + 2 * t + r % 2) * a.T + j0 + g / 4 * 4 + r / 2 * 8);
    uint32_t own = 0, bits = 0;
#pragma unroll 2
    for (int n = 0; n < N; n++) own |= kept_4(a.drop, e + (uint64_t)(8 * n * a.T), sample) << 4 * n;
#pragma unroll
    for (int number = 0; number < 4; number++) { /* of s[n]: query 2t + number % 2, key g + number / 2 * 8 */
        const uint32_t word = __shfl_sync(ALL_LANES, own, g / 4 * 16 + number * 4 + t);
        bits |= (word >> r & 0x11111111u) << number;
    }
    return bits;
}

#endif

/*
 * The tensor-core and copy functions of src/device/cuda/mma.cuh, with the layouts of the PTX manual: m16n8k16 of 16-bit elements, ldmatrix of
 * 8 x 8 matrices, cp.async. Copies happen when they are waited for and not before, so that what forgets to wait reads poison.
 */
#ifndef EMULATED_MMA_H
#define EMULATED_MMA_H

#include "async_copies.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"

namespace emulated {

template <typename V> static inline float value_of(uint32_t word, int half);
template <> inline float value_of<__nv_bfloat16>(uint32_t word, int half) { return __uint_as_float(half ? word & 0xffff0000u : word << 16); }
template <> inline float value_of<__half>(uint32_t word, int half) { return __half2float({(unsigned short)(half ? word >> 16 : word)}); }

struct operands { uint32_t a[4], b[2]; };

/* Adds a row of a and a column of b, which four lanes hold each: lane 4 * row + t has columns (rows of b) 2t, 2t + 1, 2t + 8, 2t + 9. */
template <typename V> static inline float dot(const exchange *e, int row, bool lower, int column, float c)
{
    double sum = 0;
    for (int t = 0; t < 4; t++) {
        operands left, right;
        memcpy(&left, e->values[4 * row + t], sizeof(left));
        memcpy(&right, e->values[4 * column + t], sizeof(right));
        for (int i = 0; i < 2; i++)
            for (int half = 0; half < 2; half++)
                sum += (double)value_of<V>(left.a[2 * i + lower], half) * (double)value_of<V>(right.b[i], half);
    }
    return (float)(c + sum);
}

} // namespace emulated

template <typename V> static inline void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATED_HERE)
{
    const emulated::operands own = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    emulated::exchange *e = emulated::meet("mma", 0xffffffffu, &own, sizeof(own), {file, line});
    const int g = emulated::lane() / 4, t = emulated::lane() % 4;
    for (int i = 0; i < 4; i++) c[i] = emulated::dot<V>(e, g, i >= 2, 2 * t + i % 2, c[i]);
    emulated::leave(e);
}

namespace emulated {

/* An 8 x 8 matrix whose rows share a bank of 16 bytes is read in more than one turn: counted, and told by emulated_bank_conflicts. */
static inline void load_matrices_from(uint32_t (&word)[4], const void *row, bool transposed, place where)
{
    if ((uintptr_t)row % 16 != 0) emulated_defect("ldmatrix at %s:%d: the row %p is not aligned to 16 bytes", where.file, where.line, row);
    exchange *e = meet("ldmatrix", 0xffffffffu, &row, sizeof(row), where);
    const int g = lane() / 4, t = lane() % 4;
    const char *rows[N_LANES];
    for (int i = 0; i < N_LANES; i++) memcpy(&rows[i], e->values[i], sizeof(rows[i]));
    if (lane() == 0)
        for (int m = 0; m < 4; m++) count_conflicts(rows + 8 * m);
    for (int m = 0; m < 4; m++) {
        uint16_t element[2];
        for (int i = 0; i < 2; i++) {
            const char *from = transposed ? rows[8 * m + 2 * t + i] + 2 * g : rows[8 * m + g] + 2 * (2 * t + i);
            memcpy(&element[i], from, 2);
        }
        word[m] = element[0] | (uint32_t)element[1] << 16;
    }
    leave(e);
    /* Other lanes may change what was read as soon as they go on, so all have to have read it. */
    leave(meet("ldmatrix", 0xffffffffu, NULL, 0, where));
}

} // namespace emulated

static inline void load_matrices(uint32_t (&word)[4], const void *row, EMULATED_HERE) { emulated::load_matrices_from(word, row, false, {file, line}); }
static inline void load_matrices_transposed(uint32_t (&word)[4], const void *row, EMULATED_HERE)
{
    emulated::load_matrices_from(word, row, true, {file, line});
}

static inline void copy16_async(void *shared, const void *global, bool is_there, EMULATED_HERE)
{
    emulated::copy_later(shared, global, 16, is_there, {file, line});
}
static inline void copy4_async(void *shared, const void *global, bool is_there, EMULATED_HERE)
{
    emulated::copy_later(shared, global, 4, is_there, {file, line});
}
static inline void copies_commit(void) { emulated::commit_copies(); }
template <int N> static inline void copies_wait(void) { emulated::wait_for_copies(N); }

static inline float exp2_fast(float x) { return exp2f(x); }

#endif

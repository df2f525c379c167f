/* The functions of src/device/cuda/mma.cuh where a C++ compiler reads them: operands lie as told there, and what a GPU would do slowly or late is a
 * defect or comes late here too. */
#ifndef EMULATED_MMA_H
#define EMULATED_MMA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <deque>
#include <vector>

#include "block.h"
#include "cuda_runtime.h"

namespace emulated {

struct mma_operands { uint32_t a[4], b[2]; };

/* Element `upper`, 0 or 1, of a word. */
template <typename V> static inline float half_of(uint32_t word, int upper)
{
    V x;
    uint16_t bits = (uint16_t)(upper ? word >> 16 : word);
    memcpy(&x, &bits, sizeof(x));
    return to_float(x);
}

/* A row of a matrix that a lane gives to load_matrices. */
struct matrix_row {
    uint32_t words[4];
    uintptr_t address;
};

static inline exchange *bring_row(const void *row, place where)
{
    matrix_row own;
    own.address = (uintptr_t)row;
    if (own.address % 16 != 0) emulated_defect("%s:%d: a row of a matrix is not aligned to 16 bytes", where.file, where.line);
    memcpy(own.words, row, sizeof(own.words));
    return meet("ldmatrix", 0xffffffffu, &own, sizeof(own), where);
}

static inline matrix_row row_of(const exchange *e, int source)
{
    matrix_row r;
    memcpy(&r, e->values[source], sizeof(r));
    return r;
}

/* The eight rows of a matrix are read at once if they lie in different banks. */
static inline void check_banks(const exchange *e, place where)
{
    for (int i = 0; i < N_LANES; i++)
        for (int j = i / 8 * 8; j < i; j++) {
            const uintptr_t a = row_of(e, i).address / 16, b = row_of(e, j).address / 16;
            if (a != b && a % 8 == b % 8) emulated_defect("%s:%d: rows %d and %d of matrix %d lie in the same banks", where.file, where.line, j % 8, i % 8, i / 8);
        }
}

/* Copies of a thread that have not arrived. */
struct copy {
    void *to;
    const void *from;
    size_t bytes;
    bool is_there;
};
struct thread_copies {
    uint3 block;
    std::vector<copy> open;              /* since the last commit */
    std::deque<std::vector<copy>> groups;
};

static inline thread_copies &copies_of_thread()
{
    static thread_copies all[1024];
    thread_copies &own = all[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
    const uint3 b = blockIdx;
    if (own.block.x != b.x || own.block.y != b.y || own.block.z != b.z) {
        for (const std::vector<copy> &group : own.groups)
            if (!group.empty()) emulated_defect("a thread of block (%u, %u, %u) ended before its copies had arrived", own.block.x, own.block.y, own.block.z);
        own.open.clear();
        own.groups.clear();
        own.block = b;
    }
    return own;
}

/* What is not waited for is not there. */
static inline void copy_later(void *to, const void *from, size_t bytes, bool is_there)
{
    if ((uintptr_t)to % bytes != 0 || (is_there && (uintptr_t)from % bytes != 0)) emulated_defect("a copy of %zu bytes is not aligned to as many", bytes);
    memset(to, 0xff, bytes);
    copies_of_thread().open.push_back({to, from, bytes, is_there});
}

} // namespace emulated

template <typename V> static inline void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATED_HERE)
{
    using namespace emulated;
    const mma_operands own = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    exchange *e = meet("mma", 0xffffffffu, &own, sizeof(own), {file, line});
    const int g = lane() / 4, t = lane() % 4;
    for (int i = 0; i < 4; i++) {
        const int row = g + i / 2 * 8, column = 2 * t + i % 2;
        double sum = c[i];
        for (int k = 0; k < 16; k++) {
            mma_operands left, right;
            memcpy((void *)&left, e->values[row % 8 * 4 + k % 8 / 2], sizeof(left));
            memcpy((void *)&right, e->values[column * 4 + k % 8 / 2], sizeof(right));
            sum += (double)half_of<V>(left.a[row / 8 + k / 8 * 2], k % 2) * half_of<V>(right.b[k / 8], k % 2);
            if (k % 8 == 7) sum = emulated_cut(sum);
        }
        c[i] = (float)sum;
    }
    leave(e);
}

static inline void load_matrices(uint32_t (&word)[4], const void *row, EMULATED_HERE)
{
    using namespace emulated;
    exchange *e = bring_row(row, {file, line});
    check_banks(e, {file, line});
    for (int m = 0; m < 4; m++) word[m] = row_of(e, 8 * m + lane() / 4).words[lane() % 4];
    leave(e);
}
static inline void load_matrices_transposed(uint32_t (&word)[4], const void *row, EMULATED_HERE)
{
    using namespace emulated;
    exchange *e = bring_row(row, {file, line});
    check_banks(e, {file, line});
    const int g = lane() / 4, t = lane() % 4;
    for (int m = 0; m < 4; m++) {
        word[m] = 0;
        for (int upper = 0; upper < 2; upper++) {
            const uint32_t pair = row_of(e, 8 * m + 2 * t + upper).words[g / 2];
            word[m] |= (g % 2 ? pair >> 16 : pair & 0xffff) << 16 * upper;
        }
    }
    leave(e);
}

static inline void copy16_async(void *shared, const void *global, bool is_there) { emulated::copy_later(shared, global, 16, is_there); }
static inline void copy4_async(void *shared, const void *global, bool is_there) { emulated::copy_later(shared, global, 4, is_there); }
static inline void copies_commit()
{
    emulated::thread_copies &own = emulated::copies_of_thread();
    own.groups.push_back(own.open);
    own.open.clear();
}
template <int N> static inline void copies_wait()
{
    emulated::thread_copies &own = emulated::copies_of_thread();
    for (; own.groups.size() > N; own.groups.pop_front())
        for (const emulated::copy &c : own.groups.front()) {
            if (c.is_there) memcpy(c.to, c.from, c.bytes);
            else memset(c.to, 0, c.bytes);
        }
}

static inline float exp2_fast(float x) { return exp2f(x); } /* which errs as much, see cuda_runtime.h */

#endif

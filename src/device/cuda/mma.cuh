/*
 * Tensor cores and asynchronous copies, from sm_80 on: thin names for PTX instructions. All but the copies are done by the 32 lanes of a warp
 * together. Where an operand lies (g = lane / 4, t = lane % 4; a word holds two neighbouring elements, the first in its lower half):
 *     a [16 x 16], 4 words: (row g, columns 2t, 2t + 1), (row g + 8, same), (row g, columns 2t + 8, 2t + 9), (row g + 8, same)
 *     b [16 x 8], 2 words:  (rows 2t, 2t + 1, column g), (rows 2t + 8, 2t + 9, column g)
 *     c [16 x 8], 4 floats: (row g, columns 2t, 2t + 1), (row g + 8, same)
 * So what was summed up in c for 16 columns is, packed, an a.
 */
#ifndef SGC_DEVICE_CUDA_MMA_CUH
#define SGC_DEVICE_CUDA_MMA_CUH

#include "device/cuda/types.cuh"

#ifdef __CUDACC__

/* c += a b */
template <typename V> __device__ __forceinline__ void mma_16x8x16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <> __device__ __forceinline__ void mma_16x8x16<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <> __device__ __forceinline__ void mma_16x8x16<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices of 16-bit elements from shared memory. Lane l gives the address of row l % 8 of matrix l / 8, 16 bytes aligned to 16; word m is
 * of matrix m: elements 2t and 2t + 1 of row g, or transposed, of column g. */
static __device__ __forceinline__ void load_matrices(uint32_t (&word)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}
static __device__ __forceinline__ void load_matrices_transposed(uint32_t (&word)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word[0]), "=r"(word[1]), "=r"(word[2]), "=r"(word[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

/* 16 (4) bytes from global to shared memory, both aligned to as many; zeros where is_there is false, and then nothing is read. They have arrived for
 * this thread after copies_wait, for others after a barrier too. */
static __device__ __forceinline__ void copy16_async(void *shared, const void *global, bool is_there)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(global)), "r"(is_there ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void copy4_async(void *shared, const void *global, bool is_there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(global)), "r"(is_there ? 4 : 0)
                 : "memory");
}
/* The copies since the last commit are a group; wait until all but the last N groups of this thread have arrived. */
static __device__ __forceinline__ void copies_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void copies_wait(void) { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

/* 2^x to 22 bits; 0 at minus infinity. */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else

#include "mma_emulated.h" /* of tests/gpu/emulation: the same functions */

#endif

#endif

#include "defects.h"

#include "device/cuda/mma.cuh"

static cudaError_t last;
bool sgc_cuda_check(sgc_device *, cudaError_t rc, const char *)
{
    last = rc;
    return rc == cudaSuccess;
}

#define LAUNCH(stream, kernel, shared_bytes, ...) \
    SGC_LAUNCH_ON(NULL, stream, kernel, 2, N_DEFECT_THREADS, shared_bytes, __VA_ARGS__); \
    return last

static __global__ void reverse_kernel(float *out, bool has_barrier)
{
    SGC_SHARED(float, x, [N_DEFECT_THREADS]);
    const int i = threadIdx.x;
    x[i] = i;
    if (has_barrier) __syncthreads();
    out[i] = x[N_DEFECT_THREADS - 1 - i];
}

static __global__ void warp_sums_kernel(float *out, bool in_shared_memory)
{
    SGC_DYNAMIC_SHARED(float, x);
    const int i = threadIdx.x, lane = i % WARP;
    if (!in_shared_memory) {
        out[i] = warp_sum((float)lane);
        return;
    }
    x[i] = lane;
    for (int step = 1; step < WARP; step *= 2) { /* each lane needs the other's number of the step before */
        __syncwarp();
        const float other = x[i ^ step];
        __syncwarp();
        x[i] += other;
    }
    out[i] = x[i];
}

static __global__ void half_a_barrier_kernel(float *out)
{
    if (threadIdx.x < WARP) __syncthreads();
    out[threadIdx.x] = 0;
}

static __global__ void early_return_kernel(float *out)
{
    if (threadIdx.x >= WARP) return;
    __syncthreads();
    out[threadIdx.x] = 0;
}

static __global__ void two_barriers_kernel(float *out)
{
    if (threadIdx.x < WARP) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 0;
}

static __global__ void half_a_shuffle_kernel(float *out)
{
    if (threadIdx.x % WARP < 16) out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, 1.0f, 1);
}

static __global__ void foreign_mask_kernel(float *out) { out[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0); }

static __global__ void masked_source_kernel(float *out)
{
    if (threadIdx.x % WARP < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 16);
}

static __global__ void beyond_shared_kernel(float *out, int i)
{
    SGC_SHARED(float, x, [N_DEFECT_THREADS]);
    x[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) x[i] = 2;
    out[threadIdx.x] = x[threadIdx.x];
}

static __global__ void beyond_memory_kernel(float *out, int i)
{
    if (threadIdx.x == 0) out[i] = 2;
}

static __global__ void copies_kernel(float *out, const float *in, bool waits)
{
    SGC_SHARED(float, x, [N_DEFECT_THREADS]);
    copy4_async(&x[threadIdx.x], &in[threadIdx.x], true);
    copies_commit();
    if (waits) copies_wait<0>();
    __syncthreads();
    out[threadIdx.x] = x[N_DEFECT_THREADS - 1 - threadIdx.x];
    copies_wait<0>();
}

static __global__ void add_one_kernel(float *out, const float *in) { out[threadIdx.x] = in[threadIdx.x] + 1; }

static __global__ void primitives_kernel(int *wrong)
{
    const int lane = threadIdx.x % WARP, x = 100 + lane;
    int n = 0;
    n += __shfl_sync(ALL_LANES, x, 5) != 105;
    n += __shfl_sync(ALL_LANES, x, lane, 8) != x;
    n += __shfl_sync(ALL_LANES, x, 3, 8) != 100 + lane / 8 * 8 + 3;
    n += __shfl_up_sync(ALL_LANES, x, 2) != (lane < 2 ? x : x - 2);
    n += __shfl_down_sync(ALL_LANES, x, 3) != (lane > 28 ? x : x + 3);
    n += __shfl_down_sync(ALL_LANES, x, 3, 16) != (lane % 16 > 12 ? x : x + 3);
    n += __shfl_xor_sync(ALL_LANES, (double)x, 31) != 131 - lane;
    n += __ballot_sync(ALL_LANES, lane % 3 == 0) != 0x49249249u;
    n += !__any_sync(ALL_LANES, lane == 7) + __any_sync(ALL_LANES, 0);
    n += __all_sync(ALL_LANES, lane < 31) + !__all_sync(ALL_LANES, 1);
    n += __reduce_add_sync(ALL_LANES, lane) != 496;
    n += __reduce_max_sync(ALL_LANES, lane) != 31;
    n += __match_any_sync(ALL_LANES, lane % 2) != (lane % 2 ? 0xaaaaaaaau : 0x55555555u);
    if (lane < 16) n += __shfl_xor_sync(0xffffu, x, 1) != 100 + (lane ^ 1); /* halves go their own ways */
    else n += __ballot_sync(0xffff0000u, 1) != 0xffff0000u;
    n += block_sum((float)threadIdx.x) != 4560;
    n += block_max((float)threadIdx.x) != 95;
    n += __syncthreads_count(threadIdx.x % 2) != 48;
    n += !__syncthreads_or(threadIdx.x == 95);
    n += __syncthreads_and(threadIdx.x != 5);
    atomicAdd(wrong, n);
}

static __global__ void nothing_kernel(float *) {}

cudaError_t reverse(cudaStream_t stream, float *out, bool has_barrier) { LAUNCH(stream, reverse_kernel, 0, out, has_barrier); }
cudaError_t warp_sums(cudaStream_t stream, float *out, bool in_shared_memory)
{
    LAUNCH(stream, warp_sums_kernel, N_DEFECT_THREADS * sizeof(float), out, in_shared_memory);
}
cudaError_t half_a_barrier(cudaStream_t stream, float *out) { LAUNCH(stream, half_a_barrier_kernel, 0, out); }
cudaError_t early_return(cudaStream_t stream, float *out) { LAUNCH(stream, early_return_kernel, 0, out); }
cudaError_t two_barriers(cudaStream_t stream, float *out) { LAUNCH(stream, two_barriers_kernel, 0, out); }
cudaError_t half_a_shuffle(cudaStream_t stream, float *out) { LAUNCH(stream, half_a_shuffle_kernel, 0, out); }
cudaError_t foreign_mask(cudaStream_t stream, float *out) { LAUNCH(stream, foreign_mask_kernel, 0, out); }
cudaError_t masked_source(cudaStream_t stream, float *out) { LAUNCH(stream, masked_source_kernel, 0, out); }
cudaError_t beyond_shared(cudaStream_t stream, float *out, int i) { LAUNCH(stream, beyond_shared_kernel, 0, out, i); }
cudaError_t beyond_memory(cudaStream_t stream, float *out, int i) { LAUNCH(stream, beyond_memory_kernel, 0, out, i); }
cudaError_t copies(cudaStream_t stream, float *out, const float *in, bool waits) { LAUNCH(stream, copies_kernel, 0, out, in, waits); }
cudaError_t add_one(cudaStream_t stream, float *out, const float *in) { LAUNCH(stream, add_one_kernel, 0, out, in); }
cudaError_t primitives(cudaStream_t stream, int *wrong) { LAUNCH(stream, primitives_kernel, 0, wrong); }
cudaError_t launch_of(cudaStream_t stream, float *out, unsigned n_blocks, unsigned n_threads, size_t shared_bytes)
{
    SGC_LAUNCH_ON(NULL, stream, nothing_kernel, n_blocks, n_threads, shared_bytes, out);
    return last;
}

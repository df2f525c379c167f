/* Kernels with planted defects, and their right counterparts, for the test of the emulation. */
#ifndef SGC_TESTS_DEFECTS_H
#define SGC_TESTS_DEFECTS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { N_DEFECT_THREADS = 96 };

/* out: [96] of the device, or managed. All return what the launch returned. */
cudaError_t reverse(cudaStream_t stream, float *out, bool has_barrier);          /* out[i] = 95 - i, by way of shared memory       */
cudaError_t warp_sums(cudaStream_t stream, float *out, bool in_shared_memory);   /* the same in all lanes: the sum of their numbers */
cudaError_t half_a_barrier(cudaStream_t stream, float *out);                     /* that only some threads come to                 */
cudaError_t early_return(cudaStream_t stream, float *out);                       /* before a barrier                               */
cudaError_t two_barriers(cudaStream_t stream, float *out);                       /* threads at different ones                      */
cudaError_t half_a_shuffle(cudaStream_t stream, float *out);                     /* lanes that do not come                         */
cudaError_t foreign_mask(cudaStream_t stream, float *out);                       /* a lane that is not in its own mask             */
cudaError_t masked_source(cudaStream_t stream, float *out);                      /* reads a lane that is not in the mask           */
cudaError_t beyond_shared(cudaStream_t stream, float *out, int i);               /* writes the i-th of 96 floats of shared memory  */
cudaError_t beyond_memory(cudaStream_t stream, float *out, int i);               /* writes out[i]                                  */
cudaError_t copies(cudaStream_t stream, float *out, const float *in, bool waits); /* in by asynchronous copies to shared memory    */
cudaError_t add_one(cudaStream_t stream, float *out, const float *in);           /* out = in + 1                                   */
cudaError_t primitives(cudaStream_t stream, int *wrong);                         /* counts wrong answers of warps' primitives      */
cudaError_t launch_of(cudaStream_t stream, float *out, unsigned n_blocks, unsigned n_threads, size_t shared_bytes);

#ifdef __cplusplus
}
#endif

#endif

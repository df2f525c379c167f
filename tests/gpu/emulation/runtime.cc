/* The runtime's calls: memory, streams, events. */
#include <stdlib.h>
#include <string.h>

#include "cuda_runtime_api.h"
#include "launch_emulated.h"

namespace emulated {

cudaError_t queue_kernel(cudaStream_t, const grid &g, kernel_call *call)
{
    run_grid(g, *call);
    delete call;
    return cudaSuccess;
}

} // namespace emulated

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes) { return posix_memalign(p, 256, bytes) == 0 ? cudaSuccess : cudaErrorMemoryAllocation; }
cudaError_t cudaFree(void *p)
{
    free(p);
    return cudaSuccess;
}

} // extern "C"

/* The macros of src/device/cuda/launch.h where a C++ compiler reads a .cu file. */
#ifndef EMULATED_LAUNCH_H
#define EMULATED_LAUNCH_H

#include <tuple>

#include "block.h"
#include "cuda_runtime_api.h"

namespace emulated {

/* Is the launch within what a GPU has? */
bool fits(const grid &g);
/* Queues a kernel on a stream; the call is deleted when it has run. */
cudaError_t queue_kernel(cudaStream_t stream, const grid &g, kernel_call *call);

template <typename... Parameters> struct bound_call : kernel_call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
    bound_call(void (*k)(Parameters...), Parameters... a) : kernel(k), arguments(a...) {}
    void run() const override { std::apply(kernel, arguments); }
    kernel_call *copy() const override { return new bound_call(*this); }
};

template <typename... Parameters, typename... Arguments>
cudaError_t launch(cudaStream_t stream, const char *name, void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t shared_bytes, bool asks, Arguments... a)
{
    return queue_kernel(stream, {name, blocks, threads, shared_bytes, asks}, new bound_call<Parameters...>(kernel, static_cast<Parameters>(a)...));
}

} // namespace emulated

#define SGC_LAUNCH_ON(d, stream, kernel, grid, block, shared_bytes, ...) \
    sgc_cuda_check(d, emulated::launch(stream, #kernel, kernel, grid, block, shared_bytes, (shared_bytes) > SGC_SHARED_WITHOUT_ASKING, __VA_ARGS__), #kernel)

/* One array for each declaration and each instance of a template. */
#define SGC_SHARED(type, name, ...) \
    static const char emulated_key_of_##name = 0; \
    using emulated_type_of_##name = type __VA_ARGS__; \
    auto &name = *static_cast<emulated_type_of_##name *>( \
        emulated::shared(&emulated_key_of_##name, sizeof(emulated_type_of_##name), alignof(emulated_type_of_##name)))
#define SGC_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulated::dynamic_shared())

#endif

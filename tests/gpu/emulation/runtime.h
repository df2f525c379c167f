/* What the parts of the emulated runtime share. */
#ifndef EMULATED_RUNTIME_H
#define EMULATED_RUNTIME_H

#include "cuda_runtime_api.h"

namespace emulated {

/* An integer of the environment. */
long setting(const char *name, long otherwise);

/* Keeps an error for cudaGetLastError and returns it; a sticky one is the answer to every later call. */
cudaError_t told(cudaError_t error);
void fail_for_good(cudaError_t error);
/* No driver, or a sticky error. */
cudaError_t usable();
/* The kernel that comes next, if it is the one that EMULATED_FAIL_LAUNCH names. */
bool fails_here();

/* Counts calls that ask the GPU for something: kernels, copies, events, graphs. */
void count_request();

/* Work of the GPU, done once its turn has come and it is ready; is_ready is asked until it says so. */
struct work {
    virtual bool is_ready() { return true; }
    virtual void run() = 0;
    virtual work *copy() const; /* of work that can be captured */
    virtual ~work() {}
};
void queue(cudaStream_t stream, work *w);
/* While a stream is captured, its work becomes part of a graph. */
cudaError_t may_queue(cudaStream_t stream);
/* Calls that do not go together with a capture, by anybody in this thread, end it. */
cudaError_t may_wait();
void finish_all();

enum memory_kind { PAGEABLE, PINNED, DEVICE, MANAGED };
/* Of what a range lies in; false if it begins in an allocation and ends outside it. */
bool kind_of(const void *p, size_t bytes, memory_kind *kind);
/* Memory of the device can be touched only between these two. */
void open_memory();
void close_memory();

} // namespace emulated

#endif

/* Running the blocks of a launch, and what a thread may ask for while it runs. */
#ifndef EMULATED_BLOCK_H
#define EMULATED_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "emulation.h"
#include "vector_types.h"

extern uint3 threadIdx, blockIdx; /* of the thread that runs now */
extern dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

namespace emulated {

/* Where in the kernel a thread asks: the defaults are the caller's. */
struct place {
    const char *file;
    int line;
};
#define EMULATED_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* A kernel with its arguments. */
struct kernel_call {
    virtual void run() const = 0;
    virtual kernel_call *copy() const = 0; /* the arguments with it */
    virtual ~kernel_call() {}
};

struct grid {
    const char *name;
    dim3 blocks, threads;
    size_t shared_bytes;
    bool asks_for_shared;
};

/* Of a block of this GPU, if the kernel asks for more; and else, declared and of the launch together. */
size_t most_shared_bytes();
enum { MOST_WITHOUT_ASKING = 48 * 1024 };

void run_grid(const grid &g, const kernel_call &call);

enum { N_LANES = 32, MAX_EXCHANGED = 64 };

/* What the lanes of a mask have brought to one place. */
struct exchange {
    const char *what;
    unsigned mask, arrived, left;
    place where;
    alignas(16) unsigned char values[N_LANES][MAX_EXCHANGED];
};

/* Waits until all lanes of the mask have come; what each brought is there until this lane calls leave. */
exchange *meet(const char *what, unsigned mask, const void *value, size_t bytes, place where);
void leave(exchange *e);

int lane();
void barrier(const char *what, place where);
/* The sum of n over all threads of the block. */
int barrier_count(const char *what, int n, place where);
/* Memory of the block, of the declaration `key`; bytes of 0xff at the start of each block. */
void *shared(const void *key, size_t bytes, size_t alignment);
void *dynamic_shared();

} // namespace emulated

#endif

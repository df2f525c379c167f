/*
 * Memory of the device and pinned memory of the host. Blocks of the device end at a page that nobody may touch, and are themselves out of reach
 * while no work of the device runs, so that a host that takes their pointers for its own is found at once.
 */
#include "runtime.h"

#include <map>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emulation.h"
#include "sanitizer.h"

#ifdef EMULATED_WITH_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes) ((void)(p), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)(p), (void)(bytes))
#endif

using namespace emulated;

enum { ALIGNMENT = 256, LARGE = 1 << 20 }; /* LARGE: what is not worth being touched as a whole, since a change of protection visits each page */

struct block {
    memory_kind kind;
    size_t bytes;
    char *pages; /* of the mapping, a page longer at each end */
    size_t page_bytes;
};

static std::map<uintptr_t, block> blocks; /* by first address */
static size_t held, n_pinned;             /* bytes of the device, and of the host for it */
static bool is_open;

static size_t limit() { return (size_t)setting("EMULATED_MEMORY", 16L << 30); }
static size_t pinned_limit() { return (size_t)setting("EMULATED_PINNED", 16L << 30); }
static bool guards() { static const bool yes = setting("EMULATED_GUARD", 1); return yes; }

static void protect(const block &b, int protection)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (mprotect(b.pages + page, b.page_bytes - 2 * page, protection) != 0) perror("emulated GPU: mprotect"), abort();
}

/* The end of the block is near the end of its pages: as near as the alignment allows. */
static cudaError_t make(void **p, size_t bytes, memory_kind kind)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
                 inner = (rounded + page - 1) / page * page;
    *p = NULL;
    cudaError_t rc = may_wait();
    if (rc != cudaSuccess) return told(rc);
    if (bytes == 0) return cudaSuccess;
    size_t &n_held = kind == PINNED ? n_pinned : held;
    const size_t most = kind == PINNED ? pinned_limit() : limit();
    if (rounded > most || n_held > most - rounded) return told(cudaErrorMemoryAllocation);
    char *pages = (char *)mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return told(cudaErrorMemoryAllocation);
    const block b = {kind, bytes, pages, inner + 2 * page};
    protect(b, PROT_READ | PROT_WRITE);
    char *first = pages + page + inner - rounded;
    if (bytes < LARGE) memset(first, 0xff, bytes); /* nobody has written it */
    ASAN_POISON_MEMORY_REGION(pages, (size_t)(first - pages));
    ASAN_POISON_MEMORY_REGION(first + bytes, (size_t)(pages + b.page_bytes - (first + bytes)));
    if (kind == DEVICE && guards() && !is_open) protect(b, PROT_NONE);
    n_held += rounded;
    blocks[(uintptr_t)first] = b;
    *p = first;
    return cudaSuccess;
}

static cudaError_t release(void *p, bool pinned)
{
    cudaError_t rc = p ? may_wait() : usable();
    if (rc != cudaSuccess || !p) return told(rc);
    auto found = blocks.find((uintptr_t)p);
    if (found == blocks.end() || (found->second.kind == PINNED) != pinned) return told(cudaErrorInvalidValue);
    finish_all();
    const block b = found->second;
    (pinned ? n_pinned : held) -= (b.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    blocks.erase(found);
    ASAN_UNPOISON_MEMORY_REGION(b.pages, b.page_bytes);
    munmap(b.pages, b.page_bytes);
    return cudaSuccess;
}

namespace emulated {

bool kind_of(const void *p, size_t bytes, memory_kind *kind)
{
    auto next = blocks.upper_bound((uintptr_t)p);
    *kind = PAGEABLE;
    if (next == blocks.begin()) return true;
    --next;
    if ((uintptr_t)p - next->first >= next->second.bytes) return true;
    *kind = next->second.kind;
    return (uintptr_t)p + bytes <= next->first + next->second.bytes;
}

void open_memory()
{
    if (is_open) return;
    is_open = true;
    if (!guards()) return;
    for (auto &b : blocks)
        if (b.second.kind == DEVICE) protect(b.second, PROT_READ | PROT_WRITE);
}

void close_memory()
{
    if (!is_open) return;
    is_open = false;
    if (!guards()) return;
    for (auto &b : blocks)
        if (b.second.kind == DEVICE) protect(b.second, PROT_NONE);
}

struct copy_work : work {
    void *to;
    const void *from;
    size_t bytes;
    void *copied; /* NULL, or what the host's memory held at the call */
    work *copy() const override { return copied ? work::copy() : new copy_work(*this); }
    void run() override
    {
        memmove(to, copied ? copied : from, bytes);
        free(copied);
    }
};

struct set_work : work {
    void *p;
    int byte;
    size_t bytes;
    work *copy() const override { return new set_work(*this); }
    void run() override
    {
        const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = ((uintptr_t)p + page - 1) / page * page, end = ((uintptr_t)p + bytes) / page * page;
        if (byte == 0 && bytes >= LARGE && madvise((void *)start, end - start, MADV_DONTNEED) == 0) { /* pages come back as zeros when they are needed */
            memset(p, 0, start - (uintptr_t)p);
            memset((void *)end, 0, (uintptr_t)p + bytes - end);
        } else {
            memset(p, byte, bytes);
        }
    }
};

static bool is_device(memory_kind kind) { return kind == DEVICE || kind == MANAGED; }

/* The kinds must be as told, and both ranges inside their allocations. */
static bool is_valid(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, memory_kind *kind_to, memory_kind *kind_from)
{
    if (!kind_of(to, bytes, kind_to) || !kind_of(from, bytes, kind_from)) return false;
    switch (kind) {
    case cudaMemcpyHostToHost: return *kind_to != DEVICE && *kind_from != DEVICE;
    case cudaMemcpyHostToDevice: return is_device(*kind_to) && *kind_from != DEVICE;
    case cudaMemcpyDeviceToHost: return *kind_to != DEVICE && is_device(*kind_from);
    case cudaMemcpyDeviceToDevice: return is_device(*kind_to) && is_device(*kind_from);
    default: return true;
    }
}

} // namespace emulated

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes) { return make(p, bytes, DEVICE); }
cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned) { return make(p, bytes, MANAGED); }
cudaError_t cudaMallocHost(void **p, size_t bytes) { return make(p, bytes, PINNED); }
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) { return make(p, bytes, PINNED); }
cudaError_t cudaFree(void *p) { return release(p, false); }
cudaError_t cudaFreeHost(void *p) { return release(p, true); }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = limit();
    *free_bytes = limit() - held;
    return told(usable());
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    memory_kind kind_to, kind_from;
    cudaError_t rc = may_queue(stream);
    if (rc != cudaSuccess || bytes == 0) return told(rc);
    if (!is_valid(to, from, bytes, kind, &kind_to, &kind_from)) return told(cudaErrorInvalidValue);
    copy_work *w = new copy_work;
    w->to = to;
    w->from = from;
    w->bytes = bytes;
    w->copied = NULL;
    if (kind_from == PAGEABLE) { /* the driver takes it before the call returns */
        w->copied = malloc(bytes);
        if (!w->copied) abort();
        memcpy(w->copied, from, bytes);
    }
    queue(stream, w);
    if (kind_to == PAGEABLE) return cudaStreamSynchronize(stream); /* as it does where the target is pageable */
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    memory_kind from_kind;
    cudaError_t rc = cudaDeviceSynchronize();
    if (rc == cudaSuccess) rc = cudaMemcpyAsync(to, from, bytes, kind, NULL);
    if (rc == cudaSuccess && kind == cudaMemcpyHostToDevice && kind_of(from, bytes, &from_kind) && from_kind == PAGEABLE) return rc; /* on its way */
    return rc == cudaSuccess ? cudaDeviceSynchronize() : rc;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    memory_kind kind;
    cudaError_t rc = may_queue(stream);
    if (rc != cudaSuccess || bytes == 0) return told(rc);
    if (!kind_of(p, bytes, &kind) || kind == PAGEABLE) return told(cudaErrorInvalidValue);
    set_work *w = new set_work;
    w->p = p;
    w->byte = byte;
    w->bytes = bytes;
    queue(stream, w);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *p, int byte, size_t bytes)
{
    cudaError_t rc = cudaMemsetAsync(p, byte, bytes, NULL);
    return rc == cudaSuccess ? cudaDeviceSynchronize() : rc;
}

} // extern "C"

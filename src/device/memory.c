/* Memory of a device, whether the host sees it or not. */
#include <stdlib.h>
#include <string.h>

#include "base/trace.h"
#include "device/device_impl.h"

struct sgc_device_block {
    void *p;
    size_t bytes;
    sgc_mem_purpose purpose;
    bool is_staging;
    struct sgc_device_block *next;
};

static const sgc_device_memory *memory_of(const sgc_device *d) { return d->ops->memory; }

static void *alloc(sgc_device *d, sgc_mem_purpose purpose, size_t bytes, bool is_staging)
{
    if (!memory_of(d)) return sgc_mem_alloc(purpose, bytes);
    struct sgc_device_block *block = malloc(sizeof(*block));
    void *p = !block ? NULL : is_staging ? memory_of(d)->alloc_staging(d, bytes) : memory_of(d)->alloc(d, bytes);
    if (!p) {
        free(block);
        sgc_mem_refuse(purpose, bytes, is_staging ? "of the host beside the GPU's" : "of the GPU");
        return NULL;
    }
    *block = (struct sgc_device_block){.p = p, .bytes = bytes, .purpose = purpose, .is_staging = is_staging, .next = d->blocks};
    d->blocks = block;
    sgc_mem_count(purpose, bytes);
    return p;
}

void *sgc_device_alloc(sgc_device *d, sgc_mem_purpose purpose, size_t bytes) { return alloc(d, purpose, bytes, false); }
void *sgc_device_alloc_staging(sgc_device *d, sgc_mem_purpose purpose, size_t bytes) { return alloc(d, purpose, bytes, true); }

void sgc_device_free(sgc_device *d, void *p)
{
    if (!p) return;
    if (!memory_of(d)) {
        sgc_mem_free(p);
        return;
    }
    struct sgc_device_block **link = &d->blocks;
    while ((*link)->p != p) link = &(*link)->next;
    struct sgc_device_block *block = *link;
    *link = block->next;
    if (block->is_staging) memory_of(d)->free_staging(d, p);
    else memory_of(d)->free(d, p);
    sgc_mem_uncount(block->purpose, block->bytes);
    free(block);
}

void sgc_device_copy(sgc_device *d, void *to, const void *from, size_t bytes)
{
    if (bytes == 0) return;
    if (memory_of(d)) memory_of(d)->copy(d, to, from, bytes);
    else memcpy(to, from, bytes);
}

void sgc_device_clear(sgc_device *d, void *p, size_t bytes)
{
    if (bytes == 0) return;
    if (memory_of(d)) memory_of(d)->clear(d, p, bytes);
    else memset(p, 0, bytes);
}

/* Any memory of the host will do, but slower than staging memory: these are for set-up and checkpoints. */
sgc_status sgc_device_write(sgc_device *d, void *to, const void *host, size_t bytes)
{
    if (memory_of(d)) {
        memory_of(d)->upload(d, to, host, bytes);
        return memory_of(d)->finish(d);
    }
    memcpy(to, host, bytes);
    return SGC_OK;
}

sgc_status sgc_device_read(sgc_device *d, void *host, const void *from, size_t bytes)
{
    if (memory_of(d)) {
        memory_of(d)->download(d, host, from, bytes);
        return memory_of(d)->finish(d);
    }
    memcpy(host, from, bytes);
    return SGC_OK;
}

void sgc_device_download(sgc_device *d, void *staging, const void *from, size_t bytes)
{
    if (memory_of(d)) memory_of(d)->download(d, staging, from, bytes);
    else memcpy(staging, from, bytes);
}

sgc_status sgc_device_finish(sgc_device *d) { return memory_of(d) ? memory_of(d)->finish(d) : SGC_OK; }

/* While a trace is on, each call is timed. */
void sgc_device_repeat(sgc_device *d, sgc_recording **r, void (*calls)(void *arg), void *arg)
{
    if (memory_of(d) && memory_of(d)->repeat && !sgc_trace_is_on) memory_of(d)->repeat(d, r, calls, arg);
    else calls(arg);
}

void sgc_device_forget(sgc_device *d, sgc_recording **r)
{
    if (*r) memory_of(d)->forget(d, *r);
    *r = NULL;
}

sgc_status sgc_mirror_make(sgc_mirror *m, sgc_device *d, sgc_mem_purpose purpose, size_t bytes)
{
    *m = (sgc_mirror){.bytes = bytes};
    if (!(m->device = sgc_device_alloc(d, purpose, bytes))) return SGC_ENOMEM;
    m->host = m->device;
    if (!memory_of(d)) return SGC_OK;
    m->host = sgc_device_alloc_staging(d, SGC_MEM_DATA, bytes);
    if (m->host && !(m->mark = memory_of(d)->mark_make(d))) sgc_err(SGC_ENOMEM, "no memory for a mark of the GPU's work");
    if (m->mark) return SGC_OK;
    sgc_mirror_free(m, d);
    return SGC_ENOMEM;
}

void sgc_mirror_free(sgc_mirror *m, sgc_device *d)
{
    if (m->mark) memory_of(d)->mark_free(d, m->mark);
    if (m->host != m->device) sgc_device_free(d, m->host);
    sgc_device_free(d, m->device);
    *m = (sgc_mirror){0};
}

void sgc_mirror_push(sgc_mirror *m, sgc_device *d, size_t first, size_t bytes)
{
    if (!memory_of(d) || bytes == 0) return;
    memory_of(d)->upload(d, (char *)m->device + first, (char *)m->host + first, bytes);
    memory_of(d)->mark_set(d, m->mark);
}

void sgc_mirror_pull(sgc_mirror *m, sgc_device *d, size_t first, size_t bytes)
{
    if (!memory_of(d) || bytes == 0) return;
    memory_of(d)->download(d, (char *)m->host + first, (char *)m->device + first, bytes);
    memory_of(d)->mark_set(d, m->mark);
}

sgc_status sgc_mirror_wait(sgc_mirror *m, sgc_device *d) { return m->mark ? memory_of(d)->mark_wait(d, m->mark) : SGC_OK; }

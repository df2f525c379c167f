#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "base/util.h"

enum { ALIGNMENT = 64 };

/* Stands right before the memory that the caller sees. */
typedef struct header {
    void *raw; /* owned: what free wants */
    size_t bytes;
    sgc_mem_purpose purpose;
} header;
_Static_assert(sizeof(header) <= ALIGNMENT, "the header fits into the gap before the first aligned byte");

static struct {
    const char *name;
    atomic_size_t held, peak;
} purposes[SGC_MEM_N_PURPOSES] = {
    [SGC_MEM_PARAMETERS] = {.name = "parameters"},   [SGC_MEM_GRADIENTS] = {.name = "gradients"},
    [SGC_MEM_OPTIMIZER] = {.name = "optimizer"},     [SGC_MEM_ACTIVATIONS] = {.name = "activations"},
    [SGC_MEM_COMM] = {.name = "communication"},      [SGC_MEM_CHECKPOINT] = {.name = "checkpoint"},
    [SGC_MEM_DATA] = {.name = "data"},
};

static const char advice[] =
    "; use more ranks, a higher zero.stage, gradient_checkpointing or a smaller per_device_train_batch_size";

void sgc_mem_refuse(sgc_mem_purpose purpose, size_t bytes, const char *where)
{
    size_t held_all = 0;
    char wanted[32], held[32], all[32], table[40 * SGC_MEM_N_PURPOSES] = "";
    for (int i = 0, n = 0; i < SGC_MEM_N_PURPOSES; i++) {
        held_all += sgc_mem_held(i);
        if (sgc_mem_held(i) > 0)
            n += snprintf(table + n, sizeof(table) - (size_t)n, "%s%s %s", n ? ", " : "", sgc_mem_name(i), sgc_format_bytes((double)sgc_mem_held(i), held));
    }
    sgc_err(SGC_ENOMEM, "no memory for %s%s%s: %s wanted, %s held for %s and %s for everything by this rank (%s)%s", sgc_mem_name(purpose),
            where ? " " : "", where ? where : "", sgc_format_bytes((double)bytes, wanted), sgc_format_bytes((double)sgc_mem_held(purpose), held),
            sgc_mem_name(purpose), sgc_format_bytes((double)held_all, all), table[0] ? table : "nothing", purpose <= SGC_MEM_COMM ? advice : "");
}

void sgc_mem_count(sgc_mem_purpose purpose, size_t bytes)
{
    size_t held = atomic_fetch_add(&purposes[purpose].held, bytes) + bytes;
    size_t peak = atomic_load(&purposes[purpose].peak);
    while (held > peak && !atomic_compare_exchange_weak(&purposes[purpose].peak, &peak, held)) {}
}

void sgc_mem_uncount(sgc_mem_purpose purpose, size_t bytes) { atomic_fetch_sub(&purposes[purpose].held, bytes); }

static void *refuse(sgc_mem_purpose purpose, size_t bytes)
{
    sgc_mem_refuse(purpose, bytes, NULL);
    return NULL;
}

void *sgc_mem_alloc(sgc_mem_purpose purpose, size_t bytes)
{
    if (bytes > SIZE_MAX - 2 * ALIGNMENT) return refuse(purpose, bytes);
    /* calloc takes large blocks as zero pages from the system and does not touch them */
    char *raw = calloc(1, bytes + 2 * ALIGNMENT);
    if (raw == NULL) return refuse(purpose, bytes);
    char *pointer = raw + 2 * ALIGNMENT - (uintptr_t)raw % ALIGNMENT;
    ((header *)(void *)pointer)[-1] = (header){.raw = raw, .bytes = bytes, .purpose = purpose};

    sgc_mem_count(purpose, bytes);
    return pointer;
}

void sgc_mem_free(void *pointer)
{
    if (pointer == NULL) return;
    header h = ((header *)pointer)[-1];
    sgc_mem_uncount(h.purpose, h.bytes);
    free(h.raw);
}

size_t sgc_mem_held(sgc_mem_purpose purpose) { return atomic_load(&purposes[purpose].held); }
size_t sgc_mem_peak(sgc_mem_purpose purpose) { return atomic_load(&purposes[purpose].peak); }
const char *sgc_mem_name(sgc_mem_purpose purpose) { return purposes[purpose].name; }

/* How much memory can still be had on this node. */
#ifndef SGC_BASE_AVAILABLE_H
#define SGC_BASE_AVAILABLE_H

#include <stdint.h>

/**
 * The least of what the kernel has available and what the limits of this process' control groups (version 1 and 2, with their parents)
 * leave; file caches count as available.
 * @param root  "" for this machine; tests give a directory with proc/ and sys/ in it.
 * @return bytes; INT64_MAX if nothing is told.
 */
int64_t sgc_memory_available(const char *root);

/* Bytes of sgc_mem_alloc that this process has not touched yet: they are not missing anywhere so far. */
int64_t sgc_memory_untouched(void);

#endif

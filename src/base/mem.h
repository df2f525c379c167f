/* Memory counted by purpose: what run.json, the log and the memory tests report. */
#ifndef SGC_BASE_MEM_H
#define SGC_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

typedef enum sgc_mem_purpose {
    SGC_MEM_PARAMETERS,
    SGC_MEM_GRADIENTS,
    SGC_MEM_OPTIMIZER,
    SGC_MEM_ACTIVATIONS,
    SGC_MEM_COMM,       /* gather, reduce and working-gradient buffers */
    SGC_MEM_CHECKPOINT,
    SGC_MEM_DATA,
    SGC_MEM_N_PURPOSES
} sgc_mem_purpose;

/**
 * Zeroed memory, aligned to 64 bytes. bytes = 0 gives a valid pointer.
 * @return NULL when it cannot be had; the error is recorded (SGC_ENOMEM) and names purpose, wanted and held bytes.
 */
void *sgc_mem_alloc(sgc_mem_purpose purpose, size_t bytes);
void sgc_mem_free(void *pointer); /* NULL is allowed */

/* The same count for memory that others give, as a GPU does. */
void sgc_mem_count(sgc_mem_purpose purpose, size_t bytes);
void sgc_mem_uncount(sgc_mem_purpose purpose, size_t bytes);
/* Records SGC_ENOMEM as sgc_mem_alloc does. where: "on the GPU" or NULL. */
void sgc_mem_refuse(sgc_mem_purpose purpose, size_t bytes, const char *where);

size_t sgc_mem_held(sgc_mem_purpose purpose); /* bytes asked for and not yet freed, without headers */
size_t sgc_mem_peak(sgc_mem_purpose purpose);
const char *sgc_mem_name(sgc_mem_purpose purpose); /* "parameters", ... as in run.json */

#endif

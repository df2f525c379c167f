/* The CPUs that threads of this process run on, and which of them are one core. */
#ifndef SGC_BASE_CORES_H
#define SGC_BASE_CORES_H

#include <stdint.h>

enum { SGC_CORES_WORDS = 64, SGC_CORES_CPUS = 64 * SGC_CORES_WORDS }; /* the largest node that is looked at in full */

/* mask: zeros before; gets the CPUs that the calling thread may run on, CPU 0 if the system does not tell. */
void sgc_cores_mask(uint64_t mask[SGC_CORES_WORDS]);

/* The lowest CPU of the core that a CPU belongs to; the CPU itself where the system does not tell. */
int sgc_cores_of(int cpu);

/* The calling thread may run on these CPUs only; threads that it makes inherit that. Stays as it was where the system refuses. */
void sgc_cores_bind(const uint64_t mask[SGC_CORES_WORDS]);

/* For a thread that does not compute and was made by one that is bound: it may again run wherever the process could before the first sgc_cores_bind.
 * Nothing happens if there was none. */
void sgc_cores_unbind(void);

#endif

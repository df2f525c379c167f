#define _GNU_SOURCE 1 /* sched_getaffinity */
#include "base/cores.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t whole[SGC_CORES_WORDS]; /* before anything was bound; below the lock */
static bool is_bound;

static bool has(const uint64_t *mask, int cpu) { return mask[cpu / 64] >> (cpu % 64) & 1; }

void sgc_cores_mask(uint64_t mask[SGC_CORES_WORDS])
{
    cpu_set_t *set = CPU_ALLOC(SGC_CORES_CPUS);
    if (set && sched_getaffinity(0, CPU_ALLOC_SIZE(SGC_CORES_CPUS), set) == 0)
        for (int cpu = 0; cpu < SGC_CORES_CPUS; cpu++)
            if (CPU_ISSET_S((size_t)cpu, CPU_ALLOC_SIZE(SGC_CORES_CPUS), set)) mask[cpu / 64] |= (uint64_t)1 << (cpu % 64);
    if (set) CPU_FREE(set);
    bool is_empty = true;
    for (int k = 0; k < SGC_CORES_WORDS; k++) is_empty = is_empty && mask[k] == 0;
    if (is_empty) mask[0] = 1;
}

int sgc_cores_of(int cpu)
{
    char path[96];
    int first = cpu;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f) return cpu;
    if (fscanf(f, "%d", &first) != 1 || first < 0 || first >= SGC_CORES_CPUS) first = cpu;
    fclose(f);
    return first;
}

static void set_mask(const uint64_t *mask)
{
    cpu_set_t *set = CPU_ALLOC(SGC_CORES_CPUS);
    if (!set) return;
    CPU_ZERO_S(CPU_ALLOC_SIZE(SGC_CORES_CPUS), set);
    for (int cpu = 0; cpu < SGC_CORES_CPUS; cpu++)
        if (has(mask, cpu)) CPU_SET_S((size_t)cpu, CPU_ALLOC_SIZE(SGC_CORES_CPUS), set);
    sched_setaffinity(0, CPU_ALLOC_SIZE(SGC_CORES_CPUS), set);
    CPU_FREE(set);
}

void sgc_cores_bind(const uint64_t mask[SGC_CORES_WORDS])
{
    pthread_mutex_lock(&lock);
    if (!is_bound) sgc_cores_mask(whole);
    is_bound = true;
    pthread_mutex_unlock(&lock);
    set_mask(mask);
}

void sgc_cores_unbind(void)
{
    pthread_mutex_lock(&lock);
    bool any = is_bound;
    pthread_mutex_unlock(&lock);
    if (any) set_mask(whole);
}

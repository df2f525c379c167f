#include "train/threads_impl.h"

#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cores.h"
#include "base/log.h"

enum { WORDS = SGC_CORES_WORDS, N_CPUS = SGC_CORES_CPUS };

sgc_status sgc_threads_parse(const char *text, int *n)
{
    char *end;
    *n = 0;
    if (!text || !*text) return SGC_OK;
    errno = 0;
    long value = strtol(text, &end, 10);
    end += strspn(end, " \t");
    if (end == text || errno != 0 || value < 1 || value > 65536 || (*end != '\0' && *end != ','))
        return sgc_err(SGC_ECONFIG, "OMP_NUM_THREADS is '%s': write the number of threads of a rank, from 1 on, or leave it unset: a rank then has a thread "
                       "for each core that it is bound to", text);
    *n = (int)value;
    return SGC_OK;
}

static bool has(const uint64_t *mask, int cpu) { return mask[cpu / 64] >> (cpu % 64) & 1; }

/* Hardware threads of one core count once. */
static int count_cores(const uint64_t *mask, int words, const int *core)
{
    int n = 0;
    uint64_t seen[WORDS] = {0};
    for (int cpu = 0; cpu < 64 * words; cpu++) {
        if (!has(mask, cpu) || has(seen, core[cpu])) continue;
        seen[core[cpu] / 64] |= (uint64_t)1 << (core[cpu] % 64);
        n++;
    }
    return n;
}

void sgc_threads_share(sgc_threads *t, const uint64_t *mask, int n_ranks, int rank, int words, const int *core)
{
    const uint64_t *own = mask + rank * words;
    uint64_t all[WORDS] = {0};
    t->n_sharing = 0;
    for (int r = 0; r < n_ranks; r++) {
        t->n_sharing += memcmp(mask + r * words, own, (size_t)words * sizeof(*own)) == 0;
        for (int k = 0; k < words; k++) all[k] |= mask[r * words + k];
    }
    t->n_cores = count_cores(own, words, core);
    t->n_node_cores = count_cores(all, words, core);
    if (t->n == 0) t->n = t->n_cores / t->n_sharing;
    if (t->n < 1) t->n = 1;
}

const char *sgc_threads_advice(const sgc_threads *t, int n_ranks, char advice[96])
{
    if (n_ranks > t->n_node_cores) snprintf(advice, 96, "start no more than %d rank%s on it", t->n_node_cores, t->n_node_cores == 1 ? "" : "s");
    else snprintf(advice, 96, "%sset OMP_NUM_THREADS=%d", n_ranks > 1 ? "start fewer ranks, or " : "", t->n_node_cores / n_ranks);
    return advice;
}

/* Once for the node where all is shared; a rank that is bound too narrowly says so itself. */
static void warn(const sgc_threads *t, const sgc_world *w)
{
    char advice[96];
    if (t->n > t->n_cores && t->n_cores < t->n_node_cores)
        sgc_log_warning("the %d threads of a rank share the %d core%s that it is bound to: bind ranks to more (mpirun --map-by slot:PE=%d, srun "
                        "--cpus-per-task=%d) or to none (OMPI_MCA_hwloc_base_binding_policy=none), or set OMP_NUM_THREADS=%d", t->n, t->n_cores,
                        t->n_cores == 1 ? "" : "s", t->n, t->n, t->n_cores);
    else if (t->n_node > t->n_node_cores && w->node_rank == 0)
        sgc_log_warning("%d rank%s with %d thread%s in all share %d core%s of the node: %s", w->node_size, w->node_size == 1 ? "" : "s", t->n_node,
                        t->n_node == 1 ? "" : "s", t->n_node_cores, t->n_node_cores == 1 ? "" : "s", sgc_threads_advice(t, w->node_size, advice));
}

/* The masks of all ranks of the node: each adds its own row. */
static sgc_status share(sgc_threads *t, sgc_world *w, int64_t *mask)
{
    sgc_status st = SGC_OK;
    int core[N_CPUS];
    sgc_cores_mask((uint64_t *)mask + w->node_rank * WORDS);
    SGC_TRY(sgc_sum_int64(w->node, mask, w->node_size * WORDS));
    for (int cpu = 0; cpu < N_CPUS; cpu++) {
        bool is_used = false;
        for (int r = 0; r < w->node_size && !is_used; r++) is_used = has((const uint64_t *)mask + r * WORDS, cpu);
        core[cpu] = is_used ? sgc_cores_of(cpu) : cpu;
    }
    sgc_threads_share(t, (const uint64_t *)mask, w->node_size, w->node_rank, WORDS, core);
    int64_t n_node = t->n;
    SGC_TRY(sgc_sum_int64(w->node, &n_node, 1));
    t->n_node = (int)n_node;
done:
    return st;
}

sgc_status sgc_threads_set(sgc_threads *t, sgc_world *w)
{
    *t = (sgc_threads){0};
    int64_t *mask = calloc((size_t)w->node_size, WORDS * sizeof(*mask));
    sgc_status st = mask ? sgc_threads_parse(getenv("OMP_NUM_THREADS"), &t->n) : sgc_err(SGC_ENOMEM, "no memory for the cores of %d ranks", w->node_size);
    SGC_AGREE(w->all);
    SGC_TRY(share(t, w, mask));
    omp_set_num_threads(t->n);
    warn(t, w);
done:
    free(mask);
    return st;
}

/* Of the CPUs in `all`, those of the k-th core. */
static void core_mask(const uint64_t *all, const int *core, int k, uint64_t *mask)
{
    uint64_t seen[WORDS] = {0};
    int n = 0, wanted = -1;
    for (int cpu = 0; cpu < N_CPUS; cpu++) {
        if (!has(all, cpu)) continue;
        if (!has(seen, core[cpu]) && n++ == k) wanted = core[cpu];
        seen[core[cpu] / 64] |= (uint64_t)1 << (core[cpu] % 64);
        if (core[cpu] == wanted) mask[cpu / 64] |= (uint64_t)1 << (cpu % 64);
    }
}

void sgc_threads_bind(const sgc_threads *t)
{
    const char *const users[] = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"};
    uint64_t all[WORDS] = {0};
    int core[N_CPUS];
    if (t->n < 2 || t->n != t->n_cores || t->n_sharing > 1) return;
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
        if (getenv(users[i])) return;
    sgc_cores_mask(all);
    for (int cpu = 0; cpu < N_CPUS; cpu++) core[cpu] = has(all, cpu) ? sgc_cores_of(cpu) : cpu;
    if (count_cores(all, WORDS, core) != t->n) return; /* bound before */
#pragma omp parallel num_threads(t->n)
    {
        uint64_t own[WORDS] = {0};
        core_mask(all, core, omp_get_thread_num(), own);
        sgc_cores_bind(own);
    }
}

/* The cpu device: its ops table, its state, its choice of an instruction set. */
#include "device/cpu/cpu_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "device/cpu/gemm.h"

static const struct level {
    const char *name; /* in STAGECOACH_ISA */
    const sgc_simd *simd;
} levels[] = {
#if defined(__x86_64__)
    {"avx512", &sgc_simd_avx512},
    {"avx2", &sgc_simd_avx2},
#endif
    {"portable", &sgc_simd_portable},
};

static bool has(const struct level *level)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level->simd == &sgc_simd_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (level->simd == &sgc_simd_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return level->simd == &sgc_simd_portable;
}

/* NULL: any. The levels stand from best to least. */
static const sgc_simd *choose(const char *wanted)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((!wanted || strcmp(wanted, levels[i].name) == 0) && has(&levels[i])) return levels[i].simd;
    return NULL;
}

/* The best instruction set that this machine has, or the one that STAGECOACH_ISA names (for tests: oneDNN's own choice is not touched). */
static sgc_status choose_simd(const sgc_simd **simd)
{
    const char *wanted = getenv("STAGECOACH_ISA");
    *simd = choose(wanted);
    if (*simd) return SGC_OK;
    return sgc_err(SGC_ECONFIG, "the environment variable STAGECOACH_ISA is '%s', which is unknown or not an instruction set of this machine; "
                   "write portable, avx2 or avx512, or unset it", wanted);
}

const char *sgc_device_isa(void)
{
    const sgc_simd *simd = choose(getenv("STAGECOACH_ISA"));
    return simd ? simd->name : choose(NULL)->name;
}

float *sgc_cpu_scratch(sgc_device *d, int64_t n_floats)
{
    sgc_cpu *cpu = d->state;
    if (n_floats > cpu->n_scratch) {
        sgc_mem_free(cpu->scratch);
        cpu->n_scratch = 0;
        cpu->scratch = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, (size_t)n_floats * sizeof(float));
        if (!cpu->scratch) sgc_cpu_fatal("scratch memory of a kernel");
        cpu->n_scratch = n_floats;
    }
    return cpu->scratch;
}

void sgc_cpu_fatal(const char *what)
{
    sgc_log_critical("%s: %s", what, sgc_err_message());
    sgc_log_flush_local();
    abort();
}

sgc_status sgc_cpu_open(sgc_device *d)
{
    sgc_status st;
    sgc_cpu *cpu = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sizeof(*cpu));
    if (!cpu) return SGC_ENOMEM;
    d->state = cpu;
    SGC_TRY(choose_simd(&cpu->simd));
    SGC_TRY(sgc_gemm_open(&cpu->gemm, d->exact_threads));
done:
    if (st != SGC_OK) sgc_cpu_close(d);
    return st;
}

void sgc_cpu_close(sgc_device *d)
{
    sgc_cpu *cpu = d->state;
    sgc_gemm_close(cpu->gemm);
    sgc_mem_free(cpu->scratch);
    sgc_mem_free(cpu);
    d->state = NULL;
}

const sgc_device_ops sgc_cpu_ops = {
    .name = "cpu",
    .value = SGC_F32,
    .wide = SGC_F32,
    .embedding_forward = sgc_cpu_embedding_forward,
    .embedding_backward = sgc_cpu_embedding_backward,
    .layer_norm_forward = sgc_cpu_layer_norm_forward,
    .layer_norm_backward = sgc_cpu_layer_norm_backward,
    .matmul = sgc_cpu_matmul,
    .bias_backward = sgc_cpu_bias_backward,
    .attention_forward = sgc_cpu_attention_forward,
    .attention_backward = sgc_cpu_attention_backward,
    .attention_cached = sgc_cpu_attention_cached,
    .activation_forward = sgc_cpu_activation_forward,
    .activation_backward = sgc_cpu_activation_backward,
    .add = sgc_cpu_add,
    .dropout = sgc_cpu_dropout,
    .cross_entropy = sgc_cpu_cross_entropy,
    .adamw = sgc_cpu_adamw,
    .block_square_sums = sgc_cpu_block_square_sums,
    .narrow = sgc_cpu_narrow,
};

/* The cpu devices: their ops tables, their state, their choice of an instruction set. */
#include "device/cpu/cpu_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "device/cpu/gemm.h"

typedef struct level {
    const char *wanted;         /* in STAGECOACH_ISA */
    const char *name;
    const sgc_simd *f32, *bf16; /* by type of values */
    bool multiplies_bf16;       /* if the library of matrix products does; it makes its own choice of instructions */
} level;

/* From best to least. */
static const level levels[] = {
#if defined(__x86_64__)
    {"avx512_bf16", "AVX-512 BF16", &sgc_simd_avx512_f32, &sgc_simd_avx512_dot_bf16, true},
    {"avx512", "AVX-512", &sgc_simd_avx512_f32, &sgc_simd_avx512_bf16, true},
    {"avx2", "AVX2", &sgc_simd_avx2_f32, &sgc_simd_avx2_bf16, false},
#endif
    {"portable", "portable", &sgc_simd_portable_f32, &sgc_simd_portable_bf16, false},
};

static bool has_bf16(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16");
#else
    return true; /* the library of matrix products knows */
#endif
}

static bool has(const level *l)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (l->bf16 == &sgc_simd_avx512_dot_bf16 && !has_bf16()) return false;
    if (l->f32 == &sgc_simd_avx512_f32)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
    if (l->f32 == &sgc_simd_avx2_f32) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return l->f32 == &sgc_simd_portable_f32;
}

/* NULL: any */
static const level *choose(const char *wanted)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if ((!wanted || strcmp(wanted, levels[i].wanted) == 0) && has(&levels[i])) return &levels[i];
    return NULL;
}

/* The best instruction set that this machine has, or the one that STAGECOACH_ISA names (oneDNN's own choice is not touched). */
static sgc_status choose_level(const level **l)
{
    const char *wanted = getenv("STAGECOACH_ISA");
    *l = choose(wanted);
    if (*l) return SGC_OK;
    return sgc_err(SGC_ECONFIG, "the environment variable STAGECOACH_ISA is '%s', which is unknown or not an instruction set of this machine; "
                   "write portable, avx2, avx512 or avx512_bf16, or unset it", wanted);
}

const char *sgc_device_isa(void)
{
    const level *l = choose(getenv("STAGECOACH_ISA"));
    return l ? l->name : choose(NULL)->name;
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

sgc_status sgc_cpu_open(sgc_device *d, const sgc_device_spec *spec)
{
    (void)spec;
    sgc_status st;
    const level *l;
    const bool is_bf16 = d->ops->value == SGC_BF16;
    sgc_cpu *cpu = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sizeof(*cpu));
    if (!cpu) return SGC_ENOMEM;
    d->state = cpu;
    SGC_TRY(choose_level(&l));
    cpu->simd = is_bf16 ? l->bf16 : l->f32;
    SGC_TRY(sgc_gemm_open(&cpu->gemm));
    if (is_bf16) {
        cpu->multiplies_bf16 = l->multiplies_bf16 && sgc_gemm_takes_bf16(cpu->gemm);
        d->emulates = !cpu->multiplies_bf16 || !has_bf16();
    }
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

#define CPU_OPS(device, value_type) \
    { \
        .name = device, .value = value_type, .wide = SGC_F32, .chunk_bytes = (size_t)72 << 20, .row_multiple = 1, .rounds_in_place = true, \
        .embedding_forward = sgc_cpu_embedding_forward, \
        .embedding_backward = sgc_cpu_embedding_backward, \
        .layer_norm_forward = sgc_cpu_layer_norm_forward, \
        .layer_norm_backward = sgc_cpu_layer_norm_backward, \
        .residual_norm_forward = sgc_cpu_residual_norm_forward, \
        .residual_norm_backward = sgc_cpu_residual_norm_backward, \
        .matmul = sgc_cpu_matmul, \
        .attention_forward = sgc_cpu_attention_forward, \
        .attention_backward = sgc_cpu_attention_backward, \
        .attention_cached = sgc_cpu_attention_cached, \
        .activation_forward = sgc_cpu_activation_forward, \
        .activation_backward = sgc_cpu_activation_backward, \
        .add = sgc_cpu_add, \
        .dropout = sgc_cpu_dropout, \
        .cross_entropy = sgc_cpu_cross_entropy, \
        .adamw = sgc_cpu_adamw, \
        .block_square_sums = sgc_cpu_block_square_sums, \
        .narrow = sgc_cpu_narrow, \
        .add_into = sgc_cpu_add_into, \
    }

const sgc_device_ops sgc_cpu_ops = CPU_OPS("cpu", SGC_F32);
const sgc_device_ops sgc_cpu_bf16_ops = CPU_OPS("cpu_bf16", SGC_BF16);

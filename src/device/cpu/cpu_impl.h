/* The cpu devices, for src/device/cpu only. Each file cuts the work of its ops among the threads; the loops are in simd/. */
#ifndef SGC_DEVICE_CPU_CPU_IMPL_H
#define SGC_DEVICE_CPU_CPU_IMPL_H

#include "device/cpu/simd.h"
#include "device/device_impl.h"

typedef struct sgc_cpu {
    const sgc_simd *simd;
    struct sgc_gemm *gemm;  /* owned: cached matrix products          */
    bool multiplies_bf16;   /* else products of bf16 are made as products of floats */
    float *scratch;         /* owned: grows to what the largest shape needs */
    int64_t n_scratch;      /* floats */
} sgc_cpu;

/* Uninitialised scratch memory, 64-byte aligned, good until the next call. Only a shape that needs more than all before allocates. */
float *sgc_cpu_scratch(sgc_device *d, int64_t n_floats);

/* A kernel cannot return an error, and inside a training step one is fatal: says `what`, the recorded error, and ends the process. */
void sgc_cpu_fatal(const char *what) __attribute__((noreturn));

static inline const sgc_simd *sgc_cpu_simd(const sgc_device *d) { return ((const sgc_cpu *)d->state)->simd; }

/* Element i of an array of values. */
static inline void *sgc_cpu_at(const sgc_device *d, const void *values, int64_t i)
{
    return (char *)values + i * (int64_t)sgc_dtype_bytes(d->ops->value);
}

/* Loops over elements are cut into pieces of this size, and run on one thread when there are fewer than two of them. */
enum { SGC_CPU_PIECE = 16384, SGC_CPU_COLUMNS = 64 };
static inline int64_t sgc_cpu_piece(int64_t n, int64_t first) { return n - first < SGC_CPU_PIECE ? n - first : SGC_CPU_PIECE; }

void sgc_cpu_embedding_forward(sgc_device *d, void *x, const int32_t *token, const void *wte, const void *wpe, int64_t B, int64_t T, int64_t C,
                               int64_t position);
void sgc_cpu_embedding_backward(sgc_device *d, void *dwte, void *dwpe, const void *dx, const int32_t *token, int64_t B, int64_t T, int64_t C);
void sgc_cpu_layer_norm_forward(sgc_device *d, void *y, void *mean, void *rstd, const void *x, const void *w, const void *b, int64_t N, int64_t C,
                                double epsilon);
void sgc_cpu_layer_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w,
                                 const void *mean, const void *rstd, int64_t N, int64_t C);
void sgc_cpu_residual_norm_forward(sgc_device *d, void *z, void *y, void *mean, void *rstd, const void *x, const void *r, const void *w, const void *b,
                                   int64_t B, int64_t T, int64_t C, double epsilon, const sgc_dropout *drop);
void sgc_cpu_residual_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w,
                                    const void *mean, const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop);
void sgc_cpu_matmul(sgc_device *d, const sgc_matmul *p);
/* db [C] += sums of the columns of dy */
void sgc_cpu_bias_backward(sgc_device *d, float *db, const void *dy, int64_t N, int64_t C);
void sgc_cpu_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop);
void sgc_cpu_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                int64_t C, int64_t H, const sgc_dropout *drop);
void sgc_cpu_attention_cached(sgc_device *d, void *y, void *cache_k, void *cache_v, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H,
                              int64_t position, int64_t capacity);
void sgc_cpu_activation_forward(sgc_device *d, int kind, void *y, const void *x, int64_t n);
void sgc_cpu_activation_backward(sgc_device *d, int kind, void *dx, const void *dy, const void *x, int64_t n);
void sgc_cpu_add(sgc_device *d, void *z, const void *x, const void *y, int64_t n);
void sgc_cpu_dropout(sgc_device *d, void *y, const void *x, int64_t B, int64_t n_per_sample, const sgc_dropout *drop);
void sgc_cpu_cross_entropy(sgc_device *d, double *loss, void *dlogits, const void *logits, const int32_t *target, int64_t N, int64_t V,
                           int64_t ld, double smoothing, const double *scale);
void sgc_cpu_adamw(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, sgc_dtype g_type, int64_t n,
                   const sgc_update_part *parts, int n_parts, double weight_decay, const sgc_adamw *a);
void sgc_cpu_block_square_sums(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block);
void sgc_cpu_add_into(sgc_device *d, void *sum, const void *x, int64_t n);
void sgc_cpu_narrow(sgc_device *d, void *values, const void *wide, int64_t n);

/* Dropout's constants: kept elements are those whose random word is not below the threshold. */
static inline uint32_t sgc_cpu_dropout_threshold(double p) { return (uint32_t)__builtin_ceil(p * 0x1p32); }
static inline float sgc_cpu_dropout_scale(double p) { return (float)(1 / (1 - p)); }

#endif

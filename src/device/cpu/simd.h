/*
 * The hot loops of the cpu devices, one table per instruction set and type of values. They work on ranges and know nothing of threads: the files
 * of src/device/cpu cut the work, and never so that a sum depends on the cut.
 * Letters: N rows, C columns, T positions, D channels of a head.
 */
#ifndef SGC_DEVICE_CPU_SIMD_H
#define SGC_DEVICE_CPU_SIMD_H

#include "device/device.h"

enum { SGC_ATTENTION_BLOCK = 64 }; /* queries and keys of a block */

/* One head of one sample. */
typedef struct sgc_attention_head {
    const void *qkv;         /* values: q of position 0 of this head; k and v are C and 2C behind it */
    int64_t T, C, D;
    int64_t D_padded;        /* D rounded up to a multiple of 16; for bf16, of 32 */
    const sgc_dropout *drop; /* NULL: none */
    uint32_t threshold;      /* of the random words, and */
    float keep_scale;        /* the factor of what is kept: see sgc_dropout */
    int64_t sample;          /* global number */
    int64_t first_element;   /* of this head's [T, T] weights */
    int64_t slice, n_slices; /* work on blocks slice, slice + n_slices, ... */
    float *scratch;          /* of this thread: sgc_attention_scratch(T, D_padded) floats */
} sgc_attention_head;

typedef struct sgc_adamw_factors {
    float decay, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, epsilon, step_size, grad_scale;
} sgc_adamw_factors;

/* Values are of the table's type, see device.h. */
typedef struct sgc_simd {
    void (*activation_forward)(int kind, void *y, const void *x, int64_t n);
    void (*activation_backward)(int kind, void *dx, const void *dy, const void *x, int64_t n);
    void (*add)(void *z, const void *x, const void *y, int64_t n);
    void (*add_to_wide)(float *z, const void *x, int64_t n); /* z += x */
    void (*widen)(float *wide, const void *values, int64_t n);
    void (*narrow)(void *values, const float *wide, int64_t n);
    /* Elements first.. of a sample */
    void (*dropout)(void *y, const void *x, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample, uint32_t threshold,
                    float scale);
    /* z = x + dropout of r, which is rounded to a value in between; threshold 0: z = x + r */
    void (*residual)(void *z, const void *x, const void *r, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample,
                     uint32_t threshold, float scale);
    /* values: NULL, or the new p as values; g: floats, or values */
    void (*adamw)(void *values, float *p, float *m, float *v, const void *g, bool g_is_wide, int64_t n, const sgc_adamw_factors *a);
    double (*square_sum)(const void *x, bool is_wide, int64_t n);

    void (*layer_norm_forward)(void *y, float *mean, float *rstd, const void *x, const void *w, const void *b, int64_t N, int64_t C, double epsilon);
    /* dw, db [C] =: of these N rows, of which there should not be many: the sums are made in float */
    void (*layer_norm_backward)(void *dx, bool add_dx, float *dw, float *db, const void *dy, const void *x, const void *w, const float *mean,
                                const float *rstd, int64_t N, int64_t C);
    void (*column_sums)(float *sum, const void *x, int64_t N, int64_t C); /* sum [C] =: likewise */
    /* out [n] += the sum of n_rows rows that are `stride` apart */
    void (*add_rows)(float *out, const float *rows, int64_t n_rows, int64_t stride, int64_t n);

    /* One row. dlogits: NULL, or values; exps [V]: scratch, may be dlogits, and both logits, where values are floats */
    void (*cross_entropy)(double *loss, void *dlogits, const float *logits, float *exps, int32_t target, int64_t V, double smoothing, double scale);

    /* y: row 0 of this head's columns, rows C apart; lse [T] */
    void (*attention_forward)(const sgc_attention_head *a, void *y, float *lse);
    /* dqkv: as qkv. With dkv: dk and dv of the slice's key blocks; with dq: dq of the slice's query blocks; with both there must be one slice. */
    void (*attention_backward)(const sgc_attention_head *a, void *dqkv, const void *dy, const void *y, const float *lse, bool dq, bool dkv);
    /* One query against n keys and values whose rows are C apart; weights [n] is scratch */
    void (*attend)(void *y, const void *q, const void *k, const void *v, float *weights, int64_t n, int64_t C, int64_t D);
} sgc_simd;

/* By instruction set and type of values. */
extern const sgc_simd sgc_simd_portable_f32, sgc_simd_portable_bf16;
#if defined(__x86_64__)
extern const sgc_simd sgc_simd_avx2_f32, sgc_simd_avx2_bf16;
extern const sgc_simd sgc_simd_avx512_f32, sgc_simd_avx512_bf16;
extern const sgc_simd sgc_simd_avx512_dot_bf16;
#endif

int64_t sgc_attention_scratch(int64_t T, int64_t D_padded); /* floats, a multiple of 16 */

#endif

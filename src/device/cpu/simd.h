/*
 * The hot loops of the cpu device, one table per instruction set. They work on ranges and know nothing of threads: the files
 * of src/device/cpu cut the work, and never so that a sum depends on the cut.
 * Letters: N rows, C columns, T positions, D channels of a head.
 */
#ifndef SGC_DEVICE_CPU_SIMD_H
#define SGC_DEVICE_CPU_SIMD_H

#include "device/device.h"

enum { SGC_ATTENTION_BLOCK = 64 }; /* queries and keys of a block */

/* One head of one sample. */
typedef struct sgc_attention_head {
    const float *qkv;        /* q of position 0 of this head; k and v are C and 2C behind it */
    int64_t T, C, D;
    int64_t D_padded;        /* D rounded up to a multiple of 16 */
    const sgc_dropout *drop; /* NULL: none */
    uint32_t threshold;      /* of the random words, and */
    float keep_scale;        /* the factor of what is kept: see sgc_dropout */
    int64_t sample;          /* global number */
    int64_t first_element;   /* of this head's [T, T] weights */
    int64_t slice, n_slices; /* work on blocks slice, slice + n_slices, ... */
    float *scratch;          /* of this thread: sgc_attention_scratch(T, D) floats */
} sgc_attention_head;

typedef struct sgc_adamw_factors {
    float decay, beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, epsilon, step_size, grad_scale;
} sgc_adamw_factors;

typedef struct sgc_simd {
    const char *name;
    void (*activation_forward)(int kind, float *y, const float *x, int64_t n);
    void (*activation_backward)(int kind, float *dx, const float *dy, const float *x, int64_t n);
    void (*add)(float *z, const float *x, const float *y, int64_t n);
    /* Elements first.. of a sample; first is a multiple of 4. */
    void (*dropout)(float *y, const float *x, int64_t first, int64_t n, sgc_philox_key key, uint32_t stream, int64_t sample, uint32_t threshold,
                    float scale);
    void (*adamw)(float *p, float *m, float *v, const float *g, int64_t n, const sgc_adamw_factors *a);
    double (*square_sum)(const float *x, int64_t n);

    void (*layer_norm_forward)(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N, int64_t C,
                               double epsilon);
    void (*layer_norm_backward)(float *dx, bool add_dx, const float *dy, const float *x, const float *w, const float *mean, const float *rstd,
                                int64_t N, int64_t C);
    /* dw [n_columns] += and db [n_columns] += over N rows that are C apart */
    void (*layer_norm_columns)(float *dw, float *db, const float *dy, const float *x, const float *mean, const float *rstd, int64_t N, int64_t C,
                               int64_t n_columns);
    void (*column_sums)(float *db, const float *dy, int64_t N, int64_t C, int64_t n_columns);

    /* One row; dlogits may be NULL, or logits */
    void (*cross_entropy)(double *loss, float *dlogits, const float *logits, int32_t target, int64_t V, double smoothing, double scale);

    /* y: row 0 of this head's columns, rows C apart; lse [T] */
    void (*attention_forward)(const sgc_attention_head *a, float *y, float *lse);
    /* dqkv: as qkv. With dkv: dk and dv of the slice's key blocks; with dq: dq of the slice's query blocks; with both there must be one slice. */
    void (*attention_backward)(const sgc_attention_head *a, float *dqkv, const float *dy, const float *y, const float *lse, bool dq, bool dkv);
    /* One query against n keys and values whose rows are C apart; weights [n] is scratch */
    void (*attend)(float *y, const float *q, const float *k, const float *v, float *weights, int64_t n, int64_t C, int64_t D);
} sgc_simd;

extern const sgc_simd sgc_simd_portable;
#if defined(__x86_64__)
extern const sgc_simd sgc_simd_avx2;
extern const sgc_simd sgc_simd_avx512;
#endif

int64_t sgc_attention_scratch(int64_t T, int64_t D); /* floats, a multiple of 16 */

#endif

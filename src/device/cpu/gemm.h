/* Single matrix products by a library: oneDNN (gemm_onednn.c) or CBLAS (gemm_cblas.c), whichever configure found. */
#ifndef SGC_DEVICE_CPU_GEMM_H
#define SGC_DEVICE_CPU_GEMM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sgc_gemm sgc_gemm;

/* c [m, n] = (or += with add) op(a) op(b) + bias [n] (NULL: none), row major; ld: elements from a row as stored to the next. All are floats; or
 * with bf16 a, b and bias are bf16, and c is unless c_is_float. Sums are made in float. */
typedef struct sgc_product {
    void *c;
    const void *a, *b, *bias;
    int64_t m, n, k, lda, ldb, ldc;
    bool add, ta, tb, bf16, c_is_float;
} sgc_product;

/* Each product runs on the thread that calls sgc_gemm_run, which several threads may call at once. */
sgc_status sgc_gemm_open(sgc_gemm **g);
void sgc_gemm_close(sgc_gemm *g); /* NULL is allowed */

/* Does the library multiply bf16 on this machine, other than by plain loops? */
bool sgc_gemm_takes_bf16(sgc_gemm *g);

/* Get ready for products of the shape of p, on threads 0 .. n_threads - 1. Costs time and memory at the first call of a shape only. */
sgc_status sgc_gemm_prepare(sgc_gemm *g, const sgc_product *p, int n_threads);

/* Compute a product whose shape was prepared. Called with omp_set_num_threads(1). */
sgc_status sgc_gemm_run(sgc_gemm *g, const sgc_product *p, int thread);

#endif

/* Matrix products by a CBLAS library, where there is no oneDNN. */
#include "config.h"

#if !defined(HAVE_ONEDNN) && defined(HAVE_CBLAS)

#include <cblas.h>
#include <limits.h>

#include "base/mem.h"
#include "device/cpu/gemm.h"

/* Of OpenBLAS: other libraries do not have it. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

struct sgc_gemm { char nothing; };

sgc_status sgc_gemm_open(sgc_gemm **g)
{
    if (!(*g = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sizeof(**g)))) return SGC_ENOMEM;
    return SGC_OK;
}

void sgc_gemm_close(sgc_gemm *g) { sgc_mem_free(g); }

bool sgc_gemm_takes_bf16(sgc_gemm *g)
{
    (void)g;
    return false; /* OpenBLAS has a function for it, but not on every machine */
}

sgc_status sgc_gemm_prepare(sgc_gemm *g, const sgc_product *p, int n_threads)
{
    (void)g;
    (void)n_threads;
    if (openblas_set_num_threads) openblas_set_num_threads(1);
    const int64_t sizes[] = {p->m, p->n, p->k, p->lda, p->ldb, p->ldc};
    for (int i = 0; i < 6; i++)
        if (sizes[i] > INT_MAX) return sgc_err(SGC_EARG, "CBLAS takes no matrix with a side of %lld; build with oneDNN", (long long)sizes[i]);
    return SGC_OK;
}

sgc_status sgc_gemm_run(sgc_gemm *g, const sgc_product *p, int thread)
{
    (void)g;
    (void)thread;
    cblas_sgemm(CblasRowMajor, p->ta ? CblasTrans : CblasNoTrans, p->tb ? CblasTrans : CblasNoTrans, (int)p->m, (int)p->n, (int)p->k, 1.0f, p->a,
                (int)p->lda, p->b, (int)p->ldb, p->add ? 1.0f : 0.0f, p->c, (int)p->ldc);
    float *c = p->c;
    const float *bias = p->bias;
    for (int64_t i = 0; i < p->m && bias; i++)
        for (int64_t j = 0; j < p->n; j++) c[i * p->ldc + j] += bias[j];
    return SGC_OK;
}

#endif

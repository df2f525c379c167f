/*
 * Matrix products by cuBLASLt. It thinks in columns: what lies in memory as a row-major [r, c] it calls a c x r matrix with leading dimension c.
 * So a row-major c = op(a) op(b) is asked for as c' = op(b)' op(a)', with the operands swapped and each transposition as it was.
 *
 * Which of its algorithms makes a product is the first answer of its heuristic, which knows shapes, types and the GPU, and measures nothing: the
 * same on every run and every rank with an equal GPU and library. Splitting the inner side is allowed where the parts are added in a pass of
 * their own, in a fixed order, and where it is one of whole tiles: versions 12.8 and 13.1 are known to lose the rest behind the last whole tile of a side
 * that they split.
 *
 * What may follow a product is made with it where the library can: its GELU is that of GPT-2, by tanh. It makes it of sums that are not rounded yet, so a
 * call of the forward pass that is repeated apart in the backward pass would have other bits there; hence only an activation whose input is not kept
 * is its, and the slope, which is made once. What it refuses for a shape is refused once, and done by kernels of ours from then on.
 */
#include "device/cuda/cuda_impl.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/config.h"
#include "device/cuda/library.h"

#define WORKSPACE_BYTES ((size_t)32 << 20) /* what the library's own advice for Hopper is */
enum { WHOLE_TILES = 128 }; /* terms of a sum: a multiple of what any of its tiles has */

/* What the library does with a product, beside its bias. */
typedef enum epilogue { NOTHING, GELU, GELU_SLOPE, SUMS } epilogue;

/* All that its plan depends on. */
typedef struct product {
    int64_t m, n, k, lda, ldb, ldc;
    bool ta, tb, add, has_bias, c_is_wide;
    epilogue then;
    uint32_t alignment; /* of all operands, in bytes */
} product;

typedef struct plan {
    product of;
    bool refused;       /* there is no such product with what follows: the rest is empty */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c; /* row-major names: c = op(a) op(b) */
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
} plan;

struct sgc_cuda_matmul {
    const sgc_cublaslt *lt;
    cublasLtHandle_t handle;
    void *workspace;    /* owned, the device's */
    plan *plans;        /* owned */
    int n_plans, capacity;
};

static cudaDataType_t type_of(sgc_dtype type)
{
    switch (type) {
    case SGC_BF16: return CUDA_R_16BF;
    case SGC_F16: return CUDA_R_16F;
    default: return CUDA_R_32F;
    }
}

static void destroy(const sgc_cublaslt *lt, plan *p)
{
    if (p->operation) lt->MatmulDescDestroy(p->operation);
    if (p->a) lt->MatrixLayoutDestroy(p->a);
    if (p->b) lt->MatrixLayoutDestroy(p->b);
    if (p->c) lt->MatrixLayoutDestroy(p->c);
}

sgc_status sgc_cuda_matmul_open(sgc_device *d)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    sgc_status st;
    struct sgc_cuda_matmul *x = calloc(1, sizeof(*x));
    if (!x) return sgc_err(SGC_ENOMEM, "no memory for the matrix products' state");
    cuda->matmul = x;
    SGC_TRY(sgc_cublaslt_open(&x->lt));
    cublasStatus_t rc = x->lt->Create(&x->handle);
    if (rc != CUBLAS_STATUS_SUCCESS) {
        st = sgc_err(SGC_EDEVICE, "GPU %d (%s): cublasLtCreate: %s", cuda->ordinal, cuda->name, x->lt->GetStatusString(rc));
        goto done;
    }
    size_t version = x->lt->GetVersion(), n = strlen(d->about);
    snprintf(d->about + n, sizeof(d->about) - n, ", cuBLASLt %zu", version);
    if (!(x->workspace = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, WORKSPACE_BYTES))) st = SGC_ENOMEM;
done:
    return st;
}

void sgc_cuda_matmul_close(sgc_device *d)
{
    struct sgc_cuda_matmul *x = sgc_cuda_of(d)->matmul;
    if (!x) return;
    for (int i = 0; i < x->n_plans; i++) destroy(x->lt, &x->plans[i]);
    if (x->handle) x->lt->Destroy(x->handle);
    sgc_device_free(d, x->workspace);
    free(x->plans);
    free(x);
    sgc_cuda_of(d)->matmul = NULL;
}

static bool is_same(const product *x, const product *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->lda == y->lda && x->ldb == y->ldb && x->ldc == y->ldc && x->ta == y->ta && x->tb == y->tb && x->add == y->add && x->has_bias == y->has_bias &&
           x->c_is_wide == y->c_is_wide && x->then == y->then && x->alignment == y->alignment;
}

#define LT(call) do { if ((rc = x->lt->call) != CUBLAS_STATUS_SUCCESS) return rc; } while (0)

static cublasLtEpilogue_t epilogue_of(const product *q)
{
    switch (q->then) {
    case GELU: return q->has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case GELU_SLOPE: return CUBLASLT_EPILOGUE_DGELU;
    case SUMS: return CUBLASLT_EPILOGUE_BGRADA; /* of what is its first operand and our second */
    default: return q->has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
}

static cublasStatus_t describe(const sgc_device *d, const struct sgc_cuda_matmul *x, plan *p)
{
    cublasStatus_t rc;
    const product *q = &p->of;
    const cudaDataType_t value = type_of(d->ops->value), result = q->c_is_wide ? CUDA_R_32F : value;
    const cublasOperation_t first = q->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = q->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    const bool tf32 = sgc_cuda_of(d)->tf32 && value == CUDA_R_32F;
    const uint64_t rows_a = (uint64_t)(q->ta ? q->m : q->k), columns_a = (uint64_t)(q->ta ? q->k : q->m);
    const uint64_t rows_b = (uint64_t)(q->tb ? q->k : q->n), columns_b = (uint64_t)(q->tb ? q->n : q->k);
    LT(MatmulDescCreate(&p->operation, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)));
    LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)));
    const cublasLtEpilogue_t then = epilogue_of(q);
    const void *place = (const char *)x->workspace + q->alignment; /* for now any address that is aligned as the key says, and no better */
    LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &then, sizeof(then)));
    if (q->has_bias || q->then == SUMS) {
        const int32_t bias = result; /* as the result: what all versions of the library can */
        LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias, sizeof(bias)));
        LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &place, sizeof(place)));
    }
    if (q->then == GELU_SLOPE) {
        LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &q->n, sizeof(q->n)));
        LT(MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &place, sizeof(place)));
    }
    LT(MatrixLayoutCreate(&p->a, value, rows_a, columns_a, q->lda));
    LT(MatrixLayoutCreate(&p->b, value, rows_b, columns_b, q->ldb));
    LT(MatrixLayoutCreate(&p->c, result, (uint64_t)q->n, (uint64_t)q->m, q->ldc));
    return rc;
}

static cublasStatus_t prefer(const struct sgc_cuda_matmul *x, const product *q, cublasLtMatmulPreference_t preference)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t bytes = WORKSPACE_BYTES;
    const uint32_t reductions = q->k % WHOLE_TILES == 0 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasStatus_t rc;
    LT(MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
    LT(MatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof(reductions)));
    for (size_t i = 0; i < sizeof(alignments) / sizeof(alignments[0]); i++)
        LT(MatmulPreferenceSetAttribute(preference, alignments[i], &q->alignment, sizeof(q->alignment)));
    return rc;
}

static cublasStatus_t choose(const struct sgc_cuda_matmul *x, plan *p)
{
    enum { MOST_ANSWERS = 8 }; /* the best first; each may say of itself that it will not do */
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t answers[MOST_ANSWERS];
    int n = 0;
    cublasStatus_t rc;
    LT(MatmulPreferenceCreate(&preference));
    rc = prefer(x, &p->of, preference);
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = x->lt->MatmulAlgoGetHeuristic(x->handle, p->operation, p->b, p->a, p->c, p->c, preference, MOST_ANSWERS, answers, &n);
    x->lt->MatmulPreferenceDestroy(preference);
    if (rc != CUBLAS_STATUS_SUCCESS) return rc;
    for (int i = 0; i < n; i++) {
        if (answers[i].state != CUBLAS_STATUS_SUCCESS) continue;
        p->algorithm = answers[i].algo;
        p->workspace_bytes = answers[i].workspaceSize;
        return CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_NOT_SUPPORTED;
}

static void fail(sgc_device *d, const product *q, cublasStatus_t rc)
{
    char what[160];
    const struct sgc_cuda_matmul *x = sgc_cuda_of(d)->matmul;
    snprintf(what, sizeof(what), "the matrix product [%lld, %lld] = [%lld, %lld]%s [%lld, %lld]%s of %s", (long long)q->m, (long long)q->n,
             (long long)(q->ta ? q->k : q->m), (long long)(q->ta ? q->m : q->k), q->ta ? "'" : "", (long long)(q->tb ? q->n : q->k),
             (long long)(q->tb ? q->k : q->n), q->tb ? "'" : "", sgc_dtype_name(d->ops->value));
    sgc_cuda_fail(d, what, x->lt->GetStatusString(rc));
}

/* Is there anything about it that the library may refuse, and that is done after it then? */
static bool is_bare(const product *q) { return q->then == NOTHING && !q->has_bias; }

static plan *find(sgc_device *d, const product *q)
{
    struct sgc_cuda_matmul *x = sgc_cuda_of(d)->matmul;
    for (int i = 0; i < x->n_plans; i++)
        if (is_same(&x->plans[i].of, q)) return &x->plans[i];
    if (x->n_plans == x->capacity) {
        int more = x->capacity ? 2 * x->capacity : 64;
        plan *plans = realloc(x->plans, (size_t)more * sizeof(*plans));
        if (!plans) {
            sgc_cuda_fail(d, "a matrix product", "no memory of the host for its plan");
            return NULL;
        }
        x->plans = plans;
        x->capacity = more;
    }
    plan p = {.of = *q};
    cublasStatus_t rc = describe(d, x, &p);
    if (rc == CUBLAS_STATUS_SUCCESS) rc = choose(x, &p);
    if (rc != CUBLAS_STATUS_SUCCESS) {
        destroy(x->lt, &p);
        if (is_bare(q) || d->is_recording) { /* while calls are recorded some versions answer nothing: that is no refusal to keep */
            fail(d, q, rc);
            return NULL;
        }
        p = (plan){.of = *q, .refused = true};
    }
    x->plans[x->n_plans] = p;
    return &x->plans[x->n_plans++];
}

/* 16 bytes is all that kernels ask for. Nothing above is looked at: where a tensor lies differs between stages, and must not change the plan. */
static uint32_t alignment_of(const void *a, const void *b, const void *c, const void *bias)
{
    uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)bias;
    return bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : 2;
}

static void *result_of(const sgc_matmul *w) { return w->c ? w->c : w->activated; }

/* The product, its bias, and what follows if that is not NOTHING; false: nothing was done, because the library refuses the bias or what follows.
 * sums: where those of SUMS go, which are never added to what is there. */
static bool multiply(sgc_device *d, const sgc_matmul *w, epilogue then, float *sums)
{
    const float one = 1, beta = w->add;
    const void *bias = then == SUMS ? sums : w->bias;
    void *c = result_of(w);
    sgc_cuda *cuda = sgc_cuda_of(d);
    struct sgc_cuda_matmul *x = cuda->matmul;
    if (w->bias && w->c_is_wide && d->ops->value != SGC_F32) {
        float *wide = sgc_cuda_scratch(d, (size_t)w->n * sizeof(*wide));
        if (!wide) return true;
        sgc_cuda_widen(d, wide, bias, w->n);
        bias = wide;
    }
    const product q = {.m = w->m, .n = w->n, .k = w->k, .lda = w->lda ? w->lda : w->ta ? w->m : w->k, .ldb = w->ldb ? w->ldb : w->tb ? w->k : w->n,
                       .ldc = w->ldc ? w->ldc : w->n, .ta = w->ta, .tb = w->tb, .add = w->add, .has_bias = w->bias != NULL, .c_is_wide = w->c_is_wide,
                       .then = then, .alignment = alignment_of(w->a, w->b, c, bias)};
    plan *p = find(d, &q);
    if (!p) return true; /* the failure is kept */
    if (p->refused) return false;
    cublasStatus_t rc = CUBLAS_STATUS_SUCCESS;
    if (bias) rc = x->lt->MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    if (rc == CUBLAS_STATUS_SUCCESS && then == GELU_SLOPE)
        rc = x->lt->MatmulDescSetAttribute(p->operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &w->slope_at, sizeof(w->slope_at));
    if (rc == CUBLAS_STATUS_SUCCESS)
        rc = x->lt->Matmul(x->handle, p->operation, &one, w->b, p->b, w->a, p->a, &beta, c, p->c, c, p->c, &p->algorithm, x->workspace, p->workspace_bytes,
                           cuda->stream);
    if (rc == CUBLAS_STATUS_SUCCESS) return true;
    if (!is_bare(&q) && (rc == CUBLAS_STATUS_NOT_SUPPORTED || rc == CUBLAS_STATUS_INVALID_VALUE)) { /* the heuristic promised too much */
        destroy(x->lt, p);
        *p = (plan){.of = q, .refused = true};
        return false;
    }
    fail(d, &q, rc);
    return true;
}

/* The product and its bias. */
static void multiply_plainly(sgc_device *d, const sgc_matmul *w)
{
    sgc_matmul bare = *w;
    if (multiply(d, w, NOTHING, NULL)) return;
    bare.bias = NULL;
    multiply(d, &bare, NOTHING, NULL);
    sgc_cuda_add_bias(d, result_of(w), w->c_is_wide, w->ldc ? w->ldc : w->n, w->bias, w->m, w->n);
}

/*
 * How good the library's tanh is, is not told; for 16-bit numbers any is good enough, floats take ours. GPUs before 9.0 and from 12.0 on were seen to make
 * the activation after the product after all, more slowly than our kernel.
 * The library reads the numbers that slopes are taken at in rows of whole 128-bit accesses. In which order it sums columns is not told, only that it is the
 * same at every run; full_determinism takes ours.
 */
static epilogue epilogue_for(const sgc_device *d, const sgc_matmul *w)
{
    const int capability = sgc_cuda_of(d)->capability;
    if (w->sums) return !w->bias && !d->exact_threads && (w->c_is_wide || d->ops->value == SGC_F32) ? SUMS : NOTHING;
    if (w->activation != SGC_ACT_GELU_NEW || d->ops->value == SGC_F32 || capability < 90 || capability >= 120) return NOTHING;
    if (w->activated && !w->c) return GELU;
    return w->slope_at && !w->bias && w->n % 8 == 0 && (uintptr_t)w->slope_at % 16 == 0 ? GELU_SLOPE : NOTHING;
}

/* The product, with what follows by the library; false: that is still to be done. */
static bool multiply_with(sgc_device *d, const sgc_matmul *w, epilogue then)
{
    float *sums = w->sums;
    if (then == NOTHING) return multiply_plainly(d, w), false;
    if (then == SUMS && w->add_sums && !(sums = sgc_cuda_scratch(d, (size_t)w->n * sizeof(*sums)))) return true;
    if (!multiply(d, w, then, sums)) return multiply_plainly(d, w), false;
    if (sums != w->sums) sgc_cuda_add_into(d, w->sums, sums, w->n);
    return true;
}

void sgc_cuda_matmul(sgc_device *d, const sgc_matmul *w)
{
    assert((!w->activated && !w->slope_at) || (!w->c_is_wide && !w->add && w->ldc == 0 && !w->sums));
    assert(!w->sums || (!w->tb && (w->ldb == 0 || w->ldb == w->n)));
    if (w->m == 0 || w->n == 0 || sgc_cuda_of(d)->failed) return;
    if (multiply_with(d, w, epilogue_for(d, w))) return;
    if (w->activated) sgc_cuda_activation_forward(d, w->activation, w->activated, w->c ? w->c : w->activated, w->m * w->n);
    if (w->slope_at) sgc_cuda_activation_backward(d, w->activation, w->c, w->c, w->slope_at, w->m * w->n);
    if (!w->sums) return;
    if (!w->add_sums) sgc_cuda_memory.clear(d, w->sums, (size_t)w->n * sizeof(float));
    sgc_cuda_bias_backward(d, w->sums, w->b, w->k, w->n);
}

/*
 * cuBLASLt's products as plain sums, as exact as on a GPU and no better. Matrices lie in columns: element (i, j) at i + j * leading dimension.
 */
#include <cublasLt.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "runtime.h"

struct emulated_lt_handle { int unused; };

struct emulated_lt_operation {
    cublasComputeType_t compute;
    cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = NULL;
    int bias_type = -1; /* as the result */
    const void *aux = NULL; /* of the result's type */
    int64_t aux_leading = 0;
    bool has_bias() const { return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS; }
    bool has_gelu() const { return epilogue == CUBLASLT_EPILOGUE_GELU || epilogue == CUBLASLT_EPILOGUE_GELU_BIAS; }
    bool has_aux() const { return epilogue == CUBLASLT_EPILOGUE_DGELU; }
};

struct emulated_lt_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading;
};

struct emulated_lt_preference {
    uint32_t reductions = ~0u; /* all are allowed */
    uint64_t workspace_bytes = 0;
    uint32_t alignment[4] = {256, 256, 256, 256}; /* of a, b, c, d */
};

/* What the algorithm of a heuristic relies on. */
struct algorithm {
    bool splits; /* the sums of a product */
    uint64_t workspace_bytes;
    uint32_t alignment[4];
};

static float value(const void *p, cudaDataType_t type, size_t i)
{
    switch (type) {
    case CUDA_R_16BF: return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    case CUDA_R_16F: return __half2float(((const __half *)p)[i]);
    default: return ((const float *)p)[i];
    }
}

static void set(void *p, cudaDataType_t type, size_t i, float x)
{
    switch (type) {
    case CUDA_R_16BF: ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x); break;
    case CUDA_R_16F: ((__half *)p)[i] = __float2half_rn(x); break;
    default: ((float *)p)[i] = x;
    }
}

/* 10 bits of fraction remain, to nearest with ties away from zero. */
static float tf32(float x)
{
    unsigned u = __float_as_uint(x);
    return (u & 0x7f800000) == 0x7f800000 ? x : __uint_as_float((u + 0x1000) & ~0x1fffu);
}

/* op(x) as [rows, columns] in columns. */
static std::vector<double> unpacked(const void *x, const emulated_lt_layout &l, cublasOperation_t op, bool rounded)
{
    const size_t rows = op == CUBLAS_OP_N ? l.rows : l.columns, columns = op == CUBLAS_OP_N ? l.columns : l.rows, leading = (size_t)l.leading;
    std::vector<double> out(rows * columns);
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < rows; i++) {
            float v = value(x, l.type, op == CUBLAS_OP_N ? i + j * leading : j + i * leading);
            out[i + j * rows] = rounded ? tf32(v) : v;
        }
    return out;
}

/* By the tanh that GPUs have an instruction for, whose error is up to 2^-11 of it. */
static double coarse_tanh(double x) { return tanh(x) * (1 - 0x1p-11); }
static double gelu(double x) { return 0.5 * x * (1 + coarse_tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double gelu_slope(double x)
{
    const double s = sqrt(2 / M_PI), t = coarse_tanh(s * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * s * (1 + 3 * 0.044715 * x * x);
}

struct product_work : emulated::work {
    emulated_lt_operation operation;
    emulated_lt_layout la, lb, ld;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    bool splits;
    float alpha, beta;
    work *copy() const override { return new product_work(*this); }
    void run() override
    {
        const bool rounded = operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32, on_tensor_cores = la.type != CUDA_R_32F;
        const std::vector<double> left = unpacked(a, la, operation.transpose_a, rounded), right = unpacked(b, lb, operation.transpose_b, rounded);
        const size_t m = ld.rows, n = ld.columns, k = n ? right.size() / n : 0;
        const cudaDataType_t bias_type = operation.bias_type < 0 ? ld.type : (cudaDataType_t)operation.bias_type;
        std::vector<double> sum(m);
        if (operation.epilogue == CUBLASLT_EPILOGUE_BGRADA)
            for (size_t i = 0; i < m; i++) {
                double total = 0;
                for (size_t l = 0; l < k; l++) total += left[i + l * m];
                set((void *)operation.bias, bias_type, i, (float)total);
            }
        memset(workspace, 0xff, workspace_bytes);
        for (size_t j = 0; j < n; j++) {
            for (double &s : sum) s = 0;
            for (size_t l = 0; l < (splits && k > 1024 ? k / 64 * 64 : k); l++) { /* as some versions, which lose the rest of what they split */
                const double factor = right[l + j * k];
                const double *column = &left[l * m];
                for (size_t i = 0; i < m; i++) sum[i] += column[i] * factor;
                if (on_tensor_cores && (l % 8 == 7 || l + 1 == k))
                    for (double &s : sum) s = emulated_cut(s);
                else if (!on_tensor_cores)
                    for (double &s : sum) s = (float)s;
            }
            for (size_t i = 0; i < m; i++) {
                const size_t at = i + j * (size_t)ld.leading;
                double x = alpha * sum[i];
                if (beta != 0) x += (double)beta * value(c, ld.type, at);
                if (operation.has_bias()) x += value(operation.bias, bias_type, i);
                if (operation.has_gelu()) x = gelu(x);
                if (operation.has_aux()) x *= gelu_slope(value(operation.aux, ld.type, i + j * (size_t)operation.aux_leading));
                set(d, ld.type, at, (float)x);
            }
        }
    }
};

template <typename T> static cublasStatus_t take(T *to, const void *from, size_t bytes)
{
    if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new emulated_lt_handle;
    return emulated::usable() == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void) { return 120400; }

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "CUBLAS_STATUS_UNKNOWN";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *operation = new emulated_lt_operation;
    (*operation)->compute = compute;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(&operation->transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(&operation->transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(&operation->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(&operation->bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return take(&operation->bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return take(&operation->aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return take(&operation->aux_leading, value, bytes);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows, uint64_t columns, int64_t leading)
{
    *layout = new emulated_lt_layout{type, rows, columns, leading};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new emulated_lt_preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes)
{
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return take(&preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return take(&preference->reductions, value, bytes);
    default: break;
    }
    const int which = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    return which < 0 || which > 3 ? CUBLAS_STATUS_INVALID_VALUE : take(&preference->alignment[which], value, bytes);
}

static bool refuses_epilogues(const char *when)
{
    const char *text = getenv("EMULATED_LT");
    return text && strcmp(text, when) == 0;
}

/* The shapes must fit, and the types be a combination that the library's manual lists for sums in float. */
static cublasStatus_t check(const emulated_lt_operation &o, const emulated_lt_layout &a, const emulated_lt_layout &b, const emulated_lt_layout &d)
{
    const uint64_t m = o.transpose_a == CUBLAS_OP_N ? a.rows : a.columns, k = o.transpose_a == CUBLAS_OP_N ? a.columns : a.rows;
    const uint64_t kb = o.transpose_b == CUBLAS_OP_N ? b.rows : b.columns, n = o.transpose_b == CUBLAS_OP_N ? b.columns : b.rows;
    const bool is_plain = o.epilogue == CUBLASLT_EPILOGUE_DEFAULT || o.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (m != d.rows || n != d.columns || k != kb) return CUBLAS_STATUS_INVALID_VALUE;
    for (const emulated_lt_layout *l : {&a, &b, &d})
        if (l->leading < (int64_t)l->rows) return CUBLAS_STATUS_INVALID_VALUE;
    if (a.type != b.type || (d.type != a.type && d.type != CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o.epilogue == CUBLASLT_EPILOGUE_BGRADA && o.transpose_a != CUBLAS_OP_N) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!is_plain && d.type != a.type && o.epilogue != CUBLASLT_EPILOGUE_BGRADA) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o.epilogue != CUBLASLT_EPILOGUE_DEFAULT && refuses_epilogues("plain")) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (o.has_aux() && (!o.aux || (uintptr_t)o.aux % 16 != 0 || o.aux_leading % 8 != 0 || o.aux_leading < (int64_t)d.rows)) return CUBLAS_STATUS_INVALID_VALUE;
    if ((o.has_bias() || o.epilogue == CUBLASLT_EPILOGUE_BGRADA) && (!o.bias || (o.bias_type >= 0 && o.bias_type != (int)d.type))) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *n)
{
    *n = 0;
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t rc = check(*operation, *a, *b, *d);
    if (rc != CUBLAS_STATUS_SUCCESS) return rc;
    algorithm chosen = {};
    chosen.splits = preference->reductions != CUBLASLT_REDUCTION_SCHEME_NONE;
    chosen.workspace_bytes = preference->workspace_bytes < 4096 ? preference->workspace_bytes : 4096;
    memcpy(chosen.alignment, preference->alignment, sizeof(chosen.alignment));
    *n = wanted > 1 ? 2 : 1; /* of two the better one changes its mind */
    for (int i = 0; i < *n; i++) {
        memset(&results[i], 0, sizeof(results[i]));
        memcpy(&results[i].algo, &chosen, sizeof(chosen));
        results[i].workspaceSize = chosen.workspace_bytes;
        results[i].state = i + 1 == *n ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                              const void *b, cublasLtMatrixLayout_t b_layout, const void *beta, const void *c, cublasLtMatrixLayout_t, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    algorithm chosen;
    cublasStatus_t rc = check(*operation, *a_layout, *b_layout, *d_layout);
    if (rc != CUBLAS_STATUS_SUCCESS) return rc;
    if (operation->epilogue != CUBLASLT_EPILOGUE_DEFAULT && refuses_epilogues("late")) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (emulated::may_queue(stream) != cudaSuccess) return CUBLAS_STATUS_EXECUTION_FAILED;
    memcpy(&chosen, algo, sizeof(chosen));
    const void *pointers[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)pointers[i] % chosen.alignment[i] != 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < chosen.workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    product_work *w = new product_work;
    w->operation = *operation;
    w->la = *a_layout;
    w->lb = *b_layout;
    w->ld = *d_layout;
    w->a = a;
    w->b = b;
    w->c = c;
    w->d = d;
    w->workspace = workspace;
    w->workspace_bytes = chosen.workspace_bytes;
    w->splits = chosen.splits;
    w->alpha = *(const float *)alpha;
    w->beta = *(const float *)beta;
    emulated::queue(stream, w);
    return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"

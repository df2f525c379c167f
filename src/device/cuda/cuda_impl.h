/*
 * The CUDA devices, for src/device/cuda only. .c files hold what runs on the host, .cu files kernels and the calls that launch them, which
 * stand in the ops table as they are. Everything is queued on one stream; what fails is kept in the state and told by the next wait.
 */
#ifndef SGC_DEVICE_CUDA_CUDA_IMPL_H
#define SGC_DEVICE_CUDA_CUDA_IMPL_H

#include <cuda_runtime_api.h>

#include "device/device_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sgc_cuda {
    int ordinal;              /* among the visible devices */
    char name[128];           /* "NVIDIA H100 80GB HBM3"   */
    int capability;           /* 90: compute capability 9.0 */
    int n_sms;                /* multiprocessors            */
    cudaStream_t stream;
    struct sgc_cuda_matmul *matmul; /* owned: products by shape, their workspace */
    struct sgc_cudnn_attention *cudnn; /* owned; NULL: attention is not left to it */
    void *scratch;            /* owned: grows to what the largest shape needs */
    size_t scratch_bytes;
    int64_t n_scratches;      /* how often it was replaced: what was recorded before knows another */
    bool tf32;
    bool graphs;              /* calls that come again are recorded */
    char refusal[512];        /* while recording: the first failure, which then is none of the device's */
    bool failed;              /* the first failure since the device was opened: */
    char failure[512];        /* what was called, and what CUDA says of it       */
} sgc_cuda;

static inline sgc_cuda *sgc_cuda_of(const sgc_device *d) { return (sgc_cuda *)d->state; }

/* Keeps the first failure; false if rc is one. what: the call or the kernel. */
bool sgc_cuda_check(sgc_device *d, cudaError_t rc, const char *what);
/* The same of libraries with errors of their own. */
void sgc_cuda_fail(sgc_device *d, const char *what, const char *why);
/* SGC_EDEVICE if anything failed; the message names node, device, call and the error. */
sgc_status sgc_cuda_status(sgc_device *d);

/* Uninitialised scratch memory of the device, aligned to 256 bytes, good until the next call. Only a shape that needs more than all before
 * allocates. NULL: the failure is kept. */
void *sgc_cuda_scratch(sgc_device *d, size_t bytes);
/* What the largest call of a training's kernels asks of it; of embedding.cu, layer_norm.cu and columns.cu, for N rows, alone. */
size_t sgc_cuda_scratch_bytes(const sgc_device *d, const sgc_attention_shape *s, int64_t widest);
size_t sgc_cuda_embedding_scratch(int64_t N, int64_t C);
size_t sgc_cuda_layer_norm_scratch(int64_t N, int64_t C);
size_t sgc_cuda_bias_scratch(int64_t N, int64_t C);

extern const sgc_device_memory sgc_cuda_memory;

/* recording.c: of sgc_cuda_memory */
void sgc_cuda_repeat(sgc_device *d, sgc_recording **r, void (*calls)(void *arg), void *arg);
void sgc_cuda_forget(sgc_device *d, sgc_recording *r);

/* architectures.cu: for which compute capabilities the kernels were compiled, in rising order as 800, 900; 0 at the end. */
extern const int sgc_cuda_architectures[];

/* matmul.c */
sgc_status sgc_cuda_matmul_open(sgc_device *d);
void sgc_cuda_matmul_close(sgc_device *d);
void sgc_cuda_matmul(sgc_device *d, const sgc_matmul *p);

/* widen.cu: 16-bit values as floats */
void sgc_cuda_widen(sgc_device *d, float *wide, const void *values, int64_t n);
/* cudnn_attention.c, in programs that were built with cuDNN. forward, backward: false: nothing was done, it is for the kernels here */
sgc_status sgc_cudnn_attention_open(sgc_device *d, bool is_asked_for);
void sgc_cudnn_attention_close(sgc_device *d);
sgc_status sgc_cudnn_attention_prepare(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2]);
bool sgc_cudnn_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, const sgc_attention_shape *s);
bool sgc_cudnn_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, const sgc_attention_shape *s);
/* Of the library, as 91900. SGC_EDEVICE: it cannot be opened */
sgc_status sgc_cudnn_find(int *version);
/* elementwise.cu */
void sgc_cuda_activation_forward(sgc_device *d, int kind, void *y, const void *x, int64_t n);
void sgc_cuda_activation_backward(sgc_device *d, int kind, void *dx, const void *dy, const void *x, int64_t n);
void sgc_cuda_add(sgc_device *d, void *z, const void *x, const void *y, int64_t n);
void sgc_cuda_dropout(sgc_device *d, void *y, const void *x, int64_t B, int64_t n_per_sample, const sgc_dropout *drop);
void sgc_cuda_narrow(sgc_device *d, void *values, const void *wide, int64_t n);
void sgc_cuda_add_into(sgc_device *d, void *sum, const void *x, int64_t n);
/* adamw.cu */
void sgc_cuda_adamw(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, sgc_dtype g_type, int64_t n,
                    const sgc_update_part *parts, int n_parts, double weight_decay, const sgc_adamw *a);
void sgc_cuda_block_square_sums(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block);
/* embedding.cu */
void sgc_cuda_embedding_forward(sgc_device *d, void *x, const int32_t *token, const void *wte, const void *wpe, int64_t B, int64_t T, int64_t C,
                                int64_t position);
void sgc_cuda_embedding_backward(sgc_device *d, void *dwte, void *dwpe, const void *dx, const int32_t *token, int64_t B, int64_t T, int64_t C);
/* layer_norm.cu */
void sgc_cuda_layer_norm_forward(sgc_device *d, void *y, void *mean, void *rstd, const void *x, const void *w, const void *b, int64_t N, int64_t C,
                                 double epsilon);
void sgc_cuda_layer_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dw, void *db, const void *dy, const void *x, const void *w,
                                  const void *mean, const void *rstd, int64_t N, int64_t C);
void sgc_cuda_residual_norm_forward(sgc_device *d, void *z, void *y, void *mean, void *rstd, const void *x, const void *r, const void *w, const void *b,
                                    int64_t B, int64_t T, int64_t C, double epsilon, const sgc_dropout *drop);
void sgc_cuda_residual_norm_backward(sgc_device *d, void *dx, bool add_dx, void *dr, void *dw, void *db, const void *dy, const void *x, const void *w,
                                     const void *mean, const void *rstd, int64_t B, int64_t T, int64_t C, const sgc_dropout *drop);
/* columns.cu: bias [n], values, to each of the m rows of c; db [C] += sums of the columns of dy */
void sgc_cuda_add_bias(sgc_device *d, void *c, bool c_is_wide, int64_t ldc, const void *bias, int64_t m, int64_t n);
void sgc_cuda_bias_backward(sgc_device *d, float *db, const void *dy, int64_t N, int64_t C);
/* cross_entropy.cu */
void sgc_cuda_cross_entropy(sgc_device *d, double *loss, void *dlogits, const void *logits, const int32_t *target, int64_t N, int64_t V,
                            int64_t ld, double smoothing, const double *scale);
/* attention_choice.c: cuDNN or the kernels here */
sgc_status sgc_cuda_attention_open(sgc_device *d, int choice); /* sgc_attention_choice */
void sgc_cuda_attention_close(sgc_device *d);
sgc_status sgc_cuda_attention_prepare(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2]);
void sgc_cuda_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop);
void sgc_cuda_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                 int64_t C, int64_t H, const sgc_dropout *drop);
/* attention.cu: chooses among attention_mma.cu (tensor cores; D 64 and 128, 16-bit values) and attention_plain.cu (any D, any type) */
void sgc_cuda_attention_own_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H,
                                    const sgc_dropout *drop);
void sgc_cuda_attention_own_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                     int64_t C, int64_t H, const sgc_dropout *drop);
void sgc_cuda_attention_cached(sgc_device *d, void *y, void *cache_k, void *cache_v, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H,
                               int64_t position, int64_t capacity);

#ifdef __cplusplus
}
#endif

#endif

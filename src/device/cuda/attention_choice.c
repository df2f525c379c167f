/* Attention: by cuDNN where the settings, the build and the node have it, else by the kernels here. */
#include "device/cuda/cuda_impl.h"

#include "base/log.h"
#include "conf/config.h"

/* cudnn_attention.c; not in programs that were built without cuDNN. */
sgc_status sgc_cudnn_attention_open(sgc_device *d, bool is_asked_for) __attribute__((weak));
void sgc_cudnn_attention_close(sgc_device *d) __attribute__((weak));
sgc_status sgc_cudnn_attention_prepare(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2]) __attribute__((weak));
bool sgc_cudnn_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, const sgc_attention_shape *s) __attribute__((weak));
bool sgc_cudnn_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, const sgc_attention_shape *s)
    __attribute__((weak));

sgc_status sgc_cuda_attention_open(sgc_device *d, int choice)
{
    if (choice == SGC_ATTENTION_OWN || (choice == SGC_ATTENTION_AUTO && (d->ops->value == SGC_F32 || d->exact_threads))) return SGC_OK;
    if (choice == SGC_ATTENTION_CUDNN && d->ops->value == SGC_F32)
        return sgc_err(SGC_ECONFIG, "--device.attention cudnn: cuDNN has attention of 16-bit numbers only: write --bf16 true, or --device.attention auto");
    if (choice == SGC_ATTENTION_CUDNN && d->exact_threads)
        return sgc_err(SGC_ECONFIG, "--device.attention cudnn: which of its engines computes depends on the micro-batch: write --device.attention own for full_determinism");
    if (!sgc_cudnn_attention_open) {
        if (choice == SGC_ATTENTION_AUTO) return SGC_OK;
        return sgc_err(SGC_EDEVICE, "this stagecoach was built without cuDNN: build it with ./configure --with-cudnn, or write --device.attention own");
    }
    sgc_status st = sgc_cudnn_attention_open(d, choice == SGC_ATTENTION_CUDNN);
    if (st == SGC_OK || choice == SGC_ATTENTION_CUDNN) return st;
    sgc_log_info("attention: own kernels: %s", sgc_err_message());
    sgc_err_clear();
    sgc_cudnn_attention_close(d);
    return SGC_OK;
}

void sgc_cuda_attention_close(sgc_device *d)
{
    if (sgc_cuda_of(d)->cudnn) sgc_cudnn_attention_close(d);
}

sgc_status sgc_cuda_attention_prepare(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2])
{
    bytes[0] = bytes[1] = 0;
    return sgc_cuda_of(d)->cudnn ? sgc_cudnn_attention_prepare(d, s, bytes) : SGC_OK;
}

void sgc_cuda_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    const sgc_attention_shape s = {.B = B, .T = T, .C = C, .H = H, .dropout = drop->p};
    if (B == 0 || T == 0 || (sgc_cuda_of(d)->cudnn && sgc_cudnn_attention_forward(d, y, lse, qkv, &s))) return;
    sgc_cuda_attention_own_forward(d, y, lse, qkv, B, T, C, H, drop);
}

void sgc_cuda_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                 int64_t C, int64_t H, const sgc_dropout *drop)
{
    const sgc_attention_shape s = {.B = B, .T = T, .C = C, .H = H, .dropout = drop->p, .backward = true};
    if (B == 0 || T == 0 || (sgc_cuda_of(d)->cudnn && sgc_cudnn_attention_backward(d, dqkv, dy, y, lse, qkv, &s))) return;
    sgc_cuda_attention_own_backward(d, dqkv, dy, y, lse, qkv, B, T, C, H, drop);
}

/* Attention by the kernels here: which of them serve a call. */
#include "device/cuda/attention.cuh"

static attention call_of(int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    attention a = {};
    a.B = B, a.T = T, a.C = C, a.H = H, a.D = C / H;
    a.drop = dropout_rule_of(drop);
    a.sample = drop->sample;
    return a;
}

bool sgc_attention_is_served(sgc_device *d, int64_t D)
{
    return D <= ATTENTION_MAX_HEAD || sgc_cuda_check(d, cudaErrorNotSupported, "attention with heads of more than 256 numbers");
}

static bool has_tensor_cores(const sgc_device *d, const attention *a)
{
    return d->ops->value != SGC_F32 && (a->D == 64 || a->D == 128);
}

void sgc_cuda_attention_own_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    if (!sgc_attention_is_served(d, C / H)) return;
    attention a = call_of(B, T, C, H, drop);
    a.qkv = qkv, a.y = y, a.lse = (float *)lse;
    if (has_tensor_cores(d, &a)) sgc_attention_mma_forward(d, &a);
    else sgc_attention_plain_forward(d, &a);
}

void sgc_cuda_attention_own_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                     int64_t C, int64_t H, const sgc_dropout *drop)
{
    if (!sgc_attention_is_served(d, C / H)) return;
    attention a = call_of(B, T, C, H, drop);
    a.qkv = qkv, a.y = (void *)y, a.lse = (float *)lse, a.dy = dy, a.dqkv = dqkv;
    if (!(a.delta = (float *)sgc_cuda_scratch(d, (size_t)(B * H * T) * sizeof(float)))) return;
    if (has_tensor_cores(d, &a)) sgc_attention_mma_backward(d, &a);
    else sgc_attention_plain_backward(d, &a);
}

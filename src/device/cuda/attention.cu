/* Attention: which kernels serve a call. */
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

/* A group of lanes to a head of a position. */
enum { DELTA_LANES = 8, DELTA_THREADS = 256 };

template <typename V>
static __global__ void __launch_bounds__(DELTA_THREADS) delta_kernel(const attention a)
{
    const int64_t row = ((int64_t)blockIdx.x * DELTA_THREADS + threadIdx.x) / DELTA_LANES, at = row / a.H, h = row % a.H; /* at: b * T + t */
    const int lane = threadIdx.x % DELTA_LANES;
    const bool is_there = row < a.B * a.T * a.H;
    float sum = 0;
    if (is_there) {
        const V *dy = (const V *)a.dy + at * a.C + h * a.D, *y = (const V *)a.y + at * a.C + h * a.D;
        if (a.D % 8 == 0) {
            for (int64_t c = lane * 8; c < a.D; c += DELTA_LANES * 8) {
                float p[8], q[8];
                load8(dy + c, p);
                load8(y + c, q);
#pragma unroll
                for (int k = 0; k < 8; k++) sum += p[k] * q[k];
            }
        } else {
            for (int64_t c = lane; c < a.D; c += DELTA_LANES) sum += to_float(dy[c]) * to_float(y[c]);
        }
    }
#pragma unroll
    for (int step = DELTA_LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    if (is_there && lane == 0) a.delta[(at / a.T * a.H + h) * a.T + at % a.T] = sum;
}

void sgc_cuda_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, int64_t B, int64_t T, int64_t C, int64_t H, const sgc_dropout *drop)
{
    if (B == 0 || T == 0 || !sgc_attention_is_served(d, C / H)) return;
    attention a = call_of(B, T, C, H, drop);
    a.qkv = qkv, a.y = y, a.lse = (float *)lse;
    if (has_tensor_cores(d, &a)) sgc_attention_mma_forward(d, &a);
    else sgc_attention_plain_forward(d, &a);
}

void sgc_cuda_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, int64_t B, int64_t T,
                                 int64_t C, int64_t H, const sgc_dropout *drop)
{
    if (B == 0 || T == 0 || !sgc_attention_is_served(d, C / H)) return;
    attention a = call_of(B, T, C, H, drop);
    a.qkv = qkv, a.y = (void *)y, a.lse = (float *)lse, a.dy = dy, a.dqkv = dqkv;
    if (!(a.delta = (float *)sgc_cuda_scratch(d, (size_t)(B * H * T) * sizeof(float)))) return;
    const unsigned blocks = (unsigned)((B * T * H * DELTA_LANES + DELTA_THREADS - 1) / DELTA_THREADS);
    if (d->ops->value == SGC_F32) SGC_LAUNCH(d, (delta_kernel<float>), blocks, DELTA_THREADS, 0, a);
    else if (d->ops->value == SGC_BF16) SGC_LAUNCH(d, (delta_kernel<__nv_bfloat16>), blocks, DELTA_THREADS, 0, a);
    else SGC_LAUNCH(d, (delta_kernel<__half>), blocks, DELTA_THREADS, 0, a);
    if (has_tensor_cores(d, &a)) sgc_attention_mma_backward(d, &a);
    else sgc_attention_plain_backward(d, &a);
}

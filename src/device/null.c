/* The device that computes nothing: plans are made on it without memory. Its functions may be called with NULL for every tensor. */
#include "device/device_impl.h"

#define UNUSED __attribute__((unused))

static void embedding_forward(UNUSED sgc_device *d, UNUSED void *x, UNUSED const int32_t *token, UNUSED const void *wte, UNUSED const void *wpe,
                              UNUSED int64_t B, UNUSED int64_t T, UNUSED int64_t C, UNUSED int64_t position)
{
}

static void embedding_backward(UNUSED sgc_device *d, UNUSED void *dwte, UNUSED void *dwpe, UNUSED const void *dx, UNUSED const int32_t *token,
                               UNUSED int64_t B, UNUSED int64_t T, UNUSED int64_t C)
{
}

static void layer_norm_forward(UNUSED sgc_device *d, UNUSED void *y, UNUSED void *mean, UNUSED void *rstd, UNUSED const void *x, UNUSED const void *w,
                               UNUSED const void *b, UNUSED int64_t N, UNUSED int64_t C, UNUSED double epsilon)
{
}

static void layer_norm_backward(UNUSED sgc_device *d, UNUSED void *dx, UNUSED bool add_dx, UNUSED void *dw, UNUSED void *db, UNUSED const void *dy,
                                UNUSED const void *x, UNUSED const void *w, UNUSED const void *mean, UNUSED const void *rstd, UNUSED int64_t N,
                                UNUSED int64_t C)
{
}

static void residual_norm_forward(UNUSED sgc_device *d, UNUSED void *z, UNUSED void *y, UNUSED void *mean, UNUSED void *rstd, UNUSED const void *x,
                                  UNUSED const void *r, UNUSED const void *w, UNUSED const void *b, UNUSED int64_t B, UNUSED int64_t T, UNUSED int64_t C,
                                  UNUSED double epsilon, UNUSED const sgc_dropout *drop)
{
}

static void residual_norm_backward(UNUSED sgc_device *d, UNUSED void *dx, UNUSED bool add_dx, UNUSED void *dr, UNUSED void *dw, UNUSED void *db,
                                   UNUSED const void *dy, UNUSED const void *x, UNUSED const void *w, UNUSED const void *mean, UNUSED const void *rstd,
                                   UNUSED int64_t B, UNUSED int64_t T, UNUSED int64_t C, UNUSED const sgc_dropout *drop)
{
}

static void matmul(UNUSED sgc_device *d, UNUSED const sgc_matmul *p)
{
}

static void attention_forward(UNUSED sgc_device *d, UNUSED void *y, UNUSED void *lse, UNUSED const void *qkv, UNUSED int64_t B, UNUSED int64_t T,
                              UNUSED int64_t C, UNUSED int64_t H, UNUSED const sgc_dropout *drop)
{
}

static void attention_backward(UNUSED sgc_device *d, UNUSED void *dqkv, UNUSED const void *dy, UNUSED const void *y, UNUSED const void *lse,
                               UNUSED const void *qkv, UNUSED int64_t B, UNUSED int64_t T, UNUSED int64_t C, UNUSED int64_t H,
                               UNUSED const sgc_dropout *drop)
{
}

static void attention_cached(UNUSED sgc_device *d, UNUSED void *y, UNUSED void *cache_k, UNUSED void *cache_v, UNUSED const void *qkv, UNUSED int64_t B,
                             UNUSED int64_t T, UNUSED int64_t C, UNUSED int64_t H, UNUSED int64_t position, UNUSED int64_t capacity)
{
}

static void activation_forward(UNUSED sgc_device *d, UNUSED int kind, UNUSED void *y, UNUSED const void *x, UNUSED int64_t n)
{
}

static void activation_backward(UNUSED sgc_device *d, UNUSED int kind, UNUSED void *dx, UNUSED const void *dy, UNUSED const void *x, UNUSED int64_t n)
{
}

static void add(UNUSED sgc_device *d, UNUSED void *z, UNUSED const void *x, UNUSED const void *y, UNUSED int64_t n)
{
}

static void dropout(UNUSED sgc_device *d, UNUSED void *y, UNUSED const void *x, UNUSED int64_t B, UNUSED int64_t n_per_sample,
                    UNUSED const sgc_dropout *drop)
{
}

static void cross_entropy(UNUSED sgc_device *d, UNUSED double *loss, UNUSED void *dlogits, UNUSED const void *logits, UNUSED const int32_t *target,
                          UNUSED int64_t N, UNUSED int64_t V, UNUSED int64_t ld, UNUSED double smoothing, UNUSED const double *scale)
{
}

static void adamw(UNUSED sgc_device *d, UNUSED void *values, UNUSED void *p, UNUSED void *m, UNUSED void *v, UNUSED const void *g,
                  UNUSED sgc_dtype g_type, UNUSED int64_t n, UNUSED const sgc_update_part *parts, UNUSED int n_parts, UNUSED double weight_decay,
                  UNUSED const sgc_adamw *a)
{
}

static void block_square_sums(UNUSED sgc_device *d, UNUSED double *out, UNUSED const void *x, UNUSED sgc_dtype x_type, UNUSED int64_t n,
                              UNUSED int64_t block)
{
}

static void narrow(UNUSED sgc_device *d, UNUSED void *values, UNUSED const void *wide, UNUSED int64_t n)
{
}

static void add_into(UNUSED sgc_device *d, UNUSED void *sum, UNUSED const void *x, UNUSED int64_t n)
{
}

const sgc_device_ops sgc_null_ops = {
    .name = "null",
    .value = SGC_F32, /* of the device that is planned for */
    .wide = SGC_F32,
    .is_null = true,
    .chunk_bytes = (size_t)64 << 20,
    .row_multiple = 1,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward = layer_norm_backward,
    .residual_norm_forward = residual_norm_forward,
    .residual_norm_backward = residual_norm_backward,
    .matmul = matmul,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .attention_cached = attention_cached,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .add = add,
    .dropout = dropout,
    .cross_entropy = cross_entropy,
    .adamw = adamw,
    .block_square_sums = block_square_sums,
    .narrow = narrow,
    .add_into = add_into,
};

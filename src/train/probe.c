#include "train/probe_impl.h"

#include "base/mem.h"
#include "base/util.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 2048, N_REPEATS = 3 };
static const double LONG_S = 0.1; /* a product that takes longer is large enough */

typedef struct matrices { void *a, *b, *c; } matrices; /* [n, n] values, owned */

/* Ordinary numbers: zeros and denormals have another speed on some machines. */
static void fill(void *x, sgc_dtype type, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float value = 0.5f + 0.001f * (float)(i % 127);
        if (type == SGC_F32) ((float *)x)[i] = value;
        else if (type == SGC_BF16) ((sgc_bf16 *)x)[i] = sgc_float_to_bf16(value);
        else ((double *)x)[i] = (double)value;
    }
}

static sgc_status take_local(matrices *m, sgc_dtype type)
{
    size_t bytes = (size_t)LAST_SIZE * LAST_SIZE * sgc_dtype_bytes(type);
    m->a = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, bytes);
    m->b = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, bytes);
    m->c = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, bytes);
    if (m->a && m->b && m->c) return SGC_OK;
    sgc_err_clear();
    return sgc_err(SGC_ENOMEM, "device.gemm_probe has no memory for three matrices of %d x %d: write device.gemm_probe false", LAST_SIZE, LAST_SIZE);
}

/* Seconds of the best of some products of one size. */
static double time_products(sgc_device *d, const matrices *m, int64_t n)
{
    double best_s = 0;
    for (int i = 0; i <= N_REPEATS; i++) {
        double start_s = sgc_time_s();
        d->ops->matmul(d, m->c, false, false, m->a, false, m->b, false, NULL, n, n, n);
        double took_s = sgc_time_s() - start_s;
        if (i == 1 || (i > 1 && took_s < best_s)) best_s = took_s; /* the first one prepares the shape */
    }
    return best_s;
}

sgc_status sgc_probe_gemm(sgc_device *device, sgc_group *group, double *flops)
{
    matrices m = {0};
    double best = 0;
    int64_t sum;
    sgc_status st = take_local(&m, device->ops->value);
    SGC_AGREE(group);
    fill(m.a, device->ops->value, (int64_t)LAST_SIZE * LAST_SIZE);
    fill(m.b, device->ops->value, (int64_t)LAST_SIZE * LAST_SIZE);
    SGC_TRY(sgc_barrier(group));
    for (int64_t n = FIRST_SIZE; n <= LAST_SIZE; n *= 2) {
        double took_s = time_products(device, &m, n), rate = 2 * (double)n * (double)n * (double)n / took_s;
        if (rate > best) best = rate;
        if (took_s > LONG_S) break;
    }
    sum = (int64_t)best;
    SGC_TRY(sgc_sum_int64(group, &sum, 1));
    *flops = (double)sum;
done:
    sgc_mem_free(m.a);
    sgc_mem_free(m.b);
    sgc_mem_free(m.c);
    return st;
}

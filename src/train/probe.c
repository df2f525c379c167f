#include "train/probe_impl.h"

#include "base/mem.h"
#include "base/util.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 2048, N_REPEATS = 3 };
static const double LONG_S = 0.1; /* a product that takes longer is large enough */

typedef struct matrices { void *a, *b, *c; } matrices; /* [n, n] values, owned */

/* Ordinary numbers: zeros and denormals have another speed on some machines. */
static sgc_status fill_local(sgc_device *d, const matrices *m)
{
    sgc_status st = SGC_OK;
    enum { PIECE = LAST_SIZE * 8 };
    float values[PIECE];
    sgc_dtype type = d->ops->value;
    size_t bytes = PIECE * sgc_dtype_bytes(type);
    for (int64_t i = 0; i < PIECE; i++)
        values[i] = 0.5f + 0.001f * (float)(i % 127);
    sgc_dtype_pack(type, values, PIECE, values);
    for (size_t piece = 0; piece < LAST_SIZE / 8; piece++) {
        SGC_TRY(sgc_device_write(d, (char *)m->a + piece * bytes, values, bytes));
        SGC_TRY(sgc_device_write(d, (char *)m->b + piece * bytes, values, bytes));
    }
done:
    return st;
}

static sgc_status take_local(matrices *m, sgc_device *d)
{
    size_t bytes = (size_t)LAST_SIZE * LAST_SIZE * sgc_dtype_bytes(d->ops->value);
    m->a = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes);
    m->b = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes);
    m->c = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes);
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
        d->ops->matmul(d, &(sgc_matmul){.c = m->c, .a = m->a, .b = m->b, .m = n, .n = n, .k = n});
        sgc_device_finish(d);
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
    sgc_status st = take_local(&m, device);
    SGC_AGREE(group);
    st = fill_local(device, &m);
    SGC_AGREE(group);
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
    sgc_device_free(device, m.a);
    sgc_device_free(device, m.b);
    sgc_device_free(device, m.c);
    return st;
}

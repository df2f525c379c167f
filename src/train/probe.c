#include "train/probe_impl.h"

#include "base/mem.h"
#include "base/util.h"

enum { FIRST_SIZE = 256, LAST_SIZE = 2048, LAST_SIZE_OF_GPUS = 8192, N_REPEATS = 3, N_AT_ONCE = 8 };
static const double LONG_S = 0.1; /* a product that takes longer is large enough */
static const double SHORT_S = 0.02; /* one that takes less is asked for several times before a wait, which takes time of its own */

typedef struct matrices {
    void *a, *b, *c; /* [n, n] values, owned */
    int64_t n;
} matrices;

/* Ordinary numbers: zeros and denormals have another speed on some machines. */
static sgc_status fill_local(sgc_device *d, const matrices *m)
{
    sgc_status st = SGC_OK;
    enum { PIECE = LAST_SIZE * 32 };
    float values[PIECE];
    sgc_dtype type = d->ops->value;
    size_t bytes = PIECE * sgc_dtype_bytes(type);
    for (int64_t i = 0; i < PIECE; i++)
        values[i] = 0.5f + 0.001f * (float)(i % 127);
    sgc_dtype_pack(type, values, PIECE, values);
    for (int64_t piece = 0; piece < m->n * m->n / PIECE; piece++) {
        SGC_TRY(sgc_device_write(d, (char *)m->a + (size_t)piece * bytes, values, bytes));
        SGC_TRY(sgc_device_write(d, (char *)m->b + (size_t)piece * bytes, values, bytes));
    }
done:
    return st;
}

static void drop(matrices *m, sgc_device *d)
{
    sgc_device_free(d, m->a);
    sgc_device_free(d, m->b);
    sgc_device_free(d, m->c);
    *m = (matrices){0};
}

/* As large as there is memory for: a run may leave little of a GPU's. */
static sgc_status take_local(matrices *m, sgc_device *d)
{
    for (int64_t n = d->ops->memory ? LAST_SIZE_OF_GPUS : LAST_SIZE; n >= LAST_SIZE; n /= 2) {
        size_t bytes = (size_t)(n * n) * sgc_dtype_bytes(d->ops->value);
        m->n = n;
        if ((m->a = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes)) && (m->b = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes)) &&
            (m->c = sgc_device_alloc(d, SGC_MEM_ACTIVATIONS, bytes)))
            return SGC_OK;
        drop(m, d);
        sgc_err_clear();
    }
    return sgc_err(SGC_ENOMEM, "device.gemm_probe has no memory for three matrices of %d x %d: write device.gemm_probe false", LAST_SIZE, LAST_SIZE);
}

static double time_some(sgc_device *d, const matrices *m, int64_t n, int n_products)
{
    double start_s = sgc_time_s();
    for (int i = 0; i < n_products; i++) d->ops->matmul(d, &(sgc_matmul){.c = m->c, .a = m->a, .b = m->b, .m = n, .n = n, .k = n});
    sgc_device_finish(d);
    return (sgc_time_s() - start_s) / n_products;
}

/* Seconds of the best of some products of one size. */
static double time_products(sgc_device *d, const matrices *m, int64_t n)
{
    time_some(d, m, n, 1); /* the first one prepares the shape */
    double best_s = time_some(d, m, n, 1);
    int n_products = d->ops->memory && best_s < SHORT_S ? N_AT_ONCE : 1;
    for (int i = 1; i < N_REPEATS; i++) {
        double took_s = time_some(d, m, n, n_products);
        if (took_s < best_s) best_s = took_s;
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
    for (int64_t n = FIRST_SIZE; n <= m.n; n *= 2) {
        double took_s = time_products(device, &m, n), rate = 2 * (double)n * (double)n * (double)n / took_s;
        if (rate > best) best = rate;
        if (took_s > LONG_S) break;
    }
    sum = (int64_t)best;
    SGC_TRY(sgc_sum_int64(group, &sum, 1));
    *flops = (double)sum;
done:
    drop(&m, device);
    return st;
}

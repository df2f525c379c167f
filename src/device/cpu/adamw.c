/* The AdamW update of a range, the square sums that its clipping needs, and rounding to values. */
#include <math.h>

#include "device/cpu/cpu_impl.h"

/* What a range is updated with. */
typedef struct update {
    char *values; /* NULL: none */
    float *p, *m, *v;
    const char *g;
    sgc_dtype g_type;
    const sgc_update_part *parts;
    int n_parts;
    sgc_adamw_factors factors[2]; /* without decay and with it */
} update;

static void update_piece(const sgc_device *d, const update *u, int64_t first, int64_t end)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    for (int k = 0; k < u->n_parts; k++) {
        const sgc_update kind = u->parts[k].kind;
        const int64_t from = u->parts[k].first > first ? u->parts[k].first : first;
        const int64_t to = k + 1 < u->n_parts && u->parts[k + 1].first < end ? u->parts[k + 1].first : end;
        if (kind == SGC_UPDATE_NONE || from >= to) continue;
        simd->adamw(u->values ? sgc_cpu_at(d, u->values, from) : NULL, u->p + from, u->m + from, u->v + from,
                    u->g + (size_t)from * sgc_dtype_bytes(u->g_type), u->g_type == d->ops->wide, to - from, &u->factors[kind == SGC_UPDATE_WITH_DECAY]);
    }
}

void sgc_cpu_adamw(sgc_device *d, void *values, void *p, void *m, void *v, const void *g, sgc_dtype g_type, int64_t n, const sgc_update_part *parts,
                   int n_parts, double weight_decay, const sgc_adamw *a)
{
    const sgc_adamw_factors factors = {
        .decay = 1,
        .beta1 = (float)a->beta1,
        .one_minus_beta1 = (float)(1 - a->beta1),
        .beta2 = (float)a->beta2,
        .one_minus_beta2 = (float)(1 - a->beta2),
        .root_correction2 = (float)sqrt(1 - pow(a->beta2, (double)a->t)),
        .epsilon = (float)a->epsilon,
        .step_size = (float)(a->learning_rate / (1 - pow(a->beta1, (double)a->t))),
        .grad_scale = (float)a->grad_scale,
    };
    update u = {values, p, m, v, g, g_type, parts, n_parts, {factors, factors}};
    u.factors[1].decay = (float)(1 - a->learning_rate * weight_decay);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) update_piece(d, &u, i, i + sgc_cpu_piece(n, i));
}

void sgc_cpu_block_square_sums(sgc_device *d, double *out, const void *x, sgc_dtype x_type, int64_t n, int64_t block)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const size_t block_bytes = (size_t)block * sgc_dtype_bytes(x_type);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n / block; i++) out[i] = simd->square_sum((const char *)x + (size_t)i * block_bytes, x_type == d->ops->wide, block);
}

void sgc_cpu_narrow(sgc_device *d, void *values, const void *wide_, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
    const float *wide = wide_;
    /* In place, values from i on stand where numbers from i / 2 on have been: these must be done. */
    for (int64_t first = 0, end = values == wide_ ? SGC_CPU_PIECE : n; first < n; first = end, end = 2 * end < n ? 2 * end : n) {
        if (end > n) end = n;
#pragma omp parallel for schedule(static) if (end - first >= 2 * SGC_CPU_PIECE)
        for (int64_t i = first; i < end; i += SGC_CPU_PIECE) simd->narrow(sgc_cpu_at(d, values, i), wide + i, sgc_cpu_piece(end, i));
    }
}

void sgc_cpu_add_into(sgc_device *d, void *sum_, const void *x_, int64_t n)
{
    (void)d;
    float *restrict sum = sum_;
    const float *restrict x = x_;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

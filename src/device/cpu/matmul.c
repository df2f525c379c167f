/*
 * Matrix products. By default calls of the library on all threads: one, or where a side is long, one after the other along it. With exact_threads the
 * output is cut into tiles of fixed size, small outputs with a long inner side also into parts of that side; each is a product on one thread,
 * so nothing depends on how many threads there are. Where bf16 cannot be multiplied, the operands are converted to float first.
 */
#include <omp.h>

#include "device/cpu/cpu_impl.h"
#include "device/cpu/gemm.h"

enum { TILE = 256, FEW_TILES = 16, PART = 1024 }; /* with exact_threads */
enum { SLICE = 8192 };                            /* by default          */

static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t n_pieces(int64_t n, int64_t length) { return (n + length - 1) / length; }

static void *element(const void *p, int64_t i, bool is_bf16) { return (char *)p + i * (is_bf16 ? 2 : 4); }

/* Of the output, or of both operands. */
typedef enum side { ROWS, COLUMNS, INNER } side;

static int64_t length_of(const sgc_product *p, side s) { return s == ROWS ? p->m : s == COLUMNS ? p->n : p->k; }

/* What is n long from `first` on along one side. */
static sgc_product slice_of(const sgc_product *p, side s, int64_t first, int64_t n)
{
    sgc_product q = *p;
    if (s == ROWS) {
        q.m = n;
        q.a = element(p->a, p->ta ? first : first * p->lda, p->bf16);
        q.c = element(p->c, first * p->ldc, !p->c_is_float);
    } else if (s == COLUMNS) {
        q.n = n;
        q.b = element(p->b, p->tb ? first * p->ldb : first, p->bf16);
        q.c = element(p->c, first, !p->c_is_float);
        if (p->bias) q.bias = element(p->bias, first, p->bf16);
    } else {
        q.k = n;
        q.a = element(p->a, p->ta ? first * p->lda : first, p->bf16);
        q.b = element(p->b, p->tb ? first : first * p->ldb, p->bf16);
    }
    return q;
}

/* How a product is cut: a function of its shape alone. */
typedef struct cut {
    int64_t n_rows, n_columns;  /* tiles                                                  */
    int64_t n_parts, part;      /* of the inner side: their number and length             */
} cut;

static cut cut_of(const sgc_product *p)
{
    cut c = {.n_rows = n_pieces(p->m, TILE), .n_columns = n_pieces(p->n, TILE), .n_parts = 1};
    int64_t n_tiles = c.n_rows * c.n_columns;
    if (n_tiles < FEW_TILES && p->k >= 2 * PART) c.n_parts = smaller(p->k / PART, FEW_TILES / n_tiles);
    c.part = n_pieces(p->k, c.n_parts);
    c.n_parts = n_pieces(p->k, c.part);
    return c;
}

static side longest(const sgc_product *p)
{
    side s = p->n > p->m ? COLUMNS : ROWS;
    return p->k > length_of(p, s) ? INNER : s;
}

static bool is_sliced(const sgc_product *p) { return length_of(p, longest(p)) >= 2 * SLICE; }

/* Floats that a product needs: for its parts, or for sums along the inner side that are rounded when they are complete. */
static int64_t n_partial(const sgc_device *d, const sgc_product *p)
{
    if (d->exact_threads) {
        int64_t n_parts = cut_of(p).n_parts;
        return n_parts > 1 ? n_parts * p->m * p->n : 0;
    }
    return is_sliced(p) && longest(p) == INNER && !p->c_is_float ? p->m * p->n : 0;
}

/* The product of one tile and part; parts go to partial [n_parts, m, n] first when there are several. */
static sgc_product piece_of(const sgc_product *p, const cut *c, float *partial, int64_t row, int64_t column, int64_t part)
{
    sgc_product piece = *p;
    if (c->n_parts > 1) {
        piece.c = partial + part * p->m * p->n;
        piece.ldc = p->n;
        piece.c_is_float = true;
        piece.add = false;
        piece.bias = NULL;
        piece = slice_of(&piece, INNER, part * c->part, smaller(c->part, p->k - part * c->part));
    }
    piece = slice_of(&piece, ROWS, row * TILE, smaller(TILE, p->m - row * TILE));
    return slice_of(&piece, COLUMNS, column * TILE, smaller(TILE, p->n - column * TILE));
}

static float number(const void *p, int64_t i, bool is_bf16) { return is_bf16 ? sgc_bf16_to_float(((const sgc_bf16 *)p)[i]) : ((const float *)p)[i]; }

static void add_parts(const sgc_product *p, const cut *c, const float *partial)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            int64_t at = i * p->ldc + j;
            float sum = p->add ? number(p->c, at, !p->c_is_float) : 0;
            if (p->bias) sum += number(p->bias, j, p->bf16);
            for (int64_t part = 0; part < c->n_parts; part++) sum += partial[(part * p->m + i) * p->n + j];
            if (p->c_is_float) ((float *)p->c)[at] = sum;
            else ((sgc_bf16 *)p->c)[at] = sgc_float_to_bf16(sum);
        }
}

static sgc_status run_tiles(sgc_device *d, const sgc_product *p, float *partial)
{
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    sgc_status st = SGC_OK;
    const cut c = cut_of(p);
    const int n_threads = omp_get_max_threads();
    const int64_t n_pieces = c.n_rows * c.n_columns * c.n_parts;
    for (int last = 0; last < 8; last++) { /* there are at most eight shapes: of inner and last tiles and parts */
        sgc_product piece = piece_of(p, &c, partial, last & 1 ? c.n_rows - 1 : 0, last & 2 ? c.n_columns - 1 : 0, last & 4 ? c.n_parts - 1 : 0);
        SGC_TRY(sgc_gemm_prepare(gemm, &piece, n_threads));
    }
#pragma omp parallel num_threads(n_threads)
    {
        omp_set_num_threads(1); /* of this thread, within this region: the library does not split further */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_pieces; i++) {
            sgc_product piece = piece_of(p, &c, partial, i / c.n_parts / c.n_columns, i / c.n_parts % c.n_columns, i % c.n_parts);
            sgc_status own = sgc_gemm_run(gemm, &piece, omp_get_thread_num());
            if (own != SGC_OK) sgc_cpu_fatal("matrix product");
        }
    }
    if (c.n_parts > 1) add_parts(p, &c, partial);
done:
    return st;
}

static void widen(const sgc_device *d, float *wide, const void *values, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->widen(wide + i, sgc_cpu_at(d, values, i), sgc_cpu_piece(n, i));
}

/* Along its longest side. sums: see n_partial */
static sgc_status run_slices(sgc_device *d, const sgc_product *p, float *sums)
{
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    sgc_status st = SGC_OK;
    const side s = longest(p);
    const int64_t n = length_of(p, s), length = n_pieces(n_pieces(n, n_pieces(n, SLICE)), 64) * 64;
    const bool rounds = s == INNER && !p->c_is_float;
    sgc_product whole = *p;
    if (rounds) {
        if (p->add) widen(d, sums, p->c, p->m * p->n);
        whole.c = sums;
        whole.c_is_float = true;
    }
    for (int64_t first = 0; first < n; first += length) {
        sgc_product slice = slice_of(&whole, s, first, smaller(length, n - first));
        if (s == INNER && first > 0) {
            slice.add = true;
            slice.bias = NULL;
        }
        SGC_TRY(sgc_gemm_prepare(gemm, &slice, 1));
        SGC_TRY(sgc_gemm_run(gemm, &slice, 0));
    }
    if (rounds) sgc_cpu_narrow(d, p->c, sums, p->m * p->n);
done:
    return st;
}

/* partial: n_partial floats */
static sgc_status multiply(sgc_device *d, const sgc_product *p, float *partial)
{
    sgc_status st = SGC_OK;
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    if (d->exact_threads) return run_tiles(d, p, partial);
    if (is_sliced(p)) return run_slices(d, p, partial);
    SGC_TRY(sgc_gemm_prepare(gemm, p, 1));
    SGC_TRY(sgc_gemm_run(gemm, p, 0));
done:
    return st;
}

/* Elements from the first of a matrix to its last, with what lies between its rows. */
static int64_t stored(int64_t n_rows, int64_t n_columns, int64_t ld) { return n_rows > 0 && n_columns > 0 ? (n_rows - 1) * ld + n_columns : 0; }

/* A product of bf16 as one of floats. */
static sgc_status multiply_widened(sgc_device *d, const sgc_product *p)
{
    const int64_t n_a = stored(p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->lda), n_b = stored(p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->ldb);
    const int64_t n_c = p->c_is_float ? 0 : stored(p->m, p->n, p->ldc), n_bias = p->bias ? p->n : 0;
    float *partial = sgc_cpu_scratch(d, n_partial(d, p) + n_a + n_b + n_c + n_bias), *a = partial + n_partial(d, p), *b = a + n_a, *c = b + n_b;
    sgc_product q = *p;
    widen(d, a, p->a, n_a);
    widen(d, b, p->b, n_b);
    q.a = a;
    q.b = b;
    q.bf16 = false;
    q.c_is_float = true;
    if (p->bias) {
        widen(d, c + n_c, p->bias, n_bias);
        q.bias = c + n_c;
    }
    if (!p->c_is_float) {
        if (p->add || p->ldc != p->n) widen(d, c, p->c, n_c);
        q.c = c;
    }
    sgc_status st = multiply(d, &q, partial);
    if (!p->c_is_float) sgc_cpu_narrow(d, p->c, c, n_c);
    return st;
}

void sgc_cpu_matmul(sgc_device *d, const sgc_matmul *q)
{
    const bool bf16 = d->ops->value == SGC_BF16;
    const sgc_product p = {.c = q->c, .a = q->a, .b = q->b, .bias = q->bias, .m = q->m, .n = q->n, .k = q->k, .lda = q->lda ? q->lda : q->ta ? q->m : q->k,
                           .ldb = q->ldb ? q->ldb : q->tb ? q->k : q->n, .ldc = q->ldc ? q->ldc : q->n, .add = q->add, .ta = q->ta, .tb = q->tb,
                           .bf16 = bf16, .c_is_float = q->c_is_wide || !bf16};
    sgc_status st;
    if (p.m == 0 || p.n == 0) return;
    if (bf16 && !((sgc_cpu *)d->state)->multiplies_bf16) {
        st = multiply_widened(d, &p);
    } else {
        int64_t n_scratch = n_partial(d, &p);
        st = multiply(d, &p, n_scratch ? sgc_cpu_scratch(d, n_scratch) : NULL);
    }
    if (st != SGC_OK) sgc_cpu_fatal("matrix product");
}

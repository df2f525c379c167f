/*
 * Matrix products. The output is cut into tiles, one for each thread; each is a product of the library on one thread, or a row of them along a long side.
 * With exact_threads the tiles are of fixed size, and small outputs with a long inner side are also cut into parts of that side, so that nothing
 * depends on how many threads there are. Where bf16 cannot be multiplied, the operands are converted to float first.
 */
#include <assert.h>
#include <omp.h>
#include <string.h>

#include "device/cpu/cpu_impl.h"
#include "device/cpu/gemm.h"

enum { TILE = 256, FEW_TILES = 16, PART = 1024 };  /* with exact_threads                                                        */
enum { ROW_STEP = 32, COLUMN_STEP = 64 };          /* by default: sides of tiles are multiples, as the library's kernels like it */
static const double ONE_THREAD = 1 << 18;          /* multiplications that take no longer than to start the other threads       */

/* Of the output, or of both operands. */
typedef enum side { ROWS, COLUMNS, INNER, N_SIDES } side;

/* From LONG on a side is cut into slices, for which the library packs and keeps less at a time. The lengths are those that gave the best rates for the
 * three products of an output layer of 50257 columns, in float and bf16, on cores with 1 MiB of second and 32 MiB of third level cache. */
enum { LONG = 8192 };
static const int64_t slice_length[N_SIDES] = {[ROWS] = 1024, [COLUMNS] = 4096, [INNER] = 4096};

static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t n_pieces(int64_t n, int64_t length) { return (n + length - 1) / length; }
static int64_t part_of(int64_t n, int64_t n_parts, int64_t step) { return smaller(n, n_pieces(n_pieces(n, n_parts), step) * step); }

static void *element(const void *p, int64_t i, bool is_bf16) { return (char *)p + i * (is_bf16 ? 2 : 4); }

static int64_t length_of(const sgc_product *p, side s) { return s == ROWS ? p->m : s == COLUMNS ? p->n : p->k; }

/* Of a product, what is n long from `first` on along one side. */
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

/* How a product is cut: lengths and numbers of tiles, and of parts of the inner side. */
typedef struct cut {
    int64_t rows, columns, inner;
    int64_t n_rows, n_columns, n_parts;
} cut;

static cut with_numbers(const sgc_product *p, int64_t rows, int64_t columns, int64_t inner)
{
    return (cut){rows, columns, inner, n_pieces(p->m, rows), n_pieces(p->n, columns), n_pieces(p->k, inner)};
}

/* A function of the shape alone. */
static cut exact_cut(const sgc_product *p)
{
    int64_t n_tiles = n_pieces(p->m, TILE) * n_pieces(p->n, TILE), n_parts = 1;
    if (n_tiles < FEW_TILES && p->k >= 2 * PART) n_parts = smaller(p->k / PART, FEW_TILES / n_tiles);
    return with_numbers(p, TILE, TILE, n_pieces(p->k, n_parts));
}

/* A thread's time for a tile, in multiplications for each of the inner side: what it reads and packs costs as much as some of them. */
static double cost_of(int64_t rows, int64_t columns) { return (double)rows * (double)columns + 96 * (double)(rows + columns); }

/* No more tiles than threads, with the largest as cheap as can be. */
static cut dealt_cut(const sgc_product *p, int n_threads)
{
    int64_t rows = p->m, columns = p->n;
    if ((double)p->m * (double)p->n * (double)p->k < ONE_THREAD) n_threads = 1;
    for (int n = 1; n <= n_threads; n++) {
        int64_t own_rows = part_of(p->m, n, ROW_STEP), own_columns = part_of(p->n, n_threads / n, COLUMN_STEP);
        if (cost_of(own_rows, own_columns) >= cost_of(rows, columns)) continue;
        rows = own_rows;
        columns = own_columns;
    }
    return with_numbers(p, rows, columns, p->k);
}

static cut cut_of(const sgc_device *d, const sgc_product *p) { return d->exact_threads ? exact_cut(p) : dealt_cut(p, omp_get_max_threads()); }

/* Floats for sums that are not complete: of the parts, or of the slices of a long inner side before they are rounded. */
static int64_t n_partial(const sgc_product *p, const cut *c)
{
    return c->n_parts > 1 || (p->k >= LONG && !p->c_is_float) ? c->n_parts * p->m * p->n : 0;
}

/* The product of one tile and part; it goes to partial [n_parts, m, n], if there is any. */
static sgc_product piece_of(const sgc_product *p, const cut *c, float *partial, int64_t row, int64_t column, int64_t part)
{
    sgc_product piece = slice_of(p, INNER, part * c->inner, smaller(c->inner, p->k - part * c->inner));
    if (partial) {
        piece.c = partial + part * p->m * p->n;
        piece.ldc = p->n;
        piece.c_is_float = true;
        piece.add = false;
        piece.bias = NULL;
    }
    piece = slice_of(&piece, ROWS, row * c->rows, smaller(c->rows, p->m - row * c->rows));
    return slice_of(&piece, COLUMNS, column * c->columns, smaller(c->columns, p->n - column * c->columns));
}

/* What is done with each slice of a piece: sgc_gemm_run on a thread, or sgc_gemm_prepare for a number of threads. */
typedef sgc_status act(sgc_gemm *gemm, const sgc_product *p, int arg);

static sgc_status each_slice(sgc_gemm *gemm, const sgc_product *piece, act *call, int arg)
{
    side s = piece->k >= LONG ? INNER : piece->m >= piece->n ? ROWS : COLUMNS;
    const int64_t n = length_of(piece, s), length = n < LONG ? n : part_of(n, n_pieces(n, slice_length[s]), COLUMN_STEP);
    sgc_status st = SGC_OK;
    if (n == length) return call(gemm, piece, arg);
    for (int64_t first = 0; st == SGC_OK && first < n; first += length) {
        sgc_product slice = slice_of(piece, s, first, smaller(length, n - first));
        if (s == INNER && first > 0) {
            slice.add = true;
            slice.bias = NULL;
        }
        st = call(gemm, &slice, arg);
    }
    return st;
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

/* partial: n_partial floats, or NULL */
static sgc_status multiply(sgc_device *d, const sgc_product *p, const cut *c, float *partial)
{
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    sgc_status st = SGC_OK;
    const int64_t n_all = c->n_rows * c->n_columns * c->n_parts;
    const int n_threads = n_all > 1 ? omp_get_max_threads() : 1; /* never some of them: OpenMP would end and start the others */
    for (int last = 0; last < 8; last++) { /* there are at most eight shapes: of inner and last tiles and parts */
        sgc_product piece = piece_of(p, c, partial, last & 1 ? c->n_rows - 1 : 0, last & 2 ? c->n_columns - 1 : 0, last & 4 ? c->n_parts - 1 : 0);
        SGC_TRY(each_slice(gemm, &piece, sgc_gemm_prepare, n_threads));
    }
#pragma omp parallel num_threads(n_threads)
    {
        omp_set_num_threads(1); /* of this thread, within this region: the library does not split further */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n_all; i++) {
            sgc_product piece = piece_of(p, c, partial, i / c->n_parts / c->n_columns, i / c->n_parts % c->n_columns, i % c->n_parts);
            if (each_slice(gemm, &piece, sgc_gemm_run, omp_get_thread_num()) != SGC_OK) sgc_cpu_fatal("matrix product");
        }
    }
    if (partial) add_parts(p, c, partial);
done:
    return st;
}

static void widen(const sgc_device *d, float *wide, const void *values, int64_t n)
{
    const sgc_simd *simd = sgc_cpu_simd(d);
#pragma omp parallel for schedule(static) if (n >= 2 * SGC_CPU_PIECE)
    for (int64_t i = 0; i < n; i += SGC_CPU_PIECE) simd->widen(wide + i, sgc_cpu_at(d, values, i), sgc_cpu_piece(n, i));
}

/* Elements from the first of a matrix to its last, with what lies between its rows. */
static int64_t stored(int64_t n_rows, int64_t n_columns, int64_t ld) { return n_rows > 0 && n_columns > 0 ? (n_rows - 1) * ld + n_columns : 0; }

/* A product of bf16 as one of floats. */
static sgc_status multiply_widened(sgc_device *d, const sgc_product *p)
{
    sgc_product q = *p;
    q.bf16 = false;
    q.c_is_float = true;
    const cut how = cut_of(d, &q);
    const int64_t n_a = stored(p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->lda), n_b = stored(p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->ldb);
    const int64_t n_parts = n_partial(&q, &how), n_c = p->c_is_float ? 0 : stored(p->m, p->n, p->ldc), n_bias = p->bias ? p->n : 0;
    float *partial = sgc_cpu_scratch(d, n_parts + n_a + n_b + n_c + n_bias), *a = partial + n_parts, *b = a + n_a, *c = b + n_b;
    widen(d, a, p->a, n_a);
    widen(d, b, p->b, n_b);
    q.a = a;
    q.b = b;
    if (p->bias) {
        widen(d, c + n_c, p->bias, n_bias);
        q.bias = c + n_c;
    }
    if (!p->c_is_float) {
        if (p->add || p->ldc != p->n) widen(d, c, p->c, n_c);
        q.c = c;
    }
    sgc_status st = multiply(d, &q, &how, n_parts ? partial : NULL);
    if (!p->c_is_float) sgc_cpu_narrow(d, p->c, c, n_c);
    return st;
}

void sgc_cpu_matmul(sgc_device *d, const sgc_matmul *q)
{
    const bool bf16 = d->ops->value == SGC_BF16;
    const sgc_product p = {.c = q->c ? q->c : q->activated, .a = q->a, .b = q->b, .bias = q->bias, .m = q->m, .n = q->n, .k = q->k, .lda = q->lda ? q->lda : q->ta ? q->m : q->k,
                           .ldb = q->ldb ? q->ldb : q->tb ? q->k : q->n, .ldc = q->ldc ? q->ldc : q->n, .add = q->add, .ta = q->ta, .tb = q->tb,
                           .bf16 = bf16, .c_is_float = q->c_is_wide || !bf16};
    sgc_status st;
    assert(p.k > 0);
    if (p.m == 0 || p.n == 0) return;
    if (bf16 && !((sgc_cpu *)d->state)->multiplies_bf16) {
        st = multiply_widened(d, &p);
    } else {
        const cut how = cut_of(d, &p);
        int64_t n_scratch = n_partial(&p, &how);
        st = multiply(d, &p, &how, n_scratch ? sgc_cpu_scratch(d, n_scratch) : NULL);
    }
    if (st != SGC_OK) sgc_cpu_fatal("matrix product");
    if (q->activated) sgc_cpu_activation_forward(d, q->activation, q->activated, p.c, p.m * p.n);
    if (q->slope_at) sgc_cpu_activation_backward(d, q->activation, p.c, p.c, q->slope_at, p.m * p.n);
    if (!q->sums) return;
    if (!q->add_sums) memset(q->sums, 0, (size_t)p.n * sizeof(float));
    sgc_cpu_bias_backward(d, q->sums, p.b, p.k, p.n);
}

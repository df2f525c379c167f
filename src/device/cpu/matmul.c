/*
 * Matrix products. By default one call of the library on all threads. With exact_threads the output is cut into tiles of fixed
 * size, small outputs with a long inner side also into parts of that side; each is a product on one thread, so nothing depends on
 * how many threads there are.
 */
#include <omp.h>

#include "device/cpu/cpu_impl.h"
#include "device/cpu/gemm.h"

enum { TILE = 256, FEW_TILES = 16, PART = 1024 };

static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }

/* How a product is cut: a function of its shape alone. */
typedef struct cut {
    int64_t n_rows, n_columns;  /* tiles                                                  */
    int64_t n_parts, part;      /* of the inner side: their number and length             */
} cut;

static cut cut_of(const sgc_product *p)
{
    cut c = {.n_rows = (p->m + TILE - 1) / TILE, .n_columns = (p->n + TILE - 1) / TILE, .n_parts = 1};
    int64_t n_tiles = c.n_rows * c.n_columns;
    if (n_tiles < FEW_TILES && p->k >= 2 * PART) c.n_parts = smaller(p->k / PART, FEW_TILES / n_tiles);
    c.part = (p->k + c.n_parts - 1) / c.n_parts;
    c.n_parts = (p->k + c.part - 1) / c.part;
    return c;
}

/* The product of one tile and part; parts go to partial [n_parts, m, n] first when there are several. */
static sgc_product piece_of(const sgc_product *p, const cut *c, float *partial, int64_t row, int64_t column, int64_t part)
{
    int64_t i = row * TILE, j = column * TILE, l = part * c->part;
    sgc_product piece = *p;
    piece.m = smaller(TILE, p->m - i);
    piece.n = smaller(TILE, p->n - j);
    piece.k = smaller(c->part, p->k - l);
    piece.a += p->ta ? l * p->lda + i : i * p->lda + l;
    piece.b += p->tb ? j * p->ldb + l : l * p->ldb + j;
    if (c->n_parts == 1) {
        piece.c += i * p->ldc + j;
        if (p->bias) piece.bias += j;
    } else {
        piece.c = partial + (part * p->m + i) * p->n + j;
        piece.ldc = p->n;
        piece.add = false;
        piece.bias = NULL;
    }
    return piece;
}

static void add_parts(const sgc_product *p, const cut *c, const float *partial)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            float sum = p->add ? p->c[i * p->ldc + j] : 0;
            if (p->bias) sum += p->bias[j];
            for (int64_t part = 0; part < c->n_parts; part++) sum += partial[(part * p->m + i) * p->n + j];
            p->c[i * p->ldc + j] = sum;
        }
}

static sgc_status run_tiles(sgc_device *d, const sgc_product *p)
{
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    sgc_status st = SGC_OK;
    const cut c = cut_of(p);
    const int n_threads = omp_get_max_threads();
    const int64_t n_pieces = c.n_rows * c.n_columns * c.n_parts;
    float *partial = c.n_parts > 1 ? sgc_cpu_scratch(d, c.n_parts * p->m * p->n) : NULL;
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

void sgc_cpu_matmul(sgc_device *d, void *c, bool c_is_wide, bool add, const void *a, bool ta, const void *b, bool tb, const void *bias, int64_t m,
                    int64_t n, int64_t k)
{
    (void)c_is_wide;
    sgc_status st = SGC_OK;
    sgc_gemm *gemm = ((sgc_cpu *)d->state)->gemm;
    const sgc_product p = {.c = c, .a = a, .b = b, .bias = bias, .m = m, .n = n, .k = k, .lda = ta ? m : k, .ldb = tb ? k : n, .ldc = n,
                           .add = add, .ta = ta, .tb = tb};
    if (m == 0 || n == 0) return;
    if (d->exact_threads) {
        SGC_TRY(run_tiles(d, &p));
    } else {
        SGC_TRY(sgc_gemm_prepare(gemm, &p, 1));
        SGC_TRY(sgc_gemm_run(gemm, &p, 0));
    }
done:
    if (st != SGC_OK) sgc_cpu_fatal("matrix product");
}

/*
 * Matrix products by oneDNN, versions 2 and 3: one matmul primitive per shape, kept in a hash table. Transposition is a matter of
 * strides, the bias is the bias argument, adding to c a post-op. Primitives are made with the scratchpad of the user, so that
 * running one allocates nothing and threads may run the same one.
 */
#include "config.h"

#ifdef HAVE_ONEDNN

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/util.h"
#include "device/cpu/gemm.h"

enum { SRC, WEIGHTS, BIAS, DST, SCRATCHPAD, N_ARGUMENTS };
static const int argument_number[N_ARGUMENTS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};

typedef struct shape {
    int64_t m, n, k, lda, ldb, ldc, flags;
} shape;

typedef struct entry {
    shape shape;                    /* m = 0: free place                       */
    dnnl_primitive_t primitive;     /* owned                                   */
    dnnl_memory_t (*memory)[N_ARGUMENTS]; /* [n_slots], owned: one set per thread */
    int n_slots;
    size_t scratch_bytes;
} entry;

struct sgc_gemm {
    dnnl_engine_t engine;
    dnnl_stream_t *streams;         /* [n_slots], owned                        */
    void **scratch;                 /* [n_slots], owned, scratch_bytes each    */
    int n_slots;
    size_t scratch_bytes;
    entry *entries;                 /* [n_places], owned; open addressing      */
    size_t n_places, n_entries;     /* n_places is a power of two              */
};

#define DNNL_TRY(call)                                                                                        \
    do {                                                                                                      \
        dnnl_status_t status_ = (call);                                                                       \
        if (status_ != dnnl_success) {                                                                        \
            st = sgc_err(status_ == dnnl_out_of_memory ? SGC_ENOMEM : SGC_EARG, "oneDNN: %s gives %s", #call,  \
                         status_text(status_));                                                               \
            goto done;                                                                                        \
        }                                                                                                     \
    } while (0)

static const char *status_text(dnnl_status_t status)
{
    switch (status) {
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "unimplemented";
    case dnnl_runtime_error: return "a runtime error";
    default: return "an error";
    }
}

sgc_status sgc_gemm_open(sgc_gemm **out)
{
    sgc_status st = SGC_OK;
    *out = NULL;
    sgc_gemm *g = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, sizeof(*g));
    if (!g) return SGC_ENOMEM;
    g->n_places = 64;
    g->entries = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, g->n_places * sizeof(*g->entries));
    if (!g->entries) {
        st = SGC_ENOMEM;
        goto done;
    }
    DNNL_TRY(dnnl_engine_create(&g->engine, dnnl_cpu, 0));
done:
    if (st == SGC_OK) *out = g;
    else sgc_gemm_close(g);
    return st;
}

static void entry_free(entry *e)
{
    for (int s = 0; s < e->n_slots; s++)
        for (int i = 0; i < N_ARGUMENTS; i++)
            if (e->memory[s][i]) dnnl_memory_destroy(e->memory[s][i]);
    sgc_mem_free(e->memory);
    if (e->primitive) dnnl_primitive_destroy(e->primitive);
    *e = (entry){0};
}

void sgc_gemm_close(sgc_gemm *g)
{
    if (!g) return;
    for (size_t i = 0; g->entries && i < g->n_places; i++) entry_free(&g->entries[i]);
    for (int s = 0; s < g->n_slots; s++) {
        if (g->streams[s]) dnnl_stream_destroy(g->streams[s]);
        sgc_mem_free(g->scratch[s]);
    }
    sgc_mem_free(g->streams);
    sgc_mem_free(g->scratch);
    sgc_mem_free(g->entries);
    if (g->engine) dnnl_engine_destroy(g->engine);
    sgc_mem_free(g);
}

static shape shape_of(const sgc_product *p)
{
    return (shape){p->m, p->n, p->k, p->lda, p->ldb, p->ldc, p->add | p->ta << 1 | p->tb << 2 | (p->bias != NULL) << 3 | p->bf16 << 4 | p->c_is_float << 5};
}

/* The entry of a shape, or the free place where it belongs. */
static entry *find(entry *entries, size_t n_places, const shape *s)
{
    size_t i = sgc_hash64(s, sizeof(*s)) & (n_places - 1);
    while (entries[i].shape.m && memcmp(&entries[i].shape, s, sizeof(*s)) != 0) i = (i + 1) & (n_places - 1);
    return &entries[i];
}

static sgc_status grow_table(sgc_gemm *g)
{
    size_t n_places = 2 * g->n_places;
    entry *entries = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, n_places * sizeof(*entries));
    if (!entries) return SGC_ENOMEM;
    for (size_t i = 0; i < g->n_places; i++)
        if (g->entries[i].shape.m) *find(entries, n_places, &g->entries[i].shape) = g->entries[i];
    sgc_mem_free(g->entries);
    g->entries = entries;
    g->n_places = n_places;
    return SGC_OK;
}

/* Descriptors of matrices and vectors: an object of the library in version 3, a struct in version 2. */
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t matrix_desc;
typedef const_dnnl_memory_desc_t desc_ref;
static dnnl_status_t desc_create(matrix_desc *d, int n_dim, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(d, n_dim, dims, type, strides);
}
static desc_ref desc_get(const matrix_desc *d) { return *d; }
static void desc_free(matrix_desc *d)
{
    if (*d) dnnl_memory_desc_destroy(*d);
}
static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef); }
static dnnl_status_t pd_create(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, matrix_desc d[DST + 1], bool bias, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, d[SRC], d[WEIGHTS], bias ? d[BIAS] : NULL, d[DST], attr);
}
#else
typedef dnnl_memory_desc_t matrix_desc;
typedef const dnnl_memory_desc_t *desc_ref;
static dnnl_status_t desc_create(matrix_desc *d, int n_dim, const dnnl_dims_t dims, dnnl_data_type_t type, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(d, n_dim, dims, type, strides);
}
static desc_ref desc_get(const matrix_desc *d) { return d; }
static void desc_free(matrix_desc *d) { (void)d; }
static dnnl_status_t append_sum(dnnl_post_ops_t ops) { return dnnl_post_ops_append_sum(ops, 1.0f); }
static dnnl_status_t pd_create(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, matrix_desc d[DST + 1], bool bias, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t op;
    dnnl_status_t status = dnnl_matmul_desc_init(&op, &d[SRC], &d[WEIGHTS], bias ? &d[BIAS] : NULL, &d[DST]);
    return status == dnnl_success ? dnnl_primitive_desc_create(pd, &op, attr, engine, NULL) : status;
}
#endif

static sgc_status attributes(dnnl_primitive_attr_t *attr, bool add)
{
    sgc_status st = SGC_OK;
    dnnl_post_ops_t ops = NULL;
    DNNL_TRY(dnnl_primitive_attr_create(attr));
    DNNL_TRY(dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user));
    if (add) {
        DNNL_TRY(dnnl_post_ops_create(&ops));
        DNNL_TRY(append_sum(ops));
        DNNL_TRY(dnnl_primitive_attr_set_post_ops(*attr, ops));
    }
done:
    if (ops) dnnl_post_ops_destroy(ops);
    return st;
}

/* Memory objects for slots e->n_slots .. n_slots - 1. */
static sgc_status add_slots(sgc_gemm *g, entry *e, int n_slots, const desc_ref descs[N_ARGUMENTS])
{
    sgc_status st = SGC_OK;
    void *memory = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, (size_t)n_slots * sizeof(*e->memory));
    if (!memory) return SGC_ENOMEM;
    if (e->n_slots) memcpy(memory, e->memory, (size_t)e->n_slots * sizeof(*e->memory));
    sgc_mem_free(e->memory);
    e->memory = memory;
    for (int first = e->n_slots, s = first; s < n_slots; s++) {
        e->n_slots = s + 1;
        for (int i = 0; i < N_ARGUMENTS; i++)
            if (descs[i]) DNNL_TRY(dnnl_memory_create(&e->memory[s][i], descs[i], g->engine, DNNL_MEMORY_NONE));
    }
done:
    return st;
}

/* The primitive descriptor of a product, and those of its matrices (to be freed by the caller also after a failure). */
static sgc_status describe(sgc_gemm *g, const sgc_product *p, matrix_desc desc[DST + 1], dnnl_primitive_desc_t *pd)
{
    sgc_status st = SGC_OK;
    dnnl_primitive_attr_t attr = NULL;
    const dnnl_data_type_t type = p->bf16 ? dnnl_bf16 : dnnl_f32, c_type = p->bf16 && !p->c_is_float ? dnnl_bf16 : dnnl_f32;
    DNNL_TRY(desc_create(&desc[SRC], 2, (dnnl_dims_t){p->m, p->k}, type, p->ta ? (dnnl_dims_t){1, p->lda} : (dnnl_dims_t){p->lda, 1}));
    DNNL_TRY(desc_create(&desc[WEIGHTS], 2, (dnnl_dims_t){p->k, p->n}, type, p->tb ? (dnnl_dims_t){1, p->ldb} : (dnnl_dims_t){p->ldb, 1}));
    DNNL_TRY(desc_create(&desc[BIAS], 2, (dnnl_dims_t){1, p->n}, type, (dnnl_dims_t){p->n, 1}));
    DNNL_TRY(desc_create(&desc[DST], 2, (dnnl_dims_t){p->m, p->n}, c_type, (dnnl_dims_t){p->ldc, 1}));
    SGC_TRY(attributes(&attr, p->add));
    DNNL_TRY(pd_create(pd, g->engine, desc, p->bias != NULL, attr));
done:
    if (attr) dnnl_primitive_attr_destroy(attr);
    return st;
}

static sgc_status entry_fill(sgc_gemm *g, entry *e, const sgc_product *p, int n_slots)
{
    sgc_status st = SGC_OK;
    matrix_desc desc[DST + 1];
    dnnl_primitive_desc_t pd = NULL;
    memset(desc, 0, sizeof(desc));
    SGC_TRY(describe(g, p, desc, &pd));
    DNNL_TRY(dnnl_primitive_create(&e->primitive, pd));
    desc_ref scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    e->scratch_bytes = dnnl_memory_desc_get_size(scratchpad);
    SGC_TRY(add_slots(g, e, n_slots, (const desc_ref[N_ARGUMENTS]){desc_get(&desc[SRC]), desc_get(&desc[WEIGHTS]), p->bias ? desc_get(&desc[BIAS]) : NULL,
                                                                  desc_get(&desc[DST]), scratchpad}));
done:
    if (pd) dnnl_primitive_desc_destroy(pd);
    for (int i = 0; i <= DST; i++) desc_free(&desc[i]);
    return st;
}

bool sgc_gemm_takes_bf16(sgc_gemm *g)
{
    const sgc_product p = {.m = 64, .n = 64, .k = 64, .lda = 64, .ldb = 64, .ldc = 64, .ta = true, .bf16 = true, .c_is_float = true, .add = true};
    const char *implementation = "ref";
    matrix_desc desc[DST + 1];
    dnnl_primitive_desc_t pd = NULL;
    memset(desc, 0, sizeof(desc));
    if (describe(g, &p, desc, &pd) == SGC_OK) dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &implementation);
    else sgc_err_clear();
    bool takes = strncmp(implementation, "ref", 3) != 0; /* the library's plain loops */
    if (pd) dnnl_primitive_desc_destroy(pd);
    for (int i = 0; i <= DST; i++) desc_free(&desc[i]);
    return takes;
}

/* Streams and scratch for n_slots threads, and for the largest scratch of all primitives. */
static sgc_status reserve(sgc_gemm *g, int n_slots, size_t scratch_bytes)
{
    sgc_status st = SGC_OK;
    if (n_slots > g->n_slots) {
        dnnl_stream_t *streams = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, (size_t)n_slots * sizeof(*streams));
        void **scratch = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, (size_t)n_slots * sizeof(*scratch));
        if (!streams || !scratch) {
            sgc_mem_free(streams);
            sgc_mem_free(scratch);
            return SGC_ENOMEM;
        }
        if (g->n_slots) {
            memcpy(streams, g->streams, (size_t)g->n_slots * sizeof(*streams));
            memcpy(scratch, g->scratch, (size_t)g->n_slots * sizeof(*scratch));
        }
        sgc_mem_free(g->streams);
        sgc_mem_free(g->scratch);
        g->streams = streams;
        g->scratch = scratch;
        for (int first = g->n_slots, s = first; s < n_slots; s++) {
            g->n_slots = s + 1;
            DNNL_TRY(dnnl_stream_create(&g->streams[s], g->engine, dnnl_stream_default_flags));
            if (!(g->scratch[s] = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, g->scratch_bytes))) return SGC_ENOMEM;
        }
    }
    if (scratch_bytes > g->scratch_bytes) {
        for (int s = 0; s < g->n_slots; s++) {
            sgc_mem_free(g->scratch[s]);
            if (!(g->scratch[s] = sgc_mem_alloc(SGC_MEM_ACTIVATIONS, scratch_bytes))) return SGC_ENOMEM;
        }
        g->scratch_bytes = scratch_bytes;
    }
done:
    return st;
}

sgc_status sgc_gemm_prepare(sgc_gemm *g, const sgc_product *p, int n_threads)
{
    sgc_status st = SGC_OK;
    shape s = shape_of(p);
    entry *e = find(g->entries, g->n_places, &s);
    if (e->shape.m && e->n_slots >= n_threads) return SGC_OK;
    if (e->shape.m) { /* more threads than ever before */
        entry_free(e);
    } else if (++g->n_entries > g->n_places / 2) {
        SGC_TRY(grow_table(g));
        e = find(g->entries, g->n_places, &s);
    }
    int n_before = omp_get_max_threads();
    omp_set_num_threads(1); /* by which the library cuts a product when its primitive is made */
    st = entry_fill(g, e, p, n_threads);
    omp_set_num_threads(n_before);
    if (st == SGC_OK) {
        e->shape = s;
        st = reserve(g, n_threads, e->scratch_bytes);
    } else {
        entry_free(e);
    }
done:
    return st;
}

sgc_status sgc_gemm_run(sgc_gemm *g, const sgc_product *p, int thread)
{
    sgc_status st = SGC_OK;
    shape s = shape_of(p);
    const entry *e = find(g->entries, g->n_places, &s);
    int n = 0;
    void *const data[N_ARGUMENTS] = {(void *)p->a, (void *)p->b, (void *)p->bias, p->c, g->scratch[thread]};
    dnnl_exec_arg_t arguments[N_ARGUMENTS];
    for (int i = 0; i < N_ARGUMENTS; i++) {
        if (!e->memory[thread][i]) continue;
        DNNL_TRY(dnnl_memory_set_data_handle(e->memory[thread][i], data[i]));
        arguments[n++] = (dnnl_exec_arg_t){argument_number[i], e->memory[thread][i]};
    }
    DNNL_TRY(dnnl_primitive_execute(e->primitive, g->streams[thread], n, arguments));
    DNNL_TRY(dnnl_stream_wait(g->streams[thread]));
done:
    return st;
}

#endif

/*
 * Attention by cuDNN as the device calls it: plans by shape, and when they are taken. What decides is fixed, so that a run repeats itself: the GPU, its
 * library, the shape and the settings, never a measurement.
 */
#include "device/cuda/cuda_impl.h"
#include "device/cuda/cudnn_impl.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { ALIGNMENT = SGC_CUDNN_WORKSPACE_ALIGNMENT, MOST_TOLD = 4 };

typedef struct entry { /* what is known of one shape */
    struct entry *next;      /* owned */
    sgc_cudnn_shape shape;
    bool has_backward;       /* the gradient was looked for, too */
    sgc_cudnn_plan forward;  /* owned; without an execution: own kernels */
    sgc_cudnn_slices backward; /* owned; likewise */
} entry;

struct sgc_cudnn_attention {
    sgc_cudnn_target target; /* the handle is owned */
    bool is_asked_for;       /* device.attention cudnn: what cannot be had is an error */
    entry *entries;          /* owned */
    float masked;
    char told[MOST_TOLD][200]; /* what was logged */
    int n_told;
};

static struct sgc_cudnn_attention *of(const sgc_device *d) { return sgc_cuda_of(d)->cudnn; }

static char *version_text(const sgc_cudnn *library, char text[32])
{
    snprintf(text, 32, "cuDNN %zu.%zu.%zu", library->version / 10000, library->version / 100 % 100, library->version % 100);
    return text;
}

sgc_status sgc_cudnn_find(int *version)
{
    const sgc_cudnn *library;
    sgc_status st = sgc_cudnn_open(&library);
    *version = st == SGC_OK ? (int)library->version : 0;
    return st;
}

/* Where it is expected to be faster than the kernels here, whose products use the instructions that GPUs have had since 8.0. */
static bool is_faster_forward(const sgc_cuda *cuda, int64_t D) { return cuda->capability >= 90 && cuda->capability < 110 && (D == 64 || D == 128); }
/* From 10.0 on the engine that repeats itself is one for older GPUs. */
static bool is_faster_backward(const sgc_cuda *cuda, int64_t D) { return cuda->capability / 10 == 9 && (D == 64 || D == 128); }

sgc_status sgc_cudnn_attention_open(sgc_device *d, bool is_asked_for)
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    sgc_status st;
    struct sgc_cudnn_attention *x = calloc(1, sizeof(*x));
    if (!x) return sgc_err(SGC_ENOMEM, "no memory for cuDNN's state");
    cuda->cudnn = x;
    x->is_asked_for = is_asked_for;
    SGC_TRY(sgc_cudnn_open(&x->target.library));
    const sgc_cudnn *library = x->target.library;
    cudnnStatus_t rc = library->Create(&x->target.handle);
    if (rc == CUDNN_STATUS_SUCCESS) rc = library->SetStream(x->target.handle, cuda->stream);
    if (rc != CUDNN_STATUS_SUCCESS) {
        st = sgc_err(SGC_EDEVICE, "GPU %d (%s): cudnnCreate: %s", cuda->ordinal, cuda->name, library->GetErrorString(rc));
        goto done;
    }
    x->masked = library->version < 91000 ? -FLT_MAX : -INFINITY; /* older ones want a number */
    const size_t n = strlen(d->about);
    char text[32];
    snprintf(d->about + n, sizeof(d->about) - n, ", %s", version_text(library, text));
done:
    return st;
}

void sgc_cudnn_attention_close(sgc_device *d)
{
    struct sgc_cudnn_attention *x = of(d);
    if (!x) return;
    for (entry *e = x->entries, *next; e; e = next) {
        next = e->next;
        sgc_cudnn_plan_free(&e->forward);
        sgc_cudnn_slices_free(&e->backward);
        free(e);
    }
    if (x->target.handle) x->target.library->Destroy(x->target.handle);
    free(x);
    sgc_cuda_of(d)->cudnn = NULL;
}

static entry *find(const struct sgc_cudnn_attention *x, const sgc_attention_shape *s)
{
    for (entry *e = x->entries; e; e = e->next)
        if (e->shape.B == s->B && e->shape.T == s->T && e->shape.H == s->H && e->shape.D == s->C / s->H) return e;
    return NULL;
}

static void leave(sgc_cudnn_plan *p, const char *why)
{
    sgc_cudnn_plan_free(p);
    snprintf(p->none, sizeof(p->none), "%s", why);
}

static size_t forward_bytes(const entry *e) { return e->forward.execution ? e->forward.workspace_bytes + ALIGNMENT : 0; }
static size_t backward_bytes(const entry *e) { return e->backward.plan.execution ? e->backward.bytes + ALIGNMENT : 0; }

static void plan_forward(const sgc_cuda *cuda, entry *e)
{
    const struct sgc_cudnn_attention *x = cuda->cudnn;
    if (x->is_asked_for || is_faster_forward(cuda, e->shape.D)) sgc_cudnn_plan_make(&e->forward, &x->target, &e->shape, false);
    else leave(&e->forward, "not known to be faster here");
}

static void plan_backward(const sgc_cuda *cuda, entry *e)
{
    const struct sgc_cudnn_attention *x = cuda->cudnn;
    e->has_backward = true;
    if (x->is_asked_for || is_faster_backward(cuda, e->shape.D)) sgc_cudnn_slices_make(&e->backward, &x->target, &e->shape);
    else leave(&e->backward.plan, "not known to be faster here");
    if (x->is_asked_for || !e->backward.plan.execution || e->backward.bytes <= sgc_cudnn_slice_bytes) return;
    sgc_cudnn_slices_free(&e->backward);
    leave(&e->backward.plan, "the smallest slice of it would need more than 1 GiB");
}

/* Everything once: a run asks for training, evaluation and the sizes of both. */
static void tell(struct sgc_cudnn_attention *x, const char *text)
{
    for (int i = 0; i < x->n_told; i++)
        if (strcmp(x->told[i], text) == 0) return;
    if (x->n_told == MOST_TOLD) return;
    snprintf(x->told[x->n_told++], sizeof(x->told[0]), "%s", text);
    sgc_log_info("%s", text);
}

static void tell_plans(struct sgc_cudnn_attention *x, const entry *e, bool backward)
{
    char text[sizeof(x->told[0])], name[32];
    version_text(x->target.library, name);
    const bool has_forward = e->forward.execution != NULL, has_backward = e->backward.plan.execution != NULL;
    const int64_t n = backward && has_backward ? sgc_cudnn_slices_count(&e->backward) : 1;
    if (has_forward && n > 1) snprintf(text, sizeof(text), "attention: %s, its gradient in %lld slices", name, (long long)n);
    else if (has_forward && (!backward || has_backward)) snprintf(text, sizeof(text), "attention: %s", name);
    else if (has_forward) snprintf(text, sizeof(text), "attention: %s, its gradient by own kernels (%s: %.90s)", name, name, e->backward.plan.none);
    else if (has_backward) snprintf(text, sizeof(text), "attention: own kernels (%s: %.90s), its gradient by %s", name, e->forward.none, name);
    else snprintf(text, sizeof(text), "attention: own kernels (%s: %.90s)", name, e->forward.none);
    tell(x, text);
}

static sgc_status refuse(const struct sgc_cudnn_attention *x, const entry *e, const char *what, const sgc_cudnn_plan *p)
{
    char name[32];
    const sgc_cudnn_shape *s = &e->shape;
    return sgc_err(SGC_ECONFIG, "--device.attention cudnn: %s does not have %s of %lld samples of %lld tokens with %lld heads of %lld numbers (%s): write "
                   "--device.attention auto", version_text(x->target.library, name), what, (long long)s->B, (long long)s->T, (long long)s->H, (long long)s->D, p->none);
}

sgc_status sgc_cudnn_attention_prepare(sgc_device *d, const sgc_attention_shape *s, size_t bytes[2])
{
    sgc_cuda *cuda = sgc_cuda_of(d);
    struct sgc_cudnn_attention *x = of(d);
    if (s->dropout > 0 && x->is_asked_for)
        return sgc_err(SGC_ECONFIG, "--device.attention cudnn: cuDNN draws dropout masks of its own, which are not those of other devices: write --model.attn_pdrop 0, or "
                       "--device.attention auto");
    if (s->dropout > 0) {
        tell(x, "attention: own kernels, because model.attn_pdrop is above 0");
        return SGC_OK;
    }
    entry *e = find(x, s);
    if (!e) {
        if (!(e = calloc(1, sizeof(*e)))) return sgc_err(SGC_ENOMEM, "no memory for a plan of attention");
        e->shape = (sgc_cudnn_shape){.B = s->B, .T = s->T, .H = s->H, .D = s->C / s->H, .C = s->C, .value = d->ops->value};
        e->next = x->entries;
        x->entries = e;
        plan_forward(cuda, e);
    }
    if (s->backward && !e->has_backward) plan_backward(cuda, e);
    if (x->is_asked_for && !e->forward.execution) return refuse(x, e, "attention", &e->forward);
    if (x->is_asked_for && s->backward && !e->backward.plan.execution) return refuse(x, e, "the gradient of attention", &e->backward.plan);
    tell_plans(x, e, s->backward);
    bytes[0] = forward_bytes(e);
    bytes[1] = s->backward ? backward_bytes(e) : 0;
    return SGC_OK;
}

/* The entry of a call whose plan is cuDNN's; NULL: it is for the own kernels, or the failure is kept. Who did not prepare pays here. */
static entry *serve(sgc_device *d, const sgc_attention_shape *s)
{
    size_t bytes[2];
    entry *e = s->dropout > 0 ? NULL : find(of(d), s);
    const bool is_known = e && (!s->backward || e->has_backward);
    if (is_known && (!of(d)->is_asked_for || (s->backward ? e->backward.plan.execution : e->forward.execution))) return e;
    if (sgc_cudnn_attention_prepare(d, s, bytes) == SGC_OK) return s->dropout > 0 ? NULL : find(of(d), s);
    sgc_cuda_fail(d, "attention by cuDNN", sgc_err_message());
    sgc_err_clear();
    return NULL;
}

/* What the caller has lent, or else scratch memory. */
static char *memory_for(sgc_device *d, size_t bytes)
{
    char *p = d->lent_bytes >= bytes ? d->lent : sgc_cuda_scratch(d, bytes);
    return p ? (char *)(((uintptr_t)p + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT) : NULL;
}

static void keep(sgc_device *d, cudnnStatus_t rc)
{
    const sgc_cudnn *library = of(d)->target.library;
    char why[300] = "", told[200] = "";
    if (rc == CUDNN_STATUS_SUCCESS) return;
    library->GetLastErrorString(told, sizeof(told));
    snprintf(why, sizeof(why), "%s %s", library->GetErrorString(rc), told);
    sgc_cuda_fail(d, "attention by cuDNN", why);
}

bool sgc_cudnn_attention_forward(sgc_device *d, void *y, void *lse, const void *qkv, const sgc_attention_shape *s)
{
    enum { N = 7 };
    static const int64_t uids[N] = {SGC_CUDNN_Q, SGC_CUDNN_K, SGC_CUDNN_V, SGC_CUDNN_Y, SGC_CUDNN_LSE, SGC_CUDNN_SCALE, SGC_CUDNN_MASKED};
    const entry *e = serve(d, s);
    if (!e || !e->forward.execution) return sgc_cuda_of(d)->failed;
    char *workspace = memory_for(d, forward_bytes(e)), *q = (char *)qkv;
    if (!workspace) return true;
    const size_t part = (size_t)s->C * sgc_dtype_bytes(d->ops->value);
    float scale = 1 / sqrtf((float)e->shape.D);
    keep(d, sgc_cudnn_plan_run(&e->forward, N, uids, (void *const[N]){q, q + part, q + 2 * part, y, lse, &scale, &of(d)->masked}, workspace));
    return true;
}

bool sgc_cudnn_attention_backward(sgc_device *d, void *dqkv, const void *dy, const void *y, const void *lse, const void *qkv, const sgc_attention_shape *s)
{
    const entry *e = serve(d, s);
    if (!e || !e->backward.plan.execution) return sgc_cuda_of(d)->failed;
    char *memory = memory_for(d, backward_bytes(e));
    if (!memory) return true;
    const sgc_cudnn_gradient at = {.qkv = qkv, .y = y, .lse = lse, .dy = dy, .dqkv = dqkv, .masked = &of(d)->masked};
    keep(d, sgc_cudnn_slices_run(&e->backward, &at, memory));
    return true;
}

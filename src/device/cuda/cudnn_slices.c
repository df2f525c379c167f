/*
 * The gradient of attention in slices. The matrix [T, T] of every head that its graph keeps would grow with the batch; samples have nothing to do with
 * each other, nor have heads, so that of a slice is enough, and the next one takes its place.
 */
#include "device/cuda/cudnn_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

size_t sgc_cudnn_slice_bytes = (size_t)1 << 30;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t quotient_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static size_t delta_bytes(const sgc_cudnn_shape *s)
{
    const size_t bytes = (size_t)(s->B * s->H * s->T) * sizeof(float), unit = SGC_CUDNN_WORKSPACE_ALIGNMENT;
    return (bytes + unit - 1) / unit * unit;
}

static size_t bytes_of(const sgc_cudnn_plan *p) { return p->execution ? delta_bytes(&p->graph.shape) + p->workspace_bytes : 0; }

/* How many pieces of so many floats take a multiple of 16 bytes, as which tensors are to be aligned. Only the statistics can miss it, where 4 does not
 * divide T. */
static int64_t step_of(int64_t n_floats) { return n_floats % 4 == 0 ? 1 : n_floats % 2 == 0 ? 2 : 4; }

/* Of n, in as few slices as have `most` or fewer each: how many are in one. They begin at multiples of step. */
static int64_t even(int64_t n, int64_t most, int64_t step)
{
    if (n <= most) return n;
    most = most < step ? step : most / step * step;
    const int64_t n_slices = quotient_up(n, most);
    return least(n, quotient_up(quotient_up(n, n_slices), step) * step);
}

/* A slice of at most so many heads, if one may be that small. */
static sgc_cudnn_shape cut(const sgc_cudnn_shape *whole, int64_t n_heads)
{
    sgc_cudnn_shape s = *whole;
    const int64_t step = step_of(whole->H * whole->T);
    if (n_heads >= whole->H || step > 1) {
        s.B = even(whole->B, n_heads / whole->H, step);
    } else {
        s.B = 1;
        s.H = even(whole->H, n_heads, step_of(whole->T));
    }
    return s;
}

/* Tried with what the matrix takes; if the plan takes more, with what that one takes of each head. */
void sgc_cudnn_slices_make(sgc_cudnn_slices *x, const sgc_cudnn_target *target, const sgc_cudnn_shape *whole)
{
    memset(x, 0, sizeof(*x));
    x->whole = *whole;
    const int64_t limit = (int64_t)sgc_cudnn_slice_bytes;
    int64_t n_heads = least(whole->B * whole->H, limit / (2 * whole->T * whole->T + (int64_t)sizeof(float) * whole->T));
    sgc_cudnn_shape slice = cut(whole, n_heads);
    for (;;) {
        sgc_cudnn_plan_make(&x->plan, target, &slice, true);
        if (!x->plan.execution || bytes_of(&x->plan) <= sgc_cudnn_slice_bytes) break;
        n_heads = slice.B * slice.H;
        const sgc_cudnn_shape smaller = cut(whole, least(n_heads - 1, limit / quotient_up((int64_t)bytes_of(&x->plan), n_heads)));
        if (smaller.B * smaller.H >= n_heads) break;
        sgc_cudnn_plan_free(&x->plan);
        slice = smaller;
    }
    sgc_cudnn_shape rest = slice;
    if (slice.B < whole->B && whole->B % slice.B > 0) rest.B = whole->B % slice.B;
    if (slice.H < whole->H && whole->H % slice.H > 0) rest.H = whole->H % slice.H;
    if (x->plan.execution && rest.B * rest.H < slice.B * slice.H) {
        sgc_cudnn_plan_make(&x->rest, target, &rest, true);
        if (!x->rest.execution) {
            snprintf(x->plan.none, sizeof(x->plan.none), "%s", x->rest.none);
            sgc_cudnn_slices_free(x);
        }
    }
    x->bytes = bytes_of(&x->plan) > bytes_of(&x->rest) ? bytes_of(&x->plan) : bytes_of(&x->rest);
}

void sgc_cudnn_slices_free(sgc_cudnn_slices *x)
{
    sgc_cudnn_plan_free(&x->plan);
    sgc_cudnn_plan_free(&x->rest);
}

int64_t sgc_cudnn_slices_count(const sgc_cudnn_slices *x)
{
    const sgc_cudnn_shape *slice = &x->plan.graph.shape;
    return quotient_up(x->whole.B, slice->B) * quotient_up(x->whole.H, slice->H);
}

/* The slice that begins with sample b and head h. */
static cudnnStatus_t run_one(const sgc_cudnn_slices *x, const sgc_cudnn_gradient *at, char *memory, int64_t b, int64_t h)
{
    enum { N = 13 };
    static const int64_t uids[N] = {SGC_CUDNN_Q, SGC_CUDNN_K, SGC_CUDNN_V, SGC_CUDNN_Y, SGC_CUDNN_LSE, SGC_CUDNN_DY, SGC_CUDNN_DQ, SGC_CUDNN_DK, SGC_CUDNN_DV,
                                    SGC_CUDNN_DELTA, SGC_CUDNN_SCALE, SGC_CUDNN_MASKED, SGC_CUDNN_ONE};
    const sgc_cudnn_shape *s = &x->whole, *slice = &x->plan.graph.shape;
    const sgc_cudnn_plan *p = b + slice->B > s->B || h + slice->H > s->H ? &x->rest : &x->plan;
    const size_t unit = sgc_dtype_bytes(s->value), part = (size_t)s->C * unit;
    const size_t in_qkv = (size_t)(b * s->T * 3 * s->C + h * s->D) * unit, in_y = (size_t)(b * s->T * s->C + h * s->D) * unit;
    const size_t in_lse = (size_t)((b * s->H + h) * s->T) * sizeof(float);
    char *q = (char *)at->qkv + in_qkv, *dq = (char *)at->dqkv + in_qkv;
    float scale = 1 / sqrtf((float)s->D), one = 1;
    return sgc_cudnn_plan_run(p, N, uids,
        (void *const[N]){q, q + part, q + 2 * part, (char *)at->y + in_y, (char *)at->lse + in_lse, (char *)at->dy + in_y, dq, dq + part, dq + 2 * part,
                         memory, &scale, (float *)at->masked, &one}, memory + delta_bytes(&p->graph.shape));
}

cudnnStatus_t sgc_cudnn_slices_run(const sgc_cudnn_slices *x, const sgc_cudnn_gradient *at, char *memory)
{
    const sgc_cudnn_shape *slice = &x->plan.graph.shape;
    cudnnStatus_t rc = CUDNN_STATUS_SUCCESS;
    for (int64_t b = 0; b < x->whole.B && rc == CUDNN_STATUS_SUCCESS; b += slice->B)
        for (int64_t h = 0; h < x->whole.H && rc == CUDNN_STATUS_SUCCESS; h += slice->H) rc = run_one(x, at, memory, b, h);
    return rc;
}

/*
 * Calling one kernel on several devices with the same numbers. A case is a function that takes its arguments from a `call`;
 * input and output arrays get random numbers that depend on their order alone, in the element types of the device.
 */
#ifndef SGC_TESTS_KERNELS_H
#define SGC_TESTS_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "unit.h"

enum { MAX_ARRAYS = 32 };

typedef struct array { void *data; int64_t n; sgc_dtype type; bool is_output; } array;

typedef struct call {
    sgc_device *device;
    int64_t size[6];
    uint32_t seed;
    bool bf16_numbers;        /* random numbers are exact in bf16, whatever the device */
    array arrays[MAX_ARRAYS]; /* owned */
    int n_arrays;
} call;

/* A sum of four uniform numbers, which is nearly normal: mean 0, variance 1, rounded to float. */
static inline double random_number(uint32_t seed, uint32_t which, int64_t i)
{
    uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), which, seed}, r[4];
    sgc_philox(sgc_philox_make_key(7, SGC_PURPOSE_INIT), counter, r);
    return (float)(sqrt(3) * (((double)r[0] + r[1] + r[2] + r[3]) / 0x1p32 - 2));
}

static inline double element(const array *a, int64_t i)
{
    if (a->type == SGC_F64) return ((const double *)a->data)[i];
    return a->type == SGC_F32 ? ((const float *)a->data)[i] : sgc_bf16_to_float(((const sgc_bf16 *)a->data)[i]);
}

static inline void set_element(const array *a, int64_t i, double x)
{
    if (a->type == SGC_F64) ((double *)a->data)[i] = x;
    else if (a->type == SGC_F32) ((float *)a->data)[i] = (float)x;
    else ((sgc_bf16 *)a->data)[i] = sgc_float_to_bf16((float)x);
}

static inline void *new_array(call *c, int64_t n, sgc_dtype type, bool is_output)
{
    array *a = &c->arrays[c->n_arrays];
    ck_assert_int_lt(c->n_arrays, MAX_ARRAYS);
    *a = (array){malloc((size_t)n * sgc_dtype_bytes(type) + 1), n, type, is_output};
    ck_assert_ptr_nonnull(a->data);
    for (int64_t i = 0; i < n; i++) {
        double x = random_number(c->seed, (uint32_t)c->n_arrays, i);
        set_element(a, i, c->bf16_numbers ? sgc_bf16_to_float(sgc_float_to_bf16((float)x)) : x);
    }
    c->n_arrays++;
    return a->data;
}

static inline void *in(call *c, int64_t n) { return new_array(c, n, c->device->ops->value, false); }
static inline void *out(call *c, int64_t n) { return new_array(c, n, c->device->ops->value, true); }
static inline void *in_wide(call *c, int64_t n) { return new_array(c, n, c->device->ops->wide, false); }
static inline void *out_wide(call *c, int64_t n) { return new_array(c, n, c->device->ops->wide, true); }
static inline double *out_double(call *c, int64_t n) { return new_array(c, n, SGC_F64, true); }

/* The last array becomes positive. */
static inline void *positive(call *c)
{
    const array *a = &c->arrays[c->n_arrays - 1];
    for (int64_t i = 0; i < a->n; i++) set_element(a, i, fabs(element(a, i)) + 0.5); /* in bf16 perhaps rounded, on every device alike */
    if (c->bf16_numbers)
        for (int64_t i = 0; i < a->n; i++) set_element(a, i, sgc_bf16_to_float(sgc_float_to_bf16((float)element(a, i))));
    return a->data;
}

static inline void free_call(call *c)
{
    for (int i = 0; i < c->n_arrays; i++) free(c->arrays[i].data);
    c->n_arrays = 0;
}

static inline call run(void (*kernel)(call *), sgc_device *d, const int64_t size[6], uint32_t seed, bool bf16_numbers)
{
    call c = {.device = d, .seed = seed, .bf16_numbers = bf16_numbers};
    memcpy(c.size, size, sizeof(c.size));
    kernel(&c);
    return c;
}

/* The largest difference of any output of a that is bf16, or of any other, over the largest number of that output. */
static inline double distance(const call *a, const call *b, bool of_bf16)
{
    double worst = 0;
    for (int k = 0; k < a->n_arrays; k++) {
        double difference = 0, largest = 0;
        if (!a->arrays[k].is_output || (a->arrays[k].type == SGC_BF16) != of_bf16) continue;
        for (int64_t i = 0; i < a->arrays[k].n; i++) {
            double x = element(&a->arrays[k], i), y = element(&b->arrays[k], i);
            if (!(fabs(x - y) <= difference)) difference = fabs(x - y);
            largest = fmax(largest, fabs(y));
        }
        if (!(difference / fmax(largest, 1e-3) <= worst)) worst = difference / fmax(largest, 1e-3);
    }
    return worst;
}

static inline bool same_bits(const call *a, const call *b)
{
    for (int k = 0; k < a->n_arrays; k++)
        if (a->arrays[k].is_output && memcmp(a->arrays[k].data, b->arrays[k].data, (size_t)a->arrays[k].n * sgc_dtype_bytes(a->arrays[k].type)) != 0)
            return false;
    return true;
}

/* Every kernel of the table as a case, and the sizes it is tried at. */
typedef struct kernel_case {
    const char *name;
    void (*kernel)(call *);
    double tolerance;      /* of `distance` to ref64 in outputs that are not bf16 */
    double bf16_tolerance; /* and in those that are, in units of 2^-8: the error of one rounding */
    int n_sizes;
    int64_t size[16][6];
} kernel_case;

extern const kernel_case kernel_cases[];
extern const int n_kernel_cases;

#endif

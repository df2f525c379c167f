/*
 * Calling one kernel on several devices with the same numbers. A case is a function that takes its arguments from a `call`;
 * input and output arrays get random values that depend on their order alone, in the element type of the device.
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

enum { MAX_ARRAYS = 16 };

typedef struct array { void *data; int64_t n; bool is_output, is_double; } array;

typedef struct call {
    sgc_device *device;
    int64_t size[6];
    uint32_t seed;
    array arrays[MAX_ARRAYS]; /* owned */
    int n_arrays;
} call;

static inline double random_number(uint32_t seed, uint32_t which, int64_t i) /* standard normal, rounded to float */
{
    uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), which, seed}, r[4];
    sgc_philox(sgc_philox_make_key(7, SGC_PURPOSE_INIT), counter, r);
    return (float)(sqrt(-2 * log((r[0] + 1.0) / 0x1p32)) * cos(2 * M_PI * r[1] / 0x1p32));
}

static inline void *new_array(call *c, int64_t n, bool is_output, bool is_double)
{
    array *a = &c->arrays[c->n_arrays];
    ck_assert_int_lt(c->n_arrays, MAX_ARRAYS);
    *a = (array){NULL, n, is_output, is_double || c->device->ops->value == SGC_F64};
    a->data = malloc((size_t)n * (a->is_double ? sizeof(double) : sizeof(float)) + 1);
    ck_assert_ptr_nonnull(a->data);
    for (int64_t i = 0; i < n; i++) {
        double value = random_number(c->seed, (uint32_t)c->n_arrays, i);
        if (a->is_double) ((double *)a->data)[i] = value;
        else ((float *)a->data)[i] = (float)value;
    }
    c->n_arrays++;
    return a->data;
}

static inline void *in(call *c, int64_t n) { return new_array(c, n, false, false); }
static inline void *out(call *c, int64_t n) { return new_array(c, n, true, false); }
static inline double *out_double(call *c, int64_t n) { return new_array(c, n, true, true); }

static inline double element(const array *a, int64_t i) { return a->is_double ? ((double *)a->data)[i] : ((float *)a->data)[i]; }

/* Absolute values, for what has to be positive. */
static inline void *in_positive(call *c, int64_t n)
{
    void *data = in(c, n);
    const array *a = &c->arrays[c->n_arrays - 1];
    for (int64_t i = 0; i < n; i++) {
        if (a->is_double) ((double *)data)[i] = fabs(((double *)data)[i]) + 0.5;
        else ((float *)data)[i] = (float)(fabs((double)((float *)data)[i]) + 0.5);
    }
    return data;
}

static inline void free_call(call *c)
{
    for (int i = 0; i < c->n_arrays; i++) free(c->arrays[i].data);
    c->n_arrays = 0;
}

static inline call run(void (*kernel)(call *), sgc_device *d, const int64_t size[6], uint32_t seed)
{
    call c = {.device = d, .seed = seed};
    memcpy(c.size, size, sizeof(c.size));
    kernel(&c);
    return c;
}

/* The largest difference of any output, over the largest value of that output. */
static inline double distance(const call *a, const call *b)
{
    double worst = 0;
    for (int k = 0; k < a->n_arrays; k++) {
        double difference = 0, largest = 0;
        if (!a->arrays[k].is_output) continue;
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
        if (a->arrays[k].is_output &&
            memcmp(a->arrays[k].data, b->arrays[k].data, (size_t)a->arrays[k].n * (a->arrays[k].is_double ? sizeof(double) : sizeof(float))) != 0)
            return false;
    return true;
}

/* Every kernel of the table as a case, and the sizes it is tried at. */
typedef struct kernel_case {
    const char *name;
    void (*kernel)(call *);
    double tolerance; /* of `distance` between cpu and ref64 */
    int n_sizes;
    int64_t size[16][6];
} kernel_case;

extern const kernel_case kernel_cases[];
extern const int n_kernel_cases;

#endif

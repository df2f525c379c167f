/*
 * Calling one kernel on several devices with the same numbers. A case is a function that takes its arguments from a `call`;
 * input and output arrays get random numbers that depend on their order alone, in the element types of the device. What a kernel gets are
 * addresses of the device's memory; `element` looks at the host's copy, which is the same where the device has no memory of its own, and is
 * fetched by `run` where it has.
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

typedef struct array {
    void *data;              /* the host's  */
    void *device;            /* the device's: data, if it has no memory of its own */
    int64_t n;
    sgc_dtype type;
    bool is_output;
} array;

typedef struct call {
    sgc_device *device;
    int64_t size[6];
    uint32_t seed;
    sgc_dtype numbers;        /* random numbers are exact in this type, whatever the device */
    void *blocks[4];          /* owned: constants of the device */
    int n_blocks;
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
    if (a->type == SGC_F16) return sgc_f16_to_float(((const sgc_f16 *)a->data)[i]);
    return a->type == SGC_F32 ? ((const float *)a->data)[i] : sgc_bf16_to_float(((const sgc_bf16 *)a->data)[i]);
}

static inline void set_element(const array *a, int64_t i, double x)
{
    if (a->type == SGC_F64) ((double *)a->data)[i] = x;
    else if (a->type == SGC_F32) ((float *)a->data)[i] = (float)x;
    else if (a->type == SGC_F16) sgc_dtype_pack(SGC_F16, &(float){(float)x}, 1, (sgc_f16 *)a->data + i);
    else ((sgc_bf16 *)a->data)[i] = sgc_float_to_bf16((float)x);
}

/* A number as it is after a stay in this type. */
static inline double through(sgc_dtype type, double x)
{
    uint64_t bits;
    const array one = {.data = &bits, .n = 1, .type = type};
    set_element(&one, 0, x);
    return element(&one, 0);
}

static inline void to_device(const call *c, const array *a)
{
    if (a->device != a->data) ck_assert_msg(sgc_device_write(c->device, a->device, a->data, (size_t)a->n * sgc_dtype_bytes(a->type)) == SGC_OK, "%s", sgc_err_message());
}
static inline void from_device(const call *c, const array *a)
{
    if (a->device != a->data) ck_assert_msg(sgc_device_read(c->device, a->data, a->device, (size_t)a->n * sgc_dtype_bytes(a->type)) == SGC_OK, "%s", sgc_err_message());
}

static inline void *new_array(call *c, int64_t n, sgc_dtype type, bool is_output)
{
    array *a = &c->arrays[c->n_arrays];
    ck_assert_int_lt(c->n_arrays, MAX_ARRAYS);
    *a = (array){.data = malloc((size_t)n * sgc_dtype_bytes(type) + 1), .n = n, .type = type, .is_output = is_output};
    ck_assert_ptr_nonnull(a->data);
    a->device = c->device->ops->memory ? sgc_device_alloc(c->device, SGC_MEM_ACTIVATIONS, (size_t)n * sgc_dtype_bytes(type)) : a->data;
    ck_assert_msg(a->device != NULL, "%s", sgc_err_message());
    for (int64_t i = 0; i < n; i++) set_element(a, i, through(c->numbers, random_number(c->seed, (uint32_t)c->n_arrays, i)));
    to_device(c, a);
    c->n_arrays++;
    return a->device;
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
    for (int64_t i = 0; i < a->n; i++) set_element(a, i, through(c->numbers, fabs(element(a, i)) + 0.5)); /* perhaps rounded, on every device alike */
    to_device(c, a);
    return a->device;
}

/* A copy where the device sees it. */
static inline const void *constant(call *c, const void *host, size_t bytes)
{
    if (!c->device->ops->memory) return host;
    void *p = sgc_device_alloc(c->device, SGC_MEM_ACTIVATIONS, bytes);
    ck_assert(p && c->n_blocks < (int)(sizeof(c->blocks) / sizeof(c->blocks[0])) && sgc_device_write(c->device, p, host, bytes) == SGC_OK);
    return c->blocks[c->n_blocks++] = p;
}

static inline void free_call(call *c)
{
    for (int i = 0; i < c->n_arrays; i++) {
        if (c->arrays[i].device != c->arrays[i].data) sgc_device_free(c->device, c->arrays[i].device);
        free(c->arrays[i].data);
    }
    for (int i = 0; i < c->n_blocks; i++) sgc_device_free(c->device, c->blocks[i]);
    c->n_arrays = c->n_blocks = 0;
}

static inline call run(void (*kernel)(call *), sgc_device *d, const int64_t size[6], uint32_t seed, sgc_dtype numbers)
{
    call c = {.device = d, .seed = seed, .numbers = numbers};
    memcpy(c.size, size, sizeof(c.size));
    kernel(&c);
    for (int i = 0; i < c.n_arrays; i++)
        if (c.arrays[i].is_output) from_device(&c, &c.arrays[i]);
    return c;
}

/* The largest difference of any output of a that is of a 16-bit type, or of any other, over the largest number of that output; NaN if there is one in
 * any difference. */
static inline double distance(const call *a, const call *b, bool of_16_bits)
{
    double worst = 0;
    for (int k = 0; k < a->n_arrays; k++) {
        double difference = 0, largest = 0;
        if (!a->arrays[k].is_output || (sgc_dtype_bytes(a->arrays[k].type) == 2) != of_16_bits) continue;
        for (int64_t i = 0; i < a->arrays[k].n; i++) {
            double x = element(&a->arrays[k], i), y = element(&b->arrays[k], i);
            if (!(fabs(x - y) <= difference) && !isnan(difference)) difference = fabs(x - y);
            largest = fmax(largest, fabs(y));
        }
        if (!(difference / fmax(largest, 1e-3) <= worst) && !isnan(worst)) worst = difference / fmax(largest, 1e-3);
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
    double tolerance;      /* of `distance` to ref64 in outputs of more than 16 bits */
    double bf16_tolerance; /* and in those that are, in units of 2^-8: the error of one rounding; of fp16, 2^-11 */
    int n_sizes;
    int64_t size[16][6];
} kernel_case;

extern const kernel_case kernel_cases[];
extern const int n_kernel_cases;

static inline void open_device(sgc_device *d, const char *name, bool full_determinism)
{
    ck_assert_msg(sgc_device_open(d, name, full_determinism) == SGC_OK, "%s", sgc_err_message());
}

const kernel_case *find_case(const char *name);
/* A case on d against ref64; every case. */
void compare_case(sgc_device *d, const kernel_case *k, const char *name);
void compare_all(sgc_device *d, const char *name);
/* Calls that do the work of several, on d, against these: the same bits. */
void compare_joined(sgc_device *d);

#endif

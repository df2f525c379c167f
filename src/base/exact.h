/*
 * Exact sums of doubles. The sum is held as a fixed-point number over the whole range of a double (Kulisch accumulator),
 * so it does not depend on the order of the additions, and partial sums of ranks add up by integer addition.
 */
#ifndef SGC_BASE_EXACT_H
#define SGC_BASE_EXACT_H

#include <stdint.h>

#define SGC_EXACT_N_LIMBS 70

/* limb[i] counts units of 2^(32*i - 1088). Up to 2^30 numbers may be added before sgc_exact_normalize; the last three
 * elements count NaNs, +infinities and -infinities. All are plain integers: MPI_SUM over int64_t merges accumulators that
 * were normalized (at most 2^30 of them). */
typedef struct sgc_exact { int64_t limb[SGC_EXACT_N_LIMBS]; int64_t n_nan, n_pos_inf, n_neg_inf; } sgc_exact;

#define SGC_EXACT_N_INT64 ((int)(sizeof(sgc_exact) / sizeof(int64_t)))

void sgc_exact_zero(sgc_exact *a);
void sgc_exact_add(sgc_exact *a, double x);
void sgc_exact_normalize(sgc_exact *a); /* carries: all limbs but the highest in [0, 2^32) */
double sgc_exact_value(const sgc_exact *a); /* the sum, rounded once, to nearest even */

#endif

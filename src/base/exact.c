#include "base/exact.h"

#include <math.h>
#include <string.h>

enum { LOWEST = 1088, SUBNORMAL = 14 /* bit of 2^-1074, the last one that a double can have */ };

void sgc_exact_zero(sgc_exact *a) { memset(a, 0, sizeof(*a)); }

void sgc_exact_add(sgc_exact *a, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    int exponent = (int)(bits >> 52) & 0x7ff;
    uint64_t mantissa = bits & 0xfffffffffffffu;
    if (exponent == 0x7ff) {
        if (mantissa != 0) a->n_nan++;
        else if (bits >> 63) a->n_neg_inf++;
        else a->n_pos_inf++;
        return;
    }
    if (exponent == 0) exponent = 1;
    else mantissa |= (uint64_t)1 << 52;

    /* x = mantissa * 2^(exponent - 1075): at most 84 bits from the limb's first one on, so three limbs */
    int position = exponent - 1075 + LOWEST;
    int64_t *limb = a->limb + (position >> 5);
    int shift = position & 31;
    uint64_t low = mantissa << shift;
    int64_t high = (int64_t)((mantissa >> 1) >> (63 - shift));
    int64_t minus = -(int64_t)(bits >> 63); /* -1 for a negative x: (v ^ minus) - minus is then -v */
    limb[0] += ((int64_t)(low & 0xffffffffu) ^ minus) - minus;
    limb[1] += ((int64_t)(low >> 32) ^ minus) - minus;
    limb[2] += (high ^ minus) - minus;
}

void sgc_exact_normalize(sgc_exact *a)
{
    int64_t carry = 0;
    for (int i = 0; i < SGC_EXACT_N_LIMBS - 1; i++) {
        int64_t v = a->limb[i] + carry;
        a->limb[i] = v & 0xffffffff;
        carry = v >> 32; /* rounds down, as gcc and clang define it for negative numbers */
    }
    a->limb[SGC_EXACT_N_LIMBS - 1] += carry;
}

/* 53 bits of a normalized, positive number from bit `from` on. */
static uint64_t bits_from(const sgc_exact *a, int from)
{
    uint64_t v = 0;
    int shift = from & 31;
    for (int i = 0, k = from >> 5; i < 3 && k + i < SGC_EXACT_N_LIMBS; i++) {
        int up = 32 * i - shift;
        uint64_t limb = (uint64_t)a->limb[k + i];
        v |= up >= 0 ? limb << up : limb >> -up;
        if (up >= 32) break; /* 64 bits are full */
    }
    return v & (((uint64_t)1 << 53) - 1);
}

double sgc_exact_value(const sgc_exact *sum)
{
    if (sum->n_nan > 0 || (sum->n_pos_inf > 0 && sum->n_neg_inf > 0)) return NAN;
    if (sum->n_pos_inf > 0) return INFINITY;
    if (sum->n_neg_inf > 0) return -INFINITY;

    sgc_exact a = *sum;
    sgc_exact_normalize(&a);
    int is_negative = a.limb[SGC_EXACT_N_LIMBS - 1] < 0;
    if (is_negative) {
        for (int i = 0; i < SGC_EXACT_N_LIMBS; i++) a.limb[i] = -a.limb[i];
        sgc_exact_normalize(&a);
    }
    int top = SGC_EXACT_N_LIMBS - 1;
    while (top >= 0 && a.limb[top] == 0) top--;
    if (top < 0) return 0.0;
    int highest = 32 * top + 63 - __builtin_clzll((uint64_t)a.limb[top]);

    int from = highest - 52;
    uint64_t mantissa;
    if (from <= SUBNORMAL) { /* a multiple of 2^-1074 of at most 53 bits: nothing to round */
        from = SUBNORMAL;
        mantissa = bits_from(&a, from);
    } else {
        mantissa = bits_from(&a, from);
        int half = from - 1;
        if ((a.limb[half >> 5] >> (half & 31)) & 1) {
            int is_tie = (a.limb[half >> 5] & (((int64_t)1 << (half & 31)) - 1)) == 0;
            for (int i = 0; is_tie && i < half >> 5; i++) is_tie = a.limb[i] == 0;
            if (!is_tie || (mantissa & 1)) mantissa++;
        }
    }
    double value = ldexp((double)mantissa, from - LOWEST);
    return is_negative ? -value : value;
}

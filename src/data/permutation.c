/*
 * A random order of [0, n) that is computed element by element: a Feistel network over pairs (a digit below n_high, one below
 * n_low) with n_high * n_low >= n. A result outside [0, n) is put through the network again until it falls inside (cycle
 * walking), which keeps the whole a bijection of [0, n); since n_high * n_low - n < n_high, one pass nearly always does.
 * Source: Black and Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002, doi 10.1007/3-540-45760-7_9.
 */
#include <assert.h>
#include <math.h>

#include "base/philox.h"
#include "data/data.h"

/* For tiny n the orders are then nearly equally likely: within 0.2 % at n = 4, 6 % at n = 5 (exact enumeration). */
#define N_ROUNDS 12

static uint64_t ceil_root(uint64_t n)
{
    uint64_t r = (uint64_t)sqrt((double)n);
    while (r * r < n)
        r++;
    while (r > 1 && (r - 1) * (r - 1) >= n)
        r--;
    return r;
}

/* Digits are below 2^32: the root of the largest n, 2^63 - 1, is. */
static uint64_t pass(sgc_philox_key key, int64_t epoch, uint64_t n_high, uint64_t n_low, uint64_t x)
{
    uint64_t high = x / n_low, low = x % n_low;
    for (uint32_t round = 0; round < N_ROUNDS; round++) {
        const uint64_t other = round % 2 ? high : low;
        const uint32_t counter[4] = {(uint32_t)other, round, (uint32_t)epoch, (uint32_t)((uint64_t)epoch >> 32)};
        uint32_t r[4];
        sgc_philox(key, counter, r);
        const uint64_t shift = (uint64_t)r[1] << 32 | r[0];
        if (round % 2)
            low = (low + shift % n_low) % n_low;
        else
            high = (high + shift % n_high) % n_high;
    }
    return high * n_low + low;
}

int64_t sgc_permute(uint64_t seed, int64_t epoch, int64_t n, int64_t i)
{
    assert(n > 0 && i >= 0 && i < n);
    const sgc_philox_key key = sgc_philox_make_key(seed, SGC_PURPOSE_DATA);
    const uint64_t n_high = ceil_root((uint64_t)n), n_low = ((uint64_t)n + n_high - 1) / n_high;
    uint64_t x = (uint64_t)i;
    do {
        x = pass(key, epoch, n_high, n_low, x);
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

#include "base/philox.h"

#include <math.h>
#include <string.h>

void sgc_normal_pair(uint32_t r0, uint32_t r1, double out[2])
{
    double u = ((double)r0 + 1.0) * 0x1p-32; /* (0, 1]: its logarithm is finite */
    double angle = 2.0 * 3.14159265358979323846 * ((double)r1 * 0x1p-32);
    double radius = sqrt(-2.0 * log(u));
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

/* Blocks that are worked on together; each makes two pairs. */
enum { BLOCKS = 32, PAIRS = 2 * BLOCKS };

static inline uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static inline double of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* -2 log((r + 1) / 2^32), within a relative 2^-50: the argument is m 2^k with m around 1, log(m) the series of 2 atanh((m - 1) / (m + 1)). */
static inline double minus_two_log(uint32_t r)
{
    const uint64_t root_half = 0x3FE6A09E667F3BCDu, one = (uint64_t)1 << 52;
    uint64_t bits = bits_of(((double)(int32_t)(r ^ 0x80000000u) + 0x80000001p0) * 0x1p-32), k64 = (bits - root_half + 64 * one) >> 52; /* k + 64 */
    double f = of_bits(bits - (k64 - 64) * one) - 1.0, k = of_bits(k64 | 0x4330000000000000u) - (0x1p52 + 64);
    double s = f / (2.0 + f), w = s * s, q = 1 / 19.0;
    q = q * w + 1 / 17.0;
    q = q * w + 1 / 15.0;
    q = q * w + 1 / 13.0;
    q = q * w + 1 / 11.0;
    q = q * w + 1 / 9.0;
    q = q * w + 1 / 7.0;
    q = q * w + 1 / 5.0;
    q = q * w + 1 / 3.0;
    return -2.0 * (k * 0.693147180559945309417 + 2.0 * (s + s * (q * w)));
}

/* Cosine and sine of 2 pi r / 2^32, within 2^-50: Taylor's series in the eighth of the circle around the nearest axis. */
static inline void circle(uint32_t r, double *cosine, double *sine)
{
    uint32_t axis = (r + 0x20000000u) >> 30;
    double x = (double)(int32_t)(r - (axis << 30)) * (6.28318530717958647693 * 0x1p-32), z = x * x;
    double c = 1 / 20922789888000.0, s = -1 / 1307674368000.0;
    c = c * z - 1 / 87178291200.0;
    s = s * z + 1 / 6227020800.0;
    c = c * z + 1 / 479001600.0;
    s = s * z - 1 / 39916800.0;
    c = c * z - 1 / 3628800.0;
    s = s * z + 1 / 362880.0;
    c = c * z + 1 / 40320.0;
    s = s * z - 1 / 5040.0;
    c = c * z - 1 / 720.0;
    s = s * z + 1 / 120.0;
    c = c * z + 1 / 24.0;
    s = s * z - 1 / 6.0;
    c = c * z - 0.5;
    c = c * z + 1.0;
    s = s * z * x + x;
    uint64_t swap = -(uint64_t)(axis & 1), cos_bits = (bits_of(s) & swap) | (bits_of(c) & ~swap), sin_bits = (bits_of(c) & swap) | (bits_of(s) & ~swap);
    *cosine = of_bits(cos_bits ^ (uint64_t)((axis + 1) & 2) << 62);
    *sine = of_bits(sin_bits ^ (uint64_t)(axis & 2) << 62);
}

/*
 * 4 * BLOCKS numbers from a block on, as sgc_normal_pair gives them. In vectors they come out with an error far below that of rounding to float; the few
 * that are so near to a border between two floats that it might matter are made again.
 */
static void fill_blocks(float *out, sgc_philox_key key, uint32_t stream, int64_t first_block, double mean, double std)
{
    uint32_t r[2][PAIRS];
    double radius[PAIRS], z[2][PAIRS];
    for (int i = 0; i < BLOCKS; i++) {
        uint64_t block = (uint64_t)(first_block + i);
        uint32_t words[4];
        sgc_philox(key, (uint32_t[4]){(uint32_t)block, (uint32_t)(block >> 32), stream, 0}, words);
        for (int j = 0; j < 4; j++) r[j % 2][2 * i + j / 2] = words[j];
    }
#pragma omp simd
    for (int i = 0; i < PAIRS; i++) {
        radius[i] = minus_two_log(r[0][i]);
        circle(r[1][i], &z[0][i], &z[1][i]);
    }
    for (int i = 0; i < PAIRS; i++) radius[i] = sqrt(radius[i]);
    for (int i = 0; i < PAIRS; i++)
        for (int j = 0; j < 2; j++) {
            double x = mean + std * (radius[i] * z[j][i]), margin = (fabs(mean) + std * radius[i]) * 0x1p-44;
            float low = (float)(x - margin), high = (float)(x + margin);
            out[2 * i + j] = low;
            if (low == high) continue;
            double pair[2];
            sgc_normal_pair(r[0][i], r[1][i], pair);
            out[2 * i + j] = (float)(mean + std * pair[j]);
        }
}

void sgc_normal_fill(float *out, int64_t n, uint64_t seed, sgc_purpose purpose, uint32_t stream, int64_t first, double mean, double std)
{
    if (n <= 0) return;
    const int64_t n_each = 4 * BLOCKS; /* element e is number e % 4 of block e / 4 */
    sgc_philox_key key = sgc_philox_make_key(seed, purpose);
#pragma omp parallel for schedule(static) if (n > 4096)
    for (int64_t i = first / n_each; i <= (first + n - 1) / n_each; i++) {
        float numbers[4 * BLOCKS];
        fill_blocks(numbers, key, stream, i * BLOCKS, mean, std);
        /* a slice may begin and end inside */
        int64_t from = i * n_each > first ? i * n_each : first, to = (i + 1) * n_each < first + n ? (i + 1) * n_each : first + n;
        memcpy(out + (from - first), numbers + (from - i * n_each), (size_t)(to - from) * sizeof(float));
    }
}

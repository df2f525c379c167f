#include "base/philox.h"

#include <math.h>

void sgc_normal_pair(uint32_t r0, uint32_t r1, double out[2])
{
    double u = ((double)r0 + 1.0) * 0x1p-32; /* (0, 1]: its logarithm is finite */
    double angle = 2.0 * 3.14159265358979323846 * ((double)r1 * 0x1p-32);
    double radius = sqrt(-2.0 * log(u));
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

void sgc_normal_fill(float *out, int64_t n, uint64_t seed, sgc_purpose purpose, uint32_t stream, int64_t first, double mean, double std)
{
    sgc_philox_key key = sgc_philox_make_key(seed, purpose);
    for (int64_t i = 0; i < n;) {
        /* element e is number e % 4 of block e / 4; a slice may begin and end inside a block */
        uint64_t block = (uint64_t)(first + i) / 4;
        int skip = (int)((uint64_t)(first + i) % 4);
        uint32_t r[4];
        double z[4];
        sgc_philox(key, (uint32_t[4]){(uint32_t)block, (uint32_t)(block >> 32), stream, 0}, r);
        sgc_normal_pair(r[0], r[1], z);
        sgc_normal_pair(r[2], r[3], z + 2);
        for (int j = skip; j < 4 && i < n; j++, i++) out[i] = (float)(mean + std * z[j]);
    }
}

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
    if (n <= 0) return;
    sgc_philox_key key = sgc_philox_make_key(seed, purpose);
    int64_t last = first + n - 1;
    /* element e is number e % 4 of block e / 4; a slice may begin and end inside a block */
#pragma omp parallel for schedule(static) if (n > 4096)
    for (int64_t block = first / 4; block <= last / 4; block++) {
        uint32_t r[4];
        double z[4];
        sgc_philox(key, (uint32_t[4]){(uint32_t)block, (uint32_t)((uint64_t)block >> 32), stream, 0}, r);
        sgc_normal_pair(r[0], r[1], z);
        sgc_normal_pair(r[2], r[3], z + 2);
        for (int j = 0; j < 4; j++) {
            int64_t e = 4 * block + j;
            if (e >= first && e <= last) out[e - first] = (float)(mean + std * z[j]);
        }
    }
}

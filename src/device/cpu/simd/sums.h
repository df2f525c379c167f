/* Maximum and sums of exponentials of a row of floats; sums of rows. */

enum { SUM_VECTORS = 32 }; /* what is added in float before it goes to a sum in double, against rounding */

/* Largest of a row; if a NaN is missed here, it comes back in the sum of the exponentials. */
V_INLINE float row_max(const float *row, int64_t V)
{
    vf max[4] = {v_set(-INFINITY), v_set(-INFINITY), v_set(-INFINITY), v_set(-INFINITY)};
    int64_t v = 0;
    for (; v + 4 * V_N <= V; v += 4 * V_N)
        V_UNROLL for (int i = 0; i < 4; i++) max[i] = V_MAX(v_load(row + v + i * V_N), max[i]);
    float m = v_max_of(V_MAX(V_MAX(max[0], max[1]), V_MAX(max[2], max[3])));
    for (; v < V; v++) m = row[v] > m ? row[v] : m;
    return m;
}

/* Sum of exp(row - max), and of the row; the exponentials are left in `out` where it is not NULL. */
V_INLINE double row_exp_sum(float *out, const float *row, int64_t V, float max, double *total)
{
    vd sum_low = {0}, sum_high = {0}, all_low = {0}, all_high = {0}, low, high;
    for (int64_t first = 0; first < V; first += SUM_VECTORS * V_N) {
        vf part = {0}, part_all = {0};
        const int64_t n = V - first < SUM_VECTORS * V_N ? V - first : SUM_VECTORS * V_N;
        V_EACH(v, n, {
            vf x = v_load_n(row + first + v, k), e = v_first_n(v_exp(x - max), k);
            part_all += x;
            part += e;
            if (out) v_store_n(out + first + v, e, k);
        });
        v_to_double(part, &low, &high);
        sum_low += low;
        sum_high += high;
        v_to_double(part_all, &low, &high);
        all_low += low;
        all_high += high;
    }
    *total = v_sum_double(all_low + all_high);
    return v_sum_double(sum_low + sum_high);
}

/* out [n] += the sum of rows that are `stride` apart, in their order */
static void add_rows(float *out, const float *rows, int64_t n_rows, int64_t stride, int64_t n)
{
    V_EACH(c, n, {
        vf sum = v_load_n(rows + c, k);
        for (int64_t i = 1; i < n_rows; i++) sum += v_load_n(rows + i * stride + c, k);
        v_store_n(out + c, v_load_n(out + c, k) + sum, k);
    });
}

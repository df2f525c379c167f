/* Layer norm, column sums and cross entropy: loops over rows, and down columns. */

enum { COLUMN_ROWS = 64, SUM_VECTORS = 32 }; /* what is added in float before it goes to a second sum, against rounding */

static void layer_norm_forward(float *y, float *mean, float *rstd, const float *x, const float *w, const float *b, int64_t N, int64_t C,
                               double epsilon)
{
    for (int64_t n = 0; n < N; n++, x += C, y += C) {
        vf sum = {0}, squares = {0};
        for (int64_t c = 0; c < C; c += V_N) sum += v_load_n(x + c, C - c);
        float m = (float)(v_sum(sum) / (double)C);
        for (int64_t c = 0; c < C; c += V_N) {
            vf centred = C - c >= V_N ? v_load(x + c) - m : v_select((vi){V_LANES} < (int32_t)(C - c), v_load_n(x + c, C - c) - m, v_set(0));
            squares = V_FMA(centred, centred, squares);
        }
        float r = (float)(1 / sqrt(v_sum(squares) / (double)C + epsilon));
        for (int64_t c = 0; c < C; c += V_N)
            v_store_n(y + c, V_FMA((v_load_n(x + c, C - c) - m) * r, v_load_n(w + c, C - c), v_load_n(b + c, C - c)), C - c);
        mean[n] = m;
        rstd[n] = r;
    }
}

static void layer_norm_backward(float *dx, bool add_dx, const float *dy, const float *x, const float *w, const float *mean, const float *rstd,
                                int64_t N, int64_t C)
{
    for (int64_t n = 0; n < N; n++, x += C, dx += C, dy += C) {
        vf sum = {0}, dot = {0};
        float m = mean[n], r = rstd[n];
        for (int64_t c = 0; c < C; c += V_N) { /* the tail is zero through w */
            vf g = v_load_n(dy + c, C - c) * v_load_n(w + c, C - c);
            sum += g;
            dot = V_FMA(g, (v_load_n(x + c, C - c) - m) * r, dot);
        }
        float mean_g = (float)(v_sum(sum) / (double)C), mean_dot = (float)(v_sum(dot) / (double)C);
        for (int64_t c = 0; c < C; c += V_N) {
            vf g = v_load_n(dy + c, C - c) * v_load_n(w + c, C - c);
            vf value = r * (g - mean_g - (v_load_n(x + c, C - c) - m) * r * mean_dot);
            v_store_n(dx + c, add_dx ? v_load_n(dx + c, C - c) + value : value, C - c);
        }
    }
}

/* Four vectors of columns at a time, so that each row gives whole cache lines. */
static void layer_norm_columns(float *dw, float *db, const float *dy, const float *x, const float *mean, const float *rstd, int64_t N, int64_t C,
                               int64_t n_columns)
{
    for (int64_t c = 0; c < n_columns; c += 4 * V_N) {
        vf total_w[4] = {{0}}, total_b[4] = {{0}};
        for (int64_t first = 0; first < N; first += COLUMN_ROWS) {
            vf sum_w[4] = {{0}}, sum_b[4] = {{0}};
            for (int64_t n = first; n < N && n < first + COLUMN_ROWS; n++)
                for (int i = 0; i < 4; i++) {
                    int64_t k = n_columns - c - i * V_N, at = n * C + c + i * V_N;
                    if (k <= 0) break;
                    vf g = v_load_n(dy + at, k);
                    sum_w[i] = V_FMA(g, (v_load_n(x + at, k) - mean[n]) * rstd[n], sum_w[i]);
                    sum_b[i] += g;
                }
            for (int i = 0; i < 4; i++) {
                total_w[i] += sum_w[i];
                total_b[i] += sum_b[i];
            }
        }
        for (int i = 0; i < 4; i++) {
            int64_t k = n_columns - c - i * V_N, at = c + i * V_N;
            if (k <= 0) break;
            v_store_n(dw + at, v_load_n(dw + at, k) + total_w[i], k);
            v_store_n(db + at, v_load_n(db + at, k) + total_b[i], k);
        }
    }
}

static void column_sums(float *db, const float *dy, int64_t N, int64_t C, int64_t n_columns)
{
    for (int64_t c = 0; c < n_columns; c += 4 * V_N) {
        vf total[4] = {{0}};
        for (int64_t first = 0; first < N; first += COLUMN_ROWS) {
            vf sum[4] = {{0}};
            for (int64_t n = first; n < N && n < first + COLUMN_ROWS; n++)
                for (int i = 0; i < 4; i++) {
                    int64_t k = n_columns - c - i * V_N;
                    if (k <= 0) break;
                    sum[i] += v_load_n(dy + n * C + c + i * V_N, k);
                }
            for (int i = 0; i < 4; i++) total[i] += sum[i];
        }
        for (int i = 0; i < 4; i++) {
            int64_t k = n_columns - c - i * V_N, at = c + i * V_N;
            if (k <= 0) break;
            v_store_n(db + at, v_load_n(db + at, k) + total[i], k);
        }
    }
}

/* Largest of a row; if a NaN is missed here, it comes back in the sum of the exponentials. */
V_INLINE float row_max(const float *row, int64_t V)
{
    vf max = v_set(-INFINITY);
    int64_t v = 0;
    for (; v + V_N <= V; v += V_N) max = V_MAX(v_load(row + v), max);
    float m = v_max_of(max);
    for (; v < V; v++) m = row[v] > m ? row[v] : m;
    return m;
}

/* Sum of exp(row - max), and of the row; the exponentials are left in `out` where it is not NULL. */
V_INLINE double row_exp_sum(float *out, const float *row, int64_t V, float max, double *total)
{
    vd sum_low = {0}, sum_high = {0}, all_low = {0}, all_high = {0}, low, high;
    for (int64_t first = 0; first < V; first += SUM_VECTORS * V_N) {
        vf part = {0}, part_all = {0};
        for (int64_t v = first; v < V && v < first + SUM_VECTORS * V_N; v += V_N) {
            vf x = v_load_n(row + v, V - v), e = v_exp(x - max);
            part_all += x;
            if (V - v < V_N) e = v_select((vi){V_LANES} < (int32_t)(V - v), e, v_set(0));
            part += e;
            if (out) v_store_n(out + v, e, V - v);
        }
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

static void cross_entropy(double *loss, float *dlogits, const float *logits, int32_t target, int64_t V, double smoothing, double scale)
{
    *loss = 0;
    if (target == -100) {
        if (dlogits) memset(dlogits, 0, (size_t)V * sizeof(*dlogits));
        return;
    }
    double of_target = logits[target], total;
    float max = row_max(logits, V);
    double sum = dlogits ? row_exp_sum(dlogits, logits, V, max, &total) : row_exp_sum(NULL, logits, V, max, &total);
    double lse = max + log(sum);
    *loss = (1 - smoothing) * (lse - of_target);
    if (smoothing != 0) *loss += smoothing * (lse - total / (double)V);
    if (!dlogits) return;
    vf factor = v_set((float)(scale / sum));
    float spread = (float)(scale * smoothing / (double)V), p_target = dlogits[target];
    for (int64_t v = 0; v < V; v += V_N) v_store_n(dlogits + v, V_FMA(v_load_n(dlogits + v, V - v), factor, v_set(-spread)), V - v);
    dlogits[target] = (float)(scale * (p_target / sum - (1 - smoothing) - smoothing / (double)V));
}

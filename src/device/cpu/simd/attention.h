/*
 * Causal attention in blocks of queries and keys; the matrix of weights never exists as a whole.
 * Source: Dao et al., FlashAttention, arXiv 2205.14135, algorithms 1 and 4: an online softmax whose running maximum rescales what was
 * added before; the backward pass makes the weights again from the log of the sum of exponentials.
 * BLOCK x BLOCK tiles of scores are s; rows of q, k, v and gradients are padded to D_padded with zeros. Letters: Q queries or
 * K keys of a block (fewer in the last), i query, j key, c channel.
 */

#define BLOCK SGC_ATTENTION_BLOCK
#define ALIGNED __attribute__((aligned(64)))

/* c [n_rows, n_vectors * V_N] (+)= a [n_rows, K] b [K, ...]; a's element (i, k) is a[i * a_row + k * a_column]. */
V_INLINE void product_block(const int n_rows, const int n_vectors, bool accumulate, float *c, int64_t c_row, const float *a, int64_t a_row,
                            int64_t a_column, const float *b, int64_t b_row, int64_t K)
{
    vf sum[4][4];
    V_UNROLL for (int i = 0; i < n_rows; i++)
        V_UNROLL for (int j = 0; j < n_vectors; j++) sum[i][j] = accumulate ? v_load(c + i * c_row + j * V_N) : v_set(0);
    for (int64_t k = 0; k < K; k++) {
        vf row[4];
        V_UNROLL for (int j = 0; j < n_vectors; j++) row[j] = v_load(b + k * b_row + j * V_N);
        V_UNROLL for (int i = 0; i < n_rows; i++) {
            vf factor = v_set(a[i * a_row + k * a_column]);
            V_UNROLL for (int j = 0; j < n_vectors; j++) sum[i][j] = V_FMA(factor, row[j], sum[i][j]);
        }
    }
    V_UNROLL for (int i = 0; i < n_rows; i++)
        V_UNROLL for (int j = 0; j < n_vectors; j++) v_store(c + i * c_row + j * V_N, sum[i][j]);
}

/* The sums of an element always run over k in order, whatever block it falls into. N is a multiple of V_N. */
static void product(bool accumulate, float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row, int64_t M,
                    int64_t N, int64_t K)
{
    enum { WIDE = V_BYTES == 64 ? 4 : 2 }; /* as many sums as the registers hold */
    for (int64_t j = 0; j < N; j += j + WIDE * V_N <= N ? WIDE * V_N : V_N) {
        bool wide = j + WIDE * V_N <= N;
        int64_t i = 0;
        for (; i + 4 <= M; i += 4) {
            if (wide) product_block(4, WIDE, accumulate, c + i * c_row + j, c_row, a + i * a_row, a_row, a_column, b + j, b_row, K);
            else product_block(4, 1, accumulate, c + i * c_row + j, c_row, a + i * a_row, a_row, a_column, b + j, b_row, K);
        }
        for (; i < M; i++) {
            if (wide) product_block(1, WIDE, accumulate, c + i * c_row + j, c_row, a + i * a_row, a_row, a_column, b + j, b_row, K);
            else product_block(1, 1, accumulate, c + i * c_row + j, c_row, a + i * a_row, a_row, a_column, b + j, b_row, K);
        }
    }
}

/* n rows of D elements, `stride` apart, into rows of D_padded; the padding is set to zero. */
static void pack(float *out, const float *in, int64_t n, int64_t stride, int64_t D, int64_t D_padded)
{
    for (int64_t i = 0; i < n; i++) {
        memcpy(out + i * D_padded, in + i * stride, (size_t)D * sizeof(*out));
        memset(out + i * D_padded + D, 0, (size_t)(D_padded - D) * sizeof(*out));
    }
}

static void unpack(float *out, const float *in, int64_t n, int64_t stride, int64_t D, int64_t D_padded)
{
    for (int64_t i = 0; i < n; i++) memcpy(out + i * stride, in + i * D_padded, (size_t)D * sizeof(*out));
}

/* [K, D] rows, `stride` apart, into [D, BLOCK]; columns from K on are zero. */
static void transpose(float *out, const float *in, int64_t K, int64_t stride, int64_t D)
{
    for (int64_t c = 0; c < D; c++) {
        for (int64_t j = 0; j < K; j++) out[c * BLOCK + j] = in[j * stride + c];
        for (int64_t j = K; j < BLOCK; j++) out[c * BLOCK + j] = 0;
    }
}

/* Dropout factors of the weights of query i and keys j0 .. j0 + BLOCK - 1. */
static const float *keep_row(const sgc_attention_head *a, int64_t i, int64_t j0, float buffer[2 * BLOCK + 4])
{
    int64_t element = a->first_element + i * a->T + j0, skip = element % 4;
    for (int64_t n = 0; n < BLOCK + skip; n += 4 * V_N)
        v_keep_factors(buffer + n, a->drop->key, a->drop->stream, a->sample, (uint64_t)(element + n) / 4, a->threshold, a->keep_scale);
    return buffer + skip;
}

static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }

/* One query block against all keys up to it. kt: all keys, transposed block by block; v: all values, packed. */
static void forward_block(const sgc_attention_head *a, int64_t first, float *y, float *lse, const float *kt, const float *v, float *q, float *o)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, Q = smaller(BLOCK, T - first);
    const float scale = (float)(1 / sqrt((double)D));
    ALIGNED float s[BLOCK * BLOCK], keep[2 * BLOCK + 4];
    float max[BLOCK], sum[BLOCK];
    for (int64_t i = 0; i < Q; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
        const float *from = a->qkv + (first + i) * 3 * C;
        for (int64_t c = 0; c < D; c++) q[i * P + c] = from[c] * scale;
        memset(q + i * P + D, 0, (size_t)(P - D) * sizeof(*q));
    }
    memset(o, 0, (size_t)(Q * P) * sizeof(*o));
    for (int64_t j0 = 0; j0 <= first; j0 += BLOCK) {
        int64_t K = smaller(BLOCK, T - j0);
        product(false, s, BLOCK, q, P, 1, kt + j0 * D, BLOCK, Q, BLOCK, D);
        for (int64_t i = 0; i < Q; i++) {
            float *row = s + i * BLOCK;
            if (j0 == first)
                for (int64_t j = i + 1; j < BLOCK; j++) row[j] = -INFINITY;
            vf row_max_ = v_load(row);
            for (int j = V_N; j < BLOCK; j += V_N) row_max_ = V_MAX(v_load(row + j), row_max_);
            float m = v_max_of(row_max_);
            if (!(m <= max[i])) { /* what was added before is rescaled */
                float factor[V_N];
                v_store(factor, v_exp(v_set(max[i] - m)));
                sum[i] *= factor[0];
                for (int64_t c = 0; c < P; c += V_N) v_store(o + i * P + c, v_load(o + i * P + c) * factor[0]);
                max[i] = m;
            }
            const float *kept = a->drop ? keep_row(a, first + i, j0, keep) : NULL;
            vf part = {0};
            for (int j = 0; j < BLOCK; j += V_N) {
                vf e = v_exp(v_load(row + j) - max[i]);
                part += e;
                v_store(row + j, kept ? e * v_load(kept + j) : e);
            }
            sum[i] += v_sum(part);
        }
        product(true, o, P, s, BLOCK, 1, v + j0 * P, P, Q, P, K);
    }
    for (int64_t i = 0; i < Q; i++) {
        for (int64_t c = 0; c < P; c += V_N) v_store(o + i * P + c, v_load(o + i * P + c) / sum[i]);
        lse[first + i] = (float)(max[i] + log((double)sum[i]));
    }
    unpack(y + first * C, o, Q, C, D, P);
}

static void attention_forward(const sgc_attention_head *a, float *y, float *lse)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, T_padded = (T + BLOCK - 1) / BLOCK * BLOCK;
    float *kt = a->scratch, *v = kt + T_padded * P, *q = v + T_padded * P, *o = q + BLOCK * P;
    for (int64_t j = 0; j < T; j += BLOCK) transpose(kt + j * D, a->qkv + C + j * 3 * C, smaller(BLOCK, T - j), 3 * C, D);
    pack(v, a->qkv + 2 * C, T, 3 * C, D, P);
    for (int64_t i = a->slice * BLOCK; i < T; i += a->n_slices * BLOCK) forward_block(a, i, y, lse, kt, v, q, o);
}

/* What the backward pass holds of one head. */
typedef struct backward {
    const sgc_attention_head *a;
    const float *lse;
    float *q, *k, *dy;             /* [T, P]                                    */
    float *dq;                     /* [T, P]                                    */
    float *delta;                  /* [T]: mean gradient of the weights of a row */
    float *kt, *vt;                /* [D, BLOCK] of the key block at hand       */
    float *dk, *dv;                /* [BLOCK, P] of the key block at hand       */
} backward;

static void backward_keys(const backward *w, int64_t j0)
{
    const sgc_attention_head *a = w->a;
    int64_t K = smaller(BLOCK, a->T - j0);
    transpose(w->kt, w->k + j0 * a->D_padded, K, a->D_padded, a->D);
    transpose(w->vt, a->qkv + 2 * a->C + j0 * 3 * a->C, K, 3 * a->C, a->D);
}

static void backward_block(const backward *w, int64_t i0, int64_t j0, bool dq, bool dkv)
{
    const sgc_attention_head *a = w->a;
    const int64_t T = a->T, D = a->D, P = a->D_padded, Q = smaller(BLOCK, T - i0), K = smaller(BLOCK, T - j0);
    const float scale = (float)(1 / sqrt((double)D));
    ALIGNED float s[BLOCK * BLOCK], ds[BLOCK * BLOCK], keep[2 * BLOCK + 4];
    product(false, s, BLOCK, w->q + i0 * P, P, 1, w->kt, BLOCK, Q, BLOCK, D);
    product(false, ds, BLOCK, w->dy + i0 * P, P, 1, w->vt, BLOCK, Q, BLOCK, D);
    for (int64_t i = 0; i < Q; i++) {
        float *row = s + i * BLOCK, *drow = ds + i * BLOCK;
        if (i0 == j0)
            for (int64_t j = i + 1; j < BLOCK; j++) row[j] = -INFINITY;
        float lse = w->lse[i0 + i], delta = w->delta[i0 + i];
        const float *kept = a->drop ? keep_row(a, i0 + i, j0, keep) : NULL;
        for (int j = 0; j < BLOCK; j += V_N) {
            vf weight = v_exp(V_FMA(v_load(row + j), v_set(scale), v_set(-lse))), dweight = v_load(drow + j);
            if (kept) {
                vf factor = v_load(kept + j);
                dweight *= factor;
                v_store(row + j, weight * factor);
            } else {
                v_store(row + j, weight);
            }
            v_store(drow + j, weight * (dweight - delta) * scale);
        }
    }
    if (dkv) {
        product(true, w->dv, P, s, 1, BLOCK, w->dy + i0 * P, P, K, P, Q);
        product(true, w->dk, P, ds, 1, BLOCK, w->q + i0 * P, P, K, P, Q);
    }
    if (dq) product(true, w->dq + i0 * P, P, ds, BLOCK, 1, w->k + j0 * P, P, Q, P, K);
}

/* dq sums over key blocks and dk, dv over query blocks in order, in either way of going through the blocks. */
static void attention_backward(const sgc_attention_head *a, float *dqkv, const float *dy, const float *y, const float *lse, bool dq, bool dkv)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, T_padded = (T + BLOCK - 1) / BLOCK * BLOCK;
    backward w = {.a = a, .lse = lse, .q = a->scratch};
    w.k = w.q + T_padded * P;
    w.dy = w.k + T_padded * P;
    w.dq = w.dy + T_padded * P;
    w.kt = w.dq + T_padded * P;
    w.vt = w.kt + BLOCK * P;
    w.dk = w.vt + BLOCK * P;
    w.dv = w.dk + BLOCK * P;
    w.delta = w.dv + BLOCK * P;
    pack(w.q, a->qkv, T, 3 * C, D, P);
    pack(w.k, a->qkv + C, T, 3 * C, D, P);
    pack(w.dy, dy, T, C, D, P);
    for (int64_t i = 0; i < T; i++) {
        vf sum = {0};
        for (int64_t c = 0; c < D; c += V_N) sum = V_FMA(v_load(w.dy + i * P + c), v_load_n(y + i * C + c, D - c), sum);
        w.delta[i] = v_sum(sum);
    }
    if (dq) memset(w.dq, 0, (size_t)(T * P) * sizeof(*w.dq));
    if (dkv) {
        for (int64_t j = a->slice * BLOCK; j < T; j += a->n_slices * BLOCK) {
            backward_keys(&w, j);
            memset(w.dk, 0, (size_t)(BLOCK * P) * sizeof(*w.dk));
            memset(w.dv, 0, (size_t)(BLOCK * P) * sizeof(*w.dv));
            for (int64_t i = j; i < T; i += BLOCK) backward_block(&w, i, j, dq, true);
            unpack(dqkv + C + j * 3 * C, w.dk, smaller(BLOCK, T - j), 3 * C, D, P);
            unpack(dqkv + 2 * C + j * 3 * C, w.dv, smaller(BLOCK, T - j), 3 * C, D, P);
        }
        if (dq) unpack(dqkv, w.dq, T, 3 * C, D, P);
        return;
    }
    for (int64_t i = a->slice * BLOCK; i < T; i += a->n_slices * BLOCK) {
        for (int64_t j = 0; j <= i; j += BLOCK) {
            backward_keys(&w, j);
            backward_block(&w, i, j, true, false);
        }
        unpack(dqkv + i * 3 * C, w.dq + i * P, smaller(BLOCK, T - i), 3 * C, D, P);
    }
}

static void attend(float *y, const float *q, const float *k, const float *v, float *weights, int64_t n, int64_t C, int64_t D)
{
    const float scale = (float)(1 / sqrt((double)D));
    float max = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        vf sum = {0};
        for (int64_t c = 0; c < D; c += V_N) sum = V_FMA(v_load_n(q + c, D - c), v_load_n(k + j * C + c, D - c), sum);
        weights[j] = v_sum(sum) * scale;
        if (!(weights[j] <= max)) max = weights[j];
    }
    vf part = {0};
    for (int64_t j = 0; j < n; j += V_N) {
        vf e = v_exp(v_load_n(weights + j, n - j) - max);
        if (n - j < V_N) e = v_select((vi){V_LANES} < (int32_t)(n - j), e, v_set(0));
        part += e;
        v_store_n(weights + j, e, n - j);
    }
    float sum = v_sum(part);
    for (int64_t c = 0; c < D; c += V_N) {
        vf o = {0};
        for (int64_t j = 0; j < n; j++) o = V_FMA(v_set(weights[j]), v_load_n(v + j * C + c, D - c), o);
        v_store_n(y + c, o / sum, D - c);
    }
}

#undef BLOCK
#undef ALIGNED

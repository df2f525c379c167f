/*
 * Causal attention in blocks of queries and keys; the matrix of weights never exists as a whole. Compiled once per type of values.
 * Source: Dao et al., FlashAttention, arXiv 2205.14135, algorithms 1 and 4: an online softmax whose running maximum rescales what was
 * added before; the backward pass makes the weights again from the log of the sum of exponentials.
 *
 * Products are those of product.h, so operands lie in words: as *rows*, an operand's inner side along the row, or as *pairs*, where
 * word (k / V_PAIR, j) holds what rows k, k + 1 have in column j. With words of one float the two are the same.
 * Letters: Q queries or K keys of a block (fewer in the last), i query, j key, c channel, P padded channels, W words of a padded row.
 */

#define BLOCK SGC_ATTENTION_BLOCK
#define VECTORS (BLOCK / V_N)
#define ALIGNED __attribute__((aligned(64)))
#define WORDS(n) (((n) + V_PAIR - 1) / V_PAIR)

/* n rows of D values, `stride` apart, as rows of words. The padding is zero. */
static void TYPED(pack_rows)(float *out, const VALUE *in, int64_t n, int64_t stride, int64_t D, int64_t P)
{
    for (int64_t i = 0; i < n; i++, in += stride, out += P / V_PAIR) {
#if V_PAIR == 2
        memcpy(out, in, (size_t)D * sizeof(*in));
        memset((char *)out + (size_t)D * sizeof(*in), 0, (size_t)(P - D) * sizeof(*in));
#else
        for (int64_t c = 0; c < P; c += V_N) v_store(out + c, c < D ? V_GET(in + c, D - c) : v_set(0));
#endif
    }
}

/* The same as pairs; a last row without a partner gets one of zeros. */
static void TYPED(pack_pairs)(float *out, const VALUE *in, int64_t n, int64_t stride, int64_t D, int64_t P)
{
#if V_PAIR == 2
    for (int64_t i = 0; i < n; i += 2, in += 2 * stride, out += P)
        for (int64_t c = 0; c < P; c += V_N) {
            vf zero = v_set(0), first = c < D ? V_GET(in + c, D - c) : zero, second = c < D && i + 1 < n ? V_GET(in + stride + c, D - c) : zero;
            v_store(out + c, (vf)((vu)first >> 16 | (vu)second));
        }
#else
    TYPED(pack_rows)(out, in, n, stride, D, P);
#endif
}

static void TYPED(unpack)(VALUE *out, const float *in, int64_t n, int64_t stride, int64_t D, int64_t P)
{
    for (int64_t i = 0; i < n; i++) V_EACH(c, D, V_PUT(out + i * stride + c, v_load(in + i * P + c), k));
}

/* K rows of D values as columns: pairs of words [W, BLOCK]; columns from K on are zero. rows: scratch for BLOCK rows */
static void TYPED(pack_columns)(float *out, float *rows, const VALUE *in, int64_t K, int64_t stride, int64_t D, int64_t P)
{
    TYPED(pack_rows)(rows, in, K, stride, D, P);
    transpose(out, BLOCK, rows, K, P / V_PAIR);
}

/* Dropout factors of the weights of query i and keys j0 .. j0 + BLOCK - 1. */
static const float *TYPED(keep_row)(const sgc_attention_head *a, int64_t i, int64_t j0, float buffer[2 * BLOCK + 4])
{
    int64_t element = a->first_element + i * a->T + j0, skip = element % 4;
    for (int64_t n = 0; n < BLOCK + skip; n += 4 * V_N)
        v_keep_factors(buffer + n, *a->drop->key, a->drop->stream, a->sample, (uint64_t)(element + n) / 4, a->threshold, a->keep_scale);
    return buffer + skip;
}

/* Vectors of scores that are worked on together, so that their exponentials need not wait for each other. */
enum { TYPED(GROUP) = VECTORS < 4 ? VECTORS : 4 };
#define GROUP TYPED(GROUP)

/* In a block on the diagonal, query i sees keys up to i: the scores of others are masked, and their gradients (NULL: none) set to zero, in the
 * groups that it needs. Returns the number of vectors in these. */
V_INLINE int TYPED(mask_row)(bool diagonal, int64_t i, float *s, float *ds)
{
    if (!diagonal) return VECTORS;
    const int n_vectors = (int)(i / V_N + GROUP) / GROUP * GROUP;
    for (int j = (int)(i / V_N); j < n_vectors; j++) {
        vi seen = (vi){V_LANES} + (int32_t)(j * V_N) <= (int32_t)i;
        v_store(s + j * V_N, v_select(seen, v_load(s + j * V_N), v_set(-INFINITY)));
        if (ds) v_store(ds + j * V_N, v_select(seen, v_load(ds + j * V_N), v_set(0)));
    }
    return n_vectors;
}

/* Weights are powers of 2 where that is quicker, else of e. */
#if V_BYTES == 64
#define EXPONENT_OF_E 1.44269504f
#define POWER(x) v_exp2(x)
#else
#define EXPONENT_OF_E 1.0f
#define POWER(x) v_exp(x)
#endif
#define HEADROOM 8 /* weights may grow to e^8 before what was added is rescaled: it seldom has to be */

/* The scores of a query in n_vectors become weights relative to `max`; the sum, this maximum and what was summed up of the output follow. */
V_INLINE void TYPED(softmax_row)(const int n_vectors, const float *scores, float *weights, float scale, float *max, float *sum, float *o, int64_t P,
                                 const float *kept)
{
    vf largest = v_set(-INFINITY), part = {0};
    for (int first = 0; first < n_vectors; first += GROUP)
        V_UNROLL for (int j = first; j < first + GROUP; j++) largest = V_MAX(largest, v_load(scores + j * V_N));
    float m = v_max_of(largest) * scale;
    if (!(m <= *max + HEADROOM)) { /* what was added before is rescaled */
        if (*sum != 0) {
            vf factor = v_exp(v_set(*max - m));
            *sum *= factor[0];
            for (int64_t c = 0; c < P; c += V_N) v_store(o + c, v_load(o + c) * factor);
        }
        *max = m;
    }
    scale *= EXPONENT_OF_E;
    vf shift = v_set(-*max * EXPONENT_OF_E);
    for (int first = 0; first < n_vectors; first += GROUP)
        V_UNROLL for (int j = first; j < first + GROUP; j++) {
            vf e = POWER(V_FMA(v_load(scores + j * V_N), v_set(scale), shift));
            part += e;
            put_row(weights, j, kept ? e * v_load(kept + j * V_N) : e);
        }
    *sum += v_sum(part);
}

/* One query block against all keys up to it. kt: all keys, as columns block by block; v: all values, as pairs. */
static void TYPED(forward_block)(const sgc_attention_head *a, int64_t first, VALUE *y, float *lse, const float *kt, const float *v, float *q, float *o)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, W = P / V_PAIR, Q = T - first < BLOCK ? T - first : BLOCK;
    const float scale = (float)(1 / sqrt((double)D));
    ALIGNED float s[BLOCK * BLOCK], keep[2 * BLOCK + 4];
    float max[BLOCK], sum[BLOCK];
    TYPED(pack_rows)(q, (const VALUE *)a->qkv + first * 3 * C, Q, 3 * C, D, P);
    memset(o, 0, (size_t)(Q * P) * sizeof(*o));
    for (int64_t i = 0; i < Q; i++) {
        max[i] = -INFINITY;
        sum[i] = 0;
    }
    for (int64_t j0 = 0; j0 <= first; j0 += BLOCK) {
        const bool diagonal = j0 == first;
        const int64_t K = T - j0 < BLOCK ? T - j0 : BLOCK;
        product(diagonal ? COLUMNS_UP_TO_ROW : WHOLE, false, s, BLOCK, q, W, 1, kt + j0 * W, BLOCK, Q, BLOCK, WORDS(D));
        for (int64_t i = 0; i < Q; i++) {
            const float *kept = a->drop ? TYPED(keep_row)(a, first + i, j0, keep) : NULL;
            const int n_vectors = TYPED(mask_row)(diagonal, i, s + i * BLOCK, NULL);
            TYPED(softmax_row)(n_vectors, s + i * BLOCK, s + i * WORDS(BLOCK), scale, &max[i], &sum[i], o + i * P, P, kept);
        }
        product(diagonal ? TERMS_UP_TO_ROW : WHOLE, true, o, P, s, WORDS(BLOCK), 1, v + j0 / V_PAIR * P, P, Q, P, WORDS(K));
    }
    for (int64_t i = 0; i < Q; i++) {
        float factor = 1 / sum[i];
        for (int64_t c = 0; c < P; c += V_N) v_store(o + i * P + c, v_load(o + i * P + c) * factor);
        lse[first + i] = (float)(max[i] + log((double)sum[i]));
    }
    TYPED(unpack)(y + first * C, o, Q, C, D, P);
}

static void TYPED(attention_forward)(const sgc_attention_head *a, void *y, float *lse)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, T_padded = (T + BLOCK - 1) / BLOCK * BLOCK;
    const VALUE *k = (const VALUE *)a->qkv + C;
    float *kt = a->scratch, *v = kt + T_padded * P, *q = v + T_padded * P, *o = q + BLOCK * P;
    for (int64_t j = 0; j < T; j += BLOCK) TYPED(pack_columns)(kt + j * (P / V_PAIR), q, k + j * 3 * C, T - j < BLOCK ? T - j : BLOCK, 3 * C, D, P);
    TYPED(pack_pairs)(v, k + C, T, 3 * C, D, P);
    for (int64_t i = a->slice * BLOCK; i < T; i += a->n_slices * BLOCK) TYPED(forward_block)(a, i, y, lse, kt, v, q, o);
}

/* What the backward pass holds of one head. */
typedef struct TYPED(backward) {
    const sgc_attention_head *a;
    const float *lse;
    float *q_rows, *dy_rows;            /* [T, W]                                    */
    float *q_pairs, *dy_pairs, *k_pairs; /* [WORDS(T), P]                             */
    float *dq;                          /* [T, P]                                    */
    float *delta;                       /* [T]: mean gradient of the weights of a row */
    float *kt, *vt;                     /* [W, BLOCK] of the key block at hand       */
    float *dk, *dv;                     /* [BLOCK, P] of the key block at hand       */
} TYPED(backward);

static void TYPED(backward_keys)(const TYPED(backward) *w, int64_t j0)
{
    const sgc_attention_head *a = w->a;
    const VALUE *k = (const VALUE *)a->qkv + a->C + j0 * 3 * a->C;
    int64_t K = a->T - j0 < BLOCK ? a->T - j0 : BLOCK;
    TYPED(pack_columns)(w->kt, w->dk, k, K, 3 * a->C, a->D, a->D_padded); /* dk is not in use yet */
    TYPED(pack_columns)(w->vt, w->dk, k + a->C, K, 3 * a->C, a->D, a->D_padded);
}

/* s: scores of queries i .. i + V_PAIR - 1 of a block of Q become their weights as pairs, and ds: gradients of the weights become those of the
 * scores, as pairs and as rows. */
V_INLINE void TYPED(backward_scores)(const TYPED(backward) *w, const bool dropping, int64_t i0, int64_t j0, int64_t i, int64_t Q, float *s, float *ds,
                                     float *ds_rows)
{
    const sgc_attention_head *a = w->a;
    const float scale = (float)(1 / sqrt((double)a->D));
    float keep[V_PAIR][2 * BLOCK + 4];
    const float *kept[V_PAIR];
    vf lse[V_PAIR], delta[V_PAIR];
    int n_vectors = 0;
    for (int r = 0; r < V_PAIR; r++) {
        const bool is_there = i + r < Q;
        if (!is_there) { /* a last row without a partner gets one of zeros: exp(-inf) */
            memset(s + Q * BLOCK, 0, BLOCK * sizeof(*s));
            memset(ds + Q * BLOCK, 0, BLOCK * sizeof(*ds));
        }
        n_vectors = TYPED(mask_row)(i0 == j0, i + r, s + (i + r) * BLOCK, ds + (i + r) * BLOCK);
        lse[r] = v_set(is_there ? -w->lse[i0 + i + r] * EXPONENT_OF_E : -INFINITY);
        delta[r] = v_set(is_there ? -w->delta[i0 + i + r] : 0);
        kept[r] = dropping ? TYPED(keep_row)(a, i0 + i + r, j0, keep[r]) : NULL;
    }
    for (int first = 0; first < n_vectors; first += GROUP)
        V_UNROLL for (int j = first; j < first + GROUP; j++) {
            vf weight[V_PAIR], dscore[V_PAIR];
            V_UNROLL for (int r = 0; r < V_PAIR; r++) {
                vf score = v_load(s + (i + r) * BLOCK + j * V_N), dweight = v_load(ds + (i + r) * BLOCK + j * V_N);
                weight[r] = POWER(V_FMA(score, v_set(scale * EXPONENT_OF_E), lse[r]));
                dscore[r] = weight[r] * scale * (dropping ? V_FMA(dweight, v_load(kept[r] + j * V_N), delta[r]) : dweight + delta[r]);
                if (dropping) weight[r] *= v_load(kept[r] + j * V_N);
            }
            put_pair(s + i / V_PAIR * BLOCK, j, weight);
            put_pair(ds + i / V_PAIR * BLOCK, j, dscore);
            V_UNROLL for (int r = 0; r < V_PAIR; r++) put_row(ds_rows + (i + r) * WORDS(BLOCK), j, dscore[r]);
        }
}

static void TYPED(backward_block)(const TYPED(backward) *w, int64_t i0, int64_t j0, bool dq, bool dkv)
{
    const sgc_attention_head *a = w->a;
    const int64_t T = a->T, D = a->D, P = a->D_padded, W = P / V_PAIR, Q = T - i0 < BLOCK ? T - i0 : BLOCK, K = T - j0 < BLOCK ? T - j0 : BLOCK;
    const bool diagonal = i0 == j0;
    ALIGNED float s[BLOCK * BLOCK], ds[BLOCK * BLOCK], rows[V_PAIR == 1 ? 1 : BLOCK * BLOCK / V_PAIR], *ds_rows = V_PAIR == 1 ? ds : rows;
    product(diagonal ? COLUMNS_UP_TO_ROW : WHOLE, false, s, BLOCK, w->q_rows + i0 * W, W, 1, w->kt, BLOCK, Q, BLOCK, WORDS(D));
    product(diagonal ? COLUMNS_UP_TO_ROW : WHOLE, false, ds, BLOCK, w->dy_rows + i0 * W, W, 1, w->vt, BLOCK, Q, BLOCK, WORDS(D));
    for (int64_t i = 0; i < Q; i += V_PAIR) {
        if (a->drop) TYPED(backward_scores)(w, true, i0, j0, i, Q, s, ds, ds_rows);
        else TYPED(backward_scores)(w, false, i0, j0, i, Q, s, ds, ds_rows);
    }
    if (dkv) {
        product(diagonal ? TERMS_FROM_ROW : WHOLE, true, w->dv, P, s, 1, BLOCK, w->dy_pairs + i0 / V_PAIR * P, P, K, P, WORDS(Q));
        product(diagonal ? TERMS_FROM_ROW : WHOLE, true, w->dk, P, ds, 1, BLOCK, w->q_pairs + i0 / V_PAIR * P, P, K, P, WORDS(Q));
    }
    if (dq)
        product(diagonal ? TERMS_UP_TO_ROW : WHOLE, true, w->dq + i0 * P, P, ds_rows, WORDS(BLOCK), 1, w->k_pairs + j0 / V_PAIR * P, P, Q, P, WORDS(K));
}

/* dq sums over key blocks and dk, dv over query blocks in order, in either way of going through the blocks. */
static void TYPED(attention_backward)(const sgc_attention_head *a, void *dqkv_, const void *dy_, const void *y_, const float *lse, bool dq, bool dkv)
{
    const int64_t T = a->T, C = a->C, D = a->D, P = a->D_padded, T_padded = (T + BLOCK - 1) / BLOCK * BLOCK, n = T_padded * P / V_PAIR;
    VALUE *dqkv = dqkv_;
    const VALUE *qkv = a->qkv, *dy = dy_, *y = y_;
    TYPED(backward) w = {.a = a, .lse = lse, .dq = a->scratch};
    w.kt = w.dq + T_padded * P;
    w.vt = w.kt + BLOCK * P;
    w.dk = w.vt + BLOCK * P;
    w.dv = w.dk + BLOCK * P;
    w.delta = w.dv + BLOCK * P;
    w.k_pairs = w.delta + T_padded;
    w.q_rows = w.k_pairs + n;
    w.dy_rows = w.q_rows + n;
    TYPED(pack_pairs)(w.k_pairs, qkv + C, T, 3 * C, D, P);
    TYPED(pack_rows)(w.q_rows, qkv, T, 3 * C, D, P);
    TYPED(pack_rows)(w.dy_rows, dy, T, C, D, P);
    w.q_pairs = V_PAIR == 1 ? w.q_rows : w.dy_rows + n;
    w.dy_pairs = V_PAIR == 1 ? w.dy_rows : w.q_pairs + n;
    if (V_PAIR == 2) {
        TYPED(pack_pairs)(w.q_pairs, qkv, T, 3 * C, D, P);
        TYPED(pack_pairs)(w.dy_pairs, dy, T, C, D, P);
    }
    for (int64_t i = 0; i < T; i++) {
        vf sum = {0};
        V_EACH(c, D, sum = V_FMA(V_GET(dy + i * C + c, k), V_GET(y + i * C + c, k), sum));
        w.delta[i] = v_sum(sum);
    }
    if (dq) memset(w.dq, 0, (size_t)(T * P) * sizeof(*w.dq));
    if (dkv) {
        for (int64_t j = a->slice * BLOCK; j < T; j += a->n_slices * BLOCK) {
            TYPED(backward_keys)(&w, j);
            memset(w.dk, 0, (size_t)(BLOCK * P) * sizeof(*w.dk));
            memset(w.dv, 0, (size_t)(BLOCK * P) * sizeof(*w.dv));
            for (int64_t i = j; i < T; i += BLOCK) TYPED(backward_block)(&w, i, j, dq, true);
            TYPED(unpack)(dqkv + C + j * 3 * C, w.dk, T - j < BLOCK ? T - j : BLOCK, 3 * C, D, P);
            TYPED(unpack)(dqkv + 2 * C + j * 3 * C, w.dv, T - j < BLOCK ? T - j : BLOCK, 3 * C, D, P);
        }
        if (dq) TYPED(unpack)(dqkv, w.dq, T, 3 * C, D, P);
        return;
    }
    for (int64_t i = a->slice * BLOCK; i < T; i += a->n_slices * BLOCK) {
        for (int64_t j = 0; j <= i; j += BLOCK) {
            TYPED(backward_keys)(&w, j);
            TYPED(backward_block)(&w, i, j, true, false);
        }
        TYPED(unpack)(dqkv + i * 3 * C, w.dq + i * P, T - i < BLOCK ? T - i : BLOCK, 3 * C, D, P);
    }
}

static void TYPED(attend)(void *y_, const void *q_, const void *k_, const void *v_, float *weights, int64_t n, int64_t C, int64_t D)
{
    VALUE *y = y_;
    const VALUE *q = q_, *k = k_, *v = v_;
    const float scale = (float)(1 / sqrt((double)D));
    float max = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        vf sum = {0};
        for (int64_t c = 0; c < D; c += V_N) sum = V_FMA(V_GET(q + c, D - c), V_GET(k + j * C + c, D - c), sum);
        weights[j] = v_sum(sum) * scale;
        if (!(weights[j] <= max)) max = weights[j];
    }
    vf part = {0};
    for (int64_t j = 0; j < n; j += V_N) {
        vf e = v_exp(v_load_n(weights + j, n - j) - max);
        e = v_first_n(e, n - j);
        part += e;
        v_store_n(weights + j, e, n - j);
    }
    float sum = v_sum(part);
    for (int64_t c = 0; c < D; c += V_N) {
        vf o = {0};
        for (int64_t j = 0; j < n; j++) o = V_FMA(v_set(weights[j]), V_GET(v + j * C + c, D - c), o);
        V_PUT(y + c, o / sum, D - c);
    }
}

#undef BLOCK
#undef VECTORS
#undef ALIGNED
#undef WORDS
#undef GROUP
#undef EXPONENT_OF_E
#undef POWER
#undef HEADROOM

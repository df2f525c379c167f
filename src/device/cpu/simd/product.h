/*
 * Small matrix products, for attention. Operands are words of 32 bits: a float each, or where V_PAIR is 2 a pair of bf16 that
 * lie next to each other along the inner side. K counts words.
 */

#if V_PAIR == 2
#define V_DOT(a, b, c) ((vf)_mm512_dpbf16_ps((__m512)(c), (__m512bh)(a), (__m512bh)(b)))
#else
#define V_DOT(a, b, c) V_FMA(a, b, c)
#endif

/* What of a triangular matrix is needed: row i of the result up to column i; or only terms up to, or from, number i count. */
typedef enum product_part { WHOLE, COLUMNS_UP_TO_ROW, TERMS_UP_TO_ROW, TERMS_FROM_ROW } product_part;

V_INLINE vf v_set_word(const float *p)
{
    uint32_t bits;
    memcpy(&bits, p, sizeof(bits));
    return (vf)(bits - (vu){0});
}

/* c [n_rows, n_vectors * V_N] (+)= the terms k0 .. k1 - 1 of a b; a's word (i, k) is a[i * a_row + k * a_column]. */
V_INLINE void product_block(const int n_rows, const int n_vectors, bool accumulate, float *c, int64_t c_row, const float *a, int64_t a_row,
                            int64_t a_column, const float *b, int64_t b_row, int64_t k0, int64_t k1)
{
    vf sum[4][4];
    V_UNROLL for (int i = 0; i < n_rows; i++)
        V_UNROLL for (int j = 0; j < n_vectors; j++) sum[i][j] = accumulate ? v_load(c + i * c_row + j * V_N) : v_set(0);
    for (int64_t k = k0; k < k1; k++) {
        vf row[4];
        V_UNROLL for (int j = 0; j < n_vectors; j++) row[j] = v_load(b + k * b_row + j * V_N);
        V_UNROLL for (int i = 0; i < n_rows; i++) {
            vf factor = v_set_word(a + i * a_row + k * a_column);
            V_UNROLL for (int j = 0; j < n_vectors; j++) sum[i][j] = V_DOT(factor, row[j], sum[i][j]);
        }
    }
    V_UNROLL for (int i = 0; i < n_rows; i++)
        V_UNROLL for (int j = 0; j < n_vectors; j++) v_store(c + i * c_row + j * V_N, sum[i][j]);
}

#define PRODUCT_BLOCK(n_rows, n_vectors)                                                                                               \
    product_block(n_rows, n_vectors, accumulate, c + i * c_row + j, c_row, a + i * a_row, a_row, a_column, b + j, b_row, k0, k1)

/* The sums of an element always run over k in order, whatever block it falls into. N is a multiple of V_N. */
static void product(product_part part, bool accumulate, float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_column, const float *b,
                    int64_t b_row, int64_t M, int64_t N, int64_t K)
{
    enum { WIDE = V_BYTES == 64 ? 4 : 2 }; /* as many sums as the registers hold */
    for (int64_t i = 0, n_rows; i < M; i += n_rows) {
        n_rows = i + 4 <= M ? 4 : 1;
        int64_t k0 = part == TERMS_FROM_ROW ? i / V_PAIR : 0, k1 = K, n = N;
        if (part == TERMS_UP_TO_ROW && (i + n_rows + V_PAIR - 1) / V_PAIR < K) k1 = (i + n_rows + V_PAIR - 1) / V_PAIR;
        if (part == COLUMNS_UP_TO_ROW && (i + n_rows + V_N - 1) / V_N * V_N < N) n = (i + n_rows + V_N - 1) / V_N * V_N;
        int64_t j = 0;
        for (; j + WIDE * V_N <= n; j += WIDE * V_N) {
            if (n_rows == 4) PRODUCT_BLOCK(4, WIDE);
            else PRODUCT_BLOCK(1, WIDE);
        }
        for (; j < n; j += V_N) {
            if (n_rows == 4) PRODUCT_BLOCK(4, 1);
            else PRODUCT_BLOCK(1, 1);
        }
    }
}

/* Vector j of a row of an operand, and of V_PAIR rows as pairs. */
V_INLINE void put_row(float *words, int j, vf v)
{
#if V_PAIR == 2
    __m256bh narrow = _mm512_cvtneps_pbh((__m512)v); /* between operands of V_DOT, which takes denormals for zeros itself */
    memcpy((char *)words + j * (int)sizeof(narrow), &narrow, sizeof(narrow));
#else
    v_store(words + j * V_N, v);
#endif
}

V_INLINE void put_pair(float *words, int j, const vf v[V_PAIR])
{
#if V_PAIR == 2
    vu first = (vu)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v[0]));
    vu second = (vu)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)v[1]));
    v_store(words + j * V_N, (vf)(first | second << 16));
#else
    v_store(words + j * V_N, v[0]);
#endif
}

/* V_N rows of V_N words become columns: as many perfect shuffles as it takes halvings to get from V_N to one. */
V_INLINE void v_transpose(vf row[V_N])
{
    V_UNROLL for (int n = 1; n < V_N; n *= 2) {
        vf zipped[V_N];
        V_UNROLL for (int i = 0; i < V_N / 2; i++) {
            zipped[2 * i] = V_ZIP_LOW(row[i], row[i + V_N / 2]);
            zipped[2 * i + 1] = V_ZIP_HIGH(row[i], row[i + V_N / 2]);
        }
        V_UNROLL for (int i = 0; i < V_N; i++) row[i] = zipped[i];
    }
}

/* n rows of n_words (a multiple of V_N) become columns of rows that are out_row apart, up to a multiple of V_N; those from n on are zero. */
static void transpose(float *out, int64_t out_row, const float *in, int64_t n, int64_t n_words)
{
    for (int64_t j = 0; j < out_row; j += V_N)
        for (int64_t c = 0; c < n_words; c += V_N) {
            vf tile[V_N];
            V_UNROLL for (int i = 0; i < V_N; i++) tile[i] = j + i < n ? v_load(in + (j + i) * n_words + c) : v_set(0);
            v_transpose(tile);
            V_UNROLL for (int i = 0; i < V_N; i++) v_store(out + (c + i) * out_row + j, tile[i]);
        }
}

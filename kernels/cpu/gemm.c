/* gemm.c -- register tiles and panel packing (see gemm.h).
 *
 * avx512: 14 rows by 32 columns, 28 accumulators, two panel vectors and one broadcast fill the 32
 * registers.  avx2: 6 by 16.  Plain: one row at a time.  Only the tiles differ; packing is
 * common. */
#include "gemm.h"
#include "tables.h"

/* ---- tiles ----------------------------------------------------------------------------------- */
#if defined(FT_ISA_avx512)
enum { TILE = 14 };

/* C = (fresh: 0, else C) + A panel for R rows, in the order that gemm.h states; R, t and fresh are
 * compile-time constants in every caller. */
__attribute__((always_inline)) static inline void tile_rows(float *c, int64_t ld, gemm_a a,
                                                            const char *panel, int64_t steps,
                                                            ft_dtype t, bool fresh, const int R)
{
    __m512 acc[TILE][2];
    const char *p0 = a.a, *p1 = a.a + 5 * a.row, *p2 = a.a + 10 * a.row;
    const int64_t row = a.row;
    const bool zero = fresh || t == FT_F32, add = t == FT_F32 && !fresh;
#pragma GCC unroll 14
    for (int m = 0; m < R; m++) {
        acc[m][0] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(c + m * ld);
        acc[m][1] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(c + m * ld + 16);
    }
    for (int64_t s = 0; s < steps; s++, panel += 128, p0 += a.step, p1 += a.step, p2 += a.step) {
        __m512 b0 = _mm512_load_ps(panel), b1 = _mm512_load_ps(panel + 64);
#pragma GCC unroll 14
        for (int m = 0; m < R; m++) {
            const char *p = (m < 5    ? p0
                             : m < 10 ? p1
                                      : p2) +
                            (m < 5    ? m
                             : m < 10 ? m - 5
                                      : m - 10) *
                                row;
            float word; /* one float, or a pair of bf16 */
            memcpy(&word, p, 4);
            __m512 x = _mm512_set1_ps(word);
            if (t == FT_BF16) {
                acc[m][0] = _mm512_dpbf16_ps(acc[m][0], (__m512bh)x, (__m512bh)b0);
                acc[m][1] = _mm512_dpbf16_ps(acc[m][1], (__m512bh)x, (__m512bh)b1);
            } else {
                acc[m][0] = _mm512_fmadd_ps(x, b0, acc[m][0]);
                acc[m][1] = _mm512_fmadd_ps(x, b1, acc[m][1]);
            }
        }
    }
#pragma GCC unroll 14
    for (int m = 0; m < R; m++) {
        if (add) {
            acc[m][0] = _mm512_add_ps(_mm512_loadu_ps(c + m * ld), acc[m][0]);
            acc[m][1] = _mm512_add_ps(_mm512_loadu_ps(c + m * ld + 16), acc[m][1]);
        }
        _mm512_storeu_ps(c + m * ld, acc[m][0]);
        _mm512_storeu_ps(c + m * ld + 16, acc[m][1]);
    }
}

__attribute__((always_inline)) static inline void tile_one(float *c, int64_t ld, gemm_a a,
                                                           const char *panel, int64_t m,
                                                           int64_t steps, ft_dtype t, bool fresh)
{
    switch (m) { /* a full tile first: nearly all are */
    case 14: tile_rows(c, ld, a, panel, steps, t, fresh, 14); break;
    case 8: tile_rows(c, ld, a, panel, steps, t, fresh, 8); break;
    case 4: tile_rows(c, ld, a, panel, steps, t, fresh, 4); break;
    case 2: tile_rows(c, ld, a, panel, steps, t, fresh, 2); break;
    default: tile_rows(c, ld, a, panel, steps, t, fresh, 1); break;
    }
}

static int64_t tile_size(int64_t left)
{
    return left >= 14 ? 14 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

#elif defined(FT_ISA_avx2)
enum { TILE = 6 };

static inline __m256 low_half(__m256i w) { return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16)); }
static inline __m256 high_half(__m256i w)
{
    return _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32((int)0xFFFF0000u)));
}

/* The same for R rows by 8 columns; vdpbf16ps as two fused multiply-adds. */
__attribute__((always_inline)) static inline void tile_rows(float *c, int64_t ld, gemm_a a,
                                                            const char *panel, int64_t steps,
                                                            ft_dtype t, bool fresh, const int R)
{
    __m256 acc[TILE];
    const bool zero = fresh || t == FT_F32, add = t == FT_F32 && !fresh;
#pragma GCC unroll 6
    for (int m = 0; m < R; m++) acc[m] = zero ? _mm256_setzero_ps() : _mm256_loadu_ps(c + m * ld);
    for (int64_t s = 0; s < steps; s++, panel += 128) {
        __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)panel);
        __m256 lo = low_half(b), hi = high_half(b), whole = _mm256_castsi256_ps(b);
#pragma GCC unroll 6
        for (int m = 0; m < R; m++) {
            int32_t word;
            memcpy(&word, a.a + m * a.row + s * a.step, 4);
            __m256i x = _mm256_set1_epi32(word);
            if (t == FT_BF16)
                acc[m] = _mm256_fmadd_ps(low_half(x), lo,
                                         _mm256_fmadd_ps(high_half(x), hi, acc[m]));
            else acc[m] = _mm256_fmadd_ps(_mm256_castsi256_ps(x), whole, acc[m]);
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < R; m++)
        _mm256_storeu_ps(c + m * ld,
                         add ? _mm256_add_ps(_mm256_loadu_ps(c + m * ld), acc[m]) : acc[m]);
}

__attribute__((always_inline)) static inline void tile_one(float *c, int64_t ld, gemm_a a,
                                                           const char *panel, int64_t m,
                                                           int64_t steps, ft_dtype t, bool fresh)
{
    for (int j = 0; j < GEMM_N; j += 8, c += 8, panel += 32) {
        if (m == 6) tile_rows(c, ld, a, panel, steps, t, fresh, 6);
        else if (m == 4) tile_rows(c, ld, a, panel, steps, t, fresh, 4);
        else if (m == 2) tile_rows(c, ld, a, panel, steps, t, fresh, 2);
        else tile_rows(c, ld, a, panel, steps, t, fresh, 1);
    }
}

static int64_t tile_size(int64_t left) { return left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

#else
/* One row: the definition of what the others do. */
static void tile_one(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m, int64_t steps,
                     ft_dtype t, bool fresh)
{
    (void)ld, (void)m;
    float acc[GEMM_N] = { 0 };
    if (!fresh && t == FT_BF16) memcpy(acc, c, sizeof acc);
    for (int64_t s = 0; s < steps; s++, panel += 128) {
        uint16_t pair[2], b[2];
        float x, w;
        memcpy(pair, a.a + s * a.step, 4);
        memcpy(&x, pair, 4);
        for (int j = 0; j < GEMM_N; j++) {
            memcpy(b, panel + 4 * j, 4);
            memcpy(&w, b, 4);
            if (t == FT_BF16)
                acc[j] = fmaf(bf16_get(pair[0]), bf16_get(b[0]),
                              fmaf(bf16_get(pair[1]), bf16_get(b[1]), acc[j]));
            else acc[j] = fmaf(x, w, acc[j]);
        }
    }
    for (int j = 0; j < GEMM_N; j++) c[j] = t == FT_BF16 || fresh ? acc[j] : c[j] + acc[j];
}

static int64_t tile_size(int64_t left) { return left > 0; }
#endif

__attribute__((always_inline)) static inline void tiles(float *c, int64_t ld, gemm_a a,
                                                        const void *panel, int64_t m, int64_t steps,
                                                        ft_dtype t, bool fresh)
{
    for (int64_t i = 0, n; i < m; i += n) {
        n = tile_size(m - i);
        tile_one(c + i * ld, ld, (gemm_a){ a.a + i * a.row, a.row, a.step }, (const char *)panel, n,
                 steps, t, fresh);
    }
}

/* fp32 in runs of GEMM_RUN steps, each a chain of its own. */
static void runs_f32(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m, int64_t steps,
                     bool fresh)
{
    for (int64_t s = 0; s == 0 || s < steps; s += GEMM_RUN, fresh = false) {
        int64_t n = steps - s < GEMM_RUN ? steps - s : GEMM_RUN;
        tiles(c, ld, (gemm_a){ a.a + s * a.step, a.row, a.step }, panel + s * 128, m, n, FT_F32,
              fresh);
    }
}

void FT_NAME(gemm_tile)(float *c, int64_t ld, gemm_a a, const void *panel, int64_t m, int64_t steps,
                        ft_dtype t)
{
    if (t == FT_BF16) tiles(c, ld, a, panel, m, steps, FT_BF16, false);
    else runs_f32(c, ld, a, (const char *)panel, m, steps, false);
}

void FT_NAME(gemm_first)(float *c, int64_t ld, gemm_a a, const void *panel, int64_t m,
                         int64_t steps, ft_dtype t)
{
    if (t == FT_BF16) tiles(c, ld, a, panel, m, steps, FT_BF16, true);
    else runs_f32(c, ld, a, (const char *)panel, m, steps, true);
}

/* ---- packing --------------------------------------------------------------------------------- */

void FT_NAME(gemm_fetch)(void *dst, int64_t ld, const ft_arg *w, int64_t r0, int64_t nr, int64_t c0,
                         int64_t nc, ft_dtype t)
{
    if (w->packed) {
        w->packed->tile(w->packed, r0, nr, c0, nc, t, dst, ld);
        return;
    }
    for (int64_t r = 0; r < nr; r++) {
        int64_t at = (r0 + r) * w->ld + c0;
        void *to = (char *)dst + r * ld * (t == FT_BF16 ? 2 : 4);
        if (w->dtype == t) {
            memcpy(to, (const char *)w->data + at * (t == FT_BF16 ? 2 : 4),
                   (size_t)nc * (t == FT_BF16 ? 2 : 4));
        } else if (w->dtype == FT_F16) {
            for (int64_t i = 0; i < nc; i++)
                v_put_n(to, t, i, v_set(f16_get(((const uint16_t *)w->data)[at + i])), 1);
        } else {
            for (int64_t i = 0; i < nc; i += 16)
                v_out(to, t, i, nc - i, v_in(w->data, w->dtype, at + i, nc - i));
        }
    }
}

/* panel[s][j] = word s of row j, for 32 rows of `row` bytes of which n are there. */
static void transpose_words(char *panel, const char *rows, int64_t row, int64_t n, int64_t steps)
{
#if defined(FT_ISA_avx512)
    for (int64_t s = 0; s < steps; s += 16) {
        __mmask16 words = steps - s < 16 ? (__mmask16)((1u << (steps - s)) - 1u) : 0xFFFF;
        for (int half = 0; half < 2; half++) {
            const char *p = rows + half * 16 * row + s * 4;
            __m512 a[16], b[16];
            for (int i = 0; i < 16; i++)
                a[i] = half * 16 + i < n ? _mm512_maskz_loadu_ps(words, p + i * row)
                                         : _mm512_setzero_ps();
            for (int i = 0; i < 16; i += 2) { /* pairs of rows, then fours, eights, sixteens */
                b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
                b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
            }
            for (int i = 0; i < 16; i += 4) {
                for (int k = 0; k < 2; k++) {
                    a[i + 2 * k] =
                        _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(b[i + k]),
                                                            _mm512_castps_pd(b[i + 2 + k])));
                    a[i + 2 * k + 1] =
                        _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(b[i + k]),
                                                            _mm512_castps_pd(b[i + 2 + k])));
                }
            }
            /* lanes of 128 bits: column 4 l + i of row group g is in a[4 g + i] */
            for (int i = 0; i < 4; i++) {
                __m512 x = _mm512_shuffle_f32x4(a[i], a[4 + i], 0x88),
                       y = _mm512_shuffle_f32x4(a[i], a[4 + i], 0xDD);
                __m512 z = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0x88),
                       w = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0xDD);
                char *to = panel + (s + i) * 128 + half * 64;
                if (s + i < steps) _mm512_store_ps(to, _mm512_shuffle_f32x4(x, z, 0x88));
                if (s + i + 4 < steps)
                    _mm512_store_ps(to + 4 * 128, _mm512_shuffle_f32x4(y, w, 0x88));
                if (s + i + 8 < steps)
                    _mm512_store_ps(to + 8 * 128, _mm512_shuffle_f32x4(x, z, 0xDD));
                if (s + i + 12 < steps)
                    _mm512_store_ps(to + 12 * 128, _mm512_shuffle_f32x4(y, w, 0xDD));
            }
        }
    }
#else
    for (int64_t s = 0; s < steps; s++) {
        for (int64_t j = 0; j < GEMM_N; j++) {
            if (j < n) memcpy(panel + s * 128 + j * 4, rows + j * row + s * 4, 4);
            else memset(panel + s * 128 + j * 4, 0, 4);
        }
    }
#endif
}

void FT_NAME(gemm_pack_rows)(void *panel, const ft_arg *w, int64_t n0, int64_t k0, int64_t k,
                             ft_dtype t, void *tmp)
{
    int64_t n = w->rows - n0 < GEMM_N ? w->rows - n0 : GEMM_N, size = t == FT_BF16 ? 2 : 4,
            steps = gemm_steps(t, k);
    bool whole = t != FT_BF16 || k % 2 == 0;
    if (!w->packed && w->dtype == t && whole) {
        transpose_words((char *)panel, (const char *)w->data + (n0 * w->ld + k0) * size,
                        w->ld * size, n, steps);
        return;
    }
    int64_t ld = whole ? k : k + 1;
    FT_NAME(gemm_fetch)(tmp, ld, w, n0, n, k0, k, t);
    for (int64_t j = 0; j < n && !whole; j++) ((uint16_t *)tmp)[j * ld + k] = 0;
    transpose_words((char *)panel, (const char *)tmp, ld * size, n, steps);
}

/* panel[s][j] = (rows[2s][j], rows[2s+1][j]) of bf16 rows of 32. */
static void interleave(char *panel, const uint16_t *rows, int64_t ld, int64_t n)
{
    for (int64_t s = 0; s < (n + 1) / 2; s++) {
        const uint16_t *a = rows + 2 * s * ld, *b = 2 * s + 1 < n ? a + ld : NULL;
#if defined(FT_ISA_avx512)
        __m512i x = _mm512_loadu_si512(a), y = b ? _mm512_loadu_si512(b) : _mm512_setzero_si512();
        /* lanes 0 1 2 3 of each */
        __m512i lo = _mm512_unpacklo_epi16(x, y), hi = _mm512_unpackhi_epi16(x, y);
        __m512i p = _mm512_permutex2var_epi64(lo, _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), hi);
        __m512i q = _mm512_permutex2var_epi64(lo, _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4), hi);
        _mm512_store_si512(panel + s * 128, p);
        _mm512_store_si512(panel + s * 128 + 64, q);
#else
        uint16_t *to = (uint16_t *)(void *)(panel + s * 128);
        for (int j = 0; j < GEMM_N; j++) {
            to[2 * j] = a[j];
            to[2 * j + 1] = b ? b[j] : 0;
        }
#endif
    }
}

void FT_NAME(gemm_pack_cols)(void *panel, const ft_arg *w, int64_t n0, int64_t n, int64_t k0,
                             ft_dtype t, void *tmp)
{
    int64_t nc = w->cols - k0 < GEMM_N ? w->cols - k0 : GEMM_N;
    bool direct = !w->packed && w->dtype == t && nc == GEMM_N;
    if (t == FT_BF16 && direct) {
        interleave((char *)panel, (const uint16_t *)w->data + n0 * w->ld + k0, w->ld, n);
        return;
    }
    void *rows = t == FT_BF16 ? tmp : panel; /* fp32 rows are the panel */
    if (nc < GEMM_N) memset(rows, 0, (size_t)n * GEMM_N * (t == FT_BF16 ? 2 : 4));
    FT_NAME(gemm_fetch)(rows, GEMM_N, w, n0, n, k0, nc, t);
    if (t == FT_BF16) interleave((char *)panel, (const uint16_t *)tmp, GEMM_N, n);
}

gemm_a FT_NAME(gemm_pack_left)(void *left, const void *from, int64_t ld, int64_t rows, int64_t nc,
                               ft_dtype t)
{
    const uint16_t *x = (const uint16_t *)from;
    if (t == FT_F32) return (gemm_a){ (const char *)from, 4, ld * 4 };
    for (int64_t s = 0; s < (rows + 1) / 2; s++, x += 2 * ld) {
        uint16_t *to = (uint16_t *)left + s * nc * 2;
        bool last = 2 * s + 1 == rows;
        for (int64_t j = 0; j < nc; j++) {
            to[2 * j] = x[j];
            to[2 * j + 1] = last ? 0 : x[ld + j];
        }
    }
    return (gemm_a){ (const char *)left, 4, nc * 4 };
}

/* ---- self-test ------------------------------------------------------------------------------- */

/* A tile of pseudo-random numbers of very different sizes against the order that gemm.h states. */
bool FT_NAME(gemm_keeps_order)(void)
{
    enum { ROWS = 3, STEPS = 24 };
    _Alignas(64) uint16_t panel[STEPS][GEMM_N][2], a[ROWS][STEPS][2];
    float c[ROWS][GEMM_N], want[ROWS][GEMM_N];
    uint32_t x = 1;
    uint16_t *each[2] = { &panel[0][0][0], &a[0][0][0] };
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < (k ? ROWS : GEMM_N) * STEPS * 2; i++) {
            x = x * 1664525u + 1013904223u;
            each[k][i] = (uint16_t)((x >> 16 & 0x807Fu) | (118u + (x >> 8 & 15u)) << 7);
        }
    }
    memset(c, 0, sizeof c);
    memset(want, 0, sizeof want);
    for (int m = 0; m < ROWS; m++) {
        for (int s = 0; s < STEPS; s++) {
            for (int j = 0; j < GEMM_N; j++) {
                float first = fmaf(bf16_get(a[m][s][1]), bf16_get(panel[s][j][1]), want[m][j]);
                want[m][j] = fmaf(bf16_get(a[m][s][0]), bf16_get(panel[s][j][0]), first);
            }
        }
    }
    FT_NAME(gemm_tile)(&c[0][0], GEMM_N, (gemm_a){ (const char *)a, sizeof a[0], 4 }, panel, ROWS,
        STEPS, FT_BF16);
    return memcmp(c, want, sizeof c) == 0;
}

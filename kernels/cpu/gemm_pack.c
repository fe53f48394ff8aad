/* gemm_pack.c -- the operands of the matrix multiplication, laid out as its tiles read them
 * (gemm.h): panels of the right one, decoded and widened or rounded on the way, and transposed
 * pairs of the left one. */
#include "gemm.h"

/* ---- packing --------------------------------------------------------------------------------- */

enum { AHEAD = 16 }; /* rows */

void FT_NAME(gemm_fetch)(void *dst, int64_t ld, const ft_arg *w, int64_t r0, int64_t nr, int64_t c0,
                         int64_t nc, ft_dtype t)
{
    if (w->packed) {
        w->packed->tile(w->packed, r0, nr, c0, nc, t, dst, ld);
        return;
    }
    int64_t size = w->dtype == FT_F32 ? 4 : 2, row = w->ld * size;
    const char *from = (const char *)w->data + (r0 * w->ld + c0) * size;
    for (int64_t r = 0; r < nr; r++, from += row) {
        /* a piece of a row is too short for the processor to foresee the next */
        if (r + AHEAD < nr) __builtin_prefetch(from + AHEAD * row);
        void *to = (char *)dst + r * ld * (t == FT_BF16 ? 2 : 4);
        if (w->dtype == t) {
            memcpy(to, from, (size_t)(nc * size));
        } else if (w->dtype == FT_F16) {
            for (int64_t i = 0; i < nc; i++)
                v_put_n(to, t, i, v_set(f16_get(((const uint16_t *)(const void *)from)[i])), 1);
        } else {
            for (int64_t i = 0; i < nc; i += 16)
                v_out(to, t, i, nc - i, v_in(from, w->dtype, i, nc - i));
        }
    }
}

#if defined(FT_ISA_avx512)
/* Columns 16 half … of step s: floats, or pairs of bf16. */
static inline void put_words(char *panel, int64_t s, int half, __m512i x, ft_dtype t)
{
    char *to = panel + s * gemm_step_bytes(t) + half * 64;
#if defined(FT_GEMM_FMA)
    if (t == FT_BF16) {
        _mm512_store_si512(to, _mm512_and_si512(x, _mm512_set1_epi32((int)0xFFFF0000u)));
        _mm512_store_si512(to + 128, _mm512_slli_epi32(x, 16));
        return;
    }
#endif
    _mm512_store_si512(to, x);
}
static inline void put_floats(char *panel, int64_t s, int half, __m512 x, ft_dtype t)
{
    put_words(panel, s, half, _mm512_castps_si512(x), t);
}
#endif

/* Step s of the panel: word s of each of 32 rows of `row` bytes, of which n are there. */
__attribute__((always_inline)) static inline void
transpose(char *panel, const char *rows, int64_t row, int64_t n, int64_t steps, ft_dtype t)
{
#if defined(FT_ISA_avx512)
    for (int64_t s = 0; s < steps; s += 16) {
        __mmask16 words = v_mask_most_(steps - s);
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
                int64_t at = s + i;
                if (at < steps) put_floats(panel, at, half, _mm512_shuffle_f32x4(x, z, 0x88), t);
                if (at + 4 < steps)
                    put_floats(panel, at + 4, half, _mm512_shuffle_f32x4(y, w, 0x88), t);
                if (at + 8 < steps)
                    put_floats(panel, at + 8, half, _mm512_shuffle_f32x4(x, z, 0xDD), t);
                if (at + 12 < steps)
                    put_floats(panel, at + 12, half, _mm512_shuffle_f32x4(y, w, 0xDD), t);
            }
        }
    }
#else
    (void)t;
    for (int64_t s = 0; s < steps; s++) {
        for (int64_t j = 0; j < GEMM_N; j++) {
            if (j < n) memcpy(panel + s * 128 + j * 4, rows + j * row + s * 4, 4);
            else memset(panel + s * 128 + j * 4, 0, 4);
        }
    }
#endif
}

static void transpose_words(char *panel, const char *rows, int64_t row, int64_t n, int64_t steps,
                            ft_dtype t)
{
    if (t == FT_BF16) transpose(panel, rows, row, n, steps, FT_BF16);
    else transpose(panel, rows, row, n, steps, FT_F32);
}

void FT_NAME(gemm_pack_rows)(void *panel, const ft_arg *w, int64_t n0, int64_t k0, int64_t k,
                             ft_dtype t, void *tmp)
{
    int64_t n = w->rows - n0 < GEMM_N ? w->rows - n0 : GEMM_N, size = t == FT_BF16 ? 2 : 4,
            steps = gemm_steps(t, k);
    bool whole = t != FT_BF16 || k % 2 == 0;
    if (!w->packed && w->dtype == t && whole) {
        transpose_words((char *)panel, (const char *)w->data + (n0 * w->ld + k0) * size,
                        w->ld * size, n, steps, t);
        return;
    }
    int64_t ld = whole ? k : k + 1;
    FT_NAME(gemm_fetch)(tmp, ld, w, n0, n, k0, k, t);
    for (int64_t j = 0; j < n && !whole; j++) ((uint16_t *)tmp)[j * ld + k] = 0;
    transpose_words((char *)panel, (const char *)tmp, ld * size, n, steps, t);
}

/* Step s of the panel: the pairs (rows[2s][j], rows[2s+1][j]) of bf16 rows of 32. */
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
        put_words(panel, s, 0, p, FT_BF16);
        put_words(panel, s, 1, q, FT_BF16);
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

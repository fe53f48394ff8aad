/* gemm_tile.c -- register tiles: C += A B, in the order that gemm.h states.
 *
 * avx512: gemm_avx512.h.  avx512fma: the same for machines on which vdpbf16ps takes longer than the
 * two fused multiply-adds that it stands for (Intel's, up to Sapphire Rapids at least).
 * avx2: 6 by 8, vdpbf16ps as two fused multiply-adds.  Plain: one row at a time.
 *
 * Checked by test_kernels.c (all variants give the same bytes) and by the self-test below. */
#include "gemm.h"
#include "tables.h"

#if defined(FT_ISA_avx512)
#include "gemm_avx512.h"

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

#if !defined(FT_ISA_avx512)
/* All rows of C with one run of k, panel by panel. */
__attribute__((always_inline)) static inline void one_run(float *c, int64_t ld, gemm_a a, gemm_b b,
                                                          int64_t m, int64_t steps, ft_dtype t,
                                                          bool fresh)
{
    const char *panel = (const char *)b.panel;
    for (int64_t j = 0; j < b.n; j += GEMM_N, panel += b.next) {
        for (int64_t i = 0, n; i < m; i += n) {
            n = tile_size(m - i);
            tile_one(c + i * ld + j, ld, (gemm_a){ a.a + i * a.row, a.row, a.step }, panel, n,
                     steps, t, fresh);
        }
    }
}

static void product_bf16(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                         bool fresh)
{
    one_run(c, ld, a, b, m, steps, FT_BF16, fresh);
}

/* In runs of GEMM_RUN steps, each a chain of its own. */
static void product_f32(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                        bool fresh)
{
    for (int64_t s = 0; s == 0 || s < steps; s += GEMM_RUN, fresh = false) {
        int64_t n = steps - s < GEMM_RUN ? steps - s : GEMM_RUN;
        one_run(c, ld, (gemm_a){ a.a + s * a.step, a.row, a.step },
                (gemm_b){ (const char *)b.panel + s * 128, b.next, b.n }, m, n, FT_F32, fresh);
    }
}
#endif

static void product_of(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                       ft_dtype t, bool fresh)
{
    if (t == FT_BF16) product_bf16(c, ld, a, b, m, steps, fresh);
    else product_f32(c, ld, a, b, m, steps, fresh);
}

void FT_NAME(gemm_tile)(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                        ft_dtype t)
{
    product_of(c, ld, a, b, m, steps, t, false);
}

void FT_NAME(gemm_first)(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                         ft_dtype t)
{
    product_of(c, ld, a, b, m, steps, t, true);
}

/* ---- self-test ------------------------------------------------------------------------------- */

/* A tile of pseudo-random numbers of very different sizes against the order that gemm.h states. */
bool FT_NAME(gemm_keeps_order)(void)
{
    enum { HEIGHT = 7, STEPS = 24, DEPTH = 2 * STEPS };
    _Alignas(64) uint16_t b[DEPTH][GEMM_WIDE], a[HEIGHT][DEPTH], tmp[DEPTH][GEMM_N];
    _Alignas(64) char panel[2][STEPS * 256];
    float c[HEIGHT][GEMM_WIDE], want[HEIGHT][GEMM_WIDE];
    uint32_t x = 1;
    uint16_t *each[2] = { &b[0][0], &a[0][0] };
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < (k ? HEIGHT : GEMM_WIDE) * DEPTH; i++) {
            x = x * 1664525u + 1013904223u;
            each[k][i] = (uint16_t)((x >> 16 & 0x807Fu) | (118u + (x >> 8 & 15u)) << 7);
        }
    }
    memset(c, 0, sizeof c);
    for (int m = 0; m < HEIGHT; m++) {
        for (int j = 0; j < GEMM_WIDE; j++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k += 2)
                sum = fmaf(bf16_get(a[m][k]), bf16_get(b[k][j]),
                           fmaf(bf16_get(a[m][k + 1]), bf16_get(b[k + 1][j]), sum));
            want[m][j] = sum;
        }
    }
    ft_arg w = { .data = b, .rows = DEPTH, .cols = GEMM_WIDE, .ld = GEMM_WIDE, .dtype = FT_BF16 };
    for (int k = 0; k < 2; k++)
        FT_NAME(gemm_pack_cols)(panel[k], &w, 0, DEPTH, k * GEMM_N, FT_BF16, tmp);
    FT_NAME(gemm_tile)(&c[0][0], GEMM_WIDE, (gemm_a){ (const char *)a, sizeof a[0], 4 },
        (gemm_b){ panel, sizeof panel[0], GEMM_WIDE }, HEIGHT, STEPS, FT_BF16);
    return memcmp(c, want, sizeof c) == 0;
}

/* ---- which of the two ------------------------------------------------------------------------ */
#if defined(FT_GEMM_FMA)
#include <time.h>

enum { CHAINS = 12, TURNS = 1000, TRIES = 5 };

/* Nanoseconds of TURNS rounds of CHAINS independent vdpbf16ps, or of as many fused
 * multiply-adds. */
__attribute__((always_inline)) static inline int64_t time_of(const bool dot)
{
    struct timespec a, b;
    __m512 acc[CHAINS], x = _mm512_setzero_ps();
    for (int i = 0; i < CHAINS; i++) acc[i] = _mm512_setzero_ps();
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int turn = 0; turn < TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = dot ? _mm512_dpbf16_ps(acc[i], (__m512bh)x, (__m512bh)x)
                         : _mm512_fmadd_ps(x, x, acc[i]);
            __asm__ volatile("" : "+v"(acc[i])); /* each chain is its own */
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (int64_t)(b.tv_sec - a.tv_sec) * 1000000000 + (b.tv_nsec - a.tv_nsec);
}

bool gemm_fma_is_faster(void)
{
    int64_t fma = INT64_MAX, dot = INT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        int64_t a = time_of(false), b = time_of(true);
        fma = a < fma ? a : fma;
        dot = b < dot ? b : dot;
    }
    return dot > 2 * fma + fma / 5; /* widening has its price */
}
#endif

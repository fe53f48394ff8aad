/* gemm_tile.c -- register tiles: C += A times a panel, in the order that gemm.h states.
 *
 * avx512: 14 rows by 32 columns; 28 accumulators, two vectors of the panel and one broadcast fill
 * the 32 registers.  k is taken in runs of GEMM_RUN, so that a run of the panel (16 KiB as floats)
 * and of A (7 KiB) stay in the first-level cache while all rows of C meet it.
 * avx512fma: for machines on which vdpbf16ps takes longer than the two fused multiply-adds that it
 * stands for (Intel's, up to Sapphire Rapids at least).  Panels hold floats, a run of A is widened
 * to floats, upper and lower halves of the pairs apart, and multiplied by fma in the same order.
 * avx2: 6 by 8, vdpbf16ps as two fused multiply-adds.  Plain: one row at a time.
 *
 * Checked by test_kernels.c (all variants give the same bytes) and by the self-test below. */
#include "gemm.h"
#include "tables.h"

#if defined(FT_ISA_avx512)
enum { TILE = 14 };

#if defined(FT_GEMM_FMA)
enum { BY_FMA = 1 };
#else
enum { BY_FMA = 0 };
#endif

/* How a step multiplies: DOT, a pair of bf16 by vdpbf16ps; FMA, one float; PAIR, a pair of bf16
 * that was widened: first the upper halves (the odd k), then the lower ones. */
typedef enum { DOT, FMA, PAIR } product;

/* A run of A: step s of row m lies at at + m * row + s * step bytes, lower halves `lower` on. */
typedef struct { const char *at; int64_t row, step, lower; } run_a;

/* acc += a step of A, `offset` bytes on, times 32 columns. */
__attribute__((always_inline)) static inline void one_step(__m512 acc[][2], const char *const p[3],
                                                           int64_t row, int64_t offset,
                                                           const char *panel, bool dot, const int R)
{
    __m512 b0 = _mm512_load_ps(panel), b1 = _mm512_load_ps(panel + 64);
#pragma GCC unroll 14
    for (int m = 0; m < R; m++) {
        float word; /* one float, or a pair of bf16 */
        memcpy(&word, p[m / 5] + m % 5 * row + offset, 4);
        __m512 x = _mm512_set1_ps(word);
        acc[m][0] = dot ? _mm512_dpbf16_ps(acc[m][0], (__m512bh)x, (__m512bh)b0)
                        : _mm512_fmadd_ps(x, b0, acc[m][0]);
        acc[m][1] = dot ? _mm512_dpbf16_ps(acc[m][1], (__m512bh)x, (__m512bh)b1)
                        : _mm512_fmadd_ps(x, b1, acc[m][1]);
    }
}

/* C = (fresh: 0, else C) + A panel for R rows.  FMA starts from zero and adds the sum to C, the
 * others continue C.  R, kind and fresh are compile-time constants in every caller. */
__attribute__((always_inline)) static inline void tile_rows(float *c, int64_t ld, run_a a,
                                                            const char *panel, int64_t steps,
                                                            product kind, bool fresh, const int R)
{
    __m512 acc[TILE][2];
    const char *p[3] = { a.at, a.at + 5 * a.row, a.at + 10 * a.row };
    const bool zero = fresh || kind == FMA, add = kind == FMA && !fresh;
#pragma GCC unroll 14
    for (int m = 0; m < R; m++) {
        acc[m][0] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(c + m * ld);
        acc[m][1] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(c + m * ld + 16);
    }
    for (int64_t s = 0; s < steps; s++, panel += kind == PAIR ? 256 : 128) {
        one_step(acc, p, a.row, 0, panel, kind == DOT, R);
        if (kind == PAIR) one_step(acc, p, a.row, a.lower, panel + 128, false, R);
        p[0] += a.step, p[1] += a.step, p[2] += a.step;
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

__attribute__((always_inline)) static inline void tile_sized(float *c, int64_t ld, run_a a,
                                                             const char *panel, int64_t m,
                                                             int64_t steps, product kind,
                                                             bool fresh)
{
    switch (m) { /* a full tile first: nearly all are */
    case 14: tile_rows(c, ld, a, panel, steps, kind, fresh, 14); break;
    case 8: tile_rows(c, ld, a, panel, steps, kind, fresh, 8); break;
    case 4: tile_rows(c, ld, a, panel, steps, kind, fresh, 4); break;
    case 2: tile_rows(c, ld, a, panel, steps, kind, fresh, 2); break;
    default: tile_rows(c, ld, a, panel, steps, kind, fresh, 1); break;
    }
}

/* How a run of A may lie: as the caller has it, or widened, with strides that are constants: by
 * row, GEMM_RUN / 2 upper and as many lower halves; by step, the upper and lower halves of 16
 * rows. */
typedef enum { IN_PLACE, BY_ROW, BY_STEP } place;
enum { ROW_BYTES = GEMM_RUN * 4 };

__attribute__((always_inline)) static inline run_a strides(run_a a, place where)
{
    if (where == BY_ROW) return (run_a){ a.at, ROW_BYTES, 4, ROW_BYTES / 2 };
    return where == BY_STEP ? (run_a){ a.at, 4, 128, 64 } : a;
}

/* Not inlined: what surrounds a tile would cost it registers. */
#define TILE_OF(name, kind, where)                                                              \
    __attribute__((noinline)) static void name(float *c, int64_t ld, run_a a, const char *panel, \
                                               int64_t m, int64_t steps, bool fresh)             \
    {                                                                                            \
        if (fresh) tile_sized(c, ld, strides(a, where), panel, m, steps, kind, true);            \
        else tile_sized(c, ld, strides(a, where), panel, m, steps, kind, false);                 \
    }
TILE_OF(dot_tile, DOT, IN_PLACE)
TILE_OF(fma_tile, FMA, IN_PLACE)
#if defined(FT_GEMM_FMA)
TILE_OF(pair_tile_rows, PAIR, BY_ROW)
TILE_OF(pair_tile_steps, PAIR, BY_STEP)
#endif

static int64_t tile_size(int64_t left)
{
    return left >= 14 ? 14 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

#if defined(FT_GEMM_FMA)
static inline __m512i upper(__m512i w)
{
    return _mm512_and_si512(w, _mm512_set1_epi32((int)0xFFFF0000u));
}
static inline __m512i lower(__m512i w) { return _mm512_slli_epi32(w, 16); }

static inline __mmask16 first_words(int64_t n)
{
    return (__mmask16)(n < 16 ? (1u << n) - 1u : 0xFFFFu);
}

/* m rows of pairs along k as rows of GEMM_RUN floats: upper halves, then lower ones. */
static inline run_a copy_rows(float *to, gemm_a a, int64_t m, int64_t steps)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t s = 0; s < steps; s += 16) {
            __m512i w = _mm512_maskz_loadu_epi32(first_words(steps - s), a.a + i * a.row + s * 4);
            _mm512_store_si512(to + i * GEMM_RUN + s, upper(w));
            _mm512_store_si512(to + i * GEMM_RUN + GEMM_RUN / 2 + s, lower(w));
        }
    }
    return (run_a){ (const char *)to, 0, 0, 0 };
}

/* The same where the rows' pairs lie side by side, step after step (gemm_pack_left). */
static inline run_a copy_steps(float *to, gemm_a a, int64_t m, int64_t steps)
{
    for (int64_t s = 0; s < steps; s++) {
        __m512i w = _mm512_maskz_loadu_epi32(first_words(m), a.a + s * a.step);
        _mm512_store_si512(to + s * 32, upper(w));
        _mm512_store_si512(to + s * 32 + 16, lower(w));
    }
    return (run_a){ (const char *)to, 0, 0, 0 };
}
#endif

/* One tile with one run of k. */
static inline void one_tile(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                            int64_t steps, product kind, bool fresh)
{
    run_a there = { a.a, a.row, a.step, 0 };
    if (kind == DOT) dot_tile(c, ld, there, panel, m, steps, fresh);
    else if (kind == FMA) fma_tile(c, ld, there, panel, m, steps, fresh);
#if defined(FT_GEMM_FMA)
    _Alignas(64) float copy[16 * GEMM_RUN];
    if (kind == PAIR && a.step == 4)
        pair_tile_rows(c, ld, copy_rows(copy, a, m, steps), panel, m, steps, fresh);
    else if (kind == PAIR)
        pair_tile_steps(c, ld, copy_steps(copy, a, m, steps), panel, m, steps, fresh);
#endif
}

/* All rows of C with one run of k. */
static inline void one_run(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                           int64_t steps, product kind, bool fresh)
{
    for (int64_t i = 0, n; i < m; i += n) {
        n = tile_size(m - i);
        one_tile(c + i * ld, ld, (gemm_a){ a.a + i * a.row, a.row, a.step }, panel, n, steps, kind,
                 fresh);
    }
}

/* Pairs are cut into runs only where they are widened: a sum is one chain. */
static void product_bf16(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                         int64_t steps, bool fresh)
{
    enum { RUN = GEMM_RUN / 2 };
    if (!BY_FMA || steps == 0) {
        one_run(c, ld, a, panel, m, steps, DOT, fresh);
        return;
    }
    for (int64_t s = 0, n; s < steps; s += n, fresh = false) {
        n = steps - s < RUN ? steps - s : RUN;
        one_run(c, ld, (gemm_a){ a.a + s * a.step, a.row, a.step },
                panel + s * gemm_step_bytes(FT_BF16), m, n, PAIR, fresh);
    }
}

/* In runs of GEMM_RUN steps, each a chain of its own. */
static void product_f32(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                        int64_t steps, bool fresh)
{
    for (int64_t s = 0; s == 0 || s < steps; s += GEMM_RUN, fresh = false) {
        int64_t n = steps - s < GEMM_RUN ? steps - s : GEMM_RUN;
        one_run(c, ld, (gemm_a){ a.a + s * a.step, a.row, a.step }, panel + s * 128, m, n, FMA,
                fresh);
    }
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

#if !defined(FT_ISA_avx512)
__attribute__((always_inline)) static inline void one_run(float *c, int64_t ld, gemm_a a,
                                                          const char *panel, int64_t m,
                                                          int64_t steps, ft_dtype t, bool fresh)
{
    for (int64_t i = 0, n; i < m; i += n) {
        n = tile_size(m - i);
        tile_one(c + i * ld, ld, (gemm_a){ a.a + i * a.row, a.row, a.step }, panel, n, steps, t,
                 fresh);
    }
}

static void product_bf16(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                         int64_t steps, bool fresh)
{
    one_run(c, ld, a, panel, m, steps, FT_BF16, fresh);
}

/* In runs of GEMM_RUN steps, each a chain of its own. */
static void product_f32(float *c, int64_t ld, gemm_a a, const char *panel, int64_t m,
                        int64_t steps, bool fresh)
{
    for (int64_t s = 0; s == 0 || s < steps; s += GEMM_RUN, fresh = false) {
        int64_t n = steps - s < GEMM_RUN ? steps - s : GEMM_RUN;
        one_run(c, ld, (gemm_a){ a.a + s * a.step, a.row, a.step }, panel + s * 128, m, n, FT_F32,
                fresh);
    }
}
#endif

static void product_of(float *c, int64_t ld, gemm_a a, const void *panel, int64_t m, int64_t steps,
                       ft_dtype t, bool fresh)
{
    if (t == FT_BF16) product_bf16(c, ld, a, (const char *)panel, m, steps, fresh);
    else product_f32(c, ld, a, (const char *)panel, m, steps, fresh);
}

void FT_NAME(gemm_tile)(float *c, int64_t ld, gemm_a a, const void *panel, int64_t m, int64_t steps,
                        ft_dtype t)
{
    product_of(c, ld, a, panel, m, steps, t, false);
}

void FT_NAME(gemm_first)(float *c, int64_t ld, gemm_a a, const void *panel, int64_t m,
                         int64_t steps, ft_dtype t)
{
    product_of(c, ld, a, panel, m, steps, t, true);
}

/* ---- self-test ------------------------------------------------------------------------------- */

/* A tile of pseudo-random numbers of very different sizes against the order that gemm.h states. */
bool FT_NAME(gemm_keeps_order)(void)
{
    enum { ROWS = 7, STEPS = 24, DEPTH = 2 * STEPS };
    _Alignas(64) uint16_t b[DEPTH][GEMM_N], a[ROWS][DEPTH], tmp[DEPTH][GEMM_N];
    _Alignas(64) char panel[STEPS * 256];
    float c[ROWS][GEMM_N], want[ROWS][GEMM_N];
    uint32_t x = 1;
    uint16_t *each[2] = { &b[0][0], &a[0][0] };
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < (k ? ROWS : GEMM_N) * DEPTH; i++) {
            x = x * 1664525u + 1013904223u;
            each[k][i] = (uint16_t)((x >> 16 & 0x807Fu) | (118u + (x >> 8 & 15u)) << 7);
        }
    }
    memset(c, 0, sizeof c);
    for (int m = 0; m < ROWS; m++) {
        for (int j = 0; j < GEMM_N; j++) {
            float sum = 0;
            for (int k = 0; k < DEPTH; k += 2)
                sum = fmaf(bf16_get(a[m][k]), bf16_get(b[k][j]),
                           fmaf(bf16_get(a[m][k + 1]), bf16_get(b[k + 1][j]), sum));
            want[m][j] = sum;
        }
    }
    ft_arg w = { .data = b, .rows = DEPTH, .cols = GEMM_N, .ld = GEMM_N, .dtype = FT_BF16 };
    FT_NAME(gemm_pack_cols)(panel, &w, 0, DEPTH, 0, FT_BF16, tmp);
    FT_NAME(gemm_tile)(&c[0][0], GEMM_N, (gemm_a){ (const char *)a, sizeof a[0], 4 }, panel, ROWS,
        STEPS, FT_BF16);
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

/* gemm_avx512.h -- the register tiles of gemm_tile.c with AVX-512.
 *
 * A tile keeps 24 or 28 accumulators: 6 rows by 64 columns, or 14 by 32 or 16 where there are no
 * more.  The widest takes the fewest loads and instructions for its products, 34 for 24, which
 * leaves most to a neighbour on the same core.  k is taken in runs, rows in strips, so that a run
 * of two panels (16 KiB) and of a strip of A (11 KiB) stay in the first-level cache while they
 * meet; all panels of B meet the strip's run in turn.
 *
 * avx512fma: panels hold floats; a strip's run of A is widened to floats once for all panels, upper
 * and lower halves of the pairs apart, and multiplied by fma in the same order as vdpbf16ps. */
#ifndef FT_CPU_GEMM_AVX512_H
#define FT_CPU_GEMM_AVX512_H
#include "gemm.h"

enum { ROWS = 14, WIDE_ROWS = 6, ACCUMULATORS = 28, PER_BASE = 5 };

/* How a step multiplies: DOT, a pair of bf16 by vdpbf16ps; FMA, one float; PAIR, a pair of bf16
 * that was widened: first the upper halves (the odd k), then the lower ones. */
typedef enum { DOT, FMA, PAIR } product;

/* A run of A: step s of row m lies at at + m * row + s * step bytes, lower halves `lower` on. */
typedef struct { const char *at; int64_t row, step, lower; } run_a;

/* One or two panels at a step of k, and where the second lies. */
typedef struct { const char *at; int64_t next; } run_b;

/* acc += a step of A, `offset` bytes on, times V vectors of B. */
__attribute__((always_inline)) static inline void one_step(__m512 *acc, const char *const p[3],
                                                           int64_t row, int64_t offset, run_b b,
                                                           bool dot, const int R, const int V)
{
    __m512 y[4];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) y[v] = _mm512_load_ps(b.at + v / 2 * b.next + v % 2 * 64);
#pragma GCC unroll 14
    for (int m = 0; m < R; m++) {
        float word; /* one float, or a pair of bf16 */
        memcpy(&word, p[m / PER_BASE] + m % PER_BASE * row + offset, 4);
        __m512 x = _mm512_set1_ps(word), *sum = acc + m * V;
#pragma GCC unroll 4
        for (int v = 0; v < V; v++)
            sum[v] = dot ? _mm512_dpbf16_ps(sum[v], (__m512bh)x, (__m512bh)y[v])
                         : _mm512_fmadd_ps(x, y[v], sum[v]);
    }
}

/* C = (fresh: 0, else C) + A B for R rows by 16 V columns.  FMA starts from zero and adds the sum
 * to C, the others continue C.  R, V, kind and fresh are compile-time constants in every caller. */
__attribute__((always_inline)) static inline void tile_rows(float *c, int64_t ld, run_a a, run_b b,
                                                            int64_t steps, product kind, bool fresh,
                                                            const int R, const int V)
{
    __m512 acc[ACCUMULATORS];
    const char *p[3] = { a.at, a.at + PER_BASE * a.row, a.at + 2 * PER_BASE * a.row };
    const bool zero = fresh || kind == FMA, add = kind == FMA && !fresh;
#pragma GCC unroll 28
    for (int i = 0; i < R * V; i++)
        acc[i] = zero ? _mm512_setzero_ps() : _mm512_loadu_ps(c + i / V * ld + i % V * 16);
    for (int64_t s = 0; s < steps; s++, b.at += kind == PAIR ? 256 : 128) {
        one_step(acc, p, a.row, 0, b, kind == DOT, R, V);
        run_b odd = { b.at + 128, b.next };
        if (kind == PAIR) one_step(acc, p, a.row, a.lower, odd, false, R, V);
        p[0] += a.step, p[1] += a.step, p[2] += a.step;
    }
#pragma GCC unroll 28
    for (int i = 0; i < R * V; i++) {
        float *to = c + i / V * ld + i % V * 16;
        _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), acc[i]) : acc[i]);
    }
}

/* Rows of the next tile, when `left` are left. */
static inline int64_t tile_size(int64_t left, int vectors)
{
    if (vectors < 4 && left >= 8) return left >= ROWS ? ROWS : 8;
    if (vectors == 4 && left >= WIDE_ROWS) return WIDE_ROWS;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

__attribute__((always_inline)) static inline void tile_sized(float *c, int64_t ld, run_a a, run_b b,
                                                             int64_t m, int64_t steps, product kind,
                                                             bool fresh, const int V)
{
    if (V == 4 && m == WIDE_ROWS) tile_rows(c, ld, a, b, steps, kind, fresh, WIDE_ROWS, V);
    else if (V < 4 && m == ROWS) tile_rows(c, ld, a, b, steps, kind, fresh, ROWS, V);
    else if (V < 4 && m == 8) tile_rows(c, ld, a, b, steps, kind, fresh, 8, V);
    else if (m == 4) tile_rows(c, ld, a, b, steps, kind, fresh, 4, V);
    else if (m == 2) tile_rows(c, ld, a, b, steps, kind, fresh, 2, V);
    else tile_rows(c, ld, a, b, steps, kind, fresh, 1, V);
}

/* How a run of A may lie: as the caller has it, or copied, with strides that are constants.  By
 * row: a row is GEMM_RUN floats, of bf16 the upper halves before the lower ones.  By step: a step
 * is STRIP upper halves, then as many lower ones, a row each. */
typedef enum { IN_PLACE, BY_ROW, BY_STEP } place;
enum { STRIP = GEMM_STRIP, STEP_FLOATS = (STRIP + 15) / 16 * 16 };
enum { ROW_BYTES = GEMM_RUN * 4, STEP_BYTES = 2 * STEP_FLOATS * 4 };
enum { COPY_FLOATS = GEMM_RUN * STEP_FLOATS };

__attribute__((always_inline)) static inline run_a strides(run_a a, place where)
{
    if (where == BY_ROW) return (run_a){ a.at, ROW_BYTES, 4, ROW_BYTES / 2 };
    return where == BY_STEP ? (run_a){ a.at, 4, STEP_BYTES, STEP_BYTES / 2 } : a;
}

/* Not inlined: what surrounds a tile would cost it registers. */
#define TILE_OF(name, kind, where)                                                             \
    __attribute__((noinline)) static void name(float *c, int64_t ld, run_a a, run_b b,          \
                                               int64_t m, int64_t steps, bool fresh, int V)     \
    {                                                                                           \
        a = strides(a, where);                                                                  \
        if (V == 4 && fresh) tile_sized(c, ld, a, b, m, steps, kind, true, 4);                  \
        else if (V == 4) tile_sized(c, ld, a, b, m, steps, kind, false, 4);                     \
        else if (V == 2 && fresh) tile_sized(c, ld, a, b, m, steps, kind, true, 2);             \
        else if (V == 2) tile_sized(c, ld, a, b, m, steps, kind, false, 2);                     \
        else if (fresh) tile_sized(c, ld, a, b, m, steps, kind, true, 1);                       \
        else tile_sized(c, ld, a, b, m, steps, kind, false, 1);                                 \
    }
TILE_OF(dot_tile, DOT, IN_PLACE)
TILE_OF(fma_tile, FMA, IN_PLACE)
#if defined(FT_GEMM_FMA)
TILE_OF(pair_tile_rows, PAIR, BY_ROW)
TILE_OF(pair_tile_steps, PAIR, BY_STEP)
#endif

#if defined(FT_GEMM_FMA)
static inline __m512i upper(__m512i w)
{
    return _mm512_and_si512(w, _mm512_set1_epi32((int)0xFFFF0000u));
}
static inline __m512i lower(__m512i w) { return _mm512_slli_epi32(w, 16); }

/* m rows of pairs along k as rows of GEMM_RUN floats: upper halves, then lower ones. */
static inline run_a copy_rows(float *to, gemm_a a, int64_t m, int64_t steps)
{
    const char *from = a.a;
    for (int64_t i = 0; i < m; i++, from += a.row, to += GEMM_RUN) {
        for (int64_t s = 0; s < steps; s += 16) {
            __m512i w = _mm512_maskz_loadu_epi32(v_mask_most_(steps - s), from + s * 4);
            _mm512_store_si512(to + s, upper(w));
            _mm512_store_si512(to + GEMM_RUN / 2 + s, lower(w));
        }
    }
    return (run_a){ (const char *)(to - m * GEMM_RUN), 0, 0, 0 };
}

/* The same where the rows' pairs lie side by side, step after step (gemm_pack_left). */
static inline run_a copy_steps(float *to, gemm_a a, int64_t m, int64_t steps)
{
    const char *from = a.a;
    for (int64_t s = 0; s < steps; s++, from += a.step, to += 2 * STEP_FLOATS) {
        for (int64_t i = 0; i < m; i += 16) {
            __m512i w = _mm512_maskz_loadu_epi32(v_mask_most_(m - i), from + i * 4);
            _mm512_store_si512(to + i, upper(w));
            _mm512_store_si512(to + STEP_FLOATS + i, lower(w));
        }
    }
    return (run_a){ (const char *)(to - steps * 2 * STEP_FLOATS), 0, 0, 0 };
}
#endif

/* Asks for the rows of A that the next tile reads, from r on, of m: they lie too far apart for the
 * processor to foresee them. */
static inline void ask_ahead(run_a a, int64_t r, int64_t m, int64_t steps)
{
    int64_t end = m - r < WIDE_ROWS ? m : r + WIDE_ROWS;
    for (; r < end; r++) {
        for (int64_t at = 0; at < steps * a.step; at += 64)
            _mm_prefetch(a.at + r * a.row + at, _MM_HINT_T0);
    }
}

/* m rows of C by at most 64 columns with one run of k. */
__attribute__((always_inline)) static inline void one_run(float *c, int64_t ld, run_a a, run_b b,
                                                          int64_t m, int64_t steps, product kind,
                                                          bool fresh, int vectors, place where)
{
    for (int64_t i = 0, n; i < m; i += n) {
        n = tile_size(m - i, vectors);
        run_a tile = { a.at + i * strides(a, where).row, a.row, a.step, 0 };
        if (where == IN_PLACE && a.step == 4) ask_ahead(a, i + n, m, steps);
        if (kind == DOT) dot_tile(c + i * ld, ld, tile, b, n, steps, fresh, vectors);
        else if (kind == FMA) fma_tile(c + i * ld, ld, tile, b, n, steps, fresh, vectors);
#if defined(FT_GEMM_FMA)
        else if (where == BY_ROW) pair_tile_rows(c + i * ld, ld, tile, b, n, steps, fresh, vectors);
        else pair_tile_steps(c + i * ld, ld, tile, b, n, steps, fresh, vectors);
#endif
    }
}

/* m rows of C, at most STRIP, with one run of k. */
__attribute__((always_inline)) static inline void one_strip(float *c, int64_t ld, gemm_a a,
                                                            gemm_b b, int64_t m, int64_t steps,
                                                            product kind, bool fresh, float *copy)
{
    run_a left = { a.a, a.row, a.step, 0 };
#if defined(FT_GEMM_FMA)
    if (kind == PAIR)
        left = a.step == 4 ? copy_rows(copy, a, m, steps) : copy_steps(copy, a, m, steps);
#else
    (void)copy;
#endif
    for (int64_t j = 0; j < b.n; j += GEMM_WIDE) {
        run_b at = { (const char *)b.panel + j / GEMM_N * b.next, b.next };
        int vectors = b.n - j <= 16 ? 1 : b.n - j <= GEMM_N ? 2 : 4;
        if (kind != PAIR) one_run(c + j, ld, left, at, m, steps, kind, fresh, vectors, IN_PLACE);
        else if (a.step == 4) one_run(c + j, ld, left, at, m, steps, kind, fresh, vectors, BY_ROW);
        else one_run(c + j, ld, left, at, m, steps, kind, fresh, vectors, BY_STEP);
    }
}

/* In runs: of fp32 each is a chain of its own, bf16 continues C. */
__attribute__((always_inline)) static inline void product_in_runs(float *c, int64_t ld, gemm_a a,
                                                                  gemm_b b, int64_t m,
                                                                  int64_t steps, ft_dtype t,
                                                                  product kind, bool fresh)
{
    const int64_t run = kind == PAIR ? GEMM_RUN / 2 : GEMM_RUN;
    _Alignas(64) float copy[COPY_FLOATS];
    for (int64_t r = 0; r < m; r += STRIP) {
        int64_t rows = m - r < STRIP ? m - r : STRIP;
        for (int64_t s = 0; s == 0 || s < steps; s += run) {
            int64_t n = steps - s < run ? steps - s : run;
            gemm_a left = { a.a + r * a.row + s * a.step, a.row, a.step };
            gemm_b right = { (const char *)b.panel + s * gemm_step_bytes(t), b.next, b.n };
            one_strip(c + r * ld, ld, left, right, rows, n, kind, fresh && s == 0, copy);
        }
    }
}

static void product_bf16(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                         bool fresh)
{
#if defined(FT_GEMM_FMA)
    product_in_runs(c, ld, a, b, m, steps, FT_BF16, PAIR, fresh);
#else
    product_in_runs(c, ld, a, b, m, steps, FT_BF16, DOT, fresh);
#endif
}

static void product_f32(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                        bool fresh)
{
    product_in_runs(c, ld, a, b, m, steps, FT_F32, FMA, fresh);
}
#endif

/* gemm.h -- the matrix multiplication under linear, linear_dx, linear_dw, the head and attention.
 *
 *   C[m][n] = sum over terms, then over k, of A[m][k] B[k][n]
 *
 * B is packed into panels of 32 columns, which a call may have several of; A is read where it lies.
 * Each element of C is a chain of fused multiply-adds in ascending k.  bf16: one chain, two k at a
 * time, the odd one of a pair first, acc = fma(a0, b0, fma(a1, b1, acc)), which is what vdpbf16ps
 * does.  fp32: runs of GEMM_RUN k, each a chain from zero that is then added to C, so that rounding
 * grows with the run and not with all of k. Neither the size of tiles nor the instruction set
 * changes a bit; nor does cutting k at a whole run.
 *
 * Panel of K x 32: fp32 [K][32] floats; bf16 [K/2 rounded up][32][2], pairs of k side by side, a
 * missing last one zero; for avx512fma (gemm_tile.c) those as floats, [K/2][2][32], the odd k of a
 * pair first. */
#ifndef FT_CPU_GEMM_H
#define FT_CPU_GEMM_H
#include "vec.h"

enum { GEMM_N = 32, GEMM_WIDE = 2 * GEMM_N, GEMM_MAX_TERMS = 12, GEMM_RUN = 64 };
/* Rows that meet a run of k at a time: whole tiles of 6 and of 14. */
enum { GEMM_STRIP = 42 };

/* Steps of k in a panel: pairs for bf16. */
static inline int64_t gemm_steps(ft_dtype t, int64_t k) { return t == FT_BF16 ? (k + 1) / 2 : k; }
/* Bytes of a step of a panel, of a panel; multiples of 64. */
#if defined(FT_GEMM_FMA)
static inline int64_t gemm_step_bytes(ft_dtype t) { return t == FT_BF16 ? 256 : 128; }
#else
static inline int64_t gemm_step_bytes(ft_dtype t) { return (void)t, 128; }
#endif
static inline int64_t gemm_panel_bytes(ft_dtype t, int64_t k)
{
    return gemm_steps(t, k) * gemm_step_bytes(t);
}

/* A: rows of steps.  Step s of row m lies at a + m * row + s * step bytes: a float, or two bf16. */
typedef struct { const char *a; int64_t row, step; } gemm_a;

/* The right operand: panels of 32 columns, each `next` bytes after the one before; n columns are
 * wanted.  C has room for whole panels, what is beyond n is undefined there. */
typedef struct { const void *panel; int64_t next, n; } gemm_b;
static inline gemm_b gemm_one(const void *panel) { return (gemm_b){ panel, 0, GEMM_N }; }

/* C (m rows, ld floats apart) += A times B, over `steps`. */
void FT_NAME(gemm_tile)(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                        ft_dtype t);
/* The same from zero: C = A times B. */
void FT_NAME(gemm_first)(float *c, int64_t ld, gemm_a a, gemm_b b, int64_t m, int64_t steps,
                         ft_dtype t);

/* Rows r0 …, columns c0 … of a matrix, packed or of any float dtype, as rows of dtype t, ld
 * elements apart.  Rows and columns must be there. */
void FT_NAME(gemm_fetch)(void *dst, int64_t ld, const ft_arg *w, int64_t r0, int64_t nr, int64_t c0,
                         int64_t nc, ft_dtype t);

/* Packs columns n0 … n0+31 of B = W^T, W (n, k): panel[k][j] = W[n0+j][k0+k].  Columns that W does
 * not have are zero.  tmp: gemm_pack_bytes. */
void FT_NAME(gemm_pack_rows)(void *panel, const ft_arg *w, int64_t n0, int64_t k0, int64_t k,
                             ft_dtype t, void *tmp);
/* Packs columns k0 … k0+31 of B = W, W (n, k): panel[n][j] = W[n0+n][k0+j]. */
void FT_NAME(gemm_pack_cols)(void *panel, const ft_arg *w, int64_t n0, int64_t n, int64_t k0,
                             ft_dtype t, void *tmp);
/* The left operand of a sum over rows: columns of `rows` rows that start at `from`, ld elements
 * apart. bf16 goes into left (rows + 1 by nc elements) as pairs of rows side by side, fp32 is read
 * in place. */
gemm_a FT_NAME(gemm_pack_left)(void *left, const void *from, int64_t ld, int64_t rows, int64_t nc,
                               ft_dtype t);
/* Bytes of tmp for packing at most k steps of 32 columns. */
static inline int64_t gemm_pack_bytes(int64_t k) { return (k + 1) * GEMM_N * 4 + 64; }
#endif

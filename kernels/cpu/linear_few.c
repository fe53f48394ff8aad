/* linear_few.c -- products of a few rows with a matrix, as generation makes them token by token.
 *
 *   y[r][j] = sum over terms, then over k, of x[r][k] W[j][k]
 *
 * What takes time is reading W, so nothing is packed: rows of W are decoded FETCH at a time into
 * the first-level cache and met by all rows of x.  A sum runs in 32 lanes, k modulo 32, whose
 * halves and then lanes (v_sum) are added at the end; with bf16, W is rounded to bf16 first.  This
 * order is another than that of gemm.h, so linear.c comes here by what kind of pass it is, never by
 * how many rows there happen to be: a text's numbers do not depend on the texts beside it. */
#include "linear.h"

enum { FETCH = 4 };

/* sums[r * GEMM_N + j] += x row r times FETCH rows of W, in w; depth numbers each. */
__attribute__((always_inline)) static inline void dots(float *sums, const float *x, const float *w,
                                                       int64_t depth, int64_t rows, bool round)
{
    int64_t whole = depth / 32 * 32;
    for (int64_t r = 0; r < rows; r++, x += depth) {
        v16 acc[FETCH][2];
        for (int j = 0; j < FETCH; j++) acc[j][0] = acc[j][1] = v_zero();
        for (int64_t c = 0; c < depth; c += 32) {
            for (int h = 0; h < 2; h++) {
                int64_t at = c + 16 * h, left = depth - at;
                if (left <= 0) break;
                v16 a = c < whole ? v_load(x + at) : v_load_n(x + at, left < 16 ? left : 16);
                for (int j = 0; j < FETCH; j++) {
                    const float *p = w + j * depth + at;
                    v16 b = c < whole ? v_load(p) : v_load_n(p, left < 16 ? left : 16);
                    acc[j][h] = v_fma(a, round ? v_round_bf16(b) : b, acc[j][h]);
                }
            }
        }
        for (int j = 0; j < FETCH; j++)
            sums[r * GEMM_N + j] += v_sum(v_add(acc[j][0], acc[j][1]));
    }
}

void FT_NAME(linear_few)(float *sums, const ft_arg *x, int64_t first, int64_t rows, const ft_arg *w,
                         int64_t col, ft_dtype t, float *left, float *tmp)
{
    int64_t n = w->rows - col < GEMM_N ? w->rows - col : GEMM_N, depth = x->cols;
    bool round = t == FT_BF16 && (w->packed || w->dtype != FT_BF16);
    FT_NAME(gemm_fetch)(left, depth, x, first, rows, 0, depth, FT_F32);
    for (int64_t j = 0; j < n; j += FETCH) {
        int64_t have = n - j < FETCH ? n - j : FETCH;
        FT_NAME(gemm_fetch)(tmp, depth, w, col + j, have, 0, depth, FT_F32);
        memset(tmp + have * depth, 0, (size_t)((FETCH - have) * depth) * sizeof *tmp);
        if (round) dots(sums + j, left, tmp, depth, rows, true);
        else dots(sums + j, left, tmp, depth, rows, false);
    }
}

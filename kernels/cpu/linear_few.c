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

/* FETCH rows of W, ld elements of dtype t apart. */
typedef struct { const char *at; int64_t ld; ft_dtype t; } rows_of;

/* sums[r * GEMM_N + j] += row r of x times row j of W; depth numbers each. */
__attribute__((always_inline)) static inline void dots(float *sums, const float *x, rows_of w,
                                                       int64_t depth, int64_t rows, bool round)
{
    int64_t size = w.t == FT_BF16 ? 2 : 4;
    for (int64_t r = 0; r < rows; r++, x += depth) {
        v16 acc[FETCH][2];
        for (int j = 0; j < FETCH; j++) acc[j][0] = acc[j][1] = v_zero();
        for (int64_t c = 0, h = 0; c < depth; c += 16, h ^= 1) {
            int64_t n = depth - c;
            v16 a = n >= 16 ? v_load(x + c) : v_load_n(x + c, n);
            for (int j = 0; j < FETCH; j++) {
                v16 b = v_in(w.at + j * w.ld * size, w.t, c, n);
                acc[j][h] = v_fma(a, round ? v_round_bf16(b) : b, acc[j][h]);
            }
        }
        for (int j = 0; j < FETCH; j++)
            sums[r * GEMM_N + j] += v_sum(v_add(acc[j][0], acc[j][1]));
    }
}

/* Rows row … row+FETCH-1 of W: where they lie if they can be read there, else as floats in tmp.
 * Rows that W does not have are zero. */
static rows_of rows_at(const ft_arg *w, int64_t row, ft_dtype t, float *tmp)
{
    int64_t have = w->rows - row < FETCH ? w->rows - row : FETCH;
    bool there = !w->packed && (w->dtype == FT_BF16 || (w->dtype == FT_F32 && t == FT_F32));
    if (there && have == FETCH)
        return (rows_of){ (const char *)w->data + row * w->ld * (w->dtype == FT_BF16 ? 2 : 4),
                          w->ld, w->dtype };
    FT_NAME(gemm_fetch)(tmp, w->cols, w, row, have, 0, w->cols, FT_F32);
    memset(tmp + have * w->cols, 0, (size_t)((FETCH - have) * w->cols) * sizeof *tmp);
    return (rows_of){ (const char *)tmp, w->cols, FT_F32 };
}

void FT_NAME(linear_few)(float *sums, const ft_arg *x, int64_t first, int64_t rows, const ft_arg *w,
                         int64_t col, ft_dtype t, float *left, float *tmp)
{
    int64_t n = w->rows - col < GEMM_N ? w->rows - col : GEMM_N, depth = x->cols;
    bool round = t == FT_BF16 && (w->packed || w->dtype != FT_BF16);
    FT_NAME(gemm_fetch)(left, depth, x, first, rows, 0, depth, FT_F32);
    for (int64_t j = 0; j < n; j += FETCH) {
        rows_of b = rows_at(w, col + j, t, tmp);
        if (b.t == FT_BF16) dots(sums + j, left, (rows_of){ b.at, b.ld, FT_BF16 }, depth, rows, false);
        else if (round) dots(sums + j, left, (rows_of){ b.at, b.ld, FT_F32 }, depth, rows, true);
        else dots(sums + j, left, (rows_of){ b.at, b.ld, FT_F32 }, depth, rows, false);
    }
}

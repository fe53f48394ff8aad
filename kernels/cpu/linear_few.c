/* linear_few.c -- products of a few rows with a matrix, as generation makes them token by token.
 *
 *   y[r][j] = sum over terms, then over k, of x[r][k] W[j][k]
 *
 * What takes time is reading W, so nothing is packed: FETCH rows of W are met by all rows of x
 * where they lie, or are decoded into the first-level cache before.  A sum runs in 32 lanes, k
 * modulo 32, whose halves and then lanes (v_sum) are added at the end: in fp32 the halves are those
 * of each run of 32, in bf16, to which W is rounded first, the even and the odd ones.  This order
 * is another than that of gemm.h, so linear.c comes here by what kind of pass it is, never by how
 * many rows there happen to be: a text's numbers do not depend on the texts beside it. */
#include "linear.h"

enum { FETCH = 4, RUN = 32 };

/* FETCH rows of W, ld elements apart. */
typedef struct { const void *at; int64_t ld; } rows_of;

/* Numbers c … of row j, the two halves of a run, of which n are there. */
__attribute__((always_inline)) static inline void halves_of(v16 half[2], rows_of w, int j,
                                                            int64_t c, int64_t n, ft_dtype t)
{
    if (t == FT_BF16) {
        const uint16_t *p = (const uint16_t *)w.at + j * w.ld + c;
        half[0] = v_load_even_bf16(p);
        half[1] = v_load_odd_bf16(p);
    } else {
        const float *p = (const float *)w.at + j * w.ld + c;
        half[0] = v_in(p, FT_F32, 0, n);
        half[1] = n > 16 ? v_in(p, FT_F32, 16, n - 16) : v_zero();
    }
}

/* sums[r * GEMM_N + j] += row r of x times row j of W.  x: rows of whole runs, in halves; W in bf16
 * is, too. */
__attribute__((always_inline)) static inline void dots(float *sums, const float *x, rows_of w,
                                                       int64_t depth, int64_t rows, ft_dtype t)
{
    for (int64_t r = 0; r < rows; r++) {
        v16 acc[FETCH][2];
        for (int j = 0; j < FETCH; j++) acc[j][0] = acc[j][1] = v_zero();
        for (int64_t c = 0; c < depth; c += RUN, x += RUN) {
            v16 a[2] = { v_load(x), v_load(x + 16) };
            for (int j = 0; j < FETCH; j++) {
                v16 b[2];
                halves_of(b, w, j, c, depth - c, t);
                for (int h = 0; h < 2; h++) acc[j][h] = v_fma(a[h], b[h], acc[j][h]);
            }
        }
        for (int j = 0; j < FETCH; j++)
            sums[r * GEMM_N + j] += v_sum(v_add(acc[j][0], acc[j][1]));
    }
}

/* Rows row … row+FETCH-1 of W: where they lie if they can be read there, else as t in tmp.  Rows
 * that W does not have are zero. */
static rows_of rows_at(const ft_arg *w, int64_t row, ft_dtype t, void *tmp)
{
    int64_t have = w->rows - row < FETCH ? w->rows - row : FETCH, size = t == FT_BF16 ? 2 : 4;
    int64_t ld = t == FT_BF16 ? (w->cols + RUN - 1) / RUN * RUN : w->cols;
    if (!w->packed && w->dtype == t && have == FETCH && ld == w->cols)
        return (rows_of){ (const char *)w->data + row * w->ld * size, w->ld };
    if (have < FETCH || ld != w->cols) memset(tmp, 0, (size_t)(FETCH * ld * size));
    FT_NAME(gemm_fetch)(tmp, ld, w, row, have, 0, w->cols, t);
    return (rows_of){ tmp, ld };
}

void FT_NAME(linear_few_left)(float *left, const ft_arg *x, int64_t first, int64_t rows,
                              ft_dtype t, void *tmp)
{
    int64_t depth = x->cols, ld = (depth + RUN - 1) / RUN * RUN, size = t == FT_BF16 ? 2 : 4;
    for (int64_t r = 0; r < rows; r++, left += ld) {
        char *row = t == FT_BF16 ? (char *)tmp : (char *)left;
        memset(row + depth * size, 0, (size_t)((ld - depth) * size));
        FT_NAME(gemm_fetch)(row, ld, x, first + r, 1, 0, depth, t);
        for (int64_t c = 0; c < ld && t == FT_BF16; c += RUN) {
            v_store(left + c, v_load_even_bf16((const uint16_t *)(void *)row + c));
            v_store(left + c + 16, v_load_odd_bf16((const uint16_t *)(void *)row + c));
        }
    }
}

void FT_NAME(linear_few)(float *sums, const float *left, int64_t rows, const ft_arg *w, int64_t col,
                         ft_dtype t, void *tmp)
{
    int64_t n = w->rows - col < GEMM_N ? w->rows - col : GEMM_N;
    for (int64_t j = 0; j < n; j += FETCH) {
        rows_of b = rows_at(w, col + j, t, tmp);
        if (t == FT_BF16) dots(sums + j, left, b, w->cols, rows, FT_BF16);
        else dots(sums + j, left, b, w->cols, rows, FT_F32);
    }
}

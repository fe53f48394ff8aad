/* linear.h -- what linear.c has from linear_few.c. */
#ifndef FT_CPU_LINEAR_H
#define FT_CPU_LINEAR_H
#include "gemm.h"

/* sums[r * GEMM_N + j] += row first + r of x times row col + j of W, for `rows` rows and those of
 * the 32 columns from col on that there are.  left: room for the rows of x as floats, each of whole
 * runs of 32; tmp: for four rows of W. */
void FT_NAME(linear_few)(float *sums, const ft_arg *x, int64_t first, int64_t rows, const ft_arg *w,
                         int64_t col, ft_dtype t, float *left, float *tmp);
#endif

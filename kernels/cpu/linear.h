/* linear.h -- what linear.c has from linear_few.c. */
#ifndef FT_CPU_LINEAR_H
#define FT_CPU_LINEAR_H
#include "gemm.h"

/* Rows first … of x as linear_few reads them: floats, in whole runs of 32, of a bf16 run the even
 * ones first.  tmp: room for a row. */
void FT_NAME(linear_few_left)(float *left, const ft_arg *x, int64_t first, int64_t rows,
                              ft_dtype t, void *tmp);

/* sums[r * GEMM_N + j] += row r of left times row col + j of W, for `rows` rows and those of the 32
 * columns from col on that there are.  tmp: room for four rows of W. */
void FT_NAME(linear_few)(float *sums, const float *left, int64_t rows, const ft_arg *w, int64_t col,
                         ft_dtype t, void *tmp);
#endif

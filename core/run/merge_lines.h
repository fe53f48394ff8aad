/* merge_lines.h -- a GGUF's piece of an experts' weight, made of the weight's numbers as they go
 * by.
 *
 * Files of Hugging Face and GGUF cut experts' weights (experts, rows, columns) differently.  A GGUF
 * has one tensor for all experts' gates, one for their ups, one for their downs (ft_piece): some
 * rows, or columns, of each expert's matrix.  One expert's matrix is in memory at a time. */
#ifndef FT_CORE_MERGE_LINES_H
#define FT_CORE_MERGE_LINES_H
#include "core/run/merge.h"

typedef struct {
    const ft_piece *piece;
    int64_t rows, cols, lines, have; /* of an expert's matrix; of it to hand over; numbers there */
    uint64_t bytes, out_bytes;
    float *matrix, *out;
    ft_merge_sink sink;
    void *ctx;
} ft_merge_lines;

/* i: an item with lines; the piece goes to `sink`.  Free *l also after an error. */
int ft_merge_lines_start(ft_merge_lines *l, const ft_merge_item *i, ft_merge_sink sink, void *ctx,
                         ft_err *e);
/* A sink for the whole weight, from its first number to its last. */
int ft_merge_lines_take(void *l, const float *v, int64_t n, ft_err *e);
void ft_merge_lines_free(ft_merge_lines *l);
#endif

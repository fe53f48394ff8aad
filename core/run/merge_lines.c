/* merge_lines.c -- see merge_lines.h.  The way back is pieces.c. */
#include "core/run/merge_lines.h"
#include <string.h>
#include "ft/ck.h"

int ft_merge_lines_start(ft_merge_lines *l, const ft_merge_item *i, ft_merge_sink sink, void *ctx,
                         ft_err *e)
{
    const ft_shape *w = &i->whole;
    *l = (ft_merge_lines){ .piece = i->lines,
                           .rows = w->ndim == 3 ? w->dim[1] : 1,
                           .cols = w->dim[w->ndim - 1],
                           .lines = i->shape.dim[1],
                           .sink = sink,
                           .ctx = ctx };
    uint64_t length = (uint64_t)(i->lines->columns ? l->rows : l->cols);
    if (!ck_mul(&l->bytes, (uint64_t)l->rows, (uint64_t)l->cols) ||
        !ck_mul(&l->bytes, l->bytes, sizeof(float)) ||
        !ck_mul(&l->out_bytes, (uint64_t)l->lines, length) ||
        !ck_mul(&l->out_bytes, l->out_bytes, sizeof(float)))
        return ft_errf(e, FT_ESHAPE, "%s: an expert's matrix of %lld x %lld is too large", i->from,
                       (long long)l->rows, (long long)l->cols);
    l->matrix = ft_region_new(l->bytes, "an expert's weight", e);
    l->out = l->matrix ? ft_region_new(l->out_bytes, "an expert's weight", e) : NULL;
    return l->out ? 0 : e->code;
}

/* The lines of the matrix that is there. */
static int hand_over(ft_merge_lines *l, ft_err *e)
{
    const ft_piece *p = l->piece;
    int64_t length = p->columns ? l->rows : l->cols;
    for (int64_t i = 0; i < l->lines; i++) {
        int64_t line = p->from + i * p->step;
        float *to = l->out + i * length;
        if (!p->columns) memcpy(to, l->matrix + line * l->cols, (size_t)length * sizeof *to);
        for (int64_t j = 0; p->columns && j < length; j++) to[j] = l->matrix[j * l->cols + line];
    }
    l->have = 0;
    return l->sink(l->ctx, l->out, l->lines * length, e);
}

int ft_merge_lines_take(void *ctx, const float *v, int64_t n, ft_err *e)
{
    ft_merge_lines *l = ctx;
    int64_t all = l->rows * l->cols;
    int code = 0;
    while (n > 0 && !code) {
        int64_t k = all - l->have < n ? all - l->have : n;
        memcpy(l->matrix + l->have, v, (size_t)k * sizeof *v);
        l->have += k;
        v += k;
        n -= k;
        if (l->have == all) code = hand_over(l, e);
    }
    return code;
}

void ft_merge_lines_free(ft_merge_lines *l)
{
    ft_region_free(l->matrix, l->bytes);
    ft_region_free(l->out, l->out_bytes);
    *l = (ft_merge_lines){ .piece = NULL };
}

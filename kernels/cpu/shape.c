/* shape.c -- slice, unslice, concat, transpose, copy, widen: numbers that move without changing.
 *
 * One text serves as reference and for speed: these run once a step or move whole rows. */
#include "vec.h"

/* Copies n numbers; dtypes may differ where a weight of the checkpoint is read (widen, slice). */
static void copy_run(const ft_arg *to, int64_t r, int64_t c, const ft_arg *from, int64_t fr,
                     int64_t fc, int64_t n, bool add)
{
    for (int64_t i = 0; i < n; i++) {
        double v = ft_get(from, fr, fc + i);
        ft_put(to, r, c + i, add ? v + ft_get(to, r, c + i) : v);
    }
}

static int64_t all_rows(const ft_call *k)
{
    return ft_rows(k, &k->out[0]);
}

static void run_slice(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    const ft_arg *x = &k->in[0], *y = &k->out[0];
    int64_t from = (int64_t)k->attr[1];
    bool rows = k->attr[0] == 0 && x->rows != 1;
    (void)s;
    for (int64_t r = begin; r < end; r++)
        copy_run(y, r, 0, x, rows ? from + r : r, rows ? 0 : from, y->cols, false);
}

static void run_unslice(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    const ft_arg *x = &k->in[0], *y = &k->out[0];
    int64_t from = (int64_t)k->attr[1];
    bool rows = k->attr[0] == 0 && y->rows != 1;
    (void)s;
    for (int64_t r = begin; r < end; r++) {
        int64_t source = rows ? r - from : r;
        for (int64_t c = 0; c < y->cols; c++) ft_put(y, r, c, 0);
        if (source >= 0 && source < (rows ? x->rows : y->rows))
            copy_run(y, r, rows ? 0 : from, x, source, 0, x->cols, false);
    }
}

static void run_concat(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    const ft_arg *a = &k->in[0], *b = &k->in[1], *y = &k->out[0];
    bool rows = a->cols == y->cols && b->cols == y->cols && k->attr[0] == 0;
    (void)s;
    for (int64_t r = begin; r < end; r++) {
        if (rows) {
            copy_run(y, r, 0, r < a->rows ? a : b, r < a->rows ? r : r - a->rows, 0, y->cols,
                     false);
        } else {
            copy_run(y, r, 0, a, r, 0, a->cols, false);
            copy_run(y, r, a->cols, b, r, 0, b->cols, false);
        }
    }
}

static void run_transpose(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    (void)s;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < k->out[0].cols; c++)
            ft_put(&k->out[0], r, c, ft_get(&k->in[0], c, r));
    }
}

static void run_copy(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    (void)s;
    for (int64_t r = begin; r < end; r++)
        copy_run(&k->out[0], r, 0, &k->in[0], r, 0, k->out[0].cols, k->accumulate);
}

/* A weight of the checkpoint, packed or 16 bits wide, as fp32. */
static void run_widen(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    const ft_arg *w = &k->in[0];
    (void)s;
    if (w->packed)
        w->packed->tile(w->packed, begin, end - begin, 0, w->cols, FT_F32,
                        ft_row(&k->out[0], begin), k->out[0].ld);
    else run_copy(k, begin, end, s);
}

#define ANY(name, fn) { .size = sizeof(ft_kernel), .op = name, .items = all_rows, .run = fn }
static const ft_kernel kernels[] = {
    ANY("slice", run_slice), ANY("unslice", run_unslice), ANY("concat", run_concat),
    ANY("transpose", run_transpose), ANY("copy", run_copy), ANY("widen", run_widen),
};
FT_TABLE(shape, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    ANY("slice", run_slice), ANY("unslice", run_unslice), ANY("concat", run_concat),
    ANY("transpose", run_transpose), ANY("copy", run_copy), ANY("widen", run_copy),
};
FT_REFERENCE(shape, references)
#endif

/* reduce.c -- sums: sum, dot, row_sum, row_dot, col_sum, col_dot, and expand, their gradient.
 *
 * Sums over rows run over blocks (ft_next_block), each from zero, added in order.  Within a row 16
 * lanes are summed and then joined by the tree of v_sum.  The factor 1 stands for a missing second
 * input, so that a sum and a dot product are one piece of code. */
#include "vec.h"

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static double term(const ft_call *k, int64_t r, int64_t c)
{
    return ft_get(&k->in[0], r, c) * (k->n_in > 1 ? ft_get(&k->in[1], r, c) : 1);
}

static void ref_all(const ft_call *k, int64_t b, int64_t e, void *s)
{
    double sum = 0;
    (void)b, (void)e, (void)s;
    for (int64_t r = 0; r < ft_rows(k, &k->in[0]); r++) {
        for (int64_t c = 0; c < k->in[0].cols; c++) sum += term(k, r, c);
    }
    ft_sum_into(k, 0, 0, sum);
}

/* A vector over fixed rows is one row of the output, one over tokens a column. */
static void put_row(const ft_call *k, int64_t r, double v)
{
    ft_put(&k->out[0], k->out[0].cols == 1 ? r : 0, k->out[0].cols == 1 ? 0 : r, v);
}

static void ref_row(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    for (int64_t r = 0; r < ft_rows(k, &k->in[0]); r++) {
        double sum = 0;
        for (int64_t c = 0; c < k->in[0].cols; c++) sum += term(k, r, c);
        put_row(k, r, sum);
    }
}

static void ref_col(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    for (int64_t c = 0; c < k->in[0].cols; c++) {
        double sum = 0;
        for (int64_t r = 0; r < ft_rows(k, &k->in[0]); r++) sum += term(k, r, c);
        ft_sum_into(k, 0, c, sum);
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

enum { CHUNK = 1024 };

static size_t chunk_scratch(const ft_call *k)
{
    (void)k;
    return 2 * CHUNK * sizeof(float);
}

/* Dot product of row r of the inputs (of the first with ones where there is one). */
static float row_product(const ft_call *k, int64_t r, float *scratch)
{
    const ft_arg *a = &k->in[0], *b = k->n_in > 1 ? &k->in[1] : NULL;
    v16 sum = v_zero();
    for (int64_t c = 0; c < a->cols; c += CHUNK) {
        int64_t n = a->cols - c < CHUNK ? a->cols - c : CHUNK;
        const float *x = ft_row_floats(a, r, c, n, scratch);
        const float *y = b ? ft_row_floats(b, r, c, n, scratch + CHUNK) : NULL;
        for (int64_t i = 0; i < n; i += 16)
            sum = v_fma(v_in(x, FT_F32, i, n - i), y ? v_in(y, FT_F32, i, n - i) : v_set(1), sum);
    }
    return v_sum(sum);
}

static void run_row(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    for (int64_t r = begin * FT_ITEM_ROWS; r < row_stop(k, end); r++)
        ((float *)k->out[0].data)[r] = row_product(k, r, (float *)scratch);
}

static void run_all(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    float *out = (float *)k->out[0].data, total = k->accumulate ? *out : 0;
    (void)begin, (void)end;
    for (ft_block b = { 0 }; ft_next_block(k, &k->in[0], &b);) {
        float sum = 0;
        for (int64_t r = b.begin; r < b.end; r++) sum += row_product(k, r, (float *)scratch);
        total += sum;
    }
    *out = total;
}

/* Items are 16 columns. */
static int64_t column_items(const ft_call *k)
{
    return (k->in[0].cols + 15) / 16;
}

__attribute__((always_inline))
static inline void columns(const ft_call *k, int64_t begin, int64_t end, ft_dtype t)
{
    const ft_arg *a = &k->in[0], *y = k->n_in > 1 ? &k->in[1] : NULL;
    for (int64_t c = begin * 16; c < end * 16 && c < a->cols; c += 16) {
        float *out = (float *)k->out[0].data + c;
        int64_t m = a->cols - c;
        v16 total = k->accumulate ? v_in(out, FT_F32, 0, m) : v_zero();
        for (ft_block b = { 0 }; ft_next_block(k, a, &b);) {
            v16 sum = v_zero();
            for (int64_t r = b.begin; r < b.end; r++)
                sum = v_fma(v_in(ft_row(a, r), t, c, m),
                            y ? v_in(ft_row(y, r), y->dtype, c, m) : v_set(1), sum);
            total = v_add(total, sum);
        }
        v_out(out, FT_F32, 0, m, total);
    }
}

static void run_col_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    columns(k, b, e, FT_F32);
}
static void run_col_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)s;
    columns(k, b, e, FT_BF16);
}

/* v spread over the output: along rows, columns or everywhere; serves the reference as well. */
static int64_t out_rows(const ft_call *k)
{
    return ft_rows(k, &k->out[0]);
}

static void run_expand(const ft_call *k, int64_t begin, int64_t end, void *s)
{
    const ft_arg *v = &k->in[0], *y = &k->out[0];
    bool scalar = v->rows == 1 && v->cols == 1, column = v->cols == 1,
         by_row = v->rows == 1 && v->cols == y->cols;
    (void)s;
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < y->cols; c++) {
            double x = scalar   ? ft_get(v, 0, 0)
                       : column ? ft_get(v, r, 0)
                       : by_row ? ft_get(v, 0, c)
                                : ft_get(v, 0, r);
            ft_put(y, r, c, x);
        }
    }
}

#define ROW(name, t, room, count, fn)                                                       \
    {                                                                                       \
        .size = sizeof(ft_kernel), .op = name, .dtype = t, .scratch = room, .items = count, \
        .run = fn                                                                           \
    }
static const ft_kernel kernels[] = {
    ROW("row_sum", FT_F32, chunk_scratch, row_items, run_row),
    ROW("row_sum", FT_BF16, chunk_scratch, row_items, run_row),
    ROW("row_dot", FT_F32, chunk_scratch, row_items, run_row),
    ROW("row_dot", FT_BF16, chunk_scratch, row_items, run_row),
    ROW("sum", FT_F32, chunk_scratch, one_item, run_all),
    ROW("sum", FT_BF16, chunk_scratch, one_item, run_all),
    ROW("dot", FT_F32, chunk_scratch, one_item, run_all),
    ROW("dot", FT_BF16, chunk_scratch, one_item, run_all),
    ROW("col_sum", FT_F32, NULL, column_items, run_col_f32),
    ROW("col_sum", FT_BF16, NULL, column_items, run_col_bf16),
    ROW("col_dot", FT_F32, NULL, column_items, run_col_f32),
    ROW("col_dot", FT_BF16, NULL, column_items, run_col_bf16),
    ROW("expand", FT_NO_DTYPE, NULL, out_rows, run_expand),
};
FT_TABLE(reduce, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    ROW("row_sum", FT_NO_DTYPE, NULL, one_item, ref_row),
    ROW("row_dot", FT_NO_DTYPE, NULL, one_item, ref_row),
    ROW("sum", FT_NO_DTYPE, NULL, one_item, ref_all),
    ROW("dot", FT_NO_DTYPE, NULL, one_item, ref_all),
    ROW("col_sum", FT_NO_DTYPE, NULL, one_item, ref_col),
    ROW("col_dot", FT_NO_DTYPE, NULL, one_item, ref_col),
    ROW("expand", FT_NO_DTYPE, NULL, out_rows, run_expand),
};
FT_REFERENCE(reduce, references)
#endif

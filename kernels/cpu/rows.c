/* rows.c -- ops that pick or place whole rows: embedding, embedding_dw, gather_rows, scatter_rows,
 * cache.
 *
 * embedding_dw adds the rows of dy to the rows of the gradient in the order of the tokens; items
 * are columns, so no two threads meet.  Ids that a row does not have (virtual tokens for the
 * vocabulary, and the other way round) add nothing. */
#include "vec.h"

/* The row that id picks from the table: of the vocabulary for ids >= 0, of the virtual tokens for
 * ids < 0; -1: none. */
static int64_t row_of(int32_t id, bool of_virtual, int64_t rows)
{
    int64_t r = of_virtual ? -1 - (int64_t)id : (int64_t)id;
    return r < rows ? r : -1;
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static void ref_embedding(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const int32_t *ids = (const int32_t *)k->in[0].data;
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, &k->out[0]); t++) {
        const ft_arg *w = &k->in[ids[t] < 0 ? 2 : 1];
        for (int64_t c = 0; c < w->cols; c++)
            ft_put(&k->out[0], t, c, ft_get(w, row_of(ids[t], ids[t] < 0, w->rows), c));
    }
}

static void ref_embedding_dw(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const int32_t *ids = (const int32_t *)k->in[1].data;
    const ft_arg *w = &k->out[0];
    (void)b, (void)e, (void)s;
    for (int64_t r = 0; r < w->rows && !k->accumulate; r++) {
        for (int64_t c = 0; c < w->cols; c++) ft_put(w, r, c, 0);
    }
    for (int64_t t = 0; t < ft_rows(k, &k->in[0]); t++) {
        int64_t r = row_of(ids[t], k->attr[1] != 0, w->rows);
        for (int64_t c = 0; r >= 0 && c < w->cols; c++)
            ft_put(w, r, c, ft_get(w, r, c) + ft_get(&k->in[0], t, c));
    }
}

static void ref_gather(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    for (int64_t i = 0; i < k->batch->n_trained; i++) {
        for (int64_t c = 0; c < k->in[0].cols; c++)
            ft_put(&k->out[0], i, c, ft_get(&k->in[0], k->batch->trained[i], c));
    }
}

static void ref_scatter(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    for (int64_t t = 0, i = 0; t < k->batch->n_tokens; t++) {
        bool here = i < k->batch->n_trained && k->batch->trained[i] == t;
        for (int64_t c = 0; c < k->in[0].cols; c++)
            ft_put(&k->out[0], t, c, here ? ft_get(&k->in[0], i, c) : 0);
        i += here;
    }
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

static int64_t out_items(const ft_call *k)
{
    return (ft_rows(k, &k->out[0]) + FT_ITEM_ROWS - 1) / FT_ITEM_ROWS;
}

static int64_t out_stop(const ft_call *k, int64_t end)
{
    int64_t rows = ft_rows(k, &k->out[0]);
    return end * FT_ITEM_ROWS < rows ? end * FT_ITEM_ROWS : rows;
}

static size_t dtype_size(ft_dtype t) { return t == FT_F64 ? 8 : t == FT_BF16 ? 2 : 4; }

static size_t embedding_scratch(const ft_call *k) { return (size_t)k->out[0].cols * sizeof(float); }

static void run_embedding(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const int32_t *ids = (const int32_t *)k->in[0].data;
    const ft_arg *y = &k->out[0];
    for (int64_t t = begin * FT_ITEM_ROWS; t < out_stop(k, end); t++) {
        const ft_arg *w = &k->in[ids[t] < 0 ? 2 : 1];
        int64_t r = row_of(ids[t], ids[t] < 0, w->rows);
        if (!w->packed && w->dtype == y->dtype) {
            memcpy(ft_row(y, t), (const char *)w->data + (size_t)(r * w->ld) * dtype_size(w->dtype),
                   (size_t)y->cols * dtype_size(y->dtype));
            continue;
        }
        const float *x = ft_row_floats(w, r, 0, y->cols, (float *)scratch);
        for (int64_t i = 0; i < y->cols; i += 16)
            v_out(ft_row(y, t), y->dtype, i, y->cols - i, v_in(x, FT_F32, i, y->cols - i));
    }
}

enum { COLUMNS = 64 };

static int64_t column_items(const ft_call *k)
{
    return (k->out[0].cols + COLUMNS - 1) / COLUMNS;
}

static void run_embedding_dw(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const int32_t *ids = (const int32_t *)k->in[1].data;
    const ft_arg *w = &k->out[0], *dy = &k->in[0];
    (void)scratch;
    for (int64_t c0 = begin * COLUMNS; c0 < end * COLUMNS && c0 < w->cols; c0 += COLUMNS) {
        int64_t n = w->cols - c0 < COLUMNS ? w->cols - c0 : COLUMNS;
        for (int64_t r = 0; r < w->rows && !k->accumulate; r++)
            memset((float *)w->data + r * w->ld + c0, 0, (size_t)n * 4);
        for (int64_t t = 0; t < ft_rows(k, dy); t++) {
            int64_t r = row_of(ids[t], k->attr[1] != 0, w->rows);
            float *to = (float *)w->data + r * w->ld + c0;
            for (int64_t i = 0; r >= 0 && i < n; i += 16) {
                v16 d = v_in(ft_row(dy, t), dy->dtype, c0 + i, n - i);
                v_out(to, FT_F32, i, n - i, v_add(v_in(to, FT_F32, i, n - i), d));
            }
        }
    }
}

static void run_gather(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    size_t bytes = (size_t)k->in[0].cols * dtype_size(k->in[0].dtype);
    (void)scratch;
    for (int64_t i = begin * FT_ITEM_ROWS; i < out_stop(k, end); i++)
        memcpy(ft_row(&k->out[0], i), ft_row(&k->in[0], k->batch->trained[i]), bytes);
}

/* First trained row at or after token t. */
static int64_t trained_from(const ft_batch *b, int64_t t)
{
    int64_t lo = 0, hi = b->n_trained;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (b->trained[mid] < t) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static void run_scatter(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    size_t bytes = (size_t)k->in[0].cols * dtype_size(k->in[0].dtype);
    const ft_batch *b = k->batch;
    int64_t i = trained_from(b, begin * FT_ITEM_ROWS);
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < out_stop(k, end); t++) {
        bool here = i < b->n_trained && b->trained[i] == t;
        if (here) memcpy(ft_row(&k->out[0], t), ft_row(&k->in[0], i++), bytes);
        else memset(ft_row(&k->out[0], t), 0, bytes);
    }
}

/* Writes the keys of the batch's tokens to their documents' slots, behind what is there. */
static int64_t doc_items(const ft_call *k)
{
    return k->batch->n_docs;
}

static void run_cache(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_batch *b = k->batch;
    size_t row = (size_t)k->in[0].cols * dtype_size(k->in[0].dtype);
    (void)scratch;
    for (int64_t d = begin; d < end; d++) {
        int64_t n = b->doc_start[d + 1] - b->doc_start[d],
                at = b->slot[d] * b->slot_tokens + b->cached[d];
        memcpy((char *)k->out[0].data + (size_t)at * row,
               (const char *)k->in[0].data + (size_t)b->doc_start[d] * row, (size_t)n * row);
    }
}

#define ROW(name, t, room, count, fn)                                                       \
    {                                                                                       \
        .size = sizeof(ft_kernel), .op = name, .dtype = t, .scratch = room, .items = count, \
        .run = fn                                                                           \
    }
static const ft_kernel kernels[] = {
    ROW("embedding", FT_F32, embedding_scratch, out_items, run_embedding),
    ROW("embedding", FT_BF16, embedding_scratch, out_items, run_embedding),
    ROW("embedding_dw", FT_F32, NULL, column_items, run_embedding_dw),
    ROW("embedding_dw", FT_BF16, NULL, column_items, run_embedding_dw),
    ROW("gather_rows", FT_F32, NULL, out_items, run_gather),
    ROW("gather_rows", FT_BF16, NULL, out_items, run_gather),
    ROW("scatter_rows", FT_F32, NULL, out_items, run_scatter),
    ROW("scatter_rows", FT_BF16, NULL, out_items, run_scatter),
    ROW("cache", FT_NO_DTYPE, NULL, doc_items, run_cache),
};
FT_TABLE(rows, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    ROW("embedding", FT_NO_DTYPE, NULL, one_item, ref_embedding),
    ROW("embedding_dw", FT_NO_DTYPE, NULL, one_item, ref_embedding_dw),
    ROW("gather_rows", FT_NO_DTYPE, NULL, one_item, ref_gather),
    ROW("scatter_rows", FT_NO_DTYPE, NULL, one_item, ref_scatter),
    ROW("cache", FT_NO_DTYPE, NULL, doc_items, run_cache),
};
FT_REFERENCE(rows, references)
#endif

/* routing.c -- which experts a token is sent to, and how their answers are joined.
 *
 *   top_k(l; k)            the k greatest of a row of logits, in falling order; of equals the first
 *   route(l, ids; all)     w_j = softmax over the chosen l (all 1: over the row) at ids_j, fp32
 *   route_dx(dw, w, l, ids; all)   dl = w_j (dw_j - sum_i w_i dw_i) at ids_j, 0 elsewhere; all 1:
 *                                  p (… - sum_i w_i dw_i) everywhere
 *   combine(z[, w]; slots)  y = sum_j w_j z_j, z (T, slots * d): ascending j; without w the sum
 *   combine_dx(dy, w)       dz_j = w_j dy
 *   combine_dw(dy, z; slots)  dw_j = dy . z_j
 *
 * A row at a time; sums over a row run in ascending order. */
#include "vec.h"

/* ---- top_k: one text for reference and speed ------------------------------------------------- */

static void top_row(int32_t *out, double *left, int64_t n, int64_t k)
{
    for (int64_t j = 0; j < k; j++) {
        int64_t best = -1;
        for (int64_t e = 0; e < n; e++) { /* whatever the numbers, k different ones are found */
            bool taken = false;
            for (int64_t i = 0; i < j; i++) taken |= out[i] == e;
            if (!taken && (best < 0 || left[e] > left[best])) best = e;
        }
        out[j] = (int32_t)best;
    }
}

static size_t top_scratch(const ft_call *k) { return (size_t)k->in[0].cols * sizeof(double); }

static void run_top(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *l = &k->in[0];
    double *row = scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        for (int64_t e = 0; e < l->cols; e++) row[e] = ft_get(l, t, e);
        top_row((int32_t *)k->out[0].data + t * k->out[0].cols, row, l->cols, k->out[0].cols);
    }
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static const int32_t *ids_of(const ft_arg *ids, int64_t t)
{
    return (const int32_t *)ids->data + t * ids->cols;
}

/* The greatest logit and the sum of exponentials that a token's weights are divided by. */
static double ref_softmax(const ft_arg *l, const ft_arg *ids, bool all, int64_t t, double *most)
{
    const int32_t *id = ids_of(ids, t);
    int64_t n = all ? l->cols : ids->cols;
    double sum = 0;
    *most = ft_get(l, t, id[0]);
    for (int64_t i = 0; i < n; i++) *most = fmax(*most, ft_get(l, t, all ? i : id[i]));
    for (int64_t i = 0; i < n; i++) sum += exp(ft_get(l, t, all ? i : id[i]) - *most);
    return sum;
}

static void ref_route(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *l = &k->in[0], *ids = &k->in[1];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, ids); t++) {
        double most, sum = ref_softmax(l, ids, k->attr[0] != 0, t, &most);
        for (int64_t j = 0; j < ids->cols; j++)
            ft_put(&k->out[0], t, j, exp(ft_get(l, t, ids_of(ids, t)[j]) - most) / sum);
    }
}

static void ref_route_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dw = &k->in[0], *w = &k->in[1], *l = &k->in[2], *ids = &k->in[3];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, ids); t++) {
        bool all = k->attr[0] != 0;
        double dot = 0, most, sum = ref_softmax(l, ids, all, t, &most);
        for (int64_t j = 0; j < ids->cols; j++) dot += ft_get(w, t, j) * ft_get(dw, t, j);
        for (int64_t c = 0; c < l->cols; c++) {
            double d = all ? -dot * exp(ft_get(l, t, c) - most) / sum : 0;
            for (int64_t j = 0; j < ids->cols; j++) {
                if (ids_of(ids, t)[j] == c)
                    d += ft_get(w, t, j) * (all ? ft_get(dw, t, j) : ft_get(dw, t, j) - dot);
            }
            ft_put(&k->out[0], t, c, d);
        }
    }
}

static void ref_combine(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *z = &k->in[0], *y = &k->out[0];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, y); t++) {
        for (int64_t c = 0; c < y->cols; c++) {
            double sum = 0;
            for (int64_t j = 0; j < z->cols / y->cols; j++)
                sum += (k->n_in > 1 ? ft_get(&k->in[1], t, j) : 1) * ft_get(z, t, j * y->cols + c);
            ft_put(y, t, c, sum);
        }
    }
}

static void ref_combine_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *w = &k->in[1];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, dy); t++) {
        for (int64_t c = 0; c < k->out[0].cols; c++)
            ft_put(&k->out[0], t, c, ft_get(w, t, c / dy->cols) * ft_get(dy, t, c % dy->cols));
    }
}

static void ref_combine_dw(const ft_call *k, int64_t b, int64_t e, void *s)
{
    const ft_arg *dy = &k->in[0], *z = &k->in[1];
    (void)b, (void)e, (void)s;
    for (int64_t t = 0; t < ft_rows(k, dy); t++) {
        for (int64_t j = 0; j < k->out[0].cols; j++) {
            double sum = 0;
            for (int64_t c = 0; c < dy->cols; c++)
                sum += ft_get(dy, t, c) * ft_get(z, t, j * dy->cols + c);
            ft_put(&k->out[0], t, j, sum);
        }
    }
}
#endif

/* ---- weights --------------------------------------------------------------------------------- */

/* Scratch: a row of logits rounded up to vectors, and as many exponentials. */
static int64_t padded(int64_t n)
{
    return (n + 15) / 16 * 16;
}

static size_t route_scratch(const ft_call *k)
{
    int64_t n = k->n_in > 2 ? k->in[2].cols : k->in[0].cols;
    return 2 * (size_t)padded(n) * sizeof(float);
}

/* exp(l - greatest) of the n logits that count into p; returns their sum.  all: the row's, else
 * those at ids. */
static float softmax_row(float *p, float *l, const ft_arg *logits, int64_t t, const int32_t *id,
                         int64_t slots, bool all)
{
    int64_t n = all ? logits->cols : slots;
    float most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t c = all ? i : id[i];
        const void *row = ft_row(logits, t);
        l[i] = logits->dtype == FT_BF16 ? bf16_get(((const uint16_t *)row)[c])
                                        : ((const float *)row)[c];
        most = l[i] > most ? l[i] : most;
    }
    for (int64_t i = n; i < padded(n); i++) l[i] = most;
    for (int64_t i = 0; i < n; i += 16)
        v_store(p + i, v_exp(v_sub(v_load(l + i), v_set(most))));
    for (int64_t i = 0; i < n; i++) sum += p[i];
    return sum;
}

static void run_route(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *l = &k->in[0], *ids = &k->in[1];
    float *row = scratch, *p = row + padded(l->cols);
    bool all = k->attr[0] != 0;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        const int32_t *id = (const int32_t *)ids->data + t * ids->cols;
        float sum = softmax_row(p, row, l, t, id, ids->cols, all);
        float *out = ft_row(&k->out[0], t);
        for (int64_t j = 0; j < ids->cols; j++) out[j] = p[all ? id[j] : j] / sum;
    }
}

static void run_route_dx(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *l = &k->in[2], *ids = &k->in[3], *y = &k->out[0];
    float *row = scratch, *p = row + padded(l->cols);
    bool all = k->attr[0] != 0;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        const int32_t *id = (const int32_t *)ids->data + t * ids->cols;
        const float *dw = ft_row(&k->in[0], t), *w = ft_row(&k->in[1], t);
        float dot = 0, sum = all ? softmax_row(p, row, l, t, id, ids->cols, true) : 1;
        for (int64_t j = 0; j < ids->cols; j++) dot = fmaf(w[j], dw[j], dot);
        for (int64_t c = 0; c < l->cols; c++) row[c] = all ? -dot * (p[c] / sum) : 0;
        for (int64_t j = 0; j < ids->cols; j++)
            row[id[j]] = fmaf(w[j], all ? dw[j] : dw[j] - dot, row[id[j]]);
        for (int64_t c = 0; c < l->cols; c += 16)
            v_out(ft_row(y, t), y->dtype, c, l->cols - c, v_load(row + c));
    }
}

/* ---- joining --------------------------------------------------------------------------------- */

static void run_combine(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *z = &k->in[0], *y = &k->out[0];
    int64_t d = y->cols, slots = z->cols / d;
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        const float *w = k->n_in > 1 ? ft_row(&k->in[1], t) : NULL;
        for (int64_t c = 0; c < d; c += 16) {
            v16 sum = v_zero();
            for (int64_t j = 0; j < slots; j++) {
                v16 x = v_in(ft_row(z, t), z->dtype, j * d + c, d - c);
                sum = w ? v_fma(v_set(w[j]), x, sum) : v_add(sum, x);
            }
            v_out(ft_row(y, t), y->dtype, c, d - c, sum);
        }
    }
}

static void run_combine_dx(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *dy = &k->in[0], *y = &k->out[0];
    int64_t d = dy->cols, slots = y->cols / d;
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        const float *w = ft_row(&k->in[1], t);
        for (int64_t c = 0; c < d; c += 16) {
            v16 x = v_in(ft_row(dy, t), dy->dtype, c, d - c);
            for (int64_t j = 0; j < slots; j++)
                v_out(ft_row(y, t), y->dtype, j * d + c, d - c, v_mul(v_set(w[j]), x));
        }
    }
}

static void run_combine_dw(const ft_call *k, int64_t begin, int64_t end, void *scratch)
{
    const ft_arg *dy = &k->in[0], *z = &k->in[1];
    int64_t d = dy->cols;
    (void)scratch;
    for (int64_t t = begin * FT_ITEM_ROWS; t < row_stop(k, end); t++) {
        for (int64_t j = 0; j < k->out[0].cols; j++) {
            v16 sum = v_zero();
            for (int64_t c = 0; c < d; c += 16)
                sum = v_fma(v_in(ft_row(dy, t), dy->dtype, c, d - c),
                            v_in(ft_row(z, t), z->dtype, j * d + c, d - c), sum);
            ((float *)ft_row(&k->out[0], t))[j] = v_sum(sum);
        }
    }
}

#define ROW(name, room, fn)                                                      \
    {                                                                            \
        .size = sizeof(ft_kernel), .op = name, .dtype = FT_F32, .scratch = room, \
        .items = row_items, .run = fn                                            \
    },                                                                           \
    {                                                                            \
        .size = sizeof(ft_kernel), .op = name, .dtype = FT_BF16, .scratch = room, \
        .items = row_items, .run = fn                                            \
    }
static const ft_kernel kernels[] = {
    ROW("top_k", top_scratch, run_top),        ROW("route", route_scratch, run_route),
    ROW("route_dx", route_scratch, run_route_dx), ROW("combine", NULL, run_combine),
    ROW("combine_dx", NULL, run_combine_dx),   ROW("combine_dw", NULL, run_combine_dw),
};
FT_TABLE(routing, kernels)

#ifdef FT_ISA_plain
#define REF(name, fn) { .size = sizeof(ft_kernel), .op = name, .items = one_item, .run = fn }
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "top_k",
      .scratch = top_scratch,
      .items = row_items,
      .run = run_top },
    REF("route", ref_route),
    REF("route_dx", ref_route_dx),
    REF("combine", ref_combine),
    REF("combine_dx", ref_combine_dx),
    REF("combine_dw", ref_combine_dw),
};
FT_REFERENCE(routing, references)
#endif

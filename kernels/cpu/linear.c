/* linear.c -- linear, linear_dx, linear_logits: sums of products over shared panels of the weights.
 *
 *   linear     y = sum_i x_i W_i^T + bias        items: 32 columns of y by a run of rows
 *   linear_dx  x = sum_i d_i W_i
 *   linear_logits  as linear, in fp32, softcapped: cap tanh(y / cap)
 *
 * An item packs the panels of all terms (decoding packed weights while it does), then goes through
 * its rows in strips of STRIP: the sum of the terms in fp32, then bias and rounding, once. */
#include "gemm.h"

enum { STRIP = 56 };

static int terms_of(const ft_call *k) { return (int)k->attr[0]; }
static const ft_arg *bias_of(const ft_call *k)
{
    return k->n_in > 2 * terms_of(k) ? &k->in[k->n_in - 1] : NULL;
}

/* ---- reference ------------------------------------------------------------------------------- */
#ifdef FT_ISA_plain
static void ref_product(const ft_call *k, bool dx, double cap)
{
    const ft_arg *bias = dx ? NULL : bias_of(k);
    for (int64_t t = 0; t < ft_rows(k, &k->out[0]); t++) {
        for (int64_t j = 0; j < k->out[0].cols; j++) {
            double sum = bias ? ft_get(bias, 0, j) : 0;
            for (int i = 0; i < terms_of(k); i++) {
                const ft_arg *x = &k->in[2 * i], *w = &k->in[2 * i + 1];
                for (int64_t c = 0; c < x->cols; c++)
                    sum += ft_get(x, t, c) * (dx ? ft_get(w, c, j) : ft_get(w, j, c));
            }
            ft_put(&k->out[0], t, j, cap > 0 ? cap * tanh(sum / cap) : sum);
        }
    }
}

static void ref_linear(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    ref_product(k, false, 0);
}
static void ref_linear_dx(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    ref_product(k, true, 0);
}
static void ref_logits(const ft_call *k, int64_t b, int64_t e, void *s)
{
    (void)b, (void)e, (void)s;
    ref_product(k, false, k->attr[2]);
}
#endif

/* ---- fast ------------------------------------------------------------------------------------ */

/* Whether the left operand must be copied to be read in whole steps of dtype t. */
static bool needs_copy(const ft_arg *x, ft_dtype t)
{
    return x->packed || x->dtype != t || (t == FT_BF16 && x->cols % 2);
}

/* Scratch of a thread: panels, room for packing, a strip of the left operand, a strip of sums. */
typedef struct { char *panel[GEMM_MAX_TERMS]; char *tmp, *left; float *sum; size_t bytes; } layout;

static layout lay_out(const ft_call *k, ft_dtype t, void *scratch)
{
    layout l = { .bytes = 0 };
    int64_t longest = 0, at = 0;
    for (int i = 0; i < terms_of(k); i++) {
        l.panel[i] = (char *)scratch + at;
        at += gemm_panel_bytes(t, k->in[2 * i].cols);
        if (k->in[2 * i].cols > longest) longest = k->in[2 * i].cols;
    }
    l.tmp = (char *)scratch + at;
    at += gemm_pack_bytes(longest);
    l.left = (char *)scratch + at;
    at += (STRIP * (longest + 1) * 4 + 63) / 64 * 64;
    l.sum = (float *)(void *)((char *)scratch + at);
    l.bytes = (size_t)(at + STRIP * GEMM_N * 4);
    return l;
}

static size_t scratch_f32(const ft_call *k) { return lay_out(k, FT_F32, NULL).bytes; }
static size_t scratch_bf16(const ft_call *k) { return lay_out(k, FT_BF16, NULL).bytes; }

static int64_t panels_of(const ft_call *k) { return (k->out[0].cols + GEMM_N - 1) / GEMM_N; }

/* Runs of rows: one when there are panels enough for the threads, else more, of whole strips. */
static int64_t runs_of(const ft_call *k)
{
    int64_t strips = (ft_rows(k, &k->out[0]) + STRIP - 1) / STRIP, panels = panels_of(k),
            want = 4 * (int64_t)k->threads;
    int64_t runs = k->threads == 1 || panels >= want ? 1 : (want + panels - 1) / panels;
    return runs < strips ? runs : strips > 0 ? strips : 1;
}

static int64_t product_items(const ft_call *k) { return panels_of(k) * runs_of(k); }

static void pack_panels(const ft_call *k, const layout *l, int64_t col, ft_dtype t, bool dx)
{
    for (int i = 0; i < terms_of(k); i++) {
        const ft_arg *w = &k->in[2 * i + 1];
        if (dx) FT_NAME(gemm_pack_cols)(l->panel[i], w, 0, w->rows, col, t, l->tmp);
        else FT_NAME(gemm_pack_rows)(l->panel[i], w, col, 0, w->cols, t, l->tmp);
    }
}

/* The left operand's rows from r on, as steps of dtype t. */
static gemm_a left_rows(const ft_arg *x, const layout *l, int64_t r, int64_t n, ft_dtype t)
{
    int64_t size = t == FT_BF16 ? 2 : 4;
    if (!needs_copy(x, t))
        return (gemm_a){ (const char *)x->data + r * x->ld * size, x->ld * size, 4 };
    int64_t ld = x->cols + (t == FT_BF16 && x->cols % 2);
    FT_NAME(gemm_fetch)(l->left, ld, x, r, n, 0, x->cols, t);
    for (int64_t i = 0; ld > x->cols && i < n; i++)
        ((uint16_t *)(void *)l->left)[i * ld + x->cols] = 0;
    return (gemm_a){ l->left, ld * size, 4 };
}

/* Rounds n rows of sums into the output, with the bias. */
static void finish(const ft_call *k, const layout *l, int64_t r, int64_t n, int64_t col, ft_dtype t,
                   float cap)
{
    const ft_arg *y = &k->out[0], *bias = bias_of(k);
    int64_t m = y->cols - col < GEMM_N ? y->cols - col : GEMM_N;
    for (int64_t j = 0; j < m; j += 16) {
        v16 b = bias ? v_in((const float *)bias->data + col, FT_F32, j, m - j) : v_zero();
        for (int64_t i = 0; i < n; i++) {
            v16 x = v_load(l->sum + i * GEMM_N + j);
            if (bias) x = v_add(x, b);
            if (cap > 0) x = v_mul(v_set(cap), v_tanh(v_div(x, v_set(cap))));
            v_out(ft_row(y, r + i), t, col + j, m - j, x);
        }
    }
}

__attribute__((always_inline)) static inline void product(const ft_call *k, int64_t begin,
                                                          int64_t end, void *scratch, ft_dtype t,
                                                          bool dx, bool logits)
{
    layout l = lay_out(k, t, scratch);
    int64_t runs = runs_of(k), rows = ft_rows(k, &k->out[0]), packed = -1;
    int64_t strips = (rows + STRIP - 1) / STRIP;
    for (int64_t item = begin; item < end; item++) {
        int64_t panel = item / runs, run = item % runs, col = panel * GEMM_N;
        if (panel != packed) pack_panels(k, &l, col, t, dx);
        packed = panel;
        int64_t stop = (run + 1) * strips / runs * STRIP;
        for (int64_t r = run * strips / runs * STRIP; r < stop && r < rows; r += STRIP) {
            int64_t n = rows - r < STRIP ? rows - r : STRIP;
            memset(l.sum, 0, (size_t)n * GEMM_N * sizeof *l.sum);
            for (int i = 0; i < terms_of(k); i++)
                FT_NAME(gemm_tile)(l.sum, GEMM_N, left_rows(&k->in[2 * i], &l, r, n, t), l.panel[i],
                    n,
                 gemm_steps(t, k->in[2 * i].cols), t);
            finish(k, &l, r, n, col, logits ? FT_F32 : t, logits ? (float)k->attr[2] : 0);
        }
    }
}

static void linear_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_F32, false, false);
}
static void linear_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_BF16, false, false);
}
static void linear_dx_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_F32, true, false);
}
static void linear_dx_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_BF16, true, false);
}
static void logits_f32(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_F32, false, true);
}
static void logits_bf16(const ft_call *k, int64_t b, int64_t e, void *s)
{
    product(k, b, e, s, FT_BF16, false, true);
}

static const ft_kernel kernels[] = {
    { .size = sizeof(ft_kernel),
      .op = "linear",
      .dtype = FT_F32,
      .scratch = scratch_f32,
      .items = product_items,
      .run = linear_f32 },
    { .size = sizeof(ft_kernel),
      .op = "linear",
      .dtype = FT_BF16,
      .scratch = scratch_bf16,
      .items = product_items,
      .run = linear_bf16 },
    { .size = sizeof(ft_kernel),
      .op = "linear_dx",
      .dtype = FT_F32,
      .scratch = scratch_f32,
      .items = product_items,
      .run = linear_dx_f32 },
    { .size = sizeof(ft_kernel),
      .op = "linear_dx",
      .dtype = FT_BF16,
      .scratch = scratch_bf16,
      .items = product_items,
      .run = linear_dx_bf16 },
    { .size = sizeof(ft_kernel),
      .op = "linear_logits",
      .dtype = FT_F32,
      .scratch = scratch_f32,
      .items = product_items,
      .run = logits_f32 },
    { .size = sizeof(ft_kernel),
      .op = "linear_logits",
      .dtype = FT_BF16,
      .scratch = scratch_bf16,
      .items = product_items,
      .run = logits_bf16 },
};
FT_TABLE(linear, kernels)

#ifdef FT_ISA_plain
static const ft_kernel references[] = {
    { .size = sizeof(ft_kernel),
      .op = "linear",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_linear },
    { .size = sizeof(ft_kernel),
      .op = "linear_dx",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_linear_dx },
    { .size = sizeof(ft_kernel),
      .op = "linear_logits",
      .dtype = FT_NO_DTYPE,
      .items = one_item,
      .run = ref_logits },
};
FT_REFERENCE(linear, references)
#endif

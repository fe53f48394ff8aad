/* linear.c -- linear, linear_dx, linear_logits: sums of products over shared panels of the weights.
 *
 *   linear     y = sum_i x_i W_i^T + bias        items: a group of columns of y by a run of rows
 *   linear_dx  x = sum_i d_i W_i
 *   linear_logits  as linear, in fp32, softcapped: cap tanh(y / cap)
 *
 * An item packs the panels of all terms for a group of columns (decoding packed weights while it
 * does), then goes through its rows in strips of STRIP, which stay in the second-level cache while
 * all panels of the group meet them: the sum of the terms in fp32, then bias and rounding, once.
 * A pass of generation that reads one more token of each text goes another way (linear_few.c). */
#include "linear.h"

/* Panels of a group: as many as GROUP_BYTES hold, so that they stay in the second-level cache
 * beside a strip, in pairs, and at most GROUP. */
enum { STRIP = 2 * GEMM_STRIP, GROUP = 4, GROUP_BYTES = 512 << 10 };

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

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t panels_of(const ft_call *k) { return (k->out[0].cols + GEMM_N - 1) / GEMM_N; }
static int64_t pairs_of(const ft_call *k) { return (panels_of(k) + 1) / 2; }

/* Bytes of the panels of all terms for 32 columns of the result. */
static int64_t panel_bytes(const ft_call *k, ft_dtype t, bool dx)
{
    int64_t n = 0;
    for (int i = 0; i < terms_of(k); i++)
        n += gemm_panel_bytes(t, dx ? k->in[2 * i + 1].rows : k->in[2 * i].cols);
    return n;
}

/* Groups of panels: of one number of pairs, or one less. */
static int64_t groups_of(const ft_call *k, ft_dtype t, bool dx)
{
    int64_t group = most(least(GROUP_BYTES / most(panel_bytes(k, t, dx), 1), GROUP) / 2, 1);
    return (pairs_of(k) + group - 1) / group;
}

/* Scratch of a thread: a group's panels, `panels` bytes from one of all terms to the next, room for
 * packing, a strip of the left operand, a strip of sums. */
typedef struct { char *panel, *tmp, *left; float *sum; int64_t panels; size_t bytes; } layout;

static layout lay_out(const ft_call *k, ft_dtype t, bool dx, void *scratch)
{
    layout l = { .panel = (char *)scratch, .panels = panel_bytes(k, t, dx) };
    int64_t longest = 0, groups = groups_of(k, t, dx);
    for (int i = 0; i < terms_of(k); i++) longest = most(longest, k->in[2 * i].cols);
    l.tmp = l.panel + least((pairs_of(k) + groups - 1) / groups * 2, panels_of(k)) * l.panels;
    l.left = l.tmp + gemm_pack_bytes(longest);
    l.sum = (float *)(void *)(l.left + STRIP * ((longest + 31) / 32 * 32) * 4);
    l.bytes = (size_t)((char *)(l.sum + STRIP * GROUP * GEMM_N) - (char *)scratch);
    return l;
}

/* Runs of rows: one when there are groups enough for the threads, else more, of whole strips. */
static int64_t runs_of(const ft_call *k, int64_t groups)
{
    int64_t strips = (ft_rows(k, &k->out[0]) + STRIP - 1) / STRIP, want = 4 * (int64_t)k->threads;
    int64_t runs = k->threads == 1 || groups >= want ? 1 : (want + groups - 1) / groups;
    return most(least(runs, strips), 1);
}

static int64_t product_items(const ft_call *k, ft_dtype t, bool dx)
{
    int64_t groups = groups_of(k, t, dx);
    if (!dx && k->batch->one_more) return panels_of(k);
    return groups * runs_of(k, groups);
}

/* Panels first … last-1: of each, all terms. */
static void pack_panels(const ft_call *k, const layout *l, int64_t first, int64_t last, ft_dtype t,
                        bool dx)
{
    char *to = l->panel;
    for (int64_t p = first; p < last; p++) {
        for (int i = 0; i < terms_of(k); i++) {
            const ft_arg *w = &k->in[2 * i + 1];
            int64_t depth = dx ? w->rows : w->cols;
            if (dx) FT_NAME(gemm_pack_cols)(to, w, 0, depth, p * GEMM_N, t, l->tmp);
            else FT_NAME(gemm_pack_rows)(to, w, p * GEMM_N, 0, depth, t, l->tmp);
            to += gemm_panel_bytes(t, depth);
        }
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

/* Rounds n rows of sums, `width` a row, into the output from column col on, with the bias. */
static void finish(const ft_call *k, const layout *l, int64_t r, int64_t n, int64_t col,
                   int64_t width, ft_dtype t, float cap)
{
    const ft_arg *y = &k->out[0], *bias = bias_of(k);
    int64_t m = least(y->cols - col, width);
    for (int64_t j = 0; j < m; j += 16) {
        v16 b = bias ? v_in((const float *)bias->data + col, FT_F32, j, m - j) : v_zero();
        for (int64_t i = 0; i < n; i++) {
            v16 x = v_load(l->sum + i * width + j);
            if (bias) x = v_add(x, b);
            if (cap > 0) x = v_mul(v_set(cap), v_tanh(v_div(x, v_set(cap))));
            v_out(ft_row(y, r + i), t, col + j, m - j, x);
        }
    }
}

/* Rows r … r+n-1 of panels first … last-1, which l->panel has. */
__attribute__((always_inline)) static inline void do_strip(const ft_call *k, const layout *l,
                                                           int64_t r, int64_t n, int64_t first,
                                                           int64_t last, ft_dtype t, bool logits)
{
    int64_t col = first * GEMM_N, width = (last - first) * GEMM_N;
    gemm_b b = { l->panel, l->panels, least(k->out[0].cols - col, width) };
    for (int i = 0; i < terms_of(k); i++) {
        const ft_arg *x = &k->in[2 * i];
        gemm_a a = left_rows(x, l, r, n, t);
        if (i == 0) FT_NAME(gemm_first)(l->sum, width, a, b, n, gemm_steps(t, x->cols), t);
        else FT_NAME(gemm_tile)(l->sum, width, a, b, n, gemm_steps(t, x->cols), t);
        b.panel = (const char *)b.panel + gemm_panel_bytes(t, x->cols);
    }
    finish(k, l, r, n, col, width, logits ? FT_F32 : t, logits ? (float)k->attr[2] : 0);
}

/* Columns 32 begin … 32 end where every row is one more token of a text.  The only term's rows are
 * made ready once. */
static void few_rows(const ft_call *k, const layout *l, int64_t begin, int64_t end, ft_dtype t,
                     bool logits)
{
    int64_t rows = ft_rows(k, &k->out[0]);
    float *left = (float *)(void *)l->left;
    bool one = terms_of(k) == 1;
    for (int64_t r = 0, n; r < rows; r += n) {
        n = least(rows - r, STRIP);
        if (one) FT_NAME(linear_few_left)(left, &k->in[0], r, n, t, l->tmp);
        for (int64_t p = begin; p < end; p++) {
            memset(l->sum, 0, (size_t)n * GEMM_N * sizeof *l->sum);
            for (int i = 0; i < terms_of(k); i++) {
                if (!one) FT_NAME(linear_few_left)(left, &k->in[2 * i], r, n, t, l->tmp);
                FT_NAME(linear_few)(l->sum, left, n, &k->in[2 * i + 1], p * GEMM_N, t, l->tmp);
            }
            finish(k, l, r, n, p * GEMM_N, GEMM_N, logits ? FT_F32 : t,
                   logits ? (float)k->attr[2] : 0);
        }
    }
}

__attribute__((always_inline)) static inline void product(const ft_call *k, int64_t begin,
                                                          int64_t end, void *scratch, ft_dtype t,
                                                          bool dx, bool logits)
{
    layout l = lay_out(k, t, dx, scratch);
    if (!dx && k->batch->one_more) {
        few_rows(k, &l, begin, end, t, logits);
        return;
    }
    int64_t groups = groups_of(k, t, dx), runs = runs_of(k, groups), packed = -1;
    int64_t rows = ft_rows(k, &k->out[0]), strips = (rows + STRIP - 1) / STRIP;
    for (int64_t item = begin; item < end; item++) {
        int64_t group = item / runs, run = item % runs, first = group * pairs_of(k) / groups * 2,
                last = least((group + 1) * pairs_of(k) / groups * 2, panels_of(k));
        if (group != packed) pack_panels(k, &l, first, last, t, dx);
        packed = group;
        int64_t stop = least((run + 1) * strips / runs * STRIP, rows);
        for (int64_t r = run * strips / runs * STRIP; r < stop; r += STRIP)
            do_strip(k, &l, r, least(rows - r, STRIP), first, last, t, logits);
    }
}

#define VARIANT(name, suffix, t, dx, logits)                                     \
    static void name##_##suffix(const ft_call *k, int64_t b, int64_t e, void *s) \
    {                                                                            \
        product(k, b, e, s, t, dx, logits);                                      \
    }                                                                            \
    static int64_t name##_items_##suffix(const ft_call *k)                       \
    {                                                                            \
        return product_items(k, t, dx);                                          \
    }                                                                            \
    static size_t name##_scratch_##suffix(const ft_call *k)                      \
    {                                                                            \
        return lay_out(k, t, dx, NULL).bytes;                                    \
    }
VARIANT(linear, f32, FT_F32, false, false)
VARIANT(linear, bf16, FT_BF16, false, false)
VARIANT(linear_dx, f32, FT_F32, true, false)
VARIANT(linear_dx, bf16, FT_BF16, true, false)
VARIANT(logits, f32, FT_F32, false, true)
VARIANT(logits, bf16, FT_BF16, false, true)

#define ROW(op_name, name, suffix, t)                                                             \
    {                                                                                             \
        .size = sizeof(ft_kernel), .op = op_name, .dtype = t, .scratch = name##_scratch_##suffix, \
        .items = name##_items_##suffix, .run = name##_##suffix                                    \
    }
static const ft_kernel kernels[] = {
    ROW("linear", linear, f32, FT_F32),       ROW("linear", linear, bf16, FT_BF16),
    ROW("linear_dx", linear_dx, f32, FT_F32), ROW("linear_dx", linear_dx, bf16, FT_BF16),
    ROW("linear_logits", logits, f32, FT_F32), ROW("linear_logits", logits, bf16, FT_BF16),
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

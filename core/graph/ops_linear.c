/* ops_linear.c -- matrix products, all of them sums of several terms:
 *
 *   linear(x1, W1, x2, W2, …[, bias]; terms)   y = sum_i x_i W_i^T + bias    x (T, in), W (out, in)
 *   linear_dx(d1, W1, …; terms)                      x = sum_i d_i W_i
 *   linear_dw(dy, x)                                 W = dy^T x, summed over the rows of the batch
 *
 * and the head, for rows that have a target t (linear_logprob's rows are the trained ones):
 *   linear_logits(x1, W1, …[, bias]; terms, bias, softcap)   the logits themselves, in fp32
 *   linear_logprob(x1, W1, …[, bias], t; terms, bias, softcap)   → log p(t), whether t is the most
 *                                                         likely (1 or 0), log-sum-exp
 *   linear_xent(…, t; terms, bias, softcap, coef)    the same, and with z = coef * loss_scale times
 *                                                    (softmax - onehot): x gradients z W_i, and z^T
 *                                                    x_i added to the gradients of trained W_i
 *   linear_logprob_dx(dlp, lse, …, t)                x gradients for any dlp, logits computed again
 *   linear_logprob_dw(dlp, lse, …, t; term)          W gradient of one term
 *
 * A sum of terms is rounded once.  Term i's products are added before those of term i+1. */
#include "core/graph/rules.h"

static int terms_of(const g_node *n) { return (int)n->attr[0]; }

static int check_terms(ft_g *g, const g_node *n, int64_t *rows, int64_t *out)
{
    *rows = g_rows(g_in(g, n, 0));
    *out = g_rows(g_in(g, n, 1));
    for (int i = 0; i < terms_of(n); i++) {
        const ft_desc *x = g_in(g, n, 2 * i), *w = g_in(g, n, 2 * i + 1);
        if (!g_is_matrix(x) || !g_is_matrix(w)) return g_misfit(g, n, "matrices are needed");
        if (w->life == FT_LIFE_MICRO)
            return g_misfit(g, n, "the second may not depend on the batch");
        if (g_cols(x) != g_cols(w)) return g_misfit(g, n, "the inner sizes differ");
        if (g_rows(x) != *rows || g_rows(w) != *out || x->axis != g_in(g, n, 0)->axis)
            return g_misfit(g, n, "the terms have different sizes");
    }
    return 0;
}

static int shape_linear(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t rows, cols;
    if (check_terms(g, n, &rows, &cols)) return -1;
    if (n->n_in > 2 * terms_of(n) && g_cols(g_in(g, n, n->n_in - 1)) != cols)
        return g_misfit(g, n, "the bias has another size");
    out->shape = ft_2d(rows, cols);
    out->axis = g_in(g, n, 0)->axis;
    return 0;
}

/* The head's logits for chosen rows, in fp32. */
static int shape_logits(ft_g *g, g_node *n, ft_desc *out)
{
    if (shape_linear(g, n, out)) return -1;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static void back_linear(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    int terms = terms_of(n);
    for (int i = 0; i < terms; i++) {
        ft_val x = g_inv(n, 2 * i), w = g_inv(n, 2 * i + 1);
        if (g_val(g, x)->grad)
            dx[2 * i] = g_make(g, "linear_dx", (double[]){ 1 }, 1, (ft_val[]){ dy[0], w }, 2);
        if (g_val(g, w)->grad) dx[2 * i + 1] = g_make2(g, "linear_dw", dy[0], x);
    }
    if (n->n_in > 2 * terms && g_wants(g, n, n->n_in - 1))
        dx[n->n_in - 1] = g_make1(g, "col_sum", dy[0]);
}

/* Rows of d present, columns of W. */
static int shape_linear_dx(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t rows = g_rows(g_in(g, n, 0)), cols = g_cols(g_in(g, n, 1));
    for (int i = 0; i < terms_of(n); i++) {
        const ft_desc *d = g_in(g, n, 2 * i), *w = g_in(g, n, 2 * i + 1);
        if (g_cols(d) != g_rows(w) || g_rows(d) != rows || g_cols(w) != cols ||
            d->axis != g_in(g, n, 0)->axis)
            return g_misfit(g, n, "the sizes do not fit");
    }
    out->shape = ft_2d(rows, cols);
    out->axis = g_in(g, n, 0)->axis;
    return 0;
}

static int shape_linear_dw(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *d = g_in(g, n, 0), *x = g_in(g, n, 1);
    if (!g_is_matrix(d) || !g_is_matrix(x) || g_rows(d) != g_rows(x) || d->axis != x->axis)
        return g_misfit(g, n, "the rows differ");
    out->shape = ft_2d(g_cols(d), g_cols(x));
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

/* ---- the head -------------------------------------------------------------------------------- */

enum { HEAD_TERMS, HEAD_BIAS, HEAD_CAP, HEAD_COEF };
enum { HEAD_LOGPROB, HEAD_HIT, HEAD_LSE, HEAD_N_OUT };

static int shape_head(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t rows, vocab;
    const ft_desc *t = g_in(g, n, n->n_in - 1);
    if (check_terms(g, n, &rows, &vocab)) return -1;
    if (n->n_in != 2 * terms_of(n) + (int)n->attr[HEAD_BIAS] + 1)
        return g_misfit(g, n, "wrong number of inputs");
    if (t->shape.ndim != 1 || t->axis != FT_AXIS_TRAINED || g_in(g, n, 0)->axis != FT_AXIS_TRAINED)
        return g_misfit(g, n, "rows and targets must be the trained ones");
    n->n_out = HEAD_N_OUT;
    for (int i = 0; i < HEAD_N_OUT; i++) {
        out[i].shape = ft_1d(rows);
        out[i].axis = FT_AXIS_TRAINED;
        if (out[i].dtype == FT_BF16) out[i].dtype = FT_F32;
    }
    return 0;
}

/* The general rule, for losses that give each row its own weight; SFT's is fused (derive.c). */
static void back_head(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val in[32];
    int terms = terms_of(n), k = 0;
    in[k++] = dy[HEAD_LOGPROB];
    in[k++] = g_outv(n, HEAD_LSE);
    for (int i = 0; i < n->n_in; i++) in[k++] = g_inv(n, i);
    if (!dy[HEAD_LOGPROB].id) return;
    ft_val d = { 0 };
    for (int i = 0; i < terms; i++) {
        if (!g_wants(g, n, 2 * i)) continue;
        if (!d.id) d = g_make(g, "linear_logprob_dx", n->attr, 4, in, k);
        dx[2 * i] = g_out(g, d, i);
    }
    for (int i = 0; i < terms + (int)n->attr[HEAD_BIAS]; i++) {
        int at = i < terms ? 2 * i + 1 : 2 * terms;
        double attr[5] = { n->attr[0], n->attr[1], n->attr[2], n->attr[3], i };
        if (g_wants(g, n, at)) dx[at] = g_make(g, "linear_logprob_dw", attr, 5, in, k);
    }
}

static int shape_head_dx(ft_g *g, g_node *n, ft_desc *out)
{
    n->n_out = terms_of(n);
    for (int i = 0; i < n->n_out; i++) {
        out[i].shape = g_in(g, n, 2 + 2 * i)->shape;
        out[i].axis = FT_AXIS_TRAINED;
    }
    return 0;
}

static int shape_head_dw(ft_g *g, g_node *n, ft_desc *out)
{
    int i = (int)n->attr[4], terms = terms_of(n);
    out->shape = g_in(g, n, i < terms ? 3 + 2 * i : 2 + 2 * terms)->shape;
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

/* Outputs: logprob, hit, then one x gradient a term; derive.c appends the accumulators. */
static int shape_xent(ft_g *g, g_node *n, ft_desc *out)
{
    if (shape_head(g, n, out)) return -1;
    n->n_out = 2 + terms_of(n);
    for (int i = 0; i < terms_of(n); i++) {
        out[2 + i].shape = g_in(g, n, 2 * i)->shape;
        out[2 + i].axis = FT_AXIS_TRAINED;
        out[2 + i].dtype = g->compute;
    }
    return 0;
}

#define HEAD_ATTR { "terms", "bias", "softcap", "coef", "term" }
const g_op g_ops_linear[] = { { .name = "linear",
                                .raw = true,
                                .min_in = 2,
                                .max_in = 17,
                                .attr = { "terms" },
                                .shape = shape_linear,
                                .backward = back_linear,
                                .linear = 0x5555 },
                              { .name = "linear_logits",
                                .raw = true,
                                .min_in = 2,
                                .max_in = 17,
                                .attr = HEAD_ATTR,
                                .shape = shape_logits },
                              { .name = "linear_dx",
                                .raw = true,
                                .min_in = 2,
                                .max_in = 24,
                                .attr = { "terms" },
                                .shape = shape_linear_dx },
                              { .name = "linear_dw",
                                .raw = true,
                                .min_in = 2,
                                .max_in = 2,
                                .shape = shape_linear_dw,
                                .reduces = true },
                              { .name = "linear_logprob",
                                .raw = true,
                                .min_in = 3,
                                .max_in = 18,
                                .attr = HEAD_ATTR,
                                .shape = shape_head,
                                .backward = back_head },
                              { .name = "linear_xent",
                                .raw = true,
                                .min_in = 3,
                                .max_in = 18,
                                .attr = HEAD_ATTR,
                                .shape = shape_xent },
                              { .name = "linear_logprob_dx",
                                .raw = true,
                                .min_in = 5,
                                .max_in = 20,
                                .attr = HEAD_ATTR,
                                .shape = shape_head_dx },
                              { .name = "linear_logprob_dw",
                                .raw = true,
                                .min_in = 5,
                                .max_in = 20,
                                .attr = HEAD_ATTR,
                                .shape = shape_head_dw,
                                .reduces = true },
                              { 0 } };

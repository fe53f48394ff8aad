/* ops_model.c -- what the layers of a language model are made of:
 *
 *   embedding(ids, W[, V])            row ids[t] of W; id -i reads row i-1 of V (virtual tokens)
 *   embedding_dw(dy, ids; rows, virtual)
 *   rms_norm(x, w; eps, plus)         y = x r (w + plus), r = 1/sqrt(mean(x^2) + eps) over groups
 *   of
 *                                     as many features as w has → y, r
 *   rms_norm_dx(dy, x, w, r; plus)  rms_norm_dw(dy, x, r)
 *   rope(x, positions, freq; factor, reverse, first, head_dim)   halves rotated by
 *                                     (position + first) * freq; reverse 1: by minus that angle,
 *                                     which is the gradient; of each head_dim features (0: all)
 *                                     the first ones, as many as freq says
 *   attention(q, k, v[, sinks][, ek, ev]; heads, kv_heads, window, scale, softcap, options)
 *                                     causal, inside documents → o, log-sum-exp (T, heads);
 *                                     options: 1 sinks, 2 extra keys and values
 *   attention_dx(do, q, k, v, o, lse[, sinks][, ek, ev]; …)      → dq, dk, dv
 *   attention_dsinks, attention_dek, attention_dev(the same inputs)
 *   attention_cached(q, k, v, K, V[, sinks][, ek, ev]; …)   keys and values of earlier tokens in K,
 *   V cache(k, K)                       writes k's rows to their places in K
 *   gather_rows(x)  scatter_rows(d)   tokens to trained rows, and back with zeros elsewhere */
#include "core/graph/rules.h"

static int shape_embedding(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *ids = g_in(g, n, 0), *w = g_in(g, n, 1);
    if (ids->shape.ndim != 1 || ids->dtype != FT_I32 || !g_is_matrix(w))
        return g_misfit(g, n, "ids and a matrix are needed");
    if (n->n_in == 3 && (!g_is_matrix(g_in(g, n, 2)) || g_cols(g_in(g, n, 2)) != g_cols(w)))
        return g_misfit(g, n, "virtual tokens need the width of the embedding");
    out->shape = ft_2d(ids->shape.dim[0], g_cols(w));
    out->axis = ids->axis;
    return 0;
}

static void back_embedding(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    for (int i = 1; i < n->n_in; i++) {
        if (g_wants(g, n, i))
            dx[i] = g_make(g, "embedding_dw", (double[]){ (double)g_rows(g_in(g, n, i)), i - 1 }, 2,
                           (ft_val[]){ dy[0], g_inv(n, 0) }, 2);
    }
}

static int shape_embedding_dw(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = ft_2d((int64_t)n->attr[0], g_cols(g_in(g, n, 0)));
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static int shape_rms_norm(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0), *w = g_in(g, n, 1);
    if (!g_is_matrix(x) || w->shape.ndim != 1 || w->shape.dim[0] == 0 ||
        g_cols(x) % w->shape.dim[0])
        return g_misfit(g, n, "the features must be a multiple of the weight's size");
    n->n_out = 2;
    out[0].shape = x->shape;
    out[0].axis = out[1].axis = x->axis;
    out[1].shape = ft_2d(g_rows(x), g_cols(x) / w->shape.dim[0]);
    if (out[1].dtype == FT_BF16) out[1].dtype = FT_F32;
    return 0;
}

static void back_rms_norm(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val x = g_inv(n, 0), w = g_inv(n, 1), r = g_outv(n, 1);
    if (g_wants(g, n, 0))
        dx[0] = g_make(g, "rms_norm_dx", (double[]){ n->attr[1] }, 1, (ft_val[]){ dy[0], x, w, r },
                       4);
    if (g_wants(g, n, 1)) dx[1] = g_make(g, "rms_norm_dw", NULL, 0, (ft_val[]){ dy[0], x, r }, 3);
}

static int shape_of_1(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = g_in(g, n, 1)->shape;
    out->axis = g_in(g, n, 1)->axis;
    return 0;
}

static int shape_rms_norm_dw(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = ft_1d(g_cols(g_in(g, n, 0)) / g_cols(g_in(g, n, 2)));
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

enum { ROPE_FACTOR, ROPE_REVERSE, ROPE_FIRST, ROPE_HEAD };

static int shape_rope(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0), *f = g_in(g, n, 2);
    if (!g_is_matrix(x) || f->shape.ndim != 1 || f->shape.dim[0] == 0)
        return g_misfit(g, n, "a matrix, positions and frequencies are needed");
    int64_t rotated = 2 * f->shape.dim[0];
    int64_t head = n->attr[ROPE_HEAD] > 0 ? (int64_t)n->attr[ROPE_HEAD] : rotated;
    if (head < rotated || g_cols(x) % head)
        return g_misfit(g, n,
                        "the features must be a multiple of a head's, and those at least twice the "
                        "number of frequencies");
    out->shape = x->shape;
    out->axis = x->axis;
    return 0;
}

static void back_rope(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    if (g_wants(g, n, 0))
        dx[0] = g_make(g, "rope",
                       (double[]){ n->attr[ROPE_FACTOR], 1 - n->attr[ROPE_REVERSE],
                                   n->attr[ROPE_FIRST], n->attr[ROPE_HEAD] },
                       4, (ft_val[]){ dy[0], g_inv(n, 1), g_inv(n, 2) }, 3);
}

enum { ATT_HEADS, ATT_KV, ATT_WINDOW, ATT_SCALE, ATT_CAP, ATT_OPTIONS };
enum { ATT_SINKS = 1, ATT_EXTRA = 2 };

static int shape_attention(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *q = g_in(g, n, 0), *k = g_in(g, n, 1), *v = g_in(g, n, 2);
    int64_t h = (int64_t)n->attr[ATT_HEADS], kv = (int64_t)n->attr[ATT_KV];
    if (!g_is_matrix(q) || !g_is_matrix(k) || !g_is_matrix(v) || h <= 0 || kv <= 0 || h % kv ||
        g_cols(q) % h || g_cols(k) != g_cols(q) / h * kv || g_cols(v) != g_cols(k))
        return g_misfit(g, n, "heads and sizes do not fit");
    n->n_out = 2;
    out[0].shape = q->shape;
    out[0].axis = out[1].axis = q->axis;
    out[1].shape = ft_2d(g_rows(q), h);
    if (out[1].dtype == FT_BF16) out[1].dtype = FT_F32;
    return 0;
}

static void back_attention(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    int options = (int)n->attr[ATT_OPTIONS], at = 3;
    ft_val in[9] = { dy[0], g_inv(n, 0), g_inv(n, 1), g_inv(n, 2), g_outv(n, 0), g_outv(n, 1) };
    for (int i = 3; i < n->n_in; i++) in[3 + i] = g_inv(n, i);
    ft_val d = g_make(g, "attention_dx", n->attr, 6, in, n->n_in + 3);
    for (int i = 0; i < 3; i++) dx[i] = g_out(g, d, i);
    if (options & ATT_SINKS) {
        if (g_wants(g, n, at)) dx[at] = g_make(g, "attention_dsinks", n->attr, 6, in, n->n_in + 3);
        at++;
    }
    if (options & ATT_EXTRA) {
        if (g_wants(g, n, at)) dx[at] = g_make(g, "attention_dek", n->attr, 6, in, n->n_in + 3);
        if (g_wants(g, n, at + 1))
            dx[at + 1] = g_make(g, "attention_dev", n->attr, 6, in, n->n_in + 3);
    }
}

static int shape_attention_dx(ft_g *g, g_node *n, ft_desc *out)
{
    n->n_out = 3;
    for (int i = 0; i < 3; i++) {
        out[i].shape = g_in(g, n, 1 + i)->shape;
        out[i].axis = g_in(g, n, 1 + i)->axis;
    }
    return 0;
}

/* Gradients of sinks and of the extra keys and values: shaped as those. */
static int shape_attention_dextra(ft_g *g, g_node *n, ft_desc *out)
{
    bool sinks = (int)n->attr[ATT_OPTIONS] & ATT_SINKS;
    char which = n->op->name[sizeof "attention_d" - 1 + 1]; /* "sinks" i, "ek" k, "ev" v */
    int at = which == 'i' ? 6 : which == 'k' ? 6 + sinks : 7 + sinks;
    out->shape = g_in(g, n, at)->shape;
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static int shape_attention_cached(ft_g *g, g_node *n, ft_desc *out)
{
    if (shape_attention(g, n, out)) return -1;
    n->n_out = 1;
    return 0;
}

static int shape_gather(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    if (!g_is_matrix(x) || x->axis != FT_AXIS_TOKENS) return g_misfit(g, n, "rows must be tokens");
    out->shape = ft_2d(g->max_trained, g_cols(x));
    out->axis = FT_AXIS_TRAINED;
    return 0;
}

static void back_gather(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    (void)n;
    dx[0] = g_make1(g, "scatter_rows", dy[0]);
}

static int shape_scatter(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    if (!g_is_matrix(x) || x->axis != FT_AXIS_TRAINED)
        return g_misfit(g, n, "rows must be the trained ones");
    out->shape = ft_2d(g->max_tokens, g_cols(x));
    out->axis = FT_AXIS_TOKENS;
    return 0;
}

#define ATT_ATTR { "heads", "kv_heads", "window", "scale", "softcap", "options" }
const g_op g_ops_model[] = {
    { .name = "embedding",
      .raw = true,
      .min_in = 2,
      .max_in = 3,
      .shape = shape_embedding,
      .backward = back_embedding,
      .cheap = true },
    { .name = "embedding_dw",
      .min_in = 2,
      .max_in = 2,
      .attr = { "rows", "virtual" },
      .shape = shape_embedding_dw,
      .reduces = true },
    { .name = "rms_norm",
      .min_in = 2,
      .max_in = 2,
      .attr = { "eps", "plus" },
      .shape = shape_rms_norm,
      .backward = back_rms_norm,
      .cheap = true },
    { .name = "rms_norm_dx",
      .follows = true,
      .min_in = 4,
      .max_in = 4,
      .attr = { "plus" },
      .shape = shape_of_1,
      .inplace = { 1 } },
    { .name = "rms_norm_dw",
      .min_in = 3,
      .max_in = 3,
      .shape = shape_rms_norm_dw,
      .reduces = true },
    { .name = "rope",
      .follows = true,
      .min_in = 3,
      .max_in = 3,
      .attr = { "factor", "reverse", "first", "head_dim" },
      .shape = shape_rope,
      .backward = back_rope,
      .cheap = true,
      .inplace = { 1 } },
    { .name = "attention",
      .min_in = 3,
      .max_in = 6,
      .attr = ATT_ATTR,
      .shape = shape_attention,
      .backward = back_attention },
    { .name = "attention_dx",
      .min_in = 6,
      .max_in = 9,
      .attr = ATT_ATTR,
      .shape = shape_attention_dx },
    { .name = "attention_dsinks",
      .min_in = 6,
      .max_in = 9,
      .attr = ATT_ATTR,
      .shape = shape_attention_dextra,
      .reduces = true },
    { .name = "attention_dek",
      .min_in = 6,
      .max_in = 9,
      .attr = ATT_ATTR,
      .shape = shape_attention_dextra,
      .reduces = true },
    { .name = "attention_dev",
      .min_in = 6,
      .max_in = 9,
      .attr = ATT_ATTR,
      .shape = shape_attention_dextra,
      .reduces = true },
    { .name = "attention_cached",
      .min_in = 5,
      .max_in = 8,
      .attr = ATT_ATTR,
      .shape = shape_attention_cached },
    { .name = "cache", .follows = true, .min_in = 2, .max_in = 2, .shape = shape_of_1 },
    { .name = "gather_rows",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_gather,
      .backward = back_gather,
      .cheap = true,
      .linear = 1 },
    { .name = "scatter_rows", .follows = true, .min_in = 1, .max_in = 1, .shape = shape_scatter },
    { 0 }
};

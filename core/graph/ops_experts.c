/* ops_experts.c -- mixtures of experts.  Every token has `slots` rows side by side, one for each
 * expert that it chose, so that values stay (T, …) and tokens stay apart:
 *
 *   top_k(logits; k)                  ids (T, k) int32: the k greatest logits, falling; no gradient
 *   route(logits, ids; all)           w (T, k): softmax over the chosen logits (all 1: over all)
 *   route_dx(dw, w, logits, ids; all)
 *   grouped(x, ids, W[, b]; experts, by_in)   y_j = x_j W_e^T + b_e for slot j's expert e = ids_j:
 *                                     x (T, in) or (T, k in), W (experts, out, in), by_in 1:
 *                                     (experts, in, out); b (experts, out) → (T, k out)
 *   grouped_dw(dy, x, ids; experts, by_in, in)   gradient of W   grouped_db(dy, ids; experts): of b
 *   combine(z[, w]; slots)            y = sum_j w_j z_j → (T, d); without w the sum
 *   combine_dx(dy, w)  combine_dw(dy, z; slots)
 *   swiglu(x; slots, interleaved, alpha, limit, plus)   kernels/cpu/swiglu.c has the formula
 *   swiglu_dx(dy, x; …)
 *
 * The gradient of grouped for x is grouped with the other by_in; where x served all slots their
 * gradients are summed. */
#include "core/graph/rules.h"

static bool is_ids(const ft_desc *d)
{
    return g_is_matrix(d) && d->dtype == FT_I32 && d->axis == FT_AXIS_TOKENS;
}

static void wide(ft_desc *d) { if (d->dtype == FT_BF16) d->dtype = FT_F32; }

/* (T, cols), a row for each of the first input's. */
static int shape_rows(ft_g *g, const g_node *n, ft_desc *out, int64_t cols)
{
    const ft_desc *x = g_in(g, n, 0);
    if (!g_is_matrix(x) || x->axis != FT_AXIS_TOKENS) return g_misfit(g, n, "rows must be tokens");
    out->shape = ft_2d(g_rows(x), cols);
    out->axis = FT_AXIS_TOKENS;
    return 0;
}

/* ---- routing --------------------------------------------------------------------------------- */

static int shape_top_k(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t k = (int64_t)n->attr[0];
    if (k <= 0 || k > g_cols(g_in(g, n, 0))) {
        g_fail(g, FT_EINVAL, "a token cannot choose %lld of %lld experts", (long long)k,
               (long long)g_cols(g_in(g, n, 0)));
        return -1;
    }
    out->dtype = FT_I32;
    return shape_rows(g, n, out, k);
}

static int shape_route(ft_g *g, g_node *n, ft_desc *out)
{
    if (!is_ids(g_in(g, n, 1))) return g_misfit(g, n, "the second must be ids from top_k");
    wide(out);
    return shape_rows(g, n, out, g_cols(g_in(g, n, 1)));
}

static void back_route(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    if (g_wants(g, n, 0))
        dx[0] = g_make(g, "route_dx", n->attr, 1,
                       (ft_val[]){ dy[0], g_outv(n, 0), g_inv(n, 0), g_inv(n, 1) }, 4);
}

static int shape_route_dx(ft_g *g, g_node *n, ft_desc *out)
{
    return shape_rows(g, n, out, g_cols(g_in(g, n, 2)));
}

/* ---- experts' layers ------------------------------------------------------------------------- */

typedef struct { int64_t experts, slots, in, out; } sizes;

/* Sizes by the weight at input `at`; false where it is no stack of matrices. */
static bool sizes_of(const ft_g *g, const g_node *n, int at, sizes *s)
{
    const ft_desc *w = g_in(g, n, at);
    bool by_in = n->attr[1] != 0;
    if (w->shape.ndim != 3 || w->life == FT_LIFE_MICRO) return false;
    *s = (sizes){ w->shape.dim[0], 0, w->shape.dim[by_in ? 1 : 2], w->shape.dim[by_in ? 2 : 1] };
    return true;
}

static int shape_grouped(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0), *ids = g_in(g, n, 1);
    sizes s;
    if (!is_ids(ids) || !sizes_of(g, n, 2, &s))
        return g_misfit(g, n, "ids and a weight of three axes are needed");
    n->attr[0] = (double)s.experts;
    s.slots = g_cols(ids);
    if (g_cols(x) != s.in && g_cols(x) != s.in * s.slots)
        return g_misfit(g, n, "the inner sizes differ");
    if (n->n_in > 3) {
        const ft_desc *b = g_in(g, n, 3);
        if (!g_is_matrix(b) || g_rows(b) != s.experts || g_cols(b) != s.out)
            return g_misfit(g, n, "the bias has another size");
    }
    return shape_rows(g, n, out, s.slots * s.out);
}

static void back_grouped(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val x = g_inv(n, 0), ids = g_inv(n, 1), w = g_inv(n, 2);
    double other[2] = { n->attr[0], 1 - n->attr[1] };
    sizes s;
    if (!sizes_of(g, n, 2, &s)) return;
    s.slots = g_cols(g_in(g, n, 1));
    if (g_wants(g, n, 0)) {
        dx[0] = g_make(g, "grouped", other, 2, (ft_val[]){ dy[0], ids, w }, 3);
        if (s.slots > 1 && g_cols(g_in(g, n, 0)) == s.in)
            dx[0] = g_make(g, "combine", (double[]){ (double)s.slots }, 1, &dx[0], 1);
    }
    if (g_wants(g, n, 2))
        dx[2] = g_make(g, "grouped_dw", (double[]){ n->attr[0], n->attr[1], (double)s.in }, 3,
                       (ft_val[]){ dy[0], x, ids }, 3);
    if (n->n_in > 3 && g_wants(g, n, 3))
        dx[3] = g_make(g, "grouped_db", n->attr, 1, (ft_val[]){ dy[0], ids }, 2);
}

static int shape_grouped_dw(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t slots = g_cols(g_in(g, n, 2)), nout = g_cols(g_in(g, n, 0)) / slots;
    int64_t experts = (int64_t)n->attr[0], nin = (int64_t)n->attr[2];
    out->shape = n->attr[1] != 0 ? ft_3d(experts, nin, nout) : ft_3d(experts, nout, nin);
    out->axis = FT_AXIS_FIXED;
    wide(out);
    return 0;
}

static int shape_grouped_db(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = ft_2d((int64_t)n->attr[0], g_cols(g_in(g, n, 0)) / g_cols(g_in(g, n, 1)));
    out->axis = FT_AXIS_FIXED;
    wide(out);
    return 0;
}

/* ---- joining --------------------------------------------------------------------------------- */

static int shape_combine(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t slots = (int64_t)n->attr[0], cols = g_cols(g_in(g, n, 0));
    if (n->n_in < 2 && g->side == G_FORWARD) return g_misfit(g, n, "weights are needed");
    if (slots <= 0 || cols % slots || (n->n_in > 1 && g_cols(g_in(g, n, 1)) != slots))
        return g_misfit(g, n, "the features must be a multiple of the slots");
    return shape_rows(g, n, out, cols / slots);
}

static void back_combine(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    if (g_wants(g, n, 0)) dx[0] = g_make2(g, "combine_dx", dy[0], g_inv(n, 1));
    if (g_wants(g, n, 1))
        dx[1] = g_make(g, "combine_dw", n->attr, 1, (ft_val[]){ dy[0], g_inv(n, 0) }, 2);
}

static int shape_combine_dx(ft_g *g, g_node *n, ft_desc *out)
{
    return shape_rows(g, n, out, g_cols(g_in(g, n, 0)) * g_cols(g_in(g, n, 1)));
}

static int shape_combine_dw(ft_g *g, g_node *n, ft_desc *out)
{
    wide(out);
    return shape_rows(g, n, out, (int64_t)n->attr[0]);
}

/* ---- activation ------------------------------------------------------------------------------ */

static int shape_swiglu(ft_g *g, g_node *n, ft_desc *out)
{
    int64_t slots = (int64_t)n->attr[0], cols = g_cols(g_in(g, n, 0));
    if (slots <= 0 || cols % (2 * slots))
        return g_misfit(g, n, "the features must be a multiple of twice the slots");
    return shape_rows(g, n, out, cols / 2);
}

static void back_swiglu(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    if (g_wants(g, n, 0))
        dx[0] = g_make(g, "swiglu_dx", n->attr, 5, (ft_val[]){ dy[0], g_inv(n, 0) }, 2);
}

static int shape_swiglu_dx(ft_g *g, g_node *n, ft_desc *out)
{
    return shape_rows(g, n, out, g_cols(g_in(g, n, 1)));
}

#define SWIGLU_ATTR { "slots", "interleaved", "alpha", "limit", "plus" }
const g_op g_ops_experts[] = {
    { .name = "top_k",
      .min_in = 1,
      .max_in = 1,
      .attr = { "k" },
      .shape = shape_top_k,
      .cheap = true },
    { .name = "route",
      .min_in = 2,
      .max_in = 2,
      .attr = { "all" },
      .shape = shape_route,
      .backward = back_route,
      .cheap = true },
    { .name = "route_dx", .min_in = 4, .max_in = 4, .attr = { "all" }, .shape = shape_route_dx },
    { .name = "grouped",
      .raw = true,
      .min_in = 3,
      .max_in = 4,
      .attr = { "experts", "by_in" },
      .shape = shape_grouped,
      .backward = back_grouped,
      .linear = 1 },
    { .name = "grouped_dw",
      .min_in = 3,
      .max_in = 3,
      .attr = { "experts", "by_in", "in" },
      .shape = shape_grouped_dw,
      .reduces = true },
    { .name = "grouped_db",
      .min_in = 2,
      .max_in = 2,
      .attr = { "experts" },
      .shape = shape_grouped_db,
      .reduces = true },
    { .name = "combine",
      .min_in = 1,
      .max_in = 2,
      .attr = { "slots" },
      .shape = shape_combine,
      .backward = back_combine },
    { .name = "combine_dx", .min_in = 2, .max_in = 2, .shape = shape_combine_dx },
    { .name = "combine_dw",
      .min_in = 2,
      .max_in = 2,
      .attr = { "slots" },
      .shape = shape_combine_dw },
    { .name = "swiglu",
      .min_in = 1,
      .max_in = 1,
      .attr = SWIGLU_ATTR,
      .shape = shape_swiglu,
      .backward = back_swiglu,
      .cheap = true },
    { .name = "swiglu_dx",
      .min_in = 2,
      .max_in = 2,
      .attr = SWIGLU_ATTR,
      .shape = shape_swiglu_dx },
    { 0 }
};

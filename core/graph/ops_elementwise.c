/* ops_elementwise.c -- ops that treat every element alike, and the sums that their gradients need.
 *
 *   binary(a, b; kind)     a + - * / b, b spread over a when it is a row vector, column or scalar
 *   unary(x; kind)         silu gelu gelu_tanh relu sigmoid tanh sqrt log_sigmoid
 *   unary_dx(dy, x; kind)  dy times the derivative at x
 *   glu(a, b; kind)        act(a) * b, with act(a) rounded as if it had been a value of its own
 *   glu_dx(dy, a, b; kind) gradients of a and b
 *   scale(x; by)  shift(x; by)  dropout(x; p)
 *   sum(x)  dot(a, b)  row_sum(x)  row_dot(a, b)  col_sum(x)  col_dot(a, b)
 *   expand(v, like)        v spread over the shape of `like` */
#include "core/graph/rules.h"

/* ---- shapes ---------------------------------------------------------------------------------- */

static int shape_first(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    out->shape = x->shape;
    out->axis = x->axis;
    return 0;
}

static int shape_binary(ft_g *g, g_node *n, ft_desc *out)
{
    if (g_spread_of(g_in(g, n, 0), g_in(g, n, 1)) == G_NO_FIT)
        return g_misfit(
            g, n, "the second must have the first's shape, or be a row vector, column or scalar");
    return shape_first(g, n, out);
}

static int shape_unary_dx(ft_g *g, g_node *n, ft_desc *out)
{
    if (!g_same_shape(g_in(g, n, 0), g_in(g, n, 1))) return g_misfit(g, n, "shapes must be equal");
    return shape_first(g, n, out);
}

static int shape_glu_dx(ft_g *g, g_node *n, ft_desc *out)
{
    n->n_out = 2;
    shape_first(g, n, &out[1]);
    return shape_unary_dx(g, n, out);
}

static int shape_scalar(ft_g *g, g_node *n, ft_desc *out)
{
    if (n->n_in == 2 && !g_same_shape(g_in(g, n, 0), g_in(g, n, 1)))
        return g_misfit(g, n, "shapes must be equal");
    out->shape = ft_0d();
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static int shape_rows(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    if (n->n_in == 2 && !g_same_shape(x, g_in(g, n, 1)))
        return g_misfit(g, n, "shapes must be equal");
    if (!g_is_matrix(x)) return g_misfit(g, n, "a matrix is needed");
    out->shape = ft_1d(g_rows(x));
    out->axis = x->axis;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static int shape_cols(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    if (n->n_in == 2 && !g_same_shape(x, g_in(g, n, 1)))
        return g_misfit(g, n, "shapes must be equal");
    out->shape = ft_1d(g_cols(x));
    out->axis = FT_AXIS_FIXED;
    if (out->dtype == FT_BF16) out->dtype = FT_F32;
    return 0;
}

static int shape_expand(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *v = g_in(g, n, 0), *like = g_in(g, n, 1);
    bool rows = v->shape.ndim == 1 && v->shape.dim[0] == g_rows(like) && v->axis == like->axis;
    if (!rows && g_spread_of(like, v) == G_NO_FIT)
        return g_misfit(g, n, "the first cannot be spread over the second");
    out->shape = like->shape;
    out->axis = like->axis;
    out->dtype = like->dtype;
    return 0;
}

/* ---- backward rules -------------------------------------------------------------------------- */

/* The gradient of b from the elementwise product dy * w (w 0: dy alone), summed as b is spread. */
static ft_val reduce_to(ft_g *g, ft_val b, ft_val like, ft_val dy, ft_val w)
{
    static const char *const with[] = { NULL, "col_dot", "row_dot", "dot" };
    static const char *const alone[] = { NULL, "col_sum", "row_sum", "sum" };
    g_spread s = g_spread_of(g_desc(g, like), g_desc(g, b));
    if (s == G_SAME) return w.id ? g_kind2(g, "binary", FT_MUL, dy, w) : dy;
    ft_val r = w.id ? g_make2(g, with[s], dy, w) : g_make1(g, alone[s], dy);
    if (s != G_COLUMN) return r;
    return g_make(g, "reshape", (double[]){ (double)g_rows(g_desc(g, like)), 1 }, 2, &r, 1);
}

static void back_binary(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val a = g_inv(n, 0), b = g_inv(n, 1), none = { 0 };
    int kind = (int)n->attr[0];
    if (g_wants(g, n, 0))
        dx[0] = kind == FT_ADD || kind == FT_SUB ? dy[0] : g_kind2(g, "binary", kind, dy[0], b);
    if (!g_wants(g, n, 1)) return;
    if (kind == FT_ADD) dx[1] = reduce_to(g, b, a, dy[0], none);
    if (kind == FT_SUB) dx[1] = reduce_to(g, b, a, g_times(g, dy[0], -1), none);
    if (kind == FT_MUL) dx[1] = reduce_to(g, b, a, dy[0], a);
    if (kind == FT_DIV) { /* d(a/b)/db = -(a/b)/b */
        ft_val q = g_kind2(g, "binary", FT_DIV, g_outv(n, 0), b);
        dx[1] = reduce_to(g, b, a, dy[0], g_times(g, q, -1));
    }
}

static void back_unary(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    dx[0] = g_kind2(g, "unary_dx", (int)n->attr[0], dy[0], g_inv(n, 0));
}

static void back_glu(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val in[3] = { dy[0], g_inv(n, 0), g_inv(n, 1) };
    dx[0] = g_make(g, "glu_dx", n->attr, 1, in, 3);
    dx[1] = g_out(g, dx[0], 1);
}

static void back_scale(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    dx[0] = g_times(g, dy[0], n->attr[0]);
}

static void back_shift(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    (void)g;
    (void)n;
    dx[0] = dy[0];
}

/* The same mask: the node is made with the forward node's key. */
static void back_dropout(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    double p = n->attr[0];
    uint64_t key = n->key;
    dx[0] = g_make(g, "dropout", &p, 1, dy, 1);
    g_node *made = g_producer(g, dx[0]);
    if (made) made->key = key;
}

static void back_sum(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    dx[0] = g_make2(g, "expand", dy[0], g_inv(n, 0));
}

/* dot, row_dot, col_dot: d a = b * spread dy, and the other way round. */
static void back_dot(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_val d = dy[0];
    const ft_desc *x = g_in(g, n, 0);
    if (g_desc(g, d)->shape.ndim == 1 && g_rows(x) == g_desc(g, d)->shape.dim[0] &&
        n->op->attr[0] == NULL && n->op->name[0] == 'r')
        d = g_make(g, "reshape", (double[]){ (double)g_rows(x), 1 }, 2, &d, 1);
    for (int i = 0; i < 2; i++) {
        if (g_wants(g, n, i)) dx[i] = g_kind2(g, "binary", FT_MUL, g_inv(n, 1 - i), d);
    }
}

static void back_expand(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    const ft_desc *v = g_in(g, n, 0), *like = g_in(g, n, 1);
    if (v->shape.ndim == 0) dx[0] = g_make1(g, "sum", dy[0]);
    else if (v->shape.ndim == 1 && v->shape.dim[0] == g_rows(like) && v->axis == like->axis)
        dx[0] = g_make1(g, "row_sum", dy[0]);
    else dx[0] = reduce_to(g, g_inv(n, 0), g_inv(n, 1), dy[0], (ft_val){ 0 });
}

const g_op g_ops_elementwise[] = {
    { .name = "binary",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .attr = { "kind" },
      .shape = shape_binary,
      .backward = back_binary,
      .inplace = { 1 } },
    { .name = "unary",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "kind" },
      .shape = shape_first,
      .backward = back_unary,
      .cheap = true,
      .inplace = { 1 } },
    { .name = "unary_dx",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .attr = { "kind" },
      .shape = shape_unary_dx,
      .inplace = { 1 } },
    { .name = "glu",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .attr = { "kind" },
      .shape = shape_unary_dx,
      .backward = back_glu,
      .cheap = true },
    { .name = "glu_dx",
      .follows = true,
      .min_in = 3,
      .max_in = 3,
      .attr = { "kind" },
      .shape = shape_glu_dx,
      .inplace = { 2, 3 } },
    { .name = "scale",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "by" },
      .shape = shape_first,
      .backward = back_scale,
      .cheap = true,
      .inplace = { 1 },
      .linear = 1 },
    { .name = "shift",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "by" },
      .shape = shape_first,
      .backward = back_shift,
      .cheap = true,
      .inplace = { 1 } },
    { .name = "dropout",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "p" },
      .shape = shape_first,
      .backward = back_dropout,
      .cheap = true,
      .linear = 1 },
    { .name = "sum",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_scalar,
      .backward = back_sum,
      .reduces = true },
    { .name = "dot",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .shape = shape_scalar,
      .backward = back_dot,
      .reduces = true },
    { .name = "row_sum",
      .raw = true,
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_rows,
      .backward = back_sum },
    { .name = "row_dot",
      .raw = true,
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .shape = shape_rows,
      .backward = back_dot },
    { .name = "col_sum",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_cols,
      .backward = back_sum,
      .reduces = true },
    { .name = "col_dot",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .shape = shape_cols,
      .backward = back_dot,
      .reduces = true },
    { .name = "expand", .min_in = 2, .max_in = 2, .shape = shape_expand, .backward = back_expand },
    { 0 }
};

/* ops_shape.c -- ops that move numbers without changing them:
 *
 *   slice(x; axis, from, to)   unslice(d; axis, from, size)   concat(a, b; axis)   transpose(x)
 *   reshape(x; dims…)  detach(x)   the same buffer under another shape, or without a gradient
 *   copy(x)                        used to add a value to an accumulator
 *   widen(W)                       a weight of the checkpoint, packed or not, as fp32 */
#include "core/graph/rules.h"

static int shape_slice(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    int axis = (int)n->attr[0];
    int64_t from = (int64_t)n->attr[1], to = (int64_t)n->attr[2];
    if (axis < 0 || axis >= x->shape.ndim || (axis == 0 && x->axis != FT_AXIS_FIXED))
        return g_misfit(g, n, "there is no such axis to slice");
    if (from < 0 || to > x->shape.dim[axis] || from >= to) {
        g_fail(g, FT_ESHAPE, "slice %lld:%lld of axis %d, which has %lld", (long long)from,
               (long long)to, axis, (long long)x->shape.dim[axis]);
        return -1;
    }
    out->shape = x->shape;
    out->shape.dim[axis] = to - from;
    out->axis = x->axis;
    return 0;
}

static void back_slice(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    double size = (double)g_in(g, n, 0)->shape.dim[(int)n->attr[0]];
    dx[0] = g_make(g, "unslice", (double[]){ n->attr[0], n->attr[1], size }, 3, dy, 1);
}

static int shape_unslice(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = g_in(g, n, 0)->shape;
    out->axis = g_in(g, n, 0)->axis;
    out->shape.dim[(int)n->attr[0]] = (int64_t)n->attr[2];
    return 0;
}

static int shape_concat(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *a = g_in(g, n, 0), *b = g_in(g, n, 1);
    int axis = (int)n->attr[0];
    if (a->shape.ndim != b->shape.ndim || axis < 0 || axis >= a->shape.ndim || a->axis != b->axis ||
        (axis == 0 && a->axis != FT_AXIS_FIXED))
        return g_misfit(g, n, "they cannot be joined along this axis");
    for (int i = 0; i < a->shape.ndim; i++) {
        if (i != axis && a->shape.dim[i] != b->shape.dim[i])
            return g_misfit(g, n, "another axis differs");
    }
    out->shape = a->shape;
    out->shape.dim[axis] += b->shape.dim[axis];
    out->axis = a->axis;
    return 0;
}

static void back_concat(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    int axis = (int)n->attr[0];
    double na = (double)g_in(g, n, 0)->shape.dim[axis], nb = (double)g_in(g, n, 1)->shape.dim[axis];
    if (g_wants(g, n, 0)) dx[0] = g_make(g, "slice", (double[]){ axis, 0, na }, 3, dy, 1);
    if (g_wants(g, n, 1)) dx[1] = g_make(g, "slice", (double[]){ axis, na, na + nb }, 3, dy, 1);
}

static int shape_transpose(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    if (!g_is_matrix(x) || x->axis != FT_AXIS_FIXED)
        return g_misfit(g, n, "a matrix of fixed size is needed");
    out->shape = ft_2d(x->shape.dim[1], x->shape.dim[0]);
    return 0;
}

static void back_transpose(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    (void)n;
    dx[0] = g_make1(g, "transpose", dy[0]);
}

static int shape_reshape(ft_g *g, g_node *n, ft_desc *out)
{
    const ft_desc *x = g_in(g, n, 0);
    int64_t have = g_rows(x) * g_cols(x), want = 1;
    int nd = 0;
    while (nd < 4 && n->attr[nd] != 0)
        out->shape.dim[nd] = (int64_t)n->attr[nd], want *= out->shape.dim[nd], nd++;
    out->shape.ndim = nd;
    if (have != want) return g_misfit(g, n, "the number of elements differs");
    if (x->axis != FT_AXIS_FIXED && (nd == 0 || out->shape.dim[0] != x->shape.dim[0]))
        return g_misfit(g, n, "the axis of the batch must stay");
    out->axis = x->axis;
    out->dtype = x->dtype;
    return 0;
}

static void back_reshape(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    ft_shape s = g_in(g, n, 0)->shape;
    double attr[4] = { 0 };
    for (int i = 0; i < s.ndim; i++) attr[i] = (double)s.dim[i];
    dx[0] = g_make(g, "reshape", attr, s.ndim, dy, 1);
}

static int shape_alike(ft_g *g, g_node *n, ft_desc *out)
{
    out->shape = g_in(g, n, 0)->shape;
    out->axis = g_in(g, n, 0)->axis;
    return 0;
}

static void back_widen(ft_g *g, const g_node *n, const ft_val *dy, ft_val *dx)
{
    (void)g, (void)n;
    dx[0] = dy[0];
}

const g_op g_ops_shape[] = {
    { .name = "slice",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "axis", "from", "to" },
      .shape = shape_slice,
      .backward = back_slice,
      .linear = 1 },
    { .name = "unslice",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .attr = { "axis", "from", "size" },
      .shape = shape_unslice,
      .backward = NULL,
      .linear = 1 },
    { .name = "concat",
      .follows = true,
      .min_in = 2,
      .max_in = 2,
      .attr = { "axis" },
      .shape = shape_concat,
      .backward = back_concat },
    { .name = "transpose",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_transpose,
      .backward = back_transpose },
    { .name = "reshape",
      .min_in = 1,
      .max_in = 1,
      .attr = { "dim", "dim", "dim", "dim" },
      .shape = shape_reshape,
      .backward = back_reshape,
      .linear = 1 },
    { .name = "detach", .follows = true, .min_in = 1, .max_in = 1, .shape = shape_alike },
    { .name = "widen",
      .raw = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_alike,
      .backward = back_widen },
    { .name = "copy",
      .follows = true,
      .min_in = 1,
      .max_in = 1,
      .shape = shape_alike,
      .reduces = true },
    { 0 }
};

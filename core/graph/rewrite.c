/* rewrite.c -- small rewrites, made while nodes are made, so that what a plugin writes plainly
 * becomes what runs fast.  They are part of the meaning of a graph (each removes a rounding or a
 * node always, never depending on memory or threads):
 *
 *   linear + linear             one linear with the terms of both, rounded once
 *   linear + vector             its bias
 *   c * linear(x, small W)      linear(x, c W): W is scaled once a step
 *   act(a) * b                  glu(a, b)
 *   scale by 1, dropout when p = 0 or not training, slice or reshape of everything: the value
 *   itself
 *
 * A linear that something has read already stays as it is: merging would compute it twice. */
#include "core/graph/rules.h"
#include <string.h>

static const g_node *made_by(const ft_g *g, ft_val v, const char *op)
{
    const g_node *n = g_producer(g, v);
    return n && !strcmp(n->op->name, op) ? n : NULL;
}

/* A linear of activations that nobody has read yet. */
static const g_node *open_linear(const ft_g *g, ft_val v)
{
    const g_node *n = made_by(g, v, "linear");
    return n && n->life == FT_LIFE_MICRO && n->side == G_FORWARD && g_val(g, v)->uses == 0 ? n
                                                                                           : NULL;
}

static int terms_of(const g_node *n) { return (int)n->attr[0]; }
static bool has_bias(const g_node *n) { return n->n_in > 2 * terms_of(n); }

static ft_val merge_linears(ft_g *g, const g_node *a, const g_node *b)
{
    ft_val in[17];
    int k = 0, terms = terms_of(a) + terms_of(b);
    for (int i = 0; i < 2 * terms_of(a); i++) in[k++] = g_inv(a, i);
    for (int i = 0; i < 2 * terms_of(b); i++) in[k++] = g_inv(b, i);
    if (has_bias(a)) in[k++] = g_inv(a, a->n_in - 1);
    if (has_bias(b)) in[k++] = g_inv(b, b->n_in - 1);
    return g_make(g, "linear", (double[]){ terms }, 1, in, k);
}

static ft_val add_bias(ft_g *g, const g_node *a, ft_val bias)
{
    ft_val in[17];
    int k = 0;
    for (; k < a->n_in; k++) in[k] = g_inv(a, k);
    in[k++] = bias;
    return g_make(g, "linear", a->attr, 1, in, k);
}

static ft_val rewrite_add(ft_g *g, const ft_val *in)
{
    const g_node *a = open_linear(g, in[0]), *b = open_linear(g, in[1]);
    const ft_desc *db = g_desc(g, in[1]);
    if (a && b && terms_of(a) + terms_of(b) <= 8 && !(has_bias(a) && has_bias(b)) &&
        g_same_shape(g_desc(g, in[0]), db))
        return merge_linears(g, a, b);
    if (a && !has_bias(a) && db->shape.ndim == 1 && db->axis == FT_AXIS_FIXED &&
        db->life != FT_LIFE_MICRO && db->shape.dim[0] == g_cols(g_desc(g, in[0])))
        return add_bias(g, a, in[1]);
    return (ft_val){ 0 };
}

static ft_val rewrite_mul(ft_g *g, const ft_val *in)
{
    const g_node *act = made_by(g, in[0], "unary");
    if (!act || act->life != FT_LIFE_MICRO || act->attr[0] > FT_RELU || g_val(g, in[0])->uses ||
        !g_same_shape(g_desc(g, in[0]), g_desc(g, in[1])) ||
        g_desc(g, in[1])->life != FT_LIFE_MICRO)
        return (ft_val){ 0 };
    return g_kind2(g, "glu", (int)act->attr[0], g_inv(act, 0), in[1]);
}

static ft_val rewrite_scale(ft_g *g, double by, ft_val x)
{
    if (by == 1) return x;
    const g_node *n = open_linear(g, x);
    if (!n || terms_of(n) != 1 || has_bias(n)) return (ft_val){ 0 };
    ft_val w = g_inv(n, 1);
    if (g_val(g, w)->source == G_WEIGHT ||
        (g_val(g, w)->source == G_PARAM && g->param[g_val(g, w)->index].weight))
        return (ft_val){ 0 };
    return g_make(g, "linear", (double[]){ 1 }, 1, (ft_val[]){ g_inv(n, 0), g_times(g, w, by) }, 2);
}

static bool whole_slice(const ft_g *g, const double *attr, ft_val x)
{
    const ft_desc *d = g_desc(g, x);
    int axis = (int)attr[0];
    return axis >= 0 && axis < d->shape.ndim && attr[1] == 0 &&
           attr[2] == (double)d->shape.dim[axis];
}

ft_val g_rewrite(ft_g *g, const g_op *op, const double *attr, const ft_val *in, int n_in)
{
    const char *s = op->name;
    (void)n_in;
    if (!strcmp(s, "binary") && attr[0] == FT_ADD && g->side == G_FORWARD)
        return rewrite_add(g, in);
    if (!strcmp(s, "binary") && attr[0] == FT_MUL && g->side == G_FORWARD)
        return rewrite_mul(g, in);
    if (!strcmp(s, "scale")) return rewrite_scale(g, attr[0], in[0]);
    if (!strcmp(s, "dropout") && (attr[0] == 0 || !g->train)) return in[0];
    if (!strcmp(s, "slice") && whole_slice(g, attr, in[0])) return in[0];
    return (ft_val){ 0 };
}

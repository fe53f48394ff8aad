/* rules.c -- see rules.h. */
#include "core/graph/rules.h"
#include <stdio.h>
#include <string.h>

bool g_same_shape(const ft_desc *a, const ft_desc *b)
{
    return a->shape.ndim == b->shape.ndim && a->axis == b->axis &&
           !memcmp(a->shape.dim, b->shape.dim, sizeof *a->shape.dim * (size_t)a->shape.ndim);
}

bool g_is_matrix(const ft_desc *d) { return d->shape.ndim == 2; }

g_spread g_spread_of(const ft_desc *a, const ft_desc *b)
{
    if (g_same_shape(a, b)) return G_SAME;
    if (b->shape.ndim == 0) return G_SCALAR;
    if (b->shape.ndim == 1 && b->axis == FT_AXIS_FIXED && b->shape.dim[0] == g_cols(a))
        return G_ROW_VECTOR;
    if (b->shape.ndim == 2 && b->shape.dim[1] == 1 && b->axis == a->axis && g_rows(b) == g_rows(a))
        return G_COLUMN;
    return G_NO_FIT;
}

const char *g_shape_text(const ft_desc *d)
{
    static _Thread_local char text[8][80];
    static _Thread_local unsigned turn;
    char *s = text[turn++ % 8];
    int at = snprintf(s, 80, "(");
    for (int i = 0; i < d->shape.ndim; i++)
        at += snprintf(s + at, 80 - (size_t)at, i ? ", %lld" : "%lld", (long long)d->shape.dim[i]);
    snprintf(s + at, 80 - (size_t)at, ")");
    return s;
}

int g_misfit(ft_g *g, const g_node *n, const char *what)
{
    char list[320];
    int at = 0;
    list[0] = 0;
    for (int i = 0; i < n->n_in && i < 3; i++)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", i ? ", " : "",
                       g_shape_text(g_in(g, n, i)));
    g_fail(g, FT_ESHAPE, "op %s of %s: %s", n->op->name, list, what);
    return -1;
}

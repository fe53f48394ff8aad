/* rules.h -- what the files with op rules share: checks of shapes, and short names for making the
 * nodes of a backward pass. */
#ifndef FT_CORE_RULES_H
#define FT_CORE_RULES_H
#include "core/graph/graph.h"

/* How the second operand of an elementwise op is spread over the first. */
typedef enum { G_SAME, G_ROW_VECTOR, G_COLUMN, G_SCALAR, G_NO_FIT } g_spread;
g_spread g_spread_of(const ft_desc *a, const ft_desc *b);

bool g_same_shape(const ft_desc *a, const ft_desc *b);
bool g_is_matrix(const ft_desc *d);
/* "(2048, 576)" for messages; valid until the thread's eighth next call. */
const char *g_shape_text(const ft_desc *d);
/* Records that the op's inputs do not fit; returns -1. */
int g_misfit(ft_g *g, const g_node *n, const char *what);

static inline const ft_desc *g_in(const ft_g *g, const g_node *n, int i)
{
    return &g_value_at(g, n->in[i])->desc;
}
static inline ft_val g_inv(const g_node *n, int i) { return (ft_val){ n->in[i] }; }
static inline ft_val g_outv(const g_node *n, int i) { return (ft_val){ n->out[i] }; }
static inline bool g_wants(const ft_g *g, const g_node *n, int i)
{
    return g_value_at(g, n->in[i])->grad;
}

static inline ft_val g_make1(ft_g *g, const char *op, ft_val a)
{
    return g_make(g, op, NULL, 0, &a, 1);
}
static inline ft_val g_make2(ft_g *g, const char *op, ft_val a, ft_val b)
{
    return g_make(g, op, NULL, 0, (ft_val[]){ a, b }, 2);
}
static inline ft_val g_kind1(ft_g *g, const char *op, int kind, ft_val a)
{
    return g_make(g, op, (double[]){ kind }, 1, &a, 1);
}
static inline ft_val g_kind2(ft_g *g, const char *op, int kind, ft_val a, ft_val b)
{
    return g_make(g, op, (double[]){ kind }, 1, (ft_val[]){ a, b }, 2);
}
static inline ft_val g_times(ft_g *g, ft_val x, double c)
{
    return g_make(g, "scale", (double[]){ c }, 1, &x, 1);
}
#endif

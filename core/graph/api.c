/* api.c -- the ops that plugins name (ft/graph.h), turned into the ops that exist. */
#include "core/graph/rules.h"
#include <stdio.h>
#include <string.h>

/* Public name → op and its `kind`. */
static const struct { const char *name, *op; int kind; } kinds[] = {
    { "add", "binary", FT_ADD }, { "sub", "binary", FT_SUB }, { "mul", "binary", FT_MUL },
    { "div", "binary", FT_DIV }, { "silu", "unary", FT_SILU }, { "gelu", "unary", FT_GELU },
    { "gelu_tanh", "unary", FT_GELU_TANH }, { "relu", "unary", FT_RELU },
    { "sigmoid", "unary", FT_SIGMOID }, { "tanh", "unary", FT_TANH }, { "sqrt", "unary", FT_SQRT },
    { "log_sigmoid", "unary", FT_LOG_SIGMOID },
};

/* Named attributes in the op's order; -1 (reported) when one is unknown. */
static int order_attributes(ft_g *g, const g_op *op, const ft_attr *attr, int n, double *out)
{
    for (int i = 0, at = 0; i < n; i++) {
        int k = 0;
        while (k < G_MAX_ATTR && op->attr[k] && strcmp(op->attr[k], attr[i].name)) k++;
        if (k == G_MAX_ATTR || !op->attr[k]) {
            g_fail(g, FT_EINVAL, "op %s has no attribute \"%s\"", op->name, attr[i].name);
            return -1;
        }
        /* reshape's attributes all have one name: they fill up in order */
        if (k + 1 < G_MAX_ATTR && op->attr[k + 1] && !strcmp(op->attr[k + 1], attr[i].name))
            k = at++;
        else if (at) k = at++;
        out[k] = attr[i].v;
    }
    return 0;
}

/* Follows cap * tanh(x / cap) back to x; returns x and sets *cap, or v and 0. */
static ft_val without_softcap(const ft_g *g, ft_val v, double *cap)
{
    *cap = 0;
    const g_node *s = g_producer(g, v);
    if (!s || strcmp(s->op->name, "scale")) return v;
    const g_node *t = g_producer(g, g_inv(s, 0));
    if (!t || strcmp(t->op->name, "unary") || t->attr[0] != FT_TANH) return v;
    const g_node *d = g_producer(g, g_inv(t, 0));
    if (!d || strcmp(d->op->name, "scale")) return v;
    double product = d->attr[0] * s->attr[0];
    if (product < 1 - 1e-9 || product > 1 + 1e-9) return v;
    *cap = s->attr[0];
    return g_inv(d, 0);
}

/* The linear behind symbolic logits, its inputs gathered to the trained rows; their number, or
 * 0. */
static int head_inputs(ft_g *g, ft_val logits, ft_val *in, double *attr)
{
    ft_val v = without_softcap(g, logits, &attr[2]);
    const g_node *n = g_producer(g, v);
    if (!n || strcmp(n->op->name, "linear")) {
        g_fail(g, FT_EUNSUP, "logits must come from a linear (and a softcap)");
        return 0;
    }
    attr[0] = n->attr[0];
    attr[1] = n->n_in > 2 * (int)n->attr[0];
    for (int i = 0; i < n->n_in; i++) {
        bool activation = i < 2 * (int)n->attr[0] && i % 2 == 0;
        in[i] = g_inv(n, i);
        if (activation && g_desc(g, in[i])->axis == FT_AXIS_TOKENS)
            in[i] = g_make1(g, "gather_rows", in[i]);
    }
    return n->n_in;
}

static ft_val make_logprob(ft_g *g, const ft_val *in, int n)
{
    ft_val head[20];
    double attr[4] = { 0 };
    if (n != 2) return g_fail(g, FT_EINVAL, "op logprob takes logits and targets");
    int k = head_inputs(g, in[0], head, attr);
    if (!k) return (ft_val){ 0 };
    head[k++] = in[1];
    return g_make(g, "linear_logprob", attr, 4, head, k);
}

ft_val g_logits(ft_g *g, ft_val logits)
{
    ft_val head[20];
    double attr[4] = { 0 };
    int k = g->err.code ? 0 : head_inputs(g, logits, head, attr);
    return k ? g_make(g, "linear_logits", attr, 4, head, k) : (ft_val){ 0 };
}

/* A dropout's mask is keyed by where it stands, not by when it was built. */
static ft_val make_dropout(ft_g *g, const double *attr, const ft_val *in, int n)
{
    ft_val v = g_make(g, "dropout", attr, 1, in, n);
    g_node *made = g_producer(g, v);
    if (made && v.id != in[0].id) made->key = g_hash(g->at ? g->at->name : "", g->dropouts++);
    return v;
}

ft_val g_api_op(ft_graph *pub, const char *name, const ft_attr *attr, int n_attr, const ft_val *in,
                int n)
{
    ft_g *g = g_of(pub);
    double a[G_MAX_ATTR] = { 0 };
    if (g->err.code) return (ft_val){ 0 };
    for (int i = 0; i < n; i++) {
        if (!in[i].id) return (ft_val){ 0 };
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!strcmp(kinds[i].name, name))
            return g_make(g, kinds[i].op, (double[]){ kinds[i].kind }, 1, in, n);
    }
    if (!strcmp(name, "logprob")) return make_logprob(g, in, n);
    const g_op *op = g_op_find(name);
    if (!op) return g_fail(g, FT_EUNSUP, "there is no op \"%s\"", name);
    if (n_attr > G_MAX_ATTR) return g_fail(g, FT_EINVAL, "op %s: too many attributes", name);
    if (order_attributes(g, op, attr, n_attr, a)) return (ft_val){ 0 };
    if (!strcmp(name, "linear")) a[0] = 1;
    if (!strcmp(name, "rope")) a[2] = (double)g->first_position;
    if (!strcmp(name, "dropout")) return make_dropout(g, a, in, n);
    return g_make(g, name, a, G_MAX_ATTR, in, n);
}

ft_val g_api_fail(ft_graph *pub, int code, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return g_fail(g_of(pub), code, "%s", msg);
}

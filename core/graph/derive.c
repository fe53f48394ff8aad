/* derive.c -- reverse-mode differentiation: backward nodes for every forward node between the loss
 * and a trained parameter, made by the rules beside the ops.
 *
 * Nodes are visited in the reverse order of their making, which is a topological order.  What
 * several consumers send back to a value is summed: matrix products into one many-term linear_dx
 * (rounded once), the rest by additions.  What a MICRO node sends to a STEP value is added to an
 * accumulator over the micro-batches; STEP nodes are then differentiated from the accumulators.
 *
 * The head is special.  If the loss asks of linear_logprob no more than a constant times the loss
 * scale, the forward node becomes linear_xent, which forms its gradients while the logits are at
 * hand, and nothing of the vocabulary's size is kept or computed twice. */
#include "core/graph/rules.h"
#include <stdlib.h>
#include <string.h>

typedef struct contribution contribution;
struct contribution { contribution *next; ft_val v; };

typedef struct {
    ft_g *g;
    contribution **to; /* [n] per forward value, in order of arrival */
    uint32_t n;
} derivation;

static void send(derivation *d, ft_val target, ft_val grad)
{
    contribution *c = ft_arena_alloc(&d->g->arena, sizeof *c), **p = &d->to[target.id];
    if (!c) {
        g_fail(d->g, FT_ENOMEM, "out of memory while differentiating");
        return;
    }
    c->v = grad;
    while (*p) p = &(*p)->next;
    *p = c;
}

ft_val g_acc(ft_g *g, ft_val v)
{
    g_value *x = g_val(g, v);
    if (!x->acc) {
        ft_desc d = x->desc;
        d.life = FT_LIFE_STEP;
        if (d.dtype != FT_F64) d.dtype = FT_F32;
        uint32_t a = g_leaf(g, G_ACC, v.id, d, false).id;
        x->acc = a;
    }
    return (ft_val){ g_val(g, v)->acc };
}

/* Adds gradient c to the accumulator of v: its own node does it when it can, else a copy. */
static void accumulate(ft_g *g, ft_val v, ft_val c)
{
    ft_val acc = g_acc(g, v);
    g_node *n = g_producer(g, c);
    if (g->err.code) return;
    if (!n || !n->op->reduces || n->accumulate || g_val(g, c)->uses || n->side != G_BACKWARD) {
        c = g_make1(g, "copy", c);
        n = g_producer(g, c);
        if (!n) return;
    }
    n->accumulate = true;
    n->out[0] = acc.id;
}

static bool is_open_dx(const ft_g *g, ft_val v)
{
    const g_node *n = g_producer(g, v);
    return n && n->side == G_BACKWARD && !strcmp(n->op->name, "linear_dx") &&
           g_val(g, v)->uses == 0;
}

/* Sums what was sent to one value. */
static ft_val combine(ft_g *g, contribution *list)
{
    ft_val in[24], sum = { 0 };
    int k = 0;
    for (contribution *c = list; c; c = c->next) {
        const g_node *n = is_open_dx(g, c->v) ? g_producer(g, c->v) : NULL;
        if (!n || k + n->n_in > 24) continue;
        for (int i = 0; i < n->n_in; i++) in[k++] = g_inv(n, i);
        c->v.id = 0;
    }
    if (k) sum = g_make(g, "linear_dx", (double[]){ k / 2 }, 1, in, k);
    for (contribution *c = list; c; c = c->next) {
        if (!c->v.id) continue;
        sum = sum.id ? g_kind2(g, "binary", FT_ADD, sum, c->v) : c->v;
    }
    return sum;
}

/* c when v is c times the seed; false otherwise. */
static bool times_seed(const ft_g *g, ft_val v, double *c)
{
    *c = 1;
    for (const g_node *n; (n = g_producer(g, v)); v = g_inv(n, 0)) {
        if (strcmp(n->op->name, "scale")) return false;
        *c *= n->attr[0];
    }
    return v.id == g->seed;
}

/* Turns the forward head into the one that forms its own gradients; false when it does not
 * apply. */
static bool fuse_head(derivation *d, g_node *n, ft_val dlogprob)
{
    ft_g *g = d->g;
    double coef;
    if (strcmp(n->op->name, "linear_logprob") || !times_seed(g, dlogprob, &coef)) return false;
    int terms = (int)n->attr[0], weights = terms + (int)n->attr[1], trained = 0;
    g_value_at(g, n->out[2])->source = G_INPUT; /* log-sum-exp is no longer made; nobody reads it */
    n->op = g_op_find("linear_xent");
    n->attr[3] = coef;
    n->n_out = 2;
    for (int i = 0; i < terms; i++) {
        ft_desc x = *g_desc(g, g_inv(n, 2 * i));
        g_value v = { .desc = x,
                      .source = G_NODE,
                      .node = g_value_at(g, n->out[0])->node,
                      .index = (uint32_t)n->n_out };
        n->out[n->n_out++] = g_add_value(g, v);
        if (g_wants(g, n, 2 * i)) send(d, g_inv(n, 2 * i), (ft_val){ n->out[n->n_out - 1] });
    }
    for (int i = 0; i < weights; i++) {
        int at = i < terms ? 2 * i + 1 : 2 * terms;
        if (!g_wants(g, n, at)) continue;
        if (n->n_out == G_MAX_OUT) g_fail(g, FT_EUNSUP, "the head has too many trained terms");
        else n->out[n->n_out++] = g_acc(g, g_inv(n, at)).id, trained |= 1 << i;
    }
    n->attr[4] = trained;
    return true;
}

/* Sends the gradients of one node's outputs back to its inputs. */
static void visit(derivation *d, g_node *n)
{
    ft_g *g = d->g;
    ft_val dy[G_MAX_OUT] = { { 0 } }, dx[32] = { { 0 } };
    bool any = false;
    for (int i = 0; i < n->n_out; i++) {
        ft_val v = { n->out[i] };
        if (v.id < d->n && d->to[v.id]) dy[i] = combine(g, d->to[v.id]);
        if (v.id < d->n && g_val(g, v)->acc) {
            ft_val acc = { g_val(g, v)->acc };
            dy[i] = dy[i].id ? g_kind2(g, "binary", FT_ADD, acc, dy[i]) : acc;
        }
        any |= dy[i].id != 0;
    }
    if (!any || !n->op->backward || fuse_head(d, n, dy[0])) return;
    g->layer = n->layer;
    n->op->backward(g, n, dy, dx);
    for (int i = 0; i < n->n_in && !g->err.code; i++) {
        ft_val v = g_inv(n, i);
        if (!dx[i].id || !g_val(g, v)->grad) continue;
        if (g_desc(g, v)->life == FT_LIFE_STEP && n->life == FT_LIFE_MICRO) accumulate(g, v, dx[i]);
        else send(d, v, dx[i]);
    }
}

int g_derive(ft_g *g, ft_val loss)
{
    if (g->err.code) return g->err.code;
    const ft_desc *l = g_desc(g, loss);
    if (!loss.id || l->shape.ndim != 1 || l->life != FT_LIFE_MICRO || l->axis == FT_AXIS_FIXED) {
        g_fail(g, FT_ESHAPE, "a loss must be a vector over the trained rows, got %s",
               g_shape_text(l));
        return g->err.code;
    }
    uint32_t forward = g->n_node;
    derivation d = { g, NULL, g->n_value + 2 };
    g->loss = loss.id;
    g->seed = g_leaf(g, G_SEED, 0, *l, false).id;
    d.to = calloc(d.n, sizeof(contribution *));
    if (!d.to) return ft_errf(&g->err, FT_ENOMEM, "out of memory while differentiating");
    g->side = G_BACKWARD;
    if (g_val(g, loss)->grad) send(&d, loss, (ft_val){ g->seed });
    if (g->penalty && g_value_at(g, g->penalty)->grad) {
        ft_val one = g->pub.api->constant(&g->pub, "one", ft_0d(), (float[]){ 1 });
        send(&d, (ft_val){ g->penalty }, one);
    }
    for (uint32_t i = forward; i-- > 0 && !g->err.code;) visit(&d, g_node_at(g, i));
    for (uint32_t i = 0; i < g->n_param && !g->err.code; i++) {
        ft_val p = { g->param[i].value };
        if (p.id < d.n && d.to[p.id]) accumulate(g, p, combine(g, d.to[p.id]));
    }
    g->side = G_FORWARD;
    free(d.to);
    return g->err.code;
}

/* remat.c -- which nodes run, in which order, and which values the backward pass computes again.
 *
 * Dead nodes are dropped.  A value of the forward pass that the backward pass reads is either kept
 * in memory or computed again by a copy of its node, placed just before its first reader.  Copies
 * have the attributes and keys of their originals, and every value is rounded when it is made, so
 * a recomputed value has the bits of a kept one.
 *
 * In layers that keep: cheap values (norms, activations, dropout) are recomputed from what is kept
 * anyway.  In layers that recompute: only the residual stream at the layer's start is kept.  `all`
 * keeps everything. */
#include "core/graph/rules.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    ft_g *g;
    g_remat mode;
    int32_t layers;      /* RECOMPUTE: layers below this number */
    uint32_t n_value, n_node;
    uint8_t *live;       /* [n_node] */
    uint8_t *needed;     /* [n_value] forward values that the backward pass reads */
    uint8_t *boundary;   /* [n_value] */
    uint32_t *copy;      /* [n_value] the recomputed value, or 0 */
    uint32_t *order, n, cap;
} remat;

/* ---- what is alive --------------------------------------------------------------------------- */

static void mark_live(remat *r, const ft_val *wanted, int n_wanted)
{
    uint8_t *used = r->needed; /* borrowed; cleared below */
    for (int i = 0; i < n_wanted; i++) used[wanted[i].id] = 1;
    for (uint32_t i = r->n_node; i-- > 0;) {
        const g_node *n = g_node_at(r->g, i);
        bool live = n->accumulate || !strcmp(n->op->name, "cache") ||
                    (!strcmp(n->op->name, "linear_xent") && n->attr[4] != 0);
        for (int k = 0; k < n->n_out; k++) live |= used[n->out[k]] != 0;
        r->live[i] = live && !n->dead;
        for (int k = 0; r->live[i] && k < n->n_in; k++) used[n->in[k]] = 1;
    }
    memset(used, 0, r->n_value);
}

/* A value of the forward pass, made by a node, that depends on the batch. */
static bool is_activation(const ft_g *g, uint32_t v)
{
    const g_value *x = g_value_at(g, v);
    return x->source == G_NODE && x->desc.life == FT_LIFE_MICRO &&
           g_node_at(g, x->node)->side == G_FORWARD;
}

static void mark_needed(remat *r)
{
    for (uint32_t i = 0; i < r->n_node; i++) {
        const g_node *n = g_node_at(r->g, i);
        if (!r->live[i] || n->side != G_BACKWARD) continue;
        for (int k = 0; k < n->n_in; k++) r->needed[n->in[k]] |= is_activation(r->g, n->in[k]);
    }
    for (uint32_t i = 0; i < r->g->n_boundary; i++) r->boundary[r->g->boundary[i]] = 1;
}

/* ---- what is recomputed ---------------------------------------------------------------------- */

static bool can_recompute(const remat *r, uint32_t v);

/* There when the backward pass wants it without keeping anything more. */
static bool available(const remat *r, uint32_t v)
{
    return !is_activation(r->g, v) || r->needed[v] || can_recompute(r, v);
}

static bool can_recompute(const remat *r, uint32_t v)
{
    const g_node *n = g_node_at(r->g, g_value_at(r->g, v)->node);
    if (!n->op->cheap) return false;
    for (int i = 0; i < n->n_in; i++) {
        if (!available(r, n->in[i])) return false;
    }
    return true;
}

static bool small(const remat *r, uint32_t v)
{
    const g_node *n = g_node_at(r->g, g_value_at(r->g, v)->node);
    return g_cols(&g_value_at(r->g, v)->desc) * 8 <= g_cols(&g_value_at(r->g, n->out[0])->desc);
}

static bool recomputed(const remat *r, uint32_t v)
{
    if (!is_activation(r->g, v) || r->mode == G_KEEP_ALL) return false;
    const g_node *n = g_node_at(r->g, g_value_at(r->g, v)->node);
    if (!strcmp(n->op->name, "linear_xent")) return false;
    if (r->mode == G_RECOMPUTE && n->layer >= 0 && n->layer < r->layers) return !r->boundary[v];
    return can_recompute(r, v) && !(v != n->out[0] && small(r, v));
}

/* ---- the order ------------------------------------------------------------------------------- */

static void append(remat *r, uint32_t node)
{
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 1024;
        uint32_t *p = realloc(r->order, cap * sizeof *p);
        if (!p) {
            g_fail(r->g, FT_ENOMEM, "out of memory while planning");
            return;
        }
        r->order = p;
        r->cap = cap;
    }
    r->order[r->n++] = node;
}

/* The value to read instead of v in the backward pass; makes and appends copies as needed. */
static uint32_t value_for(remat *r, uint32_t v)
{
    ft_g *g = r->g;
    if (v >= r->n_value || !recomputed(r, v)) return v;
    if (r->copy[v]) return r->copy[v];
    const g_node *from = g_node_at(g, g_value_at(g, v)->node);
    ft_val in[32];
    for (int i = 0; i < from->n_in; i++) in[i].id = value_for(r, from->in[i]);
    g->side = G_BACKWARD;
    g->layer = from->layer;
    bool train = g->train; /* a copied dropout is one already */
    g->train = true;
    ft_val made = g_make(g, from->op->name, from->attr, G_MAX_ATTR, in, from->n_in);
    g->train = train;
    g->side = G_FORWARD;
    g_node *n = g_producer(g, made);
    if (!n) return v;
    n->key = from->key;
    for (int i = 0; i < from->n_out; i++) r->copy[from->out[i]] = n->out[i];
    append(r, g->n_node - 1);
    return r->copy[v];
}

static void put_in_order(remat *r)
{
    for (uint32_t i = 0; i < r->n_node && !r->g->err.code; i++) {
        g_node *n = g_node_at(r->g, i);
        if (!r->live[i]) continue;
        for (int k = 0; n->side == G_BACKWARD && k < n->n_in; k++)
            n->in[k] = value_for(r, n->in[k]);
        append(r, i);
    }
}

int g_rematerialize(ft_g *g, g_remat mode, int32_t layers, const ft_val *wanted, int n_wanted,
                    uint32_t **order, uint32_t *n)
{
    if (g->err.code) return g->err.code;
    remat r = {
        .g = g, .mode = mode, .layers = layers, .n_value = g->n_value, .n_node = g->n_node
    };
    r.live = calloc(r.n_node + 1, 1);
    r.needed = calloc(r.n_value, 1);
    r.boundary = calloc(r.n_value, 1);
    r.copy = calloc(r.n_value, sizeof *r.copy);
    if (!r.live || !r.needed || !r.boundary || !r.copy) {
        g_fail(g, FT_ENOMEM, "out of memory while planning");
    } else {
        mark_live(&r, wanted, n_wanted);
        mark_needed(&r);
        put_in_order(&r);
    }
    free(r.live);
    free(r.needed);
    free(r.boundary);
    free(r.copy);
    if (g->err.code) {
        free(r.order);
        return g->err.code;
    }
    *order = r.order;
    *n = r.n;
    return 0;
}

/* graph.c -- making values and nodes: arrays that grow, the first error, and the sharing of equal
 * STEP and CONST nodes (so that a chain which every site repeats is computed once). */
#include "core/graph/graph.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ft_g *g_new(ft_dtype compute, int64_t max_tokens, int64_t max_trained, const g_method *method)
{
    ft_g *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->pub.api = &g_api;
    g->compute = compute;
    g->max_tokens = max_tokens;
    g->max_trained = max_trained;
    g->method = method;
    g->layer = -1;
    g->value_chunk = calloc(G_MAX_CHUNKS, sizeof *g->value_chunk);
    g->node_chunk = calloc(G_MAX_CHUNKS, sizeof *g->node_chunk);
    if (!g->value_chunk || !g->node_chunk) {
        g_free(g);
        return NULL;
    }
    g_add_value(g, (g_value){ 0 }); /* value 0 is void */
    return g;
}

void g_free(ft_g *g)
{
    if (!g) return;
    for (uint32_t i = 0; g->value_chunk && i < G_MAX_CHUNKS; i++) free(g->value_chunk[i]);
    for (uint32_t i = 0; g->node_chunk && i < G_MAX_CHUNKS; i++) free(g->node_chunk[i]);
    free(g->value_chunk);
    free(g->node_chunk);
    free(g->weight);
    free(g->param);
    free(g->table);
    free(g->site);
    free(g->boundary);
    ft_arena_free(&g->arena);
    free(g);
}

ft_val g_fail(ft_g *g, int code, const char *fmt, ...)
{
    if (!g->err.code) {
        va_list ap;
        va_start(ap, fmt);
        ft_verrf(&g->err, code, fmt, ap);
        va_end(ap);
        if (g->at) ft_err_prefix(&g->err, "%s at %s", g->plugin ? g->plugin : "model", g->at->name);
        else if (g->plugin) ft_err_prefix(&g->err, "%s", g->plugin);
    }
    return (ft_val){ 0 };
}

/* One more element at the end of a growing array; NULL (and the error recorded) without memory. */
static void *grow(ft_g *g, void **array, uint32_t *n, uint32_t *cap, size_t size)
{
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 64;
        void *p = realloc(*array, more * size);
        if (!p) {
            g_fail(g, FT_ENOMEM, "out of memory while building the graph");
            return NULL;
        }
        *array = p;
        *cap = more;
    }
    void *at = (char *)*array + (size_t)(*n)++ * size;
    memset(at, 0, size);
    return at;
}
#define GROW(g, array) \
    grow(g, (void **)&(g)->array, &(g)->n_##array, &(g)->cap_##array, sizeof *(g)->array)

/* Makes sure that chunk i / G_CHUNK is there; false (and the error recorded) without memory. */
static bool chunk_for(ft_g *g, void **chunks, uint32_t i, size_t size)
{
    uint32_t c = i / G_CHUNK;
    if (c < G_MAX_CHUNKS && !chunks[c]) chunks[c] = calloc(G_CHUNK, size);
    if (c < G_MAX_CHUNKS && chunks[c]) return true;
    g_fail(g, FT_ENOMEM, "out of memory while building the graph (%u values)", g->n_value);
    return false;
}

uint32_t g_add_value(ft_g *g, g_value v)
{
    if (!chunk_for(g, (void **)g->value_chunk, g->n_value, sizeof v)) return 0;
    *g_value_at(g, g->n_value) = v;
    return g->n_value++;
}

ft_val g_leaf(ft_g *g, g_source source, uint32_t index, ft_desc desc, bool grad)
{
    return (ft_val){
        g_add_value(g, (g_value){ .desc = desc, .source = source, .index = index, .grad = grad })
    };
}

g_weight *g_add_weight(ft_g *g) { return GROW(g, weight); }
g_param *g_add_param(ft_g *g) { return GROW(g, param); }
g_table *g_add_table(ft_g *g) { return GROW(g, table); }
ft_site *g_add_site(ft_g *g) { return GROW(g, site); }

void g_add_boundary(ft_g *g, ft_val x)
{
    uint32_t *p = GROW(g, boundary);
    if (p) *p = x.id;
}

g_node *g_producer(const ft_g *g, ft_val v)
{
    const g_value *x = g_val(g, v);
    return v.id && x->source == G_NODE ? g_node_at(g, x->node) : NULL;
}

ft_val g_out(ft_g *g, ft_val v, int i)
{
    const g_node *n = g_producer(g, v);
    return n && i < n->n_out ? (ft_val){ n->out[i] } : (ft_val){ 0 };
}

int64_t g_cols(const ft_desc *d)
{
    if (d->shape.ndim == 0 || (d->shape.ndim == 1 && d->axis != FT_AXIS_FIXED)) return 1;
    return d->shape.dim[d->shape.ndim - 1];
}

int64_t g_rows(const ft_desc *d)
{
    if (d->shape.ndim == 0 || (d->shape.ndim == 1 && d->axis == FT_AXIS_FIXED)) return 1;
    int64_t n = 1, last = d->shape.ndim == 1 ? 1 : d->shape.ndim - 1;
    for (int64_t i = 0; i < last; i++) n *= d->shape.dim[i];
    return n;
}

uint64_t g_hash(const char *text, uint64_t h)
{
    h ^= 0xcbf29ce484222325u; /* FNV-1a, then a finalizer so that near names lie far apart */
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    return h ^ h >> 33;
}

ft_val g_input(ft_g *g, int which)
{
    if (!g->input[which]) {
        bool trained = which == G_TARGETS;
        ft_desc d = { ft_1d(trained ? g->max_trained : g->max_tokens), FT_I32, FT_LIFE_MICRO,
                      trained ? FT_AXIS_TRAINED : FT_AXIS_TOKENS };
        g->input[which] = g_leaf(g, G_INPUT, (uint32_t)which, d, false).id;
    }
    return (ft_val){ g->input[which] };
}

/* An equal node that is there already, for lifetimes longer than MICRO. */
static const g_node *find_equal(const ft_g *g, const g_node *n)
{
    for (uint32_t i = g->n_node; i-- > 0;) {
        const g_node *m = g_node_at(g, i);
        if (m->op == n->op && m->n_in == n->n_in && m->side == n->side && m->life == n->life &&
            !m->accumulate && !memcmp(m->attr, n->attr, sizeof n->attr) &&
            !memcmp(m->in, n->in, sizeof *n->in * (size_t)n->n_in))
            return m;
    }
    return NULL;
}

/* Lifetime and gradient of a node follow from its inputs. */
static void infer(const ft_g *g, g_node *n, bool *grad)
{
    n->life = FT_LIFE_CONST;
    *grad = false;
    for (int i = 0; i < n->n_in; i++) {
        const g_value *v = g_value_at(g, n->in[i]);
        if (v->desc.life > n->life) n->life = v->desc.life;
        *grad |= v->grad;
    }
}

static bool check_arguments(ft_g *g, const g_op *op, const ft_val *in, int n_in)
{
    if (n_in < op->min_in || n_in > op->max_in) {
        g_fail(g, FT_EINVAL, "op %s takes %d to %d inputs, got %d", op->name, op->min_in,
               op->max_in, n_in);
        return false;
    }
    for (int i = 0; i < n_in; i++) {
        if (in[i].id == 0 || in[i].id >= g->n_value) {
            g_fail(g, FT_EINVAL, "op %s: input %d is not a value", op->name, i);
            return false;
        }
    }
    return true;
}

ft_dtype g_node_dtype(const ft_g *g, const g_node *n)
{
    if (n->life != FT_LIFE_MICRO) return g->compute == FT_F64 ? FT_F64 : FT_F32;
    return n->op->follows ? g_value_at(g, n->in[0])->desc.dtype : g->compute;
}

/* Makes the node for good: outputs get values. */
static ft_val commit(ft_g *g, g_node *n, ft_desc *out, bool grad)
{
    if (!chunk_for(g, (void **)g->node_chunk, g->n_node, sizeof *n)) return (ft_val){ 0 };
    uint32_t index = g->n_node++;
    g_node *at = g_node_at(g, index);
    *at = *n;
    for (int i = 0; i < n->n_in; i++) g_value_at(g, n->in[i])->uses++;
    for (int i = 0; i < n->n_out; i++)
        at->out[i] = g_add_value(g, (g_value){ .desc = out[i], .source = G_NODE, .node = index,
                                               .index = (uint32_t)i, .grad = grad });
    return (ft_val){ at->out[0] };
}

/* Matrices of the checkpoint, trained ones in 16 bits among them, become fp32 for ops that cannot
 * read them as they lie. */
static void widen_weights(ft_g *g, const g_op *op, ft_val *in, int n)
{
    for (int i = 0; i < n && !op->raw; i++) {
        const g_value *v = g_val(g, in[i]);
        bool narrow = v->source == G_PARAM && v->desc.dtype == FT_BF16;
        if ((v->source == G_WEIGHT || narrow) && v->desc.shape.ndim >= 2)
            in[i] = g_make(g, "widen", NULL, 0, &in[i], 1);
    }
}

ft_val g_make(ft_g *g, const char *name, const double *attr, int n_attr, const ft_val *given,
              int n_in)
{
    ft_val in[32];
    if (g->err.code) return (ft_val){ 0 };
    const g_op *op = g_op_find(name);
    if (!op) return g_fail(g, FT_EUNSUP, "there is no op \"%s\"", name);
    if (!check_arguments(g, op, given, n_in)) return (ft_val){ 0 };
    memcpy(in, given, (size_t)n_in * sizeof *in);
    widen_weights(g, op, in, n_in);
    ft_val other = g_rewrite(g, op, attr, in, n_in);
    if (other.id || g->err.code) return other;

    g_node n = { .op = op, .n_in = n_in, .side = g->side, .layer = g->layer, .n_out = 1 };
    bool grad;
    for (int i = 0; i < n_attr && i < G_MAX_ATTR; i++) n.attr[i] = attr[i];
    n.in = ft_arena_array(&g->arena, (size_t)n_in, sizeof *n.in);
    ft_desc *out = ft_arena_array(&g->arena, G_MAX_OUT, sizeof *out);
    if (!n.in || !out) return g_fail(g, FT_ENOMEM, "out of memory while building the graph");
    for (int i = 0; i < n_in; i++) n.in[i] = in[i].id;
    infer(g, &n, &grad);
    for (int i = 0; i < G_MAX_OUT; i++) {
        out[i].life = n.life;
        out[i].dtype = g_node_dtype(g, &n);
    }
    if (op->shape(g, &n, out)) return (ft_val){ 0 };
    const g_node *same = n.life == FT_LIFE_MICRO ? NULL : find_equal(g, &n);
    if (same) return (ft_val){ same->out[0] };
    return commit(g, &n, out, grad && op->backward);
}

/* site.c -- sites: where a model lets adapters in, and the weights and parameters they name. */
#include "core/graph/rules.h"
#include "core/graph/match.h"
#include <math.h>
#include <string.h>

/* ---- weights --------------------------------------------------------------------------------- */

static ft_val find_weight(ft_g *g, const char *name, ft_shape s, bool *found)
{
    *found = false;
    for (uint32_t i = 0; i < g->n_weight; i++) {
        if (strcmp(g->weight[i].name, name)) continue;
        *found = true;
        if (memcmp(&g->weight[i].shape, &s, sizeof s))
            return g_fail(g, FT_ESHAPE, "weight %s is used with two shapes", name);
        return (ft_val){ g->weight[i].value };
    }
    return (ft_val){ 0 };
}

/* A trained weight is a parameter whose first value comes from the checkpoint.  Vectors are always
 * fp32: they are few, and kernels read them so. */
static ft_val trained_weight(ft_g *g, const char *name, ft_shape s, const char *saved_as)
{
    g_param *p = g_add_param(g);
    if (!p) return (ft_val){ 0 };
    bool vector = s.ndim < 2;
    *p = (g_param){ .name = ft_arena_strdup(&g->arena, saved_as),
                    .site = ft_arena_strdup(&g->arena, name),
                    .shape = s,
                    .flags = vector ? FT_NO_DECAY : 0,
                    .weight = true,
                    .saved = true };
    ft_dtype t = g->compute == FT_F64 ? FT_F64
               : !vector && g->method->matrices ? g->method->matrices
                                                : FT_F32;
    ft_val v = g_leaf(g, G_PARAM, g->n_param - 1, (ft_desc){ s, t, FT_LIFE_STEP, FT_AXIS_FIXED },
                      true);
    g->param[g->n_param - 1].value = v.id;
    return v;
}

static ft_val api_weight(ft_graph *pub, const char *name, ft_shape s)
{
    ft_g *g = g_of(pub);
    bool found;
    const char *saved_as = name;
    if (g->err.code) return (ft_val){ 0 };
    for (int i = 0; i < s.ndim; i++) {
        if (s.dim[i] <= 0)
            return g_fail(g, FT_ESHAPE, "weight %s: axis %d has %lld elements", name, i,
                          (long long)s.dim[i]);
    }
    ft_val v = find_weight(g, name, s, &found);
    if (found) return v;
    g_weight *w = g_add_weight(g);
    if (!w) return (ft_val){ 0 };
    uint32_t index = g->n_weight - 1;
    *w = (g_weight){ .name = ft_arena_strdup(&g->arena, name), .shape = s };
    if (g->method && g->method->trained && g->method->trained(g->method->ctx, name, &saved_as)) {
        v = trained_weight(g, name, s, saved_as);
        g->weight[index].trained = true;
    } else {
        ft_dtype t = g->compute == FT_F64 ? FT_F64 : FT_F32;
        v = g_leaf(g, G_WEIGHT, index, (ft_desc){ s, t, FT_LIFE_CONST, FT_AXIS_FIXED }, false);
    }
    g->weight[index].value = v.id;
    return v;
}

static ft_val named_weight(ft_g *g, const char *module, const char *what, ft_shape s)
{
    const char *name = ft_arena_printf(&g->arena, "%s.%s", module, what);
    return name ? api_weight(&g->pub, name, s) : g_fail(g, FT_ENOMEM, "out of memory");
}

/* ---- sites ----------------------------------------------------------------------------------- */

static ft_val api_base(ft_graph *pub, const ft_site *s, ft_val x)
{
    ft_g *g = g_of(pub);
    if (!x.id || !g->at || g->at != s)
        return g_fail(g, FT_EINVAL, "ft_base is for the site being asked about");
    ft_val w = { g->at_weight }, b = { g->at_bias };
    if (s->kind == FT_SITE_LINEAR) {
        ft_val y = g_make(g, "linear", (double[]){ 1 }, 1, (ft_val[]){ x, w }, 2);
        return b.id ? g_kind2(g, "binary", FT_ADD, y, b) : y;
    }
    if (s->kind == FT_SITE_EMBED) return g_make2(g, "embedding", x, w);
    if (s->kind == FT_SITE_GROUPED)
        return g_make(g, "grouped", (double[]){ 0, s->by_in }, 2,
                      (ft_val[]){ x, { g->at_ids }, w, b }, b.id ? 4 : 3);
    return x;
}

static ft_val api_grouped(ft_graph *pub, const ft_site *s, ft_val x, ft_val w)
{
    ft_g *g = g_of(pub);
    if (!x.id || !w.id) return (ft_val){ 0 };
    if (!g->at || g->at != s || s->kind != FT_SITE_GROUPED)
        return g_fail(g, FT_EINVAL, "ft_grouped is for the experts being asked about");
    return g_make(g, "grouped", (double[]){ 0, 0 }, 2, (ft_val[]){ x, { g->at_ids }, w }, 3);
}

/* Features that must leave a site which x enters. */
static int64_t width_of(const ft_g *g, const ft_site *s, ft_val x)
{
    if (s->kind == FT_SITE_LINEAR || s->kind == FT_SITE_EMBED) return s->out;
    if (s->kind == FT_SITE_GROUPED) return s->out * g_cols(g_desc(g, (ft_val){ g->at_ids }));
    return g_cols(g_desc(g, x));
}

/* Asks the adapter of a site, if it has one, and checks what it gave. */
static ft_val adapt(ft_g *g, ft_site *s, ft_val x, ft_val w, ft_val b)
{
    void *self = NULL;
    const ft_adapter *a = NULL;
    const ft_site *outer = g->at;
    s->size = sizeof *s;
    s->layer = g->layer;
    s->index = -1;
    ft_site *kept = g_add_site(g);
    if (!kept) return (ft_val){ 0 };
    if (g->method && g->method->adapter)
        a = g->method->adapter(g->method->ctx, s, &self, &g->plugin);
    *kept = *s;
    g->at = s;
    g->at_weight = w.id;
    g->at_bias = b.id;
    g->dropouts = 0;
    ft_val y = a ? a->apply(self, &g->pub, s, x) : api_base(&g->pub, s, x);
    ft_val plain = y;
    if (a && !g->err.code) {
        const ft_desc *d = g_desc(g, y), *dx = g_desc(g, x);
        int64_t width = width_of(g, s, x);
        if (!y.id || d->shape.ndim != 2 || g_cols(d) != width || d->axis != dx->axis)
            plain = g_fail(g, FT_ESHAPE, "the adapter gives %s where (%lld, %lld) is needed",
                           g_shape_text(d), (long long)g->max_tokens, (long long)width);
    }
    g->at = outer;
    g->plugin = NULL;
    return plain;
}

static ft_val api_site_linear(ft_graph *pub, const char *name, ft_val x, int64_t out, bool bias,
                              ft_val w)
{
    ft_g *g = g_of(pub);
    if (!x.id || g->err.code) return (ft_val){ 0 };
    ft_site s = { .kind = FT_SITE_LINEAR,
                  .name = ft_arena_strdup(&g->arena, name),
                  .in = g_cols(g_desc(g, x)),
                  .out = out,
                  .bias = bias };
    if (!w.id) w = named_weight(g, name, "weight", ft_2d(out, s.in));
    ft_val b = bias ? named_weight(g, name, "bias", ft_1d(out)) : (ft_val){ 0 };
    return adapt(g, &s, x, w, b);
}

static ft_val api_site_embed(ft_graph *pub, const char *name, int64_t rows, int64_t width,
                             ft_val ids)
{
    ft_g *g = g_of(pub);
    if (!ids.id || g->err.code) return (ft_val){ 0 };
    ft_site s = {
        .kind = FT_SITE_EMBED, .name = ft_arena_strdup(&g->arena, name), .in = rows, .out = width
    };
    return adapt(g, &s, ids, named_weight(g, name, "weight", ft_2d(rows, width)), (ft_val){ 0 });
}

static ft_val api_site_grouped(ft_graph *pub, const char *name, ft_val x, ft_val ids,
                               int64_t experts, int64_t out, unsigned flags)
{
    ft_g *g = g_of(pub);
    if (!x.id || !ids.id || g->err.code) return (ft_val){ 0 };
    const ft_desc *d = g_desc(g, ids);
    if (!g_is_matrix(d) || d->dtype != FT_I32)
        return g_fail(g, FT_ESHAPE, "experts %s: ids %s are no choice of experts", name,
                      g_shape_text(d));
    bool by_in = flags & FT_BY_IN;
    ft_site s = { .kind = FT_SITE_GROUPED,
                  .name = ft_arena_strdup(&g->arena, name),
                  .in = g_cols(g_desc(g, x)),
                  .out = out,
                  .bias = flags & FT_BIAS,
                  .experts = experts,
                  .by_in = by_in };
    if (flags & FT_PER_EXPERT) s.in /= g_cols(d);
    const char *bias = ft_arena_printf(&g->arena, "%s_bias", name);
    if (!s.name || !bias) return g_fail(g, FT_ENOMEM, "out of memory");
    ft_val w = api_weight(pub, name, by_in ? ft_3d(experts, s.in, out) : ft_3d(experts, out, s.in));
    ft_val b = s.bias ? api_weight(pub, bias, ft_2d(experts, out)) : (ft_val){ 0 };
    g->at_ids = ids.id;
    return adapt(g, &s, x, w, b);
}

static ft_val api_sublayer(ft_graph *pub, const char *name, ft_val x)
{
    ft_g *g = g_of(pub);
    if (!x.id || g->err.code) return (ft_val){ 0 };
    int64_t width = g_cols(g_desc(g, x));
    ft_site s = { .kind = FT_SITE_SUBLAYER,
                  .name = ft_arena_strdup(&g->arena, name),
                  .in = width,
                  .out = width };
    return adapt(g, &s, x, (ft_val){ 0 }, (ft_val){ 0 });
}

/* Generation: the keys and values of earlier tokens, and the writing of the new ones. */
static ft_val cached(ft_g *g, ft_val k)
{
    ft_desc d = *g_desc(g, k);
    d.axis = FT_AXIS_FIXED;
    ft_val state = g_leaf(g, G_STATE, g->n_state++, d, false);
    return g_make2(g, "cache", k, state);
}

static ft_val api_attention(ft_graph *pub, const char *name, ft_val q, ft_val k, ft_val v,
                            const ft_attention_args *a, ft_val sinks)
{
    ft_g *g = g_of(pub);
    if (!q.id || !k.id || !v.id || g->err.code) return (ft_val){ 0 };
    if (a->heads <= 0 || a->head_dim <= 0)
        return g_fail(g, FT_EINVAL, "attention %s: heads and head_dim must be positive", name);
    ft_site s = { .kind = FT_SITE_ATTENTION,
                  .name = ft_arena_strdup(&g->arena, name),
                  .in = g_cols(g_desc(g, q)),
                  .out = g_cols(g_desc(g, q)),
                  .kv_heads = a->kv_heads,
                  .head_dim = a->head_dim };
    g->extra_k = g->extra_v = 0;
    q = adapt(g, &s, q, (ft_val){ 0 }, (ft_val){ 0 });
    bool extra = g->extra_k && g->extra_v;
    double attr[6] = { (double)a->heads,  (double)a->kv_heads,
                       (double)a->window, a->scale != 0 ? a->scale : 1 / sqrt((double)a->head_dim),
                       a->softcap,        (sinks.id ? 1 : 0) + (extra ? 2 : 0) };
    ft_val in[8] = { q, k, v };
    int n = 3;
    if (!q.id) return q;
    if (g->cached) {
        in[n++] = cached(g, k);
        in[n++] = cached(g, v);
    }
    if (sinks.id) in[n++] = sinks;
    if (extra) in[n++] = (ft_val){ g->extra_k }, in[n++] = (ft_val){ g->extra_v };
    return g_make(g, g->cached ? "attention_cached" : "attention", attr, 6, in, n);
}

static ft_val api_layer(ft_graph *pub, int32_t index, ft_val x)
{
    ft_g *g = g_of(pub);
    g->layer = index;
    if (x.id) g_add_boundary(g, x);
    return x;
}

static ft_val api_constant(ft_graph *pub, const char *name, ft_shape s, const float *data)
{
    ft_g *g = g_of(pub);
    size_t n = 1;
    if (g->err.code) return (ft_val){ 0 };
    for (uint32_t i = 0; i < g->n_table; i++) {
        if (!strcmp(g->table[i].name, name)) return (ft_val){ g->table[i].value };
    }
    for (int i = 0; i < s.ndim; i++) n *= (size_t)s.dim[i];
    float *copy = ft_arena_array(&g->arena, n, sizeof *copy);
    g_table *t = g_add_table(g);
    if (!copy || !t) return g_fail(g, FT_ENOMEM, "out of memory while building the graph");
    memcpy(copy, data, n * sizeof *copy);
    ft_desc d = { s, g->compute == FT_F64 ? FT_F64 : FT_F32, FT_LIFE_CONST, FT_AXIS_FIXED };
    *t = (g_table){ ft_arena_strdup(&g->arena, name), s, copy, 0 };
    ft_val v = g_leaf(g, G_TABLE, g->n_table - 1, d, false);
    g->table[g->n_table - 1].value = v.id;
    return v;
}

/* ---- adapters -------------------------------------------------------------------------------- */

static ft_val api_site_weight(ft_graph *pub, const ft_site *s, bool bias)
{
    ft_g *g = g_of(pub);
    if (!g->at || g->at != s)
        return g_fail(g, FT_EINVAL, "a site's weight is for the site being asked about");
    uint32_t v = bias ? g->at_bias : g->at_weight;
    return v ? (ft_val){ v }
             : g_fail(g, FT_EINVAL, "this site has no %s", bias ? "bias" : "weight");
}

static ft_val api_param(ft_graph *pub, const ft_site *s, const char *key, ft_shape shape,
                        unsigned flags, ft_init init)
{
    ft_g *g = g_of(pub);
    if (g->err.code) return (ft_val){ 0 };
    const char *name = s ? ft_arena_printf(&g->arena, "base_model.model.%s.%s",
                                           s->saved_as ? s->saved_as : s->name, key)
                         : ft_arena_strdup(&g->arena, key);
    if (!name) return g_fail(g, FT_ENOMEM, "out of memory while building the graph");
    for (uint32_t i = 0; i < g->n_param; i++) {
        if (strcmp(g->param[i].name, name)) continue;
        if (memcmp(&g->param[i].shape, &shape, sizeof shape))
            return g_fail(g, FT_ESHAPE, "parameter %s is used with two shapes", name);
        return (ft_val){ g->param[i].value };
    }
    for (int i = 0; i < shape.ndim; i++) {
        if (shape.dim[i] <= 0)
            return g_fail(g, FT_ESHAPE, "parameter %s: axis %d has %lld elements", name, i,
                          (long long)shape.dim[i]);
    }
    g_param *p = g_add_param(g);
    if (!p) return (ft_val){ 0 };
    bool trained = !(flags & FT_FROZEN);
    *p = (g_param){ .name = name,
                    .site = s ? ft_arena_strdup(&g->arena, s->name) : NULL,
                    .shape = shape,
                    .flags = flags,
                    .init = init,
                    .saved = true };
    ft_desc d = { shape, g->compute == FT_F64 ? FT_F64 : FT_F32,
                  trained ? FT_LIFE_STEP : FT_LIFE_CONST, FT_AXIS_FIXED };
    ft_val v = g_leaf(g, G_PARAM, g->n_param - 1, d, trained);
    g->param[g->n_param - 1].value = v.id;
    return v;
}

static void api_extra_kv(ft_graph *pub, const ft_site *s, ft_val k, ft_val v)
{
    ft_g *g = g_of(pub);
    const ft_desc *dk = g_desc(g, k), *dv = g_desc(g, v);
    if (g->err.code) return;
    if (s->kind != FT_SITE_ATTENTION || !g_is_matrix(dk) || !g_same_shape(dk, dv) ||
        g_cols(dk) != s->kv_heads * s->head_dim || dk->life == FT_LIFE_MICRO) {
        g_fail(g, FT_ESHAPE, "extra keys %s and values %s must be (n, %lld)", g_shape_text(dk),
               g_shape_text(dv), (long long)(s->kv_heads * s->head_dim));
        return;
    }
    g->extra_k = k.id;
    g->extra_v = v.id;
}

static void api_penalty(ft_graph *pub, ft_val x)
{
    ft_g *g = g_of(pub);
    if (g->err.code || !x.id) return;
    if (g_desc(g, x)->shape.ndim != 0 || g_desc(g, x)->life == FT_LIFE_MICRO) {
        g_fail(g, FT_ESHAPE, "a penalty must be a scalar that depends on parameters alone");
        return;
    }
    g->penalty = g->penalty ? g_kind2(g, "binary", FT_ADD, (ft_val){ g->penalty }, x).id : x.id;
}

static double api_pattern(ft_graph *pub, const ft_map *m, const char *name, double otherwise)
{
    ft_g *g = g_of(pub);
    for (size_t i = 0; i < m->n; i++) {
        int hit = ft_match_end(m->key[i], name, &g->err);
        if (hit < 0) return otherwise;
        if (hit) return m->value[i];
    }
    return otherwise;
}

static const ft_desc *api_desc(ft_graph *pub, ft_val v) { return g_desc(g_of(pub), v); }

const ft_graph_api g_api = {
    .size = sizeof(ft_graph_api),
    .op = g_api_op,
    .fail = g_api_fail,
    .desc = api_desc,
    .weight = api_weight,
    .site_linear = api_site_linear,
    .site_embed = api_site_embed,
    .sublayer = api_sublayer,
    .attention = api_attention,
    .layer = api_layer,
    .constant = api_constant,
    .base = api_base,
    .site_weight = api_site_weight,
    .param = api_param,
    .extra_kv = api_extra_kv,
    .penalty = api_penalty,
    .pattern = api_pattern,
    .site_grouped = api_site_grouped,
    .grouped = api_grouped,
};

/* experts.c -- mixtures of experts: a router picks a few experts for each token, and their answers
 * are added by its weights.
 *
 *   r = router h;  e_1 … e_k its greatest;  w = softmax(r_e1 … r_ek), or over all r
 *   y = sum_j w_j down_ej(swiglu(gate_up_ej h))
 *
 * Hugging Face folders of gpt-oss have gate_up_proj (experts, width, 2 inner), gate and up taking
 * turns, as one tensor; those of Qwen3 a gate_proj, up_proj and down_proj for each expert, which
 * transformers joins to gate_up_proj (experts, 2 inner, width), gates before ups, and so do we:
 * adapters are named after it.  GGUF files have one tensor for all experts' gates, one for their
 * ups, one for their downs.  Shazeer et al. 2017, arXiv:1701.06538; Fedus et al. 2022,
 * arXiv:2101.03961. */
#include <stdio.h>
#include "decoder.h"

/* ---- configuration --------------------------------------------------------------------------- */

static int check(decoder *m, const char *where)
{
    if (!strcmp(m->act, "silu") && m->chosen <= m->experts && m->experts > 0 && m->chosen > 0)
        return 0;
    if (strcmp(m->act, "silu"))
        return m->host->fail(m->host, FT_EUNSUP,
                             "%s: experts with the activation \"%.60s\" are not supported; those "
                             "with silu are",
                             where, m->act);
    return m->host->fail(m->host, FT_EFORMAT, "%s: a token cannot choose %lld of %lld experts",
                         where, (long long)m->chosen, (long long)m->experts);
}

/* Layers without experts: those listed, and all but every step-th. */
static int read_dense(decoder *m, const ft_json *c)
{
    const ft_json *list = decoder_value(c, "mlp_only_layers");
    int64_t step = 1;
    int e = decoder_int(m, c, "decoder_sparse_step", 1, &step);
    for (int64_t l = 0; l < m->layers; l++)
        m->dense[l] = (l + 1) % step != 0;
    if (e || !list) return e;
    if (list->type != FT_JSON_ARRAY)
        return decoder_wrong(m, "mlp_only_layers", list, "a list of layers");
    for (size_t i = 0; i < list->len; i++) {
        int64_t l = -1;
        ft_json_as_int(&list->item[i], &l); /* of anything else: stays -1 */
        if (l < 0 || l >= DECODER_MAX_LAYERS)
            return decoder_wrong(m, "mlp_only_layers", &list->item[i], "a number of a layer");
        m->dense[l] = true;
    }
    return 0;
}

int decoder_read_experts(decoder *m, const ft_json *c)
{
    const decoder_experts *x = m->family->experts;
    const ft_json *aux = decoder_value(c, "output_router_logits");
    m->swiglu = x->act;
    m->normed = x->normed;
    if (aux && aux->type == FT_JSON_BOOL && aux->truth)
        return m->host->fail(m->host, FT_EUNSUP,
                             "config.json: \"output_router_logits\" is true, which adds a loss of "
                             "the router's own; set it to false");
    int e = decoder_int(m, c, "num_experts", 1, &m->experts);
    if (!e) e = decoder_int(m, c, "num_local_experts", 1, &m->experts);
    if (!e) e = decoder_int(m, c, "num_experts_per_tok", 1, &m->chosen);
    if (!e) e = decoder_int(m, c, x->inner, 1, &m->expert_inner);
    if (!e && x->act.limit > 0) e = decoder_real(m, c, "swiglu_limit", &m->swiglu.limit);
    if (!e && x->act.limit > 0) e = decoder_real(m, c, "swiglu_alpha", &m->swiglu.alpha);
    if (!e && !x->normed) e = decoder_flag(m, c, "norm_topk_prob", &m->normed);
    if (!e && !m->expert_inner)
        e = m->host->fail(m->host, FT_EFORMAT, "config.json: \"%s\" is missing", x->inner);
    if (!e) e = check(m, "config.json");
    return e ? e : read_dense(m, c);
}

int decoder_read_gguf_experts(decoder *m, const ft_source *s)
{
    const decoder_experts *x = m->family->experts;
    m->swiglu = x->act;
    m->normed = true; /* as llama.cpp computes both families */
    int e = decoder_meta_int(m, s, "expert_count", &m->experts);
    if (!e) e = decoder_meta_int(m, s, "expert_used_count", &m->chosen);
    if (!e) e = decoder_meta_int(m, s, "expert_feed_forward_length", &m->expert_inner);
    if (!m->expert_inner) m->expert_inner = m->inner;
    m->mlp_bias = false;
    return e ? e : check(m, s->path);
}

/* ---- the graph ------------------------------------------------------------------------------- */

ft_val decoder_build_experts(const decoder *m, ft_graph *g, int64_t l, ft_val h)
{
    const decoder_experts *x = m->family->experts;
    char up[128], down[128], router[128];
    snprintf(up, sizeof up, "model.layers.%d.mlp.experts.gate_up_proj", (int)l);
    snprintf(down, sizeof down, "model.layers.%d.mlp.experts.down_proj", (int)l);
    snprintf(router, sizeof router, "model.layers.%d.%s.weight", (int)l, x->router);
    ft_val logits = ft_linear(g, h, ft_weight(g, router, ft_2d(m->experts, m->width)));
    if (x->router_bias) {
        snprintf(router, sizeof router, "model.layers.%d.%s.bias", (int)l, x->router);
        logits = ft_add(g, logits, ft_weight(g, router, ft_1d(m->experts)));
    }
    ft_routing r = ft_route(g, logits, m->chosen, !m->normed);
    ft_val y = ft_site_grouped(g, up, h, &r, m->experts, 2 * m->expert_inner, x->flags);
    y = ft_swiglu(g, y, m->chosen, &m->swiglu);
    y = ft_site_grouped(g, down, y, &r, m->experts, m->width, x->flags | FT_PER_EXPERT);
    return ft_combine(g, y, r.weights, m->chosen);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* "gate_up_proj" or "down_proj" with its layer and whether it is the bias; NULL: it is no experts'
 * tensor. */
static const char *experts_tensor(const char *name, int *layer, bool *bias)
{
    int at = 0;
    if (sscanf(name, "model.layers.%d.mlp.experts.%n", layer, &at) != 1 || !at) return NULL;
    size_t n = strlen(name + at);
    *bias = n > 5 && !strcmp(name + at + n - 5, "_bias");
    if (*bias) n -= 5;
    if (n == 12 && !strncmp(name + at, "gate_up_proj", n)) return "gate_up_proj";
    return n == 9 && !strncmp(name + at, "down_proj", n) ? "down_proj" : NULL;
}

/* Every expert's gates, ups or downs in one tensor. */
static bool gguf_piece(const decoder *m, int layer, bool joined, bool bias, int64_t i,
                       ft_piece *out)
{
    static const char *const name[] = { "gate", "up", "down" };
    const decoder_experts *x = m->family->experts;
    if (i >= (joined ? 2 : 1)) return false;
    *out = (ft_piece){ .expert = -1, .step = 1, .columns = bias || (x->flags & FT_BY_IN) };
    snprintf(out->name, sizeof out->name, "blk.%d.ffn_%s_exps.%s", layer, name[joined ? i : 2],
             bias ? "bias" : "weight");
    if (joined && x->act.interleaved) out->from = i, out->step = 2;
    else if (joined) out->from = i * m->expert_inner;
    return true;
}

bool decoder_piece(void *self, const char *name, bool gguf, int64_t i, ft_piece *out)
{
    static const char *const part[] = { "gate_proj", "up_proj", "down_proj" };
    const decoder *m = self;
    int layer;
    bool bias;
    const char *tensor = m->family->experts ? experts_tensor(name, &layer, &bias) : NULL;
    if (!tensor) return false;
    bool joined = tensor[0] == 'g';
    int64_t parts = joined ? 2 : 1;
    if (gguf) return gguf_piece(m, layer, joined, bias, i, out);
    if (m->family->experts->joined || bias || i >= m->experts * parts) return false;
    *out = (ft_piece){ .expert = i / parts, .from = i % parts * m->expert_inner, .step = 1 };
    snprintf(out->name, sizeof out->name, "model.layers.%d.mlp.experts.%d.%s.weight", layer,
             (int)(i / parts), part[joined ? i % parts : 2]);
    return true;
}

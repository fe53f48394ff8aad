/* build.c -- the graph of a decoder (decoder.h has its formulas). */
#include <stdio.h>
#include "decoder.h"

/* "model.layers.3." + name; valid until the next call with the same text. */
static const char *in_layer(char text[96], int64_t layer, const char *name)
{
    snprintf(text, 96, "model.layers.%d.%s", (int)layer, name);
    return text;
}

static ft_val linear(ft_graph *g, int64_t layer, const char *name, ft_val x, int64_t out, bool bias)
{
    char text[96];
    return ft_site_linear(g, in_layer(text, layer, name), x, out, bias);
}

/* The norm NAME over groups of n features. */
static ft_val norm(const decoder *m, ft_graph *g, const char *name, ft_val x, int64_t n)
{
    return ft_rms_norm(g, x, ft_weight(g, name, ft_1d(n)), m->eps, decoder_is(m, DECODER_GEMMA));
}

static ft_val layer_norm(const decoder *m, ft_graph *g, int64_t l, const char *name, ft_val x,
                         int64_t n)
{
    char text[96];
    return norm(m, g, in_layer(text, l, name), x, n);
}

/* ---- attention ------------------------------------------------------------------------------- */

typedef struct { ft_val q, k, v; } heads;

static heads project(const decoder *m, ft_graph *g, int64_t l, ft_val h)
{
    int64_t nq = m->heads * m->head_dim, nk = m->kv_heads * m->head_dim;
    if (decoder_is(m, DECODER_FUSED)) {
        ft_val all = linear(g, l, "self_attn.qkv_proj", h, nq + 2 * nk, m->qkv_bias);
        return (heads){ ft_slice(g, all, 1, 0, nq), ft_slice(g, all, 1, nq, nq + nk),
                        ft_slice(g, all, 1, nq + nk, nq + 2 * nk) };
    }
    heads x = { .q = linear(g, l, "self_attn.q_proj", h, nq, m->qkv_bias) };
    x.k = linear(g, l, "self_attn.k_proj", h, nk, m->qkv_bias);
    x.v = linear(g, l, "self_attn.v_proj", h, nk, m->qkv_bias);
    return x;
}

static ft_val rotate(const decoder *m, ft_graph *g, int64_t l, ft_val x, ft_val positions)
{
    int i = decoder_is(m, DECODER_LOCAL_ROPE) && m->slides[l];
    int64_t n = ft_rope_dim(&m->rope[i], m->head_dim) / 2;
    ft_val freq = ft_constant(g, i ? "rope.sliding" : "rope", ft_1d(n), m->freq[i]);
    return ft_rope_part(g, x, positions, freq, m->rope_scale[i], m->head_dim);
}

static ft_val attention(const decoder *m, ft_graph *g, int64_t l, ft_val h, ft_val positions)
{
    ft_attention_args a = { .heads = m->heads,
                            .kv_heads = m->kv_heads,
                            .head_dim = m->head_dim,
                            .window = m->slides[l] ? m->window : 0,
                            .scale = m->query_scale,
                            .softcap = m->score_cap };
    char self[96];
    heads x = project(m, g, l, h);
    if (decoder_is(m, DECODER_HEAD_NORMS)) {
        x.q = layer_norm(m, g, l, "self_attn.q_norm.weight", x.q, m->head_dim);
        x.k = layer_norm(m, g, l, "self_attn.k_norm.weight", x.k, m->head_dim);
    }
    x.q = rotate(m, g, l, x.q, positions);
    x.k = rotate(m, g, l, x.k, positions);
    ft_val sinks = { 0 };
    if (decoder_is(m, DECODER_SINKS))
        sinks = ft_weight(g, in_layer(self, l, "self_attn.sinks"), ft_1d(m->heads));
    ft_val o = ft_attention(g, in_layer(self, l, "self_attn"), x.q, x.k, x.v, &a, sinks);
    o = linear(g, l, "self_attn.o_proj", o, m->width, m->out_bias);
    if (decoder_is(m, DECODER_GEMMA))
        o = layer_norm(m, g, l, "post_attention_layernorm.weight", o, m->width);
    return ft_sublayer(g, self, o);
}

/* ---- MLP ------------------------------------------------------------------------------------- */

static ft_val mlp(const decoder *m, ft_graph *g, int64_t l, ft_val h)
{
    ft_val gate, up;
    char self[96];
    if (m->family->experts && !m->dense[l])
        return ft_sublayer(g, in_layer(self, l, "mlp"), decoder_build_experts(m, g, l, h));
    if (decoder_is(m, DECODER_FUSED)) {
        ft_val both = linear(g, l, "mlp.gate_up_proj", h, 2 * m->inner, m->mlp_bias);
        gate = ft_slice(g, both, 1, 0, m->inner);
        up = ft_slice(g, both, 1, m->inner, 2 * m->inner);
    } else {
        gate = linear(g, l, "mlp.gate_proj", h, m->inner, m->mlp_bias);
        up = linear(g, l, "mlp.up_proj", h, m->inner, m->mlp_bias);
    }
    ft_val y = ft_glu(g, m->act_op, gate, up);
    y = linear(g, l, "mlp.down_proj", y, m->width, m->mlp_bias);
    if (decoder_is(m, DECODER_GEMMA))
        y = layer_norm(m, g, l, "post_feedforward_layernorm.weight", y, m->width);
    return ft_sublayer(g, in_layer(self, l, "mlp"), y);
}

/* ---- the model ------------------------------------------------------------------------------- */

/* Gemma scales its embeddings by sqrt(width), as a number of the dtype that they have. */
static ft_val embed(const decoder *m, ft_graph *g, ft_val ids)
{
    ft_val x = ft_site_embed(g, "model.embed_tokens", m->vocab, m->width, ids);
    float by = sqrtf((float)m->width);
    if (!decoder_is(m, DECODER_GEMMA)) return x;
    if (ft_describe(g, x)->dtype == FT_BF16) {
        uint32_t bits;
        memcpy(&bits, &by, 4);
        bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
        memcpy(&by, &bits, 4);
    }
    return ft_scale(g, x, (double)by);
}

static ft_val head(const decoder *m, ft_graph *g, ft_val x)
{
    ft_val y;
    if (m->tied) {
        ft_val w = ft_weight(g, "model.embed_tokens.weight", ft_2d(m->vocab, m->width));
        y = ft_site_linear_tied(g, "lm_head", x, m->vocab, w);
    } else {
        y = ft_site_linear(g, "lm_head", x, m->vocab, false);
    }
    if (!(m->logit_cap > 0)) return y;
    return ft_scale(g, ft_tanh(g, ft_scale(g, y, 1 / m->logit_cap)), m->logit_cap);
}

ft_val decoder_build(void *self, ft_graph *g, const ft_model_inputs *in)
{
    const decoder *m = self;
    const char *second = decoder_is(m, DECODER_GEMMA) ? "pre_feedforward_layernorm.weight"
                                                      : "post_attention_layernorm.weight";
    ft_val x = embed(m, g, in->ids);
    for (int64_t l = 0; l < m->layers; l++) {
        x = ft_layer(g, (int32_t)l, x);
        ft_val h = layer_norm(m, g, l, "input_layernorm.weight", x, m->width);
        x = ft_add(g, x, attention(m, g, l, h, in->positions));
        h = layer_norm(m, g, l, second, x, m->width);
        x = ft_add(g, x, mlp(m, g, l, h));
    }
    return head(m, g, norm(m, g, "model.norm.weight", ft_layer(g, -1, x), m->width));
}

/* export.c -- config.json of a model that came from GGUF, as transformers reads it: the older
 * spelling (rope_theta, rope_scaling), which all its versions know. */
#include <stdio.h>
#include <string.h>
#include "decoder.h"

static const char *truth(bool b) { return b ? "true" : "false"; }

/* A number with as many digits as fp32 has (GGUF keeps no more), and a point or an exponent: where
 * transformers expects no whole number it takes none. */
static const char *real(char text[40], double v)
{
    snprintf(text, 32, "%.9g", (double)(float)v);
    return strpbrk(text, ".e") ? text : strcat(text, ".0");
}

static void put_real(ft_buf *b, const char *key, double v)
{
    char text[40];
    ft_buf_printf(b, "  \"%s\": %s,\n", key, real(text, v));
}

static void put_int(ft_buf *b, const char *key, int64_t v)
{
    ft_buf_printf(b, "  \"%s\": %lld,\n", key, (long long)v);
}

/* An id that the file does not name is null, or transformers would take its own default. */
static void put_id(ft_buf *b, const char *key, int64_t id)
{
    if (id >= 0) put_int(b, key, id);
    else ft_buf_printf(b, "  \"%s\": null,\n", key);
}

/* The same inside of an object, after another member. */
static void add_real(ft_buf *b, const char *key, double v)
{
    char text[40];
    ft_buf_printf(b, ", \"%s\": %s", key, real(text, v));
}

static void add_list(ft_buf *b, const char *key, const double *v, int64_t n)
{
    char text[40];
    ft_buf_printf(b, ", \"%s\": [", key);
    for (int64_t i = 0; i < n; i++) ft_buf_printf(b, "%s%s", i ? ", " : "", real(text, v[i]));
    ft_buf_puts(b, "]");
}

static void put_scaling(ft_buf *b, const ft_rope_spec *r)
{
    if (r->type == FT_ROPE_DEFAULT) {
        ft_buf_puts(b, "  \"rope_scaling\": null,\n");
        return;
    }
    ft_buf_printf(b, "  \"rope_scaling\": { \"rope_type\": \"%s\"", ft_rope_names[r->type]);
    if (r->factor > 0) add_real(b, "factor", r->factor);
    if (r->original > 0)
        ft_buf_printf(b, ", \"original_max_position_embeddings\": %lld", (long long)r->original);
    if (r->type == FT_ROPE_LLAMA3) {
        add_real(b, "low_freq_factor", r->low);
        add_real(b, "high_freq_factor", r->high);
    }
    if (r->type == FT_ROPE_YARN) {
        add_real(b, "beta_fast", r->fast);
        add_real(b, "beta_slow", r->slow);
        if (!r->whole) ft_buf_puts(b, ", \"truncate\": false");
    }
    if (r->attention > 0) add_real(b, "attention_factor", r->attention);
    if (r->type == FT_ROPE_LONGROPE) {
        add_list(b, "long_factor", r->list[1], r->n_list);
        add_list(b, "short_factor", r->list[0], r->n_list);
    }
    ft_buf_puts(b, " },\n");
    if (r->type == FT_ROPE_LONGROPE) put_int(b, "original_max_position_embeddings",
                                             (int64_t)r->original);
}

static void put_rope(const decoder *m, ft_buf *b)
{
    const ft_rope_spec *r = m->rope;
    put_real(b, "rope_theta", r[0].theta);
    put_scaling(b, r);
    if (decoder_is(m, DECODER_LOCAL_ROPE)) put_real(b, "rope_local_base_freq", r[1].theta);
    if (decoder_is(m, DECODER_PARTIAL_ROPE)) put_real(b, "partial_rotary_factor", r[0].partial);
}

static void put_windows(const decoder *m, ft_buf *b)
{
    if (m->family->windows == DECODER_NO_WINDOW) return;
    if (m->window) put_int(b, "sliding_window", m->window);
    else ft_buf_puts(b, "  \"sliding_window\": null,\n");
    if (m->family->windows == DECODER_UPPER_LAYERS || m->family->windows == DECODER_ALL_IF_USED)
        ft_buf_puts(b, "  \"use_sliding_window\": false,\n");
    if (m->family->windows != DECODER_ALTERNATING) return;
    ft_buf_puts(b, "  \"layer_types\": [");
    for (int64_t l = 0; l < m->layers; l++)
        ft_buf_printf(b, "%s\"%s_attention\"", l ? ", " : "", m->slides[l] ? "sliding" : "full");
    ft_buf_puts(b, "],\n");
}

static void put_gemma(const decoder *m, ft_buf *b)
{
    put_int(b, "query_pre_attn_scalar", llround(1 / (m->query_scale * m->query_scale)));
    if (m->logit_cap > 0) put_real(b, "final_logit_softcapping", m->logit_cap);
    if (m->score_cap > 0) put_real(b, "attn_logit_softcapping", m->score_cap);
}

static void put_experts(const decoder *m, ft_buf *b)
{
    const decoder_experts *x = m->family->experts;
    put_int(b, "num_experts", m->experts);
    put_int(b, "num_local_experts", m->experts);
    put_int(b, "num_experts_per_tok", m->chosen);
    if (strcmp(x->inner, "intermediate_size")) put_int(b, x->inner, m->expert_inner);
    if (x->act.limit > 0) put_real(b, "swiglu_limit", m->swiglu.limit);
    if (x->act.limit > 0) put_real(b, "swiglu_alpha", m->swiglu.alpha);
    if (!x->normed) ft_buf_printf(b, "  \"norm_topk_prob\": %s,\n", truth(m->normed));
}

/* Biases that the family's config.json has no word for. */
static bool says_biases(const decoder *m)
{
    bool both = decoder_is(m, DECODER_ATTENTION_BIAS) && m->qkv_bias == m->out_bias;
    bool fixed = !decoder_is(m, DECODER_ATTENTION_BIAS) &&
                 m->qkv_bias == decoder_is(m, DECODER_QKV_BIAS) && !m->out_bias;
    return (both || fixed) && (!m->mlp_bias || decoder_is(m, DECODER_MLP_BIAS));
}

static void put_biases(const decoder *m, ft_buf *b)
{
    if (decoder_is(m, DECODER_ATTENTION_BIAS))
        ft_buf_printf(b, "  \"attention_bias\": %s,\n", truth(m->qkv_bias));
    if (decoder_is(m, DECODER_MLP_BIAS))
        ft_buf_printf(b, "  \"mlp_bias\": %s,\n", truth(m->mlp_bias));
}

static void put_sizes(const decoder *m, ft_buf *b)
{
    const struct { const char *key; int64_t v; } all[] = {
        { "head_dim", m->head_dim },
        { "hidden_size", m->width },
        { "intermediate_size", m->inner },
        { "max_position_embeddings", m->context },
        { "num_attention_heads", m->heads },
        { "num_hidden_layers", m->layers },
        { "num_key_value_heads", m->kv_heads },
    };
    put_id(b, "bos_token_id", m->bos);
    put_id(b, "eos_token_id", m->eos);
    put_id(b, "pad_token_id", m->pad);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) put_int(b, all[i].key, all[i].v);
}

int decoder_config(void *self, const char **json, size_t *n)
{
    decoder *m = self;
    ft_buf *b = &m->json;
    bool gemma = decoder_is(m, DECODER_GEMMA);
    if (!says_biases(m))
        return m->host->fail(m->host, FT_EUNSUP,
                             "this model has biases that the configuration of a %s cannot say: it "
                             "has no Hugging Face form",
                             m->family->model_type);
    ft_buf_free(b);
    ft_buf_printf(b, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n  \"model_type\": \"%s\",\n",
                  m->family->hf_class, m->family->model_type);
    put_sizes(m, b);
    put_biases(m, b);
    ft_buf_printf(b, "  \"%s\": \"%s\",\n", gemma ? "hidden_activation" : "hidden_act", m->act);
    put_real(b, "rms_norm_eps", m->eps);
    if (gemma) put_gemma(m, b);
    put_windows(m, b);
    if (m->family->experts) put_experts(m, b);
    put_rope(m, b);
    ft_buf_printf(b, "  \"tie_word_embeddings\": %s,\n  \"vocab_size\": %lld\n}\n", truth(m->tied),
                  (long long)m->vocab);
    if (b->oom) return m->host->fail(m->host, FT_ENOMEM, "out of memory");
    *json = b->p;
    *n = b->n;
    return 0;
}

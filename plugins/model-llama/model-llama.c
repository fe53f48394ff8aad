/* model-llama.c -- LLaMA and its like: SmolLM2, and every checkpoint whose model_type is "llama".
 *
 *   x = embed(ids)
 *   each layer:  x += o(attention(rope(q h), rope(k h), v h)),  h = norm(x)
 *                x += down(silu(gate h) * (up h)),              h = norm(x)
 *   logits = head(norm(x)),  the head tied to the embedding or not
 *
 * Grouped-query attention, rotary scaling by configuration, biases where configured.  Touvron et
 * al. 2023, arXiv:2302.13971; weight names as in transformers' LlamaForCausalLM, and llama.cpp's
 * "llama" architecture, whose query and key rows are interleaved.  Held against transformers'
 * logits and gradients (tests/unit/test_models.c). */
#include <stdio.h>
#include "ft/buf.h"
#include "ft/model.h"
#include "ft/rope.h"

typedef struct {
    const ft_host *host;
    int64_t vocab, width, inner, layers, heads, kv_heads, head_dim, context;
    double eps, rope_scale, theta;
    bool tied, attention_bias, mlp_bias;
    const char *act;
    float freq[512];
    int64_t bos, eos;
    ft_buf json;
} llama;

/* ---- hyper-parameters ------------------------------------------------------------------------ */

static int missing(llama *m, const char *key, const char *where)
{
    return m->host->fail(m->host, FT_EFORMAT, "%s: \"%s\" is missing or no positive whole number",
                         where, key);
}

static bool claims(const ft_source *s)
{
    if (!s->gguf) return !strcmp(ft_json_str(s->config, "model_type", ""), "llama");
    uint64_t n;
    const char *name = ft_meta_str(ft_source_meta(s, "general.architecture"), &n);
    return name && n == 5 && !memcmp(name, "llama", 5);
}

static bool flag(const ft_json *c, const char *key) { return ft_rope_flag(c, key, false); }

/* A positive integer of config.json; `otherwise` > 0 serves when it is absent or null. */
static int read_int(llama *m, const ft_json *c, const char *key, int64_t otherwise, int64_t *out)
{
    const ft_json *v = ft_json_get(c, key);
    if ((!v || v->type == FT_JSON_NULL) && otherwise > 0) {
        *out = otherwise;
        return 0;
    }
    return ft_json_as_int(v, out) && *out > 0 && *out < (int64_t)1 << 31
               ? 0
               : missing(m, key, "config.json");
}

static int read_config(llama *m, const ft_json *c)
{
    int e = 0;
    if ((e = read_int(m, c, "vocab_size", 0, &m->vocab)) ||
        (e = read_int(m, c, "hidden_size", 0, &m->width)) ||
        (e = read_int(m, c, "intermediate_size", 0, &m->inner)) ||
        (e = read_int(m, c, "num_hidden_layers", 0, &m->layers)) ||
        (e = read_int(m, c, "num_attention_heads", 0, &m->heads)) ||
        (e = read_int(m, c, "num_key_value_heads", m->heads, &m->kv_heads)) ||
        (e = read_int(m, c, "head_dim", m->width / m->heads, &m->head_dim)) ||
        (e = read_int(m, c, "max_position_embeddings", 2048, &m->context)))
        return e;
    m->eps = ft_rope_number(c, "rms_norm_eps", 1e-6);
    m->theta = 10000;
    m->tied = flag(c, "tie_word_embeddings");
    m->attention_bias = flag(c, "attention_bias");
    m->mlp_bias = flag(c, "mlp_bias");
    m->act = ft_json_str(c, "hidden_act", "silu");
    return 0;
}

static int read_meta(llama *m, const ft_source *s)
{
    static const struct { const char *key; size_t at;
    } need[] = {
        { "llama.embedding_length", offsetof(llama, width) },
        { "llama.feed_forward_length", offsetof(llama, inner) },
        { "llama.block_count", offsetof(llama, layers) },
        { "llama.attention.head_count", offsetof(llama, heads) },
        { "llama.context_length", offsetof(llama, context) },
    };
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) {
        int64_t *to = (int64_t *)(void *)((char *)m + need[i].at);
        if (!ft_source_int(s, need[i].key, to) || *to <= 0 || *to >= (int64_t)1 << 31)
            return missing(m, need[i].key, s->path);
    }
    const ft_meta *tokens = ft_source_meta(s, "tokenizer.ggml.tokens");
    if (!ft_source_int(s, "llama.vocab_size", &m->vocab))
        m->vocab = tokens ? (int64_t)tokens->n : 0;
    const ft_tensor *embed = ft_source_tensor(s, "token_embd.weight");
    if (embed && embed->ndim == 2) m->vocab = embed->dim[0];
    if (m->vocab <= 0) return missing(m, "llama.vocab_size", s->path);
    if (!ft_source_int(s, "llama.attention.head_count_kv", &m->kv_heads)) m->kv_heads = m->heads;
    if (!ft_source_int(s, "llama.attention.key_length", &m->head_dim))
        m->head_dim = m->width / m->heads;
    if (!ft_source_real(s, "llama.attention.layer_norm_rms_epsilon", &m->eps)) m->eps = 1e-5;
    if (!ft_source_real(s, "llama.rope.freq_base", &m->theta)) m->theta = 10000;
    if (!ft_source_int(s, "tokenizer.ggml.bos_token_id", &m->bos)) m->bos = -1;
    if (!ft_source_int(s, "tokenizer.ggml.eos_token_id", &m->eos)) m->eos = -1;
    m->tied = !ft_source_tensor(s, "output.weight");
    m->attention_bias = ft_source_tensor(s, "blk.0.attn_q.bias") != NULL;
    m->act = "silu";
    if (ft_source_tensor(s, "rope_freqs.weight") || ft_source_meta(s, "llama.rope.scaling.type"))
        return m->host
            ->fail(m->host, FT_EUNSUP,
                   "%s: rotary scaling of GGUF files is not supported; use the Hugging Face folder",
                   s->path);
    return 0;
}

static int load(void *self, const ft_source *s, ft_model_info *out)
{
    llama *m = self;
    int e = s->gguf ? read_meta(m, s) : read_config(m, s->config);
    if (e) return e;
    if (m->heads % m->kv_heads)
        return m->host->fail(m->host, FT_EFORMAT,
                             "%lld attention heads are no multiple of %lld key-value heads",
                             (long long)m->heads, (long long)m->kv_heads);
    if (strcmp(m->act, "silu") && strcmp(m->act, "gelu") && strcmp(m->act, "gelu_pytorch_tanh") &&
        strcmp(m->act, "relu"))
        return m->host
            ->fail(m->host, FT_EUNSUP,
                   "hidden_act \"%s\" is not supported: silu, gelu, gelu_pytorch_tanh and relu are",
                   m->act);
    ft_rope_args a = { .theta = m->theta, .dim = m->head_dim, .context = m->context };
    const char *wrong = ft_rope_frequencies(s->config, NULL, &a, m->freq, &m->rope_scale);
    if (wrong) return m->host->fail(m->host, FT_EUNSUP, "%s: %s", s->path, wrong);
    *out =
        (ft_model_info){ sizeof *out, "llama", m->vocab, m->width, m->layers, m->context, m->tied };
    return 0;
}

/* ---- the graph ------------------------------------------------------------------------------- */

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

static ft_val norm(const llama *m, ft_graph *g, const char *name, ft_val x)
{
    return ft_rms_norm(g, x, ft_weight(g, name, ft_1d(m->width)), m->eps, 0);
}

static ft_val attention(const llama *m, ft_graph *g, int64_t l, ft_val h, ft_val positions,
                        ft_val freq)
{
    ft_attention_args a = { .heads = m->heads, .kv_heads = m->kv_heads, .head_dim = m->head_dim };
    int64_t nq = m->heads * m->head_dim, nk = m->kv_heads * m->head_dim;
    bool bias = m->attention_bias;
    char self[96];
    in_layer(self, l, "self_attn");
    ft_val q = ft_rope(g, linear(g, l, "self_attn.q_proj", h, nq, bias), positions, freq,
                       m->rope_scale);
    ft_val k = ft_rope(g, linear(g, l, "self_attn.k_proj", h, nk, bias), positions, freq,
                       m->rope_scale);
    ft_val v = linear(g, l, "self_attn.v_proj", h, nk, bias);
    ft_val o = ft_attention(g, self, q, k, v, &a, (ft_val){ 0 });
    return ft_sublayer(g, self, linear(g, l, "self_attn.o_proj", o, m->width, bias));
}

static ft_val mlp(const llama *m, ft_graph *g, int64_t l, ft_val h)
{
    const char *act = strcmp(m->act, "gelu_pytorch_tanh") ? m->act : "gelu_tanh";
    char self[96];
    ft_val gate = linear(g, l, "mlp.gate_proj", h, m->inner, m->mlp_bias);
    ft_val y = ft_glu(g, act, gate, linear(g, l, "mlp.up_proj", h, m->inner, m->mlp_bias));
    return ft_sublayer(g, in_layer(self, l, "mlp"),
                       linear(g, l, "mlp.down_proj", y, m->width, m->mlp_bias));
}

static ft_val build(void *self, ft_graph *g, const ft_model_inputs *in)
{
    const llama *m = self;
    ft_val freq = ft_constant(g, "rope", ft_1d(m->head_dim / 2), m->freq);
    ft_val x = ft_site_embed(g, "model.embed_tokens", m->vocab, m->width, in->ids);
    char name[96];
    for (int64_t l = 0; l < m->layers; l++) {
        x = ft_layer(g, (int32_t)l, x);
        ft_val h = norm(m, g, in_layer(name, l, "input_layernorm.weight"), x);
        x = ft_add(g, x, attention(m, g, l, h, in->positions, freq));
        h = norm(m, g, in_layer(name, l, "post_attention_layernorm.weight"), x);
        x = ft_add(g, x, mlp(m, g, l, h));
    }
    x = norm(m, g, "model.norm.weight", ft_layer(g, -1, x));
    ft_val shared = { 0 };
    if (m->tied) shared = ft_weight(g, "model.embed_tokens.weight", ft_2d(m->vocab, m->width));
    return m->tied ? ft_site_linear_tied(g, "lm_head", x, m->vocab, shared)
                   : ft_site_linear(g, "lm_head", x, m->vocab, false);
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

static int gguf_name(void *self, const char *name, ft_gguf_name *out)
{
    static const struct { const char *hf, *gguf; int heads;
    } inside[] = {
        { "input_layernorm", "attn_norm", 0 },    { "self_attn.q_proj", "attn_q", 1 },
        { "self_attn.k_proj", "attn_k", 2 },      { "self_attn.v_proj", "attn_v", 0 },
        { "self_attn.o_proj", "attn_output", 0 }, { "post_attention_layernorm", "ffn_norm", 0 },
        { "mlp.gate_proj", "ffn_gate", 0 },       { "mlp.up_proj", "ffn_up", 0 },
        { "mlp.down_proj", "ffn_down", 0 },
    };
    static const struct { const char *hf, *gguf;
    } outside[] = {
        { "model.embed_tokens.weight", "token_embd.weight" },
        { "model.norm.weight", "output_norm.weight" },
        { "lm_head.weight", "output.weight" },
    };
    const llama *m = self;
    int layer, at = 0;
    *out = (ft_gguf_name){ .interleaved_heads = 0 };
    for (size_t i = 0; i < 3; i++) {
        if (!strcmp(name, outside[i].hf))
            return snprintf(out->name, sizeof out->name, "%s", outside[i].gguf), 0;
    }
    if (sscanf(name, "model.layers.%d.%n", &layer, &at) == 1 && at) {
        for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
            size_t n = strlen(inside[i].hf);
            if (strncmp(name + at, inside[i].hf, n) || name[(size_t)at + n] != '.') continue;
            snprintf(out->name, sizeof out->name, "blk.%d.%s.%s", layer, inside[i].gguf,
                     name + (size_t)at + n + 1);
            out->interleaved_heads = inside[i].heads == 1   ? m->heads
                                     : inside[i].heads == 2 ? m->kv_heads
                                                            : 0;
            return 0;
        }
    }
    return m->host->fail(m->host, FT_EUNSUP, "weight %s has no name in a llama GGUF", name);
}

static int config(void *self, const char **json, size_t *n)
{
    llama *m = self;
    ft_buf_free(&m->json);
    ft_buf_printf(&m->json,
                  "{\n  \"architectures\": [\n    \"LlamaForCausalLM\"\n  ],\n  "
                  "\"attention_bias\": %s,\n",
                  m->attention_bias ? "true" : "false");
    if (m->bos >= 0) ft_buf_printf(&m->json, "  \"bos_token_id\": %lld,\n", (long long)m->bos);
    if (m->eos >= 0) ft_buf_printf(&m->json, "  \"eos_token_id\": %lld,\n", (long long)m->eos);
    ft_buf_printf(&m->json,
                  "  \"head_dim\": %lld,\n  \"hidden_act\": \"%s\",\n  \"hidden_size\": %lld,\n  "
                  "\"intermediate_size\": %lld,\n"
                  "  \"max_position_embeddings\": %lld,\n  \"mlp_bias\": %s,\n  \"model_type\": "
                  "\"llama\",\n"
                  "  \"num_attention_heads\": %lld,\n  \"num_hidden_layers\": %lld,\n  "
                  "\"num_key_value_heads\": %lld,\n"
                  "  \"rms_norm_eps\": %.9g,\n  \"rope_scaling\": null,\n  \"rope_theta\": %.17g,\n"
                  "  \"tie_word_embeddings\": %s,\n  \"vocab_size\": %lld\n}\n",
                  (long long)m->head_dim, m->act, (long long)m->width, (long long)m->inner,
                  (long long)m->context, m->mlp_bias ? "true" : "false", (long long)m->heads,
                  (long long)m->layers, (long long)m->kv_heads, (double)(float)m->eps, m->theta,
                  m->tied ? "true" : "false", (long long)m->vocab);
    if (m->json.oom) return m->host->fail(m->host, FT_ENOMEM, "out of memory");
    *json = m->json.p;
    *n = m->json.n;
    return 0;
}

/* ---- the plugin ------------------------------------------------------------------------------ */

static int open_(void *self, const ft_host *host, const void *unused)
{
    llama *m = self;
    (void)unused;
    m->host = host;
    m->bos = m->eos = -1;
    return 0;
}

static void close_(void *self)
{
    llama *m = self;
    ft_buf_free(&m->json);
}

static const ft_model model = {
    .size = sizeof model,
    .claims = claims,
    .load = load,
    .build = build,
    .gguf_name = gguf_name,
    .config = config,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-llama", .version = "0.1.0",
    .summary = "LLaMA, SmolLM2 and other models of type llama", .instance_size = sizeof(llama),
    .open = open_, .close = close_, .vtable = &model,
};
FT_PLUGIN(plugin, "model-llama")

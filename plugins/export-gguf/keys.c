/* keys.c -- the key-values of a GGUF file.
 *
 *   general.…       what the file is
 *   ARCH.…          sizes, out of config.json; names as in llama.cpp's llama-arch.cpp
 *   tokenizer.…     by the tokenizer's plugin; special ids and chat template here
 *
 * A model that came from a GGUF keeps that file's keys as they stand. */
#include "gguf.h"

/* model_type of config.json and the architecture that llama.cpp runs it as. */
static const struct { const char *type, *arch; } archs[] = {
    { "llama", "llama" },       { "mistral", "llama" },      { "qwen2", "qwen2" },
    { "qwen3", "qwen3" },       { "gemma2", "gemma2" },      { "gemma3_text", "gemma3" },
    { "phi3", "phi3" },         { "qwen3_moe", "qwen3moe" }, { "gpt_oss", "gpt-oss" },
};

const char *gguf_arch(exporter *e, const ft_export *x)
{
    const char *type = ft_json_str(x->config, "model_type", "");
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (!strcmp(archs[i].type, type)) return archs[i].arch;
    }
    e->host->fail(e->host, FT_EUNSUP,
                  "models of type \"%s\" have no form in GGUF; export it with export-hf", type);
    return NULL;
}

static void put_text(ft_gguf_keys *k, const char *key, const char *s)
{
    ft_gguf_put_text(k, key, s, strlen(s));
}

/* ---- general --------------------------------------------------------------------------------- */

static void put_general(exporter *e, const ft_export *x, const gguf_type *type)
{
    ft_gguf_keys *k = &e->keys;
    const char *path = x->source->path, *name = path;
    for (const char *p = path; *p; p++) {
        if (*p == '/' && p[1]) name = p + 1;
    }
    size_t n = strcspn(name, "/");
    if (n > 5 && !memcmp(name + n - 5, ".gguf", 5)) n -= 5;
    put_text(k, "general.type", "model");
    if (*e->c->name) put_text(k, "general.name", e->c->name);
    else ft_gguf_put_text(k, "general.name", name, n);
    ft_gguf_put_u32(k, "general.file_type", type->file_type);
    ft_gguf_put_u32(k, "general.quantization_version", 2);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

typedef struct { exporter *e; const char *arch; const ft_json *config; } sizes;

static void put_int(const sizes *s, const char *key, int64_t v)
{
    char text[96];
    snprintf(text, sizeof text, "%s.%s", s->arch, key);
    ft_gguf_put_u32(&s->e->keys, text, (uint32_t)v);
}

static int need(const sizes *s, const char *key, int64_t *out)
{
    if (ft_json_as_int(ft_json_get(s->config, key), out) && *out > 0 && *out < (int64_t)1 << 31)
        return 0;
    return s->e->host->fail(s->e->host, FT_EFORMAT,
                            "config.json: \"%s\" is missing or no positive whole number", key);
}

static int put_needed(const sizes *s, const ft_export *x)
{
    static const struct { const char *key, *gguf; } all[] = {
        { "hidden_size", "embedding_length" },
        { "num_hidden_layers", "block_count" },
        { "intermediate_size", "feed_forward_length" },
        { "num_attention_heads", "attention.head_count" },
        { "vocab_size", "vocab_size" },
    };
    int64_t v;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int code = need(s, all[i].key, &v);
        if (code) return code;
        put_int(s, all[i].gguf, v);
    }
    put_int(s, "context_length", gguf_context(s->arch, s->config, x->context));
    return 0;
}

static void put_optional(const sizes *s)
{
    static const struct { const char *key, *gguf; } ints[] = {
        { "num_key_value_heads", "attention.head_count_kv" },
        { "num_experts", "expert_count" },
        { "num_local_experts", "expert_count" },
        { "num_experts_per_tok", "expert_used_count" },
        { "moe_intermediate_size", "expert_feed_forward_length" },
    };
    static const struct { const char *key, *gguf; } reals[] = {
        { "final_logit_softcapping", "final_logit_softcapping" },
        { "attn_logit_softcapping", "attn_logit_softcapping" },
    };
    int64_t v;
    double d;
    char text[96];
    const char *last = "";
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        if (!strcmp(last, ints[i].gguf) ||
            !ft_json_as_int(ft_json_get(s->config, ints[i].key), &v) || v <= 0)
            continue;
        last = ints[i].gguf;
        put_int(s, last, v);
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (!ft_json_as_real(ft_json_get(s->config, reals[i].key), &d)) continue;
        snprintf(text, sizeof text, "%s.%s", s->arch, reals[i].gguf);
        ft_gguf_put_f32(&s->e->keys, text, (float)d);
    }
    if (!strcmp(s->arch, "gpt-oss") &&
        ft_json_as_int(ft_json_get(s->config, "intermediate_size"), &v))
        put_int(s, "expert_feed_forward_length", v);
    if (gguf_slides(s->arch) &&
        ft_json_as_int(ft_json_get(s->config, "sliding_window"), &v) && v > 0)
        put_int(s, "attention.sliding_window", v);
    snprintf(text, sizeof text, "%s.attention.layer_norm_rms_epsilon", s->arch);
    if (!ft_json_as_real(ft_json_get(s->config, "rms_norm_eps"), &d)) d = 1e-6;
    ft_gguf_put_f32(&s->e->keys, text, (float)d);
}

static int put_sizes(exporter *e, const ft_export *x, const char *arch)
{
    const sizes s = { e, arch, x->config };
    int64_t width = 0, heads = 1, head_dim;
    int code = put_needed(&s, x);
    if (!code) code = need(&s, "hidden_size", &width);
    if (!code) code = need(&s, "num_attention_heads", &heads);
    if (code) return code;
    put_optional(&s);
    if (!ft_json_as_int(ft_json_get(x->config, "head_dim"), &head_dim) || head_dim <= 0)
        head_dim = strncmp(arch, "gemma", 5) ? width / heads : 256;
    put_int(&s, "attention.key_length", head_dim);
    put_int(&s, "attention.value_length", head_dim);
    return gguf_make_rope(e, arch, x->config, head_dim);
}

/* ---- words ----------------------------------------------------------------------------------- */

static int put_words(exporter *e, const ft_export *x, uint64_t rows)
{
    ft_gguf_keys *k = &e->keys;
    const ft_vocab *v = x->vocab;
    const struct { const char *key; int64_t id; } ids[] = {
        { "tokenizer.ggml.bos_token_id", v->bos },
        { "tokenizer.ggml.eos_token_id", v->eos },
        { "tokenizer.ggml.unknown_token_id", v->unk },
        { "tokenizer.ggml.padding_token_id", v->pad },
    };
    ft_bytes words;
    uint64_t n = 0;
    int code = x->gguf_words(x, rows, &words, &n);
    if (code) return code;
    ft_buf_add(&k->bytes, words.p, words.n);
    k->n += n;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        if (ids[i].id >= 0) ft_gguf_put_u32(k, ids[i].key, (uint32_t)ids[i].id);
    }
    ft_gguf_put_bool(k, "tokenizer.ggml.add_bos_token", v->add_bos);
    ft_gguf_put_bool(k, "tokenizer.ggml.add_eos_token", v->add_eos);
    if (x->source->chat_template)
        put_text(k, "tokenizer.chat_template", x->source->chat_template);
    return 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Keys that are written anew, or tell of the file that was read. */
static bool is_ours(const char *key)
{
    static const char *const ours[] = { "general.type", "general.name", "general.file_type",
                                        "general.quantization_version", "general.alignment",
                                        "general.size_label" };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (!strcmp(ours[i], key)) return true;
    }
    return !strncmp(key, "split.", 6) || !strncmp(key, "quantize.", 9);
}

/* Divisors of rotary frequencies that stand beside the weights of the source. */
static int keep_extras(exporter *e, const ft_source *s)
{
    static const char *const names[] = { "rope_freqs.weight", "rope_factors_short.weight",
                                         "rope_factors_long.weight" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const ft_tensor *t = ft_source_tensor(s, names[i]);
        if (!t) continue;
        if (e->n_extra == GGUF_EXTRAS || t->scheme || t->dtype != FT_F32 || t->ndim != 1 ||
            t->dim[0] > GGUF_MAX_FREQ)
            return e->host->fail(e->host, FT_EUNSUP, "%s: tensor %s is of a kind that is not known",
                                 s->path, names[i]);
        gguf_extra *x = &e->extra[e->n_extra++];
        x->name = names[i];
        x->n = t->dim[0];
        memcpy(x->v, t->data, (size_t)t->bytes);
    }
    return 0;
}

static int keep_keys(exporter *e, const ft_export *x)
{
    for (size_t i = 0; i < x->source->n_meta; i++) {
        if (!is_ours(x->source->meta[i].key)) ft_gguf_put_meta(&e->keys, &x->source->meta[i]);
    }
    return keep_extras(e, x->source);
}

/* Rows of the embedding: ids that the model knows. */
static uint64_t vocabulary(const ft_export *x)
{
    ft_export_tensor t;
    for (size_t i = 0; i < x->n_tensors; i++) {
        x->tensor(x, i, &t);
        if (strstr(t.name, "embed_tokens") && t.ndim == 2) return (uint64_t)t.dim[0];
    }
    return 0;
}

static int make_keys(exporter *e, const ft_export *x)
{
    const char *arch = gguf_arch(e, x);
    if (!arch) return FT_EUNSUP;
    put_text(&e->keys, "general.architecture", arch);
    int code = gguf_check_fit(e, arch, x->config);
    if (!code) code = put_sizes(e, x, arch);
    return code ? code : put_words(e, x, vocabulary(x));
}

int gguf_make_keys(exporter *e, const ft_export *x, const gguf_type *type)
{
    e->keys.bytes.n = 0;
    e->keys.n = 0;
    e->n_extra = 0;
    int code = x->source->gguf ? keep_keys(e, x) : make_keys(e, x);
    put_general(e, x, type);
    if (!code && e->keys.bytes.oom)
        code = e->host->fail(e->host, FT_ENOMEM, "out of memory for the keys of the GGUF file");
    return code;
}

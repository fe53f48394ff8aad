/* gguf.c -- the keys of a GGUF, as llama.cpp reads them, and its names of tensors.
 *
 * What llama.cpp knows by itself is known here too: Gemma 2 slides every second layer, Gemma 3 five
 * of six; a head of its own where output.weight stands; Llama 3's rotary scaling as a list of
 * divisors (rope_freqs.weight), Phi's as two lists.  Format: ggml's gguf.md and llama.cpp's
 * llama-arch.cpp.  Keys that change what is computed and that nobody here computes are errors. */
#include <stdio.h>
#include "decoder.h"

/* ---- values ---------------------------------------------------------------------------------- */

/* "llama." + name; valid until the next call with the same text. */
static const char *key_of(const decoder *m, char text[96], const char *name)
{
    snprintf(text, 96, "%s.%s", m->family->gguf, name);
    return text;
}

static int wrong(decoder *m, const ft_source *s, const char *name, const char *why)
{
    char key[96];
    return m->host->fail(m->host, FT_EFORMAT, "%s: \"%s\" %s", s->path, key_of(m, key, name), why);
}

/* A whole number from 1 to 2^31 - 1; absent: *out stays. */
int decoder_meta_int(decoder *m, const ft_source *s, const char *name, int64_t *out)
{
    char key[96];
    const ft_meta *v = ft_source_meta(s, key_of(m, key, name));
    int64_t i = 0;
    if (!v) return 0;
    ft_meta_int(v, &i); /* of another type: stays 0 */
    if (i < 1 || i > INT32_MAX)
        return wrong(m, s, name, "is no whole number from 1 to 2147483647");
    *out = i;
    return 0;
}

/* A positive number; absent: *out stays. */
int decoder_meta_real(decoder *m, const ft_source *s, const char *name, double *out)
{
    char key[96];
    const ft_meta *v = ft_source_meta(s, key_of(m, key, name));
    double d;
    if (!v) return 0;
    if (!(ft_meta_real(v, &d) && d > 0 && d - d == 0))
        return wrong(m, s, name, "is no number above 0");
    *out = d;
    return 0;
}

/* ---- sizes and switches ---------------------------------------------------------------------- */

static int read_sizes(decoder *m, const ft_source *s)
{
    static const struct { const char *name; size_t at;
    } need[] = {
        { "embedding_length", offsetof(decoder, width) },
        { "feed_forward_length", offsetof(decoder, inner) },
        { "block_count", offsetof(decoder, layers) },
        { "attention.head_count", offsetof(decoder, heads) },
        { "context_length", offsetof(decoder, context) },
    };
    for (size_t i = 0; i < sizeof need / sizeof *need; i++) {
        int64_t *to = (int64_t *)(void *)((char *)m + need[i].at);
        int e = decoder_meta_int(m, s, need[i].name, to);
        if (e) return e;
        if (!*to) return wrong(m, s, need[i].name, "is missing");
    }
    m->kv_heads = m->heads;
    int e = decoder_meta_int(m, s, "attention.head_count_kv", &m->kv_heads);
    int64_t values = m->head_dim = m->width / m->heads;
    if (!e) e = decoder_meta_int(m, s, "attention.key_length", &m->head_dim);
    if (!e) e = decoder_meta_int(m, s, "attention.value_length", &values);
    if (!e && values != m->head_dim)
        e = wrong(m, s, "attention.value_length", "differs from attention.key_length");
    return e;
}

static int read_vocabulary(decoder *m, const ft_source *s)
{
    const ft_tensor *embed = ft_source_tensor(s, "token_embd.weight");
    if (!embed || embed->ndim != 2)
        return m->host->fail(m->host, FT_EFORMAT, "%s: the matrix token_embd.weight is missing",
                             s->path);
    m->vocab = embed->dim[0];
    m->tied = !ft_source_tensor(s, "output.weight");
    if (!ft_source_int(s, "tokenizer.ggml.bos_token_id", &m->bos)) m->bos = -1;
    if (!ft_source_int(s, "tokenizer.ggml.eos_token_id", &m->eos)) m->eos = -1;
    if (!ft_source_int(s, "tokenizer.ggml.padding_token_id", &m->pad)) m->pad = -1;
    return 0;
}

static int read_switches(decoder *m, const ft_source *s)
{
    bool gemma = decoder_is(m, DECODER_GEMMA), cap = decoder_is(m, DECODER_SCORE_CAP);
    bool fused = decoder_is(m, DECODER_FUSED), big = m->layers == m->family->big;
    m->qkv_bias = ft_source_tensor(s, fused ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias") != NULL;
    m->out_bias = ft_source_tensor(s, "blk.0.attn_output.bias") != NULL;
    m->mlp_bias = ft_source_tensor(s, "blk.0.ffn_down.bias") != NULL;
    m->eps = 1e-5;
    m->logit_cap = gemma && cap ? 30 : 0; /* llama.cpp's own where the keys are absent */
    m->score_cap = cap ? 50 : 0;
    double by = (double)(big ? m->width / m->heads : m->head_dim);
    m->query_scale = gemma ? 1 / sqrt(by) : 0;
    decoder_activation(m, gemma ? "gelu_pytorch_tanh" : "silu");
    int e = decoder_meta_real(m, s, "attention.layer_norm_rms_epsilon", &m->eps);
    if (!e && gemma) e = decoder_meta_real(m, s, "final_logit_softcapping", &m->logit_cap);
    return e || !cap ? e : decoder_meta_real(m, s, "attn_logit_softcapping", &m->score_cap);
}

/* What must not be there: with it llama.cpp computes something else. */
static int refuse(decoder *m, const ft_source *s)
{
    static const char *const other[] = { "expert_count", "logit_scale", "residual_scale",
                                         "embedding_scale", "attention.scale",
                                         "rope.scaling.yarn_log_multiplier" };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        char key[96];
        double d;
        const ft_meta *v = ft_source_meta(s, key_of(m, key, other[i]));
        if (m->family->experts && !strcmp(other[i], "expert_count")) continue;
        if (v && !(ft_meta_real(v, &d) && d == 0))
            return m->host->fail(m->host, FT_EUNSUP,
                                 "%s: \"%s\" says that this is another model than the usual %s, "
                                 "which is not supported",
                                 s->path, key, m->family->gguf);
    }
    return 0;
}

/* "attention.sliding_window_pattern": a number, as in decoder_set_windows, or a truth value for
 * each layer. */
static int read_pattern(decoder *m, const ft_source *s)
{
    static const char name[] = "attention.sliding_window_pattern";
    int64_t every = m->family->every;
    char key[96];
    const ft_meta *v = ft_source_meta(s, key_of(m, key, name));
    if (v && v->type == FT_META_ARRAY) {
        if (v->item != FT_META_BOOL || (int64_t)v->n != m->layers)
            return wrong(m, s, name, "is no list with a truth value for each layer");
        for (uint64_t l = 0; l < v->n; l++)
            m->slides[l] = m->window > 0 && ((const char *)v->data)[l] != 0;
        return 0;
    }
    int e = decoder_meta_int(m, s, name, &every);
    if (!e) decoder_set_windows(m, 0, every);
    return e;
}

static int read_windows(decoder *m, const ft_source *s)
{
    int64_t window = 0;
    int e = decoder_meta_int(m, s, "attention.sliding_window", &window);
    if (!e && window && (m->family->windows == DECODER_NO_WINDOW ||
                         m->family->windows == DECODER_UPPER_LAYERS))
        return wrong(m, s, "attention.sliding_window",
                     "is there, which nobody computes for this architecture; use the Hugging Face "
                     "folder");
    m->window = window;
    if (!e && m->family->windows == DECODER_ALTERNATING) return read_pattern(m, s);
    if (!e) decoder_set_windows(m, 0, 1);
    return e;
}

/* ---- rotary positions ------------------------------------------------------------------------ */

/* The n numbers of a list of divisors, which must be F32. */
static int read_divisors(decoder *m, const ft_source *s, const ft_tensor *t, double *out, int64_t n)
{
    if (t->dtype != FT_F32 || t->ndim != 1 || t->dim[0] != n)
        return m->host->fail(m->host, FT_EFORMAT, "%s: tensor %s is no list of %lld F32 numbers",
                             s->path, t->name, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, (const char *)t->data + 4 * i, 4);
        if (!(f > 0 && f - f == 0))
            return m->host->fail(m->host, FT_EFORMAT,
                                 "%s: number %lld of tensor %s is not above 0", s->path,
                                 (long long)i, t->name);
        out[i] = (double)f;
    }
    return 0;
}

/* Divisors as they are: what longrope divides by, the same for rows of any length. */
static void keep_divisors(ft_rope_spec *r, const double *d, int64_t n, int64_t context)
{
    double partial = r->partial;
    *r = ft_rope_plain(r->theta);
    r->partial = partial;
    r->type = FT_ROPE_LONGROPE;
    r->n_list = n;
    for (int k = 0; k < 2; k++) memcpy(r->list[k], d, (size_t)n * sizeof *d);
    r->original = (double)context;
    r->attention = 1;
}

/* Llama 3's scaling out of its divisors: the largest is the factor, and what lies between 1 and the
 * factor gives the original context.  What does not follow from that is kept as it is. */
static int read_llama3(decoder *m, const ft_source *s, const ft_tensor *t)
{
    ft_rope_spec *r = &m->rope[0], plain = ft_rope_plain(r->theta);
    double d[FT_ROPE_MAX], scale, sum = 0;
    float base[FT_ROPE_MAX], f[FT_ROPE_MAX];
    int64_t n = ft_rope_dim(r, m->head_dim) / 2, blended = 0, first = n;
    if (!ft_rope_frequencies(&plain, 2 * n, m->context, base, &scale))
        return m->host->fail(m->host, FT_EUNSUP, "%s: %s", s->path, plain.why);
    int e = read_divisors(m, s, t, d, n);
    if (e) return e;
    r->type = FT_ROPE_LLAMA3;
    r->factor = d[n - 1];
    for (int64_t i = n - 1; i >= 0; i--) {
        double wave = 6.283185307179586 / (double)base[i];
        double blend = (1 / d[i] - 1 / r->factor) / (1 - 1 / r->factor);
        if (d[i] >= r->factor * (1 - 1e-6)) first = i;
        else if (d[i] > 1 + 1e-6) sum += wave * (blend * (r->high - r->low) + r->low), blended++;
    }
    double edge = first < n ? 6.283185307179586 / (double)base[first] * 0.999 : 1;
    r->original = blended ? round(sum / (double)blended) : edge;
    if (!ft_rope_frequencies(r, 2 * n, m->context, f, &scale)) r->why[0] = 0;
    bool known = true;
    for (int64_t i = 0; i < n; i++)
        known &= fabs((double)f[i] * d[i] / (double)base[i] - 1) <= 1e-4;
    if (!known) keep_divisors(r, d, n, m->context);
    return 0;
}

/* Phi: two lists, and the original context. */
static int read_longrope(decoder *m, const ft_source *s)
{
    ft_rope_spec *r = &m->rope[0];
    const ft_tensor *list[2] = { ft_source_tensor(s, "rope_factors_short.weight"),
                                 ft_source_tensor(s, "rope_factors_long.weight") };
    if (!list[0] || !list[1])
        return m->host->fail(m->host, FT_EFORMAT, "%s: rope_factors_%s.weight is missing", s->path,
                             list[0] ? "long" : "short");
    r->type = FT_ROPE_LONGROPE;
    r->n_list = ft_rope_dim(r, m->head_dim) / 2;
    if (r->n_list > FT_ROPE_MAX) r->n_list = 0; /* refused with the frequencies */
    int e = read_divisors(m, s, list[0], r->list[0], r->n_list);
    if (!e) e = read_divisors(m, s, list[1], r->list[1], r->n_list);
    return e ? e : decoder_meta_real(m, s, "rope.scaling.attn_factor", &r->attention);
}

static int read_scaling(decoder *m, const ft_source *s)
{
    ft_rope_spec *r = &m->rope[0];
    char key[96];
    uint64_t n = 4;
    const ft_meta *v = ft_source_meta(s, key_of(m, key, "rope.scaling.type"));
    const char *type = v ? ft_meta_str(v, &n) : "none";
    const ft_tensor *divisors = ft_source_tensor(s, "rope_freqs.weight");
    int e = decoder_meta_real(m, s, "rope.scaling.original_context_length", &r->original);
    if (e) return e;
    if (ft_source_tensor(s, "rope_factors_short.weight") ||
        ft_source_tensor(s, "rope_factors_long.weight"))
        return read_longrope(m, s);
    if (divisors) return read_llama3(m, s, divisors);
    if (type && n == 4 && !memcmp(type, "none", 4)) return 0;
    if (type && n == 6 && !memcmp(type, "linear", 6)) r->type = FT_ROPE_LINEAR;
    else if (type && n == 4 && !memcmp(type, "yarn", 4)) r->type = FT_ROPE_YARN;
    else return wrong(m, s, "rope.scaling.type", "is neither none, linear nor yarn");
    e = decoder_meta_real(m, s, "rope.scaling.factor", &r->factor);
    if (!e && !(r->factor > 0)) e = wrong(m, s, "rope.scaling.factor", "is missing");
    if (!e) e = decoder_meta_real(m, s, "rope.scaling.yarn_beta_fast", &r->fast);
    return e ? e : decoder_meta_real(m, s, "rope.scaling.yarn_beta_slow", &r->slow);
}

static int read_rope(decoder *m, const ft_source *s)
{
    ft_rope_spec *r = m->rope;
    int64_t rotated = m->head_dim;
    r[0] = ft_rope_plain(10000); /* llama.cpp's default for every architecture */
    r[1] = ft_rope_plain(10000);
    int e = decoder_meta_int(m, s, "rope.dimension_count", &rotated);
    if (!e && rotated > m->head_dim)
        e = wrong(m, s, "rope.dimension_count", "is above the size of a head");
    r[0].partial = (double)rotated / (double)m->head_dim;
    r[1].partial = r[0].partial;
    if (!e) e = decoder_meta_real(m, s, "rope.freq_base", &r[0].theta);
    if (!e) e = decoder_meta_real(m, s, "rope.freq_base_swa", &r[1].theta);
    return e ? e : read_scaling(m, s);
}

int decoder_read_gguf(decoder *m, const ft_source *s)
{
    int e = read_sizes(m, s);
    if (!e) e = decoder_check_sizes(m, s->path);
    if (!e) e = read_vocabulary(m, s);
    if (!e) e = read_switches(m, s);
    if (!e) e = refuse(m, s);
    if (!e) e = read_windows(m, s);
    if (!e && m->family->experts) e = decoder_read_gguf_experts(m, s);
    return e ? e : read_rope(m, s);
}

/* ---- names of tensors ------------------------------------------------------------------------ */

typedef struct { const char *hf, *gguf; unsigned trait; } pair; /* trait 0: any family */

static const pair inside[] = {
    { "input_layernorm", "attn_norm", 0 },
    { "self_attn.q_proj", "attn_q", 0 },
    { "self_attn.k_proj", "attn_k", 0 },
    { "self_attn.v_proj", "attn_v", 0 },
    { "self_attn.qkv_proj", "attn_qkv", 0 },
    { "self_attn.o_proj", "attn_output", 0 },
    { "self_attn.q_norm", "attn_q_norm", 0 },
    { "self_attn.k_norm", "attn_k_norm", 0 },
    { "post_attention_layernorm", "post_attention_norm", DECODER_GEMMA | DECODER_SINKS },
    { "post_attention_layernorm", "ffn_norm", 0 },
    { "pre_feedforward_layernorm", "ffn_norm", 0 },
    { "post_feedforward_layernorm", "post_ffw_norm", 0 },
    { "self_attn.sinks", "attn_sinks", DECODER_SINKS },
    { "mlp.router", "ffn_gate_inp", 0 },
    { "mlp.gate", "ffn_gate_inp", 0 },
    { "mlp.gate_proj", "ffn_gate", 0 },
    { "mlp.up_proj", "ffn_up", 0 },
    { "mlp.gate_up_proj", "ffn_up", 0 },
    { "mlp.down_proj", "ffn_down", 0 },
};
static const pair outside[] = {
    { "model.embed_tokens", "token_embd", 0 },
    { "model.norm", "output_norm", 0 },
    { "lm_head", "output", 0 },
};

/* The row for a module's name, of n bytes. */
static const pair *find(const decoder *m, const pair *p, size_t count, const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(p[i].hf) == n && !memcmp(p[i].hf, name, n) &&
            (!p[i].trait || decoder_is(m, p[i].trait)))
            return &p[i];
    }
    return NULL;
}

int decoder_gguf_name(void *self, const char *name, ft_gguf_name *out)
{
    const decoder *m = self;
    const char *dot = strrchr(name, '.');
    bool bare = dot && !strcmp(dot, ".sinks"); /* a parameter that has no module of its own */
    size_t n = bare ? strlen(name) : dot ? (size_t)(dot - name) : 0;
    int layer = 0, at = 0;
    if (bare) dot = ".weight";
    *out = (ft_gguf_name){ .interleaved_heads = 0 };
    const pair *p = find(m, outside, sizeof outside / sizeof *outside, name, n);
    if (p) snprintf(out->name, sizeof out->name, "%s%s", p->gguf, dot);
    else if (dot && sscanf(name, "model.layers.%d.%n", &layer, &at) == 1 && at && (size_t)at < n) {
        p = find(m, inside, sizeof inside / sizeof *inside, name + at, n - (size_t)at);
        if (p) snprintf(out->name, sizeof out->name, "blk.%d.%s%s", layer, p->gguf, dot);
    }
    if (!p)
        return m->host->fail(m->host, FT_EUNSUP, "weight %s has no name in a GGUF of %s", name,
                             m->family->gguf);
    if (decoder_is(m, DECODER_INTERLEAVED)) {
        if (!strcmp(p->gguf, "attn_q")) out->interleaved_heads = m->heads;
        if (!strcmp(p->gguf, "attn_k")) out->interleaved_heads = m->kv_heads;
    }
    if (decoder_is(m, DECODER_GEMMA) && strstr(p->gguf, "norm")) out->shift = 1;
    return 0;
}

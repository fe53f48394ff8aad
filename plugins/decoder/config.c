/* config.c -- config.json as transformers reads it for each model_type.
 *
 * Absent and null are the same, and take the default of the family; a value of another kind or out
 * of range is an error with key, value and what is allowed.  Keys that switch on something that
 * nobody here computes (dropout in the model, attention in both directions) are errors unless they
 * are off. */
#include "decoder.h"

/* ---- values ---------------------------------------------------------------------------------- */

const ft_json *decoder_value(const ft_json *c, const char *key)
{
    const ft_json *v = ft_json_get(c, key);
    return v && v->type != FT_JSON_NULL ? v : NULL;
}

int decoder_wrong(decoder *m, const char *key, const ft_json *v, const char *must)
{
    return m->host->fail(m->host, FT_EFORMAT, "config.json: \"%s\" is %.60s; it must be %s", key,
                         ft_json_shown(v), must);
}

/* A whole number from `least` to 2^31 - 1; absent: *out stays. */
int decoder_int(decoder *m, const ft_json *c, const char *key, int64_t least, int64_t *out)
{
    const ft_json *v = decoder_value(c, key);
    int64_t i = 0;
    if (!v) return 0;
    if (!ft_json_as_int(v, &i) || i < least || i > INT32_MAX)
        return decoder_wrong(m, key, v,
                     least ? "a whole number from 1 to 2147483647"
                           : "a whole number from 0 to 2147483647");
    *out = i;
    return 0;
}

/* A positive number; absent: *out stays. */
int decoder_real(decoder *m, const ft_json *c, const char *key, double *out)
{
    const ft_json *v = decoder_value(c, key);
    double d;
    if (!v) return 0;
    if (!(ft_json_as_real(v, &d) && d > 0)) return decoder_wrong(m, key, v, "a number above 0");
    *out = d;
    return 0;
}

int decoder_flag(decoder *m, const ft_json *c, const char *key, bool *out)
{
    const ft_json *v = decoder_value(c, key);
    if (!v) return 0;
    if (v->type != FT_JSON_BOOL) return decoder_wrong(m, key, v, "true or false");
    *out = v->truth;
    return 0;
}

/* ---- sizes and switches ---------------------------------------------------------------------- */

static int read_sizes(decoder *m, const ft_json *c)
{
    static const struct { const char *key; size_t at;
    } need[] = {
        { "vocab_size", offsetof(decoder, vocab) },
        { "hidden_size", offsetof(decoder, width) },
        { "intermediate_size", offsetof(decoder, inner) },
        { "num_hidden_layers", offsetof(decoder, layers) },
        { "num_attention_heads", offsetof(decoder, heads) },
        { "max_position_embeddings", offsetof(decoder, context) },
    };
    int e = 0;
    for (size_t i = 0; i < sizeof need / sizeof *need && !e; i++) {
        int64_t *to = (int64_t *)(void *)((char *)m + need[i].at);
        e = decoder_int(m, c, need[i].key, 1, to);
        if (!e && !*to)
            e = m->host->fail(m->host, FT_EFORMAT, "config.json: \"%s\" is missing", need[i].key);
    }
    m->kv_heads = m->heads;
    if (!e) e = decoder_int(m, c, "num_key_value_heads", 1, &m->kv_heads);
    m->head_dim = m->family->head_dim ? m->family->head_dim : e ? 0 : m->width / m->heads;
    return e ? e : decoder_int(m, c, "head_dim", 1, &m->head_dim);
}

static int read_biases(decoder *m, const ft_json *c)
{
    int e = 0;
    m->qkv_bias = decoder_is(m, DECODER_QKV_BIAS);
    if (decoder_is(m, DECODER_ATTENTION_BIAS)) {
        e = decoder_flag(m, c, "attention_bias", &m->qkv_bias);
        m->out_bias = m->qkv_bias;
    }
    if (!e && decoder_is(m, DECODER_MLP_BIAS)) e = decoder_flag(m, c, "mlp_bias", &m->mlp_bias);
    m->tied = decoder_is(m, DECODER_TIED);
    return e ? e : decoder_flag(m, c, "tie_word_embeddings", &m->tied);
}

bool decoder_activation(decoder *m, const char *name)
{
    static const struct { const char *name, *op;
    } all[] = {
        { "silu", "silu" },
        { "swish", "silu" },
        { "gelu", "gelu" },
        { "gelu_pytorch_tanh", "gelu_tanh" },
        { "gelu_new", "gelu_tanh" },
        { "relu", "relu" },
    };
    m->act = name;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(name, all[i].name)) continue;
        m->act_op = all[i].op;
        return true;
    }
    m->host->fail(m->host, FT_EUNSUP,
                  "the activation \"%.60s\" is not supported: silu, gelu, gelu_pytorch_tanh, "
                  "gelu_new and relu are",
                  name);
    return false;
}

static int read_numbers(decoder *m, const ft_json *c)
{
    bool gemma = decoder_is(m, DECODER_GEMMA);
    const char *key = gemma ? "hidden_activation" : "hidden_act";
    const ft_json *act = decoder_value(c, key);
    double scalar = 256;
    m->eps = m->family->eps;
    if (act && !ft_json_is_text(act))
        return decoder_wrong(m, key, act, "the name of an activation");
    if (!decoder_activation(m, act ? act->text : gemma ? "gelu_pytorch_tanh" : "silu"))
        return FT_EUNSUP;
    int e = decoder_real(m, c, "rms_norm_eps", &m->eps);
    if (!e && gemma) e = decoder_real(m, c, "query_pre_attn_scalar", &scalar);
    if (!e && gemma) e = decoder_real(m, c, "final_logit_softcapping", &m->logit_cap);
    if (!e && decoder_is(m, DECODER_SCORE_CAP))
        e = decoder_real(m, c, "attn_logit_softcapping", &m->score_cap);
    m->query_scale = gemma ? 1 / sqrt(scalar) : 0;
    return e;
}

/* What must be off: transformers would compute something else with it. */
static int refuse(decoder *m, const ft_json *c)
{
    static const char *const off[] = { "attention_dropout", "resid_pdrop", "embd_pdrop",
                                       "use_bidirectional_attention", "attn_logit_softcapping" };
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const ft_json *v = decoder_value(c, off[i]);
        double d = 0;
        if (!v || (v->type == FT_JSON_BOOL && !v->truth) || (ft_json_as_real(v, &d) && d == 0))
            continue;
        if (decoder_is(m, DECODER_SCORE_CAP) && !strcmp(off[i], "attn_logit_softcapping")) continue;
        return m->host->fail(m->host, FT_EUNSUP,
                             "config.json: \"%s\" is %.60s, which is not supported for models of "
                             "type %s; without it (0, false or null) the model can be used",
                             off[i], v->type == FT_JSON_BOOL ? "true" : ft_json_shown(v),
                             m->family->model_type);
    }
    return 0;
}

/* ---- windows --------------------------------------------------------------------------------- */

void decoder_set_windows(decoder *m, int64_t from, int64_t every)
{
    for (int64_t l = 0; m->window > 0 && l < m->layers; l++) {
        decoder_windows w = m->family->windows;
        m->slides[l] = w == DECODER_ALL_LAYERS || w == DECODER_ALL_IF_USED ||
                       (w == DECODER_UPPER_LAYERS && l >= from) ||
                       (w == DECODER_ALTERNATING && (l + 1) % every != 0);
    }
}

/* "layer_types": one entry a layer. */
static int read_layer_types(decoder *m, const ft_json *list)
{
    if (list->type != FT_JSON_ARRAY || (int64_t)list->len != m->layers)
        return decoder_wrong(m, "layer_types", list, "a list with an entry for each layer");
    for (int64_t l = 0; l < m->layers; l++) {
        const ft_json *v = &list->item[l];
        const char *text = ft_json_is_text(v) ? v->text : "";
        m->slides[l] = !strcmp(text, "sliding_attention");
        if (!m->slides[l] && strcmp(text, "full_attention"))
            return decoder_wrong(m, "layer_types", v,
                                 "full_attention or sliding_attention in each entry");
        if (m->slides[l] && !m->window)
            return m->host->fail(m->host, FT_EFORMAT,
                                 "config.json: layer_types names sliding_attention, but there is "
                                 "no sliding_window");
    }
    return 0;
}

static int read_windows(decoder *m, const ft_json *c)
{
    const decoder_family *f = m->family;
    const ft_json *types = decoder_value(c, "layer_types");
    int64_t from = 28, every = f->every;
    bool used = f->windows != DECODER_UPPER_LAYERS && f->windows != DECODER_ALL_IF_USED;
    bool uniform = f->windows == DECODER_ALL_LAYERS || f->windows == DECODER_ALL_IF_USED;
    if (f->windows == DECODER_NO_WINDOW) return 0;
    int e = decoder_flag(m, c, "use_sliding_window", &used);
    m->window = used && !ft_json_get(c, "sliding_window") ? f->window : 0;
    if (!e && used) e = decoder_int(m, c, "sliding_window", 1, &m->window);
    if (e) return e;
    if (types && !uniform) return read_layer_types(m, types);
    if (f->windows == DECODER_UPPER_LAYERS) e = decoder_int(m, c, "max_window_layers", 0, &from);
    if (f->windows == DECODER_ALTERNATING)
        e = decoder_int(m, c, "sliding_window_pattern", 1, &every);
    if (!e) decoder_set_windows(m, from, every);
    return e;
}

/* ---- all ------------------------------------------------------------------------------------- */

static int read_rope(decoder *m, const ft_json *c)
{
    bool local = decoder_is(m, DECODER_LOCAL_ROPE);
    ft_rope_spec *r = m->rope;
    if (!ft_rope_read(r, c, local ? "full_attention" : NULL, m->family->theta) ||
        (local && !ft_rope_read(++r, c, "sliding_attention", 10000)))
        return m->host->fail(m->host, FT_EUNSUP, "config.json: %s", r->why);
    return 0;
}

int decoder_read_config(decoder *m, const ft_source *s)
{
    const ft_json *c = s->config;
    int e = read_sizes(m, c);
    if (!e) e = decoder_check_sizes(m, s->path);
    if (!e) e = read_biases(m, c);
    if (!e) e = read_numbers(m, c);
    if (!e) e = refuse(m, c);
    if (!e) e = read_windows(m, c);
    if (!e && m->family->experts) e = decoder_read_experts(m, c);
    return e ? e : read_rope(m, c);
}

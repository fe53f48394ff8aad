/* fits.c -- what llama.cpp takes for granted of an architecture, held against config.json.
 *
 * Gemma: which layers slide (every second of Gemma 2, five of six of Gemma 3), and by what
 * attention scores are scaled.  The others: that no layer slides; rows up to the window are the
 * same with and without it, so the file's context ends there.  Mixtures of experts: that every
 * layer is one, how their weights are normed and where gpt-oss clamps.  All: the activation. */
#include "gguf.h"

/* every: of so many layers the last sees everything; big: the size with a scale of its own. */
static const struct { const char *arch; int64_t every, big; } sliding[] = {
    { "gemma2", 2, 46 },
    { "gemma3", 6, 62 },
    { "gpt-oss", 2, 0 },
};

static int index_of(const char *arch)
{
    for (size_t i = 0; i < sizeof sliding / sizeof *sliding; i++) {
        if (!strcmp(sliding[i].arch, arch)) return (int)i;
    }
    return -1;
}

bool gguf_slides(const char *arch) { return index_of(arch) >= 0; }

static bool get_int(const ft_json *c, const char *key, int64_t *out)
{
    return ft_json_as_int(ft_json_get(c, key), out) && *out > 0;
}

static int refuse(const exporter *e, const char *key, const char *want)
{
    return e->host
        ->fail(e->host, FT_EUNSUP,
               "config.json: \"%s\" is another than %s, which llama.cpp takes for granted; "
               "export it with export-hf",
               key, want);
}

static int check_layers(const exporter *e, const ft_json *c, int64_t every)
{
    const ft_json *types = ft_json_get(c, "layer_types");
    int64_t n;
    if (types && types->type == FT_JSON_ARRAY) {
        for (size_t i = 0; i < types->len; i++) {
            bool full = ((int64_t)i + 1) % every == 0;
            const char *want = full ? "full_attention" : "sliding_attention";
            if (!ft_json_is_text(&types->item[i]) || strcmp(types->item[i].text, want))
                return refuse(e, "layer_types", every == 2 ? "sliding and full in turn"
                                                           : "five sliding, one full");
        }
    } else if (get_int(c, "sliding_window_pattern", &n) && n != every) {
        return refuse(e, "sliding_window_pattern", every == 2 ? "2" : "6");
    }
    return 0;
}

static int check_scale(const exporter *e, const ft_json *c, int64_t big)
{
    int64_t layers = 0, width = 0, heads = 1, head = 256, by;
    double scalar;
    get_int(c, "num_hidden_layers", &layers);
    get_int(c, "hidden_size", &width);
    get_int(c, "num_attention_heads", &heads);
    get_int(c, "head_dim", &head);
    by = layers == big ? width / heads : head;
    if (!ft_json_as_real(ft_json_get(c, "query_pre_attn_scalar"), &scalar)) scalar = 256;
    return scalar == (double)by ? 0 : refuse(e, "query_pre_attn_scalar", "the size of a head");
}

/* What else is fixed: a number (of a truth value, 0 or 1), and what transformers takes where
 * config.json has none. */
static const struct { const char *arch, *key, *words; double want, absent; } fixed[] = {
    { "gpt-oss", "swiglu_limit", "7", 7, 7 },
    { "gpt-oss", "swiglu_alpha", "1.702", 1.702, 1.702 },
    { "qwen3moe", "decoder_sparse_step", "1", 1, 1 },
    { "qwen3moe", "norm_topk_prob", "true", 1, 0 },
};

static int check_fixed(const exporter *e, const char *arch, const ft_json *c)
{
    const ft_json *dense = ft_json_get(c, "mlp_only_layers");
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const ft_json *v = ft_json_get(c, fixed[i].key);
        double have = fixed[i].absent;
        if (v && v->type == FT_JSON_BOOL) have = v->truth;
        else ft_json_as_real(v, &have);
        if (!strcmp(fixed[i].arch, arch) && have != fixed[i].want)
            return refuse(e, fixed[i].key, fixed[i].words);
    }
    return dense && dense->len ? refuse(e, "mlp_only_layers", "an empty list") : 0;
}

static int check_activation(const exporter *e, const char *arch, const ft_json *c)
{
    bool gemma = !strncmp(arch, "gemma", 5);
    const char *key = gemma ? "hidden_activation" : "hidden_act";
    const char *want = gemma ? "gelu_pytorch_tanh" : "silu", *have = ft_json_str(c, key, want);
    bool same = !strcmp(have, want) || (!gemma && !strcmp(have, "swish")) ||
                (gemma && !strcmp(have, "gelu_new"));
    return same ? 0 : refuse(e, key, want);
}

int gguf_check_fit(const exporter *e, const char *arch, const ft_json *c)
{
    int i = index_of(arch), code = check_activation(e, arch, c);
    if (!code) code = check_fixed(e, arch, c);
    if (!code && i >= 0) code = check_layers(e, c, sliding[i].every);
    return code || i < 0 || !sliding[i].big ? code : check_scale(e, c, sliding[i].big);
}

int64_t gguf_context(const char *arch, const ft_json *c, int64_t context)
{
    const ft_json *use = ft_json_get(c, "use_sliding_window");
    int64_t window;
    bool off = use && use->type == FT_JSON_BOOL && !use->truth;
    if (gguf_slides(arch) || off || !get_int(c, "sliding_window", &window)) return context;
    return window < context ? window : context;
}

/* rope.c -- rotary scaling of config.json as a GGUF file says it.
 *
 *   linear    rope.scaling.type, .factor
 *   yarn      those and .original_context_length, .yarn_beta_fast, .yarn_beta_slow
 *   llama3    rope_freqs.weight: what each frequency is divided by (arXiv:2407.21783)
 *   longrope  rope_factors_short.weight, rope_factors_long.weight, .attn_factor
 *   dynamic   nothing: it changes nothing up to max_position_embeddings
 *
 * Both spellings of config.json are read: "rope_parameters" (transformers 5), and "rope_theta" with
 * "rope_scaling".  What llama.cpp computes in another way (mscale, an attention_factor of YaRN) is
 * refused; YaRN's truncate: false, which gpt-oss has, is rounded where `lossy` allows it. */
#include <math.h>
#include "gguf.h"

typedef struct {
    exporter *e;
    const char *arch;
    const ft_json *config, *rope; /* rope: what holds the scaling, or NULL */
    double theta;
    int64_t dim;                  /* rotated features of a head */
} rotary;

static int refuse(const rotary *r, const char *what)
{
    return r->e->host->fail(r->e->host, FT_EUNSUP,
                            "rotary positions of this model have no form in GGUF: %s; export it "
                            "with export-hf",
                            what);
}

/* A number of the scaling, or of the configuration around it. */
static double number(const rotary *r, const char *key, double otherwise)
{
    double d;
    if (ft_json_as_real(ft_json_get(r->rope, key), &d)) return d;
    return ft_json_as_real(ft_json_get(r->config, key), &d) ? d : otherwise;
}

static void put(const rotary *r, const char *key, double v)
{
    char text[96];
    snprintf(text, sizeof text, "%s.rope.%s", r->arch, key);
    ft_gguf_put_f32(&r->e->keys, text, (float)v);
}

static void put_int(const rotary *r, const char *key, double v)
{
    char text[96];
    snprintf(text, sizeof text, "%s.rope.%s", r->arch, key);
    ft_gguf_put_u32(&r->e->keys, text, (uint32_t)v);
}

static void put_type(const rotary *r, const char *type)
{
    char text[96];
    snprintf(text, sizeof text, "%s.rope.scaling.type", r->arch);
    ft_gguf_put_text(&r->e->keys, text, type, strlen(type));
}

/* ---- vectors --------------------------------------------------------------------------------- */

static gguf_extra *extra(const rotary *r, const char *name)
{
    gguf_extra *x = &r->e->extra[r->e->n_extra++];
    x->name = name;
    x->n = r->dim / 2;
    return x;
}

static int make_llama3(const rotary *r)
{
    gguf_extra *x = extra(r, "rope_freqs.weight");
    double factor = number(r, "factor", 8), low = number(r, "low_freq_factor", 1);
    double high = number(r, "high_freq_factor", 4);
    double original = number(r, "original_max_position_embeddings", 8192);
    for (int64_t i = 0; i < x->n; i++) {
        double f = pow(r->theta, -2.0 * (double)i / (double)r->dim), wave = 6.283185307179586 / f;
        double blend = (original / wave - low) / (high - low);
        x->v[i] = wave > original / low     ? (float)factor
                  : wave < original / high ? 1.0f
                                            : (float)(1 / ((1 - blend) / factor + blend));
    }
    return 0;
}

static int make_list(const rotary *r, const char *key, const char *name)
{
    const ft_json *l = ft_json_get(r->rope, key);
    gguf_extra *x = extra(r, name);
    double d;
    if (!l || l->type != FT_JSON_ARRAY || (int64_t)l->len != x->n)
        return refuse(r, "longrope's lists do not fit the size of a head");
    for (int64_t i = 0; i < x->n; i++) {
        if (!ft_json_as_real(&l->item[i], &d)) return refuse(r, "longrope's lists hold no numbers");
        x->v[i] = (float)d;
    }
    return 0;
}

static int make_longrope(const rotary *r)
{
    double context = number(r, "max_position_embeddings", 4096);
    double original = number(r, "original_max_position_embeddings", context);
    double factor = number(r, "factor", context / original);
    double scale = factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
    put_int(r, "scaling.original_context_length", original);
    put(r, "scaling.attn_factor", number(r, "attention_factor", scale));
    int code = make_list(r, "short_factor", "rope_factors_short.weight");
    return code ? code : make_list(r, "long_factor", "rope_factors_long.weight");
}

/* ---- keys ------------------------------------------------------------------------------------ */

static int make_yarn(const rotary *r)
{
    static const char *const other[] = { "mscale", "mscale_all_dim", "attention_factor" };
    const ft_json *whole = ft_json_get(r->rope, "truncate");
    double d, context = number(r, "max_position_embeddings", 4096);
    double original = number(r, "original_max_position_embeddings", context);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        if (ft_json_as_real(ft_json_get(r->rope, other[i]), &d)) return refuse(r, other[i]);
    }
    bool fine = whole && whole->type == FT_JSON_BOOL && !whole->truth;
    if (fine && !r->e->c->args.lossy)
        return refuse(r, "truncate: false, where llama.cpp rounds; write `lossy: true` to accept "
                         "its frequencies");
    put_type(r, "yarn");
    put(r, "scaling.factor", number(r, "factor", context / original));
    put_int(r, "scaling.original_context_length", original);
    put(r, "scaling.yarn_beta_fast", number(r, "beta_fast", 32));
    put(r, "scaling.yarn_beta_slow", number(r, "beta_slow", 1));
    return 0;
}

static int make_linear(const rotary *r)
{
    put_type(r, "linear");
    put(r, "scaling.factor", number(r, "factor", 1));
    return 0;
}

static int make_scaling(const rotary *r)
{
    const char *type = ft_json_str(r->rope, "rope_type", ft_json_str(r->rope, "type", "default"));
    static const struct {
        const char *type, *arch; /* arch: the only one that llama.cpp reads it for */
        int (*make)(const rotary *);
    } all[] = {
        { "default", NULL, NULL },
        { "dynamic", NULL, NULL },
        { "linear", NULL, make_linear },
        { "yarn", NULL, make_yarn },
        { "llama3", "llama", make_llama3 },
        { "longrope", "phi3", make_longrope },
        { "su", "phi3", make_longrope },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].type, type)) continue;
        if (all[i].arch && strcmp(all[i].arch, r->arch)) break;
        return all[i].make ? all[i].make(r) : 0;
    }
    return refuse(r, type);
}

/* Models whose sliding layers rotate on their own keep a set of parameters for each kind. */
static const ft_json *parameters(const ft_json *config, const char *layers)
{
    const ft_json *o = ft_json_get(config, "rope_parameters"), *nested = ft_json_get(o, layers);
    const ft_json *older = ft_json_get(config, "rope_scaling");
    if (nested) return nested;
    if (older && older->type == FT_JSON_OBJECT && older->len) return older;
    return o && o->type == FT_JSON_OBJECT ? o : NULL;
}

int gguf_make_rope(exporter *e, const char *arch, const ft_json *config, int64_t head_dim)
{
    rotary r = { .e = e, .arch = arch, .config = config };
    r.rope = parameters(config, "full_attention");
    const ft_json *local = ft_json_get(ft_json_get(config, "rope_parameters"), "sliding_attention");
    double d;
    r.theta = number(&r, "rope_theta", strncmp(arch, "gemma3", 6) ? 10000 : 1000000);
    r.dim = (int64_t)((double)head_dim * number(&r, "partial_rotary_factor", 1));
    if (r.dim < 2 || r.dim % 2 || r.dim / 2 > GGUF_MAX_FREQ)
        return refuse(&r, "the rotated size of a head is odd, or above 1024");
    put_int(&r, "dimension_count", (double)r.dim);
    put(&r, "freq_base", r.theta);
    if (ft_json_as_real(ft_json_get(local, "rope_theta"), &d) ||
        ft_json_as_real(ft_json_get(config, "rope_local_base_freq"), &d))
        put(&r, "freq_base_swa", d);
    return make_scaling(&r);
}

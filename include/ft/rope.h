/* ft/rope.h -- rotary frequencies of every scaling that configurations name (header only, so that
 * model plugins share one piece of code).
 *
 * Reads both spellings of config.json: "rope_parameters" (transformers 5) and "rope_theta" with
 * "rope_scaling".  With f_i = theta^(-2i/d), d the rotated size and i < d/2:
 *   default   f_i
 *   linear    f_i / factor
 *   dynamic   f_i up to max_position_embeddings
 *   llama3    f_i, f_i / factor, or a blend, by wavelength 2 pi / f_i (arXiv:2407.21783)
 *   yarn      a blend of f_i and f_i / factor by number of turns; cos and sin times
 *             0.1 ln(factor) + 1 (Peng et al. 2023, arXiv:2309.00071), with the variants that
 *             DeepSeek and gpt-oss use
 *   longrope  f_i / short_factor_i up to the original context; cos and sin times
 *             sqrt(1 + ln(factor)/ln(original))
 * Frequencies are computed in double precision and rounded to fp32 once.  What dynamic and
 * longrope become in longer rows depends on the longest row of a batch: ft_rope_limit says how
 * long rows may be.  Held against transformers' tables (plugins/decoder/decoder_test.c). */
#ifndef FT_ROPE_H
#define FT_ROPE_H
#include <math.h>
#include <stdio.h>
#include "ft/json.h"

enum { FT_ROPE_MAX = 512 }; /* frequencies of a head */

typedef enum {
    FT_ROPE_DEFAULT, FT_ROPE_LINEAR, FT_ROPE_DYNAMIC, FT_ROPE_LLAMA3, FT_ROPE_YARN,
    FT_ROPE_LONGROPE, FT_ROPE_TYPES
} ft_rope_type;

typedef struct {
    ft_rope_type type;
    double theta, partial;       /* partial: share of a head's features that is rotated */
    double factor, original;     /* original: longest row before the scaling; 0: the context */
    double low, high;            /* llama3: wavelengths, as parts of the original */
    double fast, slow;           /* yarn: turns over the original */
    double mscale, mscale_all;   /* yarn: 0: not given */
    double attention;            /* yarn, longrope: what cos and sin are multiplied with; 0: by
                                    the formula */
    bool whole;                  /* yarn: the blend starts and ends at whole indices */
    int64_t n_list;              /* longrope: how many of each list */
    double list[2][FT_ROPE_MAX]; /* longrope: short_factor, long_factor */
    char why[200];               /* after a failure: what is wrong */
} ft_rope_spec;

static const char *const ft_rope_names[FT_ROPE_TYPES] = { "default", "linear", "dynamic", "llama3",
                                                          "yarn", "longrope" };

/* A spec without scaling. */
static inline ft_rope_spec ft_rope_plain(double theta)
{
    return (ft_rope_spec){ .theta = theta, .partial = 1, .low = 1, .high = 4, .fast = 32,
                           .slow = 1, .whole = true };
}

/* ---- config.json ----------------------------------------------------------------------------- */

/* The number of `key` above `above`; absent or null leaves *out.  False: something else. */
static inline bool ft_rope_number(ft_rope_spec *r, const ft_json *o, const char *key, double above,
                                  double *out)
{
    const ft_json *v = ft_json_get(o, key);
    double d;
    if (!v || v->type == FT_JSON_NULL) return true;
    if (ft_json_as_real(v, &d) && d > above) {
        *out = d;
        return true;
    }
    snprintf(r->why, sizeof r->why, "rotary positions: %s is %.40s; it must be a number above %g",
             key, ft_json_shown(v), above < 0 ? 0 : above);
    return false;
}

/* Like that, but it must be there: a scaling without it means nothing. */
static inline bool ft_rope_need(ft_rope_spec *r, const ft_json *o, const char *key, double *out)
{
    const ft_json *v = ft_json_get(o, key);
    if (v && v->type != FT_JSON_NULL) return ft_rope_number(r, o, key, 0, out);
    snprintf(r->why, sizeof r->why, "rotary positions: rope_type \"%s\" needs %s, which is missing",
             ft_rope_names[r->type], key);
    return false;
}

static inline bool ft_rope_list(ft_rope_spec *r, const ft_json *o, const char *key, double *out)
{
    const ft_json *l = ft_json_get(o, key);
    r->n_list = l && l->type == FT_JSON_ARRAY && l->len <= FT_ROPE_MAX ? (int64_t)l->len : 0;
    for (int64_t i = 0; i < r->n_list; i++) {
        if (!ft_json_as_real(&l->item[i], &out[i]) || !(out[i] > 0)) r->n_list = 0;
    }
    if (!r->n_list)
        snprintf(r->why, sizeof r->why,
                 "rotary positions: %s must be a list of positive numbers, one a frequency", key);
    return r->n_list > 0;
}

static inline bool ft_rope_type_of(ft_rope_spec *r, const ft_json *o)
{
    const char *type = ft_json_str(o, "rope_type", ft_json_str(o, "type", "default"));
    bool lists = ft_json_get(o, "short_factor") != NULL; /* Phi-3 called it "su", and "yarn" */
    if (!strcmp(type, "su") || (!strcmp(type, "yarn") && lists)) type = "longrope";
    for (int i = 0; i < FT_ROPE_TYPES; i++) {
        if (!strcmp(type, ft_rope_names[i])) {
            r->type = (ft_rope_type)i;
            return true;
        }
    }
    snprintf(r->why, sizeof r->why,
             "rotary positions: rope_type \"%.40s\" is not supported: default, linear, dynamic, "
             "llama3, yarn and longrope are",
             type);
    return false;
}

static inline bool ft_rope_scaling(ft_rope_spec *r, const ft_json *config, const ft_json *o)
{
    const ft_json *whole = ft_json_get(o, "truncate");
    bool optional = r->type == FT_ROPE_YARN || r->type == FT_ROPE_LONGROPE;
    if (r->type == FT_ROPE_DEFAULT) return true;
    /* Phi-3 has it outside, and that one counts */
    if (!ft_rope_number(r, o, "original_max_position_embeddings", 0, &r->original) ||
        !ft_rope_number(r, config, "original_max_position_embeddings", 0, &r->original))
        return false;
    if (optional ? !ft_rope_number(r, o, "factor", 0, &r->factor)
                 : !ft_rope_need(r, o, "factor", &r->factor))
        return false;
    if (r->type == FT_ROPE_LLAMA3)
        return ft_rope_need(r, o, "low_freq_factor", &r->low) &&
               ft_rope_need(r, o, "high_freq_factor", &r->high);
    if (optional && !ft_rope_number(r, o, "attention_factor", 0, &r->attention)) return false;
    if (r->type == FT_ROPE_LONGROPE)
        return ft_rope_list(r, o, "long_factor", r->list[1]) &&
               ft_rope_list(r, o, "short_factor", r->list[0]);
    if (whole && whole->type == FT_JSON_BOOL) r->whole = whole->truth;
    return ft_rope_number(r, o, "beta_fast", 0, &r->fast) &&
           ft_rope_number(r, o, "beta_slow", 0, &r->slow) &&
           ft_rope_number(r, o, "mscale", -1e-300, &r->mscale) &&
           ft_rope_number(r, o, "mscale_all_dim", -1e-300, &r->mscale_all);
}

/* Reads a configuration.  layers: NULL; or, for models whose sliding layers have rotary positions
 * of their own, "full_attention" or "sliding_attention": the key inside rope_parameters.  In the
 * older spelling the latter have rope_local_base_freq and no scaling.  theta: where the
 * configuration has none.  False: r->why says what is wrong. */
static inline bool ft_rope_read(ft_rope_spec *r, const ft_json *config, const char *layers,
                                double theta)
{
    const ft_json *o = ft_json_get(config, "rope_parameters");
    const ft_json *older = ft_json_get(config, "rope_scaling");
    const ft_json *nested = layers ? ft_json_get(o, layers) : NULL;
    const char *base = "rope_theta";
    *r = ft_rope_plain(theta);
    if (nested) o = nested;
    else if (layers && !strcmp(layers, "sliding_attention")) {
        o = NULL;
        base = "rope_local_base_freq";
    } else if (older && older->type == FT_JSON_OBJECT && older->len) o = older;
    if (o && o->type != FT_JSON_OBJECT) o = NULL;
    if (!ft_rope_number(r, config, base, 0, &r->theta) ||
        !ft_rope_number(r, o, "rope_theta", 0, &r->theta) ||
        !ft_rope_number(r, config, "partial_rotary_factor", 0, &r->partial) ||
        !ft_rope_number(r, o, "partial_rotary_factor", 0, &r->partial))
        return false;
    if (r->partial > 1) {
        snprintf(r->why, sizeof r->why, "rotary positions: partial_rotary_factor %g is above 1",
                 r->partial);
        return false;
    }
    return ft_rope_type_of(r, o) && ft_rope_scaling(r, config, o);
}

/* ---- frequencies ----------------------------------------------------------------------------- */

static inline void ft_rope_llama3(const ft_rope_spec *r, int64_t n, double original, double *f)
{
    for (int64_t i = 0; i < n; i++) {
        double wave = 6.283185307179586 / f[i];
        double blend = (original / wave - r->low) / (r->high - r->low);
        if (wave > original / r->low) f[i] /= r->factor;
        else if (wave >= original / r->high) f[i] = (1 - blend) * f[i] / r->factor + blend * f[i];
    }
}

/* Index of the frequency that makes `turns` turns over the original context. */
static inline double ft_rope_turns(double turns, double dim, double base, double original)
{
    return dim * log(original / (turns * 6.283185307179586)) / (2 * log(base));
}

static inline double ft_rope_mscale(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static inline void ft_rope_yarn(const ft_rope_spec *r, int64_t n, double original, double factor,
                                double *f)
{
    double dim = 2 * (double)n, low = ft_rope_turns(r->fast, dim, r->theta, original);
    double high = ft_rope_turns(r->slow, dim, r->theta, original);
    if (r->whole) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, dim - 1);
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < n; i++) {
        double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
        f[i] = f[i] / factor * ramp + f[i] * (1 - ramp);
    }
}

/* What cos and sin are multiplied with. */
static inline double ft_rope_attention(const ft_rope_spec *r, double original, double factor)
{
    if (r->attention > 0) return r->attention;
    if (r->type == FT_ROPE_LONGROPE)
        return factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
    if (r->type != FT_ROPE_YARN) return 1;
    return r->mscale != 0 && r->mscale_all != 0
               ? ft_rope_mscale(factor, r->mscale) / ft_rope_mscale(factor, r->mscale_all)
               : ft_rope_mscale(factor, 1);
}

/* Features of a head that are rotated, of head_dim. */
static inline int64_t ft_rope_dim(const ft_rope_spec *r, int64_t head_dim)
{
    return (int64_t)((double)head_dim * r->partial);
}

/* Fills freq[dim/2] and *scale (what cos and sin are multiplied with).  context:
 * max_position_embeddings.  False: r->why says what is wrong. */
static inline bool ft_rope_frequencies(ft_rope_spec *r, int64_t dim, int64_t context, float *freq,
                                       double *scale)
{
    double f[FT_ROPE_MAX], original = r->original > 0 ? r->original : (double)context;
    double factor = r->factor > 0 ? r->factor : (double)context / original;
    int64_t n = dim / 2;
    if (dim <= 0 || dim % 2 || n > FT_ROPE_MAX) {
        snprintf(r->why, sizeof r->why,
                 "rotary positions: %lld features of a head are rotated; that must be an even "
                 "number up to %d",
                 (long long)dim, 2 * FT_ROPE_MAX);
        return false;
    }
    if (r->type == FT_ROPE_LONGROPE && r->n_list != n) {
        snprintf(r->why, sizeof r->why,
                 "rotary positions: short_factor and long_factor have %lld numbers; the model has "
                 "%lld frequencies",
                 (long long)r->n_list, (long long)n);
        return false;
    }
    for (int64_t i = 0; i < n; i++) f[i] = pow(r->theta, -2.0 * (double)i / (double)dim);
    if (r->type == FT_ROPE_LLAMA3) ft_rope_llama3(r, n, original, f);
    if (r->type == FT_ROPE_YARN) ft_rope_yarn(r, n, original, factor, f);
    for (int64_t i = 0; i < n; i++) {
        if (r->type == FT_ROPE_LINEAR) f[i] /= factor;
        if (r->type == FT_ROPE_LONGROPE) f[i] /= r->list[0][i];
        freq[i] = (float)f[i];
    }
    *scale = ft_rope_attention(r, original, factor);
    return true;
}

/* The longest row for which those frequencies hold. */
static inline int64_t ft_rope_limit(const ft_rope_spec *r, int64_t context)
{
    bool shorter = r->type == FT_ROPE_LONGROPE && r->original > 0 && r->original < (double)context;
    return shorter ? (int64_t)r->original : context;
}
#endif

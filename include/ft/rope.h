/* ft/rope.h -- rotary frequencies of every scaling that configurations name (header only, so that
 * model plugins share one piece of code).
 *
 * Reads both spellings of config.json: "rope_parameters" (transformers 5) and "rope_theta" with
 * "rope_scaling".  With f_i = theta^(-2i/d), d the rotated size and i < d/2:
 *   default   f_i
 *   linear    f_i / factor
 *   dynamic   f_i up to max_position_embeddings (NTK scaling only matters beyond)
 *   llama3    f_i, f_i / factor, or a blend, by wavelength 2 pi / f_i (arXiv:2407.21783)
 *   yarn      a blend of f_i and f_i / factor by number of turns; cos and sin times 0.1 ln(factor)
 *   + 1
 *             (Peng et al. 2023, arXiv:2309.00071), with the variants that DeepSeek and gpt-oss use
 *   longrope  f_i / short_factor_i, or long_factor_i beyond the original context; cos and sin times
 *             sqrt(1 + ln(scale)/ln(original))
 * Frequencies are computed in double precision and rounded to fp32 once. */
#ifndef FT_ROPE_H
#define FT_ROPE_H
#include <math.h>
#include "ft/json.h"

typedef struct {
    double theta;            /* used where the configuration gives none */
    int64_t dim;             /* rotated features of a head */
    int64_t context;         /* max_position_embeddings */
    int64_t length;          /* longest row that will be run: chooses longrope's list; 0: short */
} ft_rope_args;

static inline double ft_rope_number(const ft_json *o, const char *key, double otherwise)
{
    double d;
    return ft_json_as_real(ft_json_get(o, key), &d) ? d : otherwise;
}

static inline bool ft_rope_flag(const ft_json *o, const char *key, bool otherwise)
{
    const ft_json *v = ft_json_get(o, key);
    return v && v->type == FT_JSON_BOOL ? v->truth : otherwise;
}

static inline void ft_rope_llama3(const ft_json *o, int64_t n, double context, double *f)
{
    double factor = ft_rope_number(o, "factor", 8), low = ft_rope_number(o, "low_freq_factor", 1);
    double high = ft_rope_number(o, "high_freq_factor", 4);
    double original = ft_rope_number(o, "original_max_position_embeddings", context);
    for (int64_t i = 0; i < n; i++) {
        double wave = 6.283185307179586 / f[i], blend = (original / wave - low) / (high - low);
        if (wave > original / low) f[i] /= factor;
        else if (wave >= original / high) f[i] = (1 - blend) * f[i] / factor + blend * f[i];
    }
}

/* Index of the frequency that makes `turns` turns over the original context. */
static inline double ft_rope_turns(double turns, int64_t dim, double base, double original)
{
    return (double)dim * log(original / (turns * 6.283185307179586)) / (2 * log(base));
}

static inline double ft_rope_mscale(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static inline void ft_rope_yarn(const ft_json *o, const ft_rope_args *a, double base, double *f,
                                double *scale)
{
    double original = ft_rope_number(o, "original_max_position_embeddings", (double)a->context);
    double factor = ft_rope_number(o, "factor", original > 0 ? (double)a->context / original : 1);
    double low = ft_rope_turns(ft_rope_number(o, "beta_fast", 32), a->dim, base, original);
    double high = ft_rope_turns(ft_rope_number(o, "beta_slow", 1), a->dim, base, original);
    double m = ft_rope_number(o, "mscale", 0), all = ft_rope_number(o, "mscale_all_dim", 0);
    if (ft_rope_flag(o, "truncate", true)) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, (double)a->dim - 1);
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < a->dim / 2; i++) {
        double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
        f[i] = f[i] / factor * ramp + f[i] * (1 - ramp);
    }
    *scale = m != 0 && all != 0 ? ft_rope_mscale(factor, m) / ft_rope_mscale(factor, all)
                                : ft_rope_mscale(factor, 1);
    *scale = ft_rope_number(o, "attention_factor", *scale);
}

static inline bool ft_rope_longrope(const ft_json *config, const ft_json *o, const ft_rope_args *a,
                                    double *f, double *scale)
{
    double original = ft_rope_number(o, "original_max_position_embeddings",
                                     ft_rope_number(config, "original_max_position_embeddings",
                                                    (double)a->context));
    double factor = ft_rope_number(o, "factor", original > 0 ? (double)a->context / original : 1);
    const ft_json *list = ft_json_get(o, (double)a->length > original ? "long_factor"
                                                                      : "short_factor");
    if (!list || list->type != FT_JSON_ARRAY || (int64_t)list->len != a->dim / 2) return false;
    for (int64_t i = 0; i < a->dim / 2; i++) {
        double d;
        if (!ft_json_as_real(&list->item[i], &d) || d <= 0) return false;
        f[i] /= d;
    }
    *scale = factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
    *scale = ft_rope_number(o, "attention_factor", *scale);
    return true;
}

/* Fills freq[dim/2] and *scale (what cos and sin are multiplied with) from config (NULL: default).
 * layers: NULL, or the key of a map inside rope_parameters that holds one set per kind of layer.
 * Returns NULL, or what is wrong. */
static inline const char *ft_rope_frequencies(const ft_json *config, const char *layers,
                                              const ft_rope_args *a, float *freq, double *scale)
{
    const ft_json *o = ft_json_get(config, "rope_parameters");
    if (o && layers && ft_json_get(o, layers)) o = ft_json_get(o, layers);
    if (!o || o->type != FT_JSON_OBJECT) o = ft_json_get(config, "rope_scaling");
    const char *type = ft_json_str(o, "rope_type", ft_json_str(o, "type", "default"));
    double base = ft_rope_number(o, "rope_theta", ft_rope_number(config, "rope_theta", a->theta)),
           f[512];
    if (a->dim <= 0 || a->dim % 2 || a->dim > 1024)
        return "the rotated size of a head must be even and at most 1024";
    if (!(base > 0)) return "rope_theta must be positive";
    for (int64_t i = 0; i < a->dim / 2; i++) f[i] = pow(base, -2.0 * (double)i / (double)a->dim);
    *scale = 1;
    if (!strcmp(type, "linear")) {
        double factor = ft_rope_number(o, "factor", 1);
        for (int64_t i = 0; i < a->dim / 2; i++) f[i] /= factor;
    } else if (!strcmp(type, "llama3")) {
        ft_rope_llama3(o, a->dim / 2, (double)a->context, f);
    } else if (!strcmp(type, "yarn")) {
        ft_rope_yarn(o, a, base, f, scale);
    } else if (!strcmp(type, "longrope") || !strcmp(type, "su")) {
        if (!ft_rope_longrope(config, o, a, f, scale))
            return "longrope needs a list of positive factors, one a frequency";
    } else if (strcmp(type, "default") && strcmp(type, "dynamic")) {
        return "this rope_type is not known: default, linear, dynamic, llama3, yarn, longrope are";
    }
    for (int64_t i = 0; i < a->dim / 2; i++) freq[i] = (float)f[i];
    return NULL;
}
#endif

/* dora.c -- DoRA: weight-decomposed low-rank adaptation; the length of each row of W is trained
 * apart from its direction, which LoRA moves.
 *
 *   y = (m / n) (W x + s B A x) + bias,   n = |W + s B A| of each row, without gradient
 *   with dropout:  y = W x + (m/n - 1) W d + (m/n) s B A d + bias,   d = drop(x)
 *
 * m starts as n.  The norm is never taken of the sum of matrices:
 *   n^2 = |w|^2 + 2 s <w A^T, b> + s^2 b (A A^T) b^T   for each row w of W and b of B
 * where |w|^2 is a constant of the model and the rest is computed once an optimizer step.  Liu et
 * al. 2024, arXiv:2402.09353; parameters and files are PEFT's. */
#include <math.h>
#include <string.h>
#include "ft/adapter.h"

typedef struct {
    int64_t r;
    double lora_alpha, lora_dropout;
    bool use_rslora;
    ft_map rank_pattern, alpha_pattern;
    ft_targets targets;
} config;

typedef struct { const config *c; } dora;

static const ft_param params[] = {
    { "r", FT_INT, offsetof(config, r), "8", 1, 65536, NULL, "rank of the update" },
    { "lora_alpha", FT_REAL, offsetof(config, lora_alpha), "8", 0, 1e6, NULL,
      "the update is scaled by lora_alpha / r" },
    { "lora_dropout", FT_REAL, offsetof(config, lora_dropout), "0", 0, 0.99, NULL,
      "dropout in front of A; costs a second pass over W" },
    { "use_rslora", FT_BOOL, offsetof(config, use_rslora), "false", 0, 0, NULL,
      "scale by lora_alpha / sqrt(r)" },
    { "rank_pattern", FT_MAP, offsetof(config, rank_pattern), "", 1, 65536, NULL,
      "rank of modules whose names end so" },
    { "alpha_pattern", FT_MAP, offsetof(config, alpha_pattern), "", 0, 1e6, NULL,
      "alpha of modules whose names end so" },
    FT_TARGET_PARAMS(config, targets),
    { 0 }
};

/* |W + s B A| of each row. */
static ft_val row_norms(ft_graph *g, ft_val W, ft_val A, ft_val B, double s)
{
    ft_val cross = ft_row_dot(g, ft_linear(g, W, A), B);
    ft_val own = ft_row_dot(g, ft_linear(g, B, ft_linear(g, A, A)), B);
    ft_val n2 = ft_add(g, ft_row_dot(g, W, W),
                       ft_add(g, ft_scale(g, cross, 2 * s), ft_scale(g, own, s * s)));
    return ft_detach(g, ft_sqrt(g, n2));
}

static ft_val apply(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    const config *c = ((const dora *)self)->c;
    int64_t r = (int64_t)ft_pattern(g, &c->rank_pattern, s->name, (double)c->r);
    double scale = ft_pattern(g, &c->alpha_pattern, s->name, c->lora_alpha) /
                   (c->use_rslora ? sqrt((double)r) : (double)r);
    if (r > s->in)
        return ft_fail(g, FT_EINVAL,
                       "r = %lld exceeds in_features %lld of %s; choose a smaller rank",
                       (long long)r, (long long)s->in, s->name);
    ft_val W = ft_site_weight(g, s);
    ft_val A = ft_parameter(g, s, "lora_A.weight", ft_2d(r, s->in), FT_TRAIN,
                            ft_uniform(-1 / sqrt((double)s->in), 1 / sqrt((double)s->in)));
    ft_val B = ft_parameter(g, s, "lora_B.weight", ft_2d(s->out, r), FT_TRAIN, ft_fill(0));
    ft_val n = row_norms(g, W, A, B, scale);
    ft_val m = ft_parameter(g, s, "lora_magnitude_vector", ft_1d(s->out), FT_TRAIN,
                            ft_init_value(n));
    ft_val ratio = ft_div(g, m, n), y;
    ft_val d = ft_dropout(g, x, c->lora_dropout);
    ft_val update = ft_scale(g, ft_linear(g, ft_linear(g, d, A), B), scale);
    if (d.id != x.id)
        return ft_add(g, ft_base(g, s, x),
                      ft_add(g, ft_mul(g, ft_linear(g, d, W), ft_shift(g, ratio, -1)),
                             ft_mul(g, update, ratio)));
    y = ft_mul(g, ft_add(g, ft_linear(g, x, W), update), ratio);
    return s->bias ? ft_add(g, y, ft_site_bias(g, s)) : y;
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    (void)host;
    ((dora *)self)->c = cfg;
    return 0;
}

static const char *peft_extra(void *self)
{
    (void)self;
    return "\"fan_in_fan_out\": false, \"use_dora\": true";
}

static const ft_adapter adapter = {
    .size = sizeof adapter,
    .sites = FT_SITE_LINEAR,
    .targets = offsetof(config, targets),
    .peft_type = "LORA",
    .apply = apply,
    .peft_extra = peft_extra,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.adapter/1",
    .name = "dora",
    .version = "0.1.0",
    .summary = "weight-decomposed low-rank adaptation",
    .params = params,
    .config_size = sizeof(config),
    .instance_size = sizeof(dora),
    .open = open_,
    .vtable = &adapter,
};
FT_PLUGIN(plugin, "dora")

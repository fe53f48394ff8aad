/* lora.c -- LoRA: a low-rank update beside every chosen linear layer.
 *
 *   y = W x + s B (A drop(x)),   A (r, in) uniform, B (out, r) zero, s = alpha / r
 *
 * so that the adapted model starts equal to the base.  use_rslora: s = alpha / sqrt(r).  On an
 * embedding: y = W[ids] + s B A[:, ids].  On experts' tensors each expert has its own A and B,
 * stored as one: A (experts r, in), B (out, r experts).  Hu et al. 2021, arXiv:2106.09685;
 * Kalajdzievski 2023, arXiv:2312.03732.  Parameters, their meaning and the files are PEFT's. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "ft/adapter.h"

typedef struct {
    int64_t r;
    double lora_alpha, lora_dropout;
    bool use_rslora;
    ft_map rank_pattern, alpha_pattern;
    const char *init_lora_weights;
    ft_targets targets;
} config;

typedef struct { const config *c; } lora;

static const char *const inits[] = { "true", "gaussian", "false", NULL };
static const ft_param params[] = {
    { "r", FT_INT, offsetof(config, r), "8", 1, 65536, NULL, "rank of the update" },
    { "lora_alpha", FT_REAL, offsetof(config, lora_alpha), "8", 0, 1e6, NULL,
      "the update is scaled by lora_alpha / r" },
    { "lora_dropout", FT_REAL, offsetof(config, lora_dropout), "0", 0, 0.99, NULL,
      "dropout in front of A" },
    { "use_rslora", FT_BOOL, offsetof(config, use_rslora), "false", 0, 0, NULL,
      "scale by lora_alpha / sqrt(r)" },
    { "rank_pattern", FT_MAP, offsetof(config, rank_pattern), "", 1, 65536, NULL,
      "rank of modules whose names end so" },
    { "alpha_pattern", FT_MAP, offsetof(config, alpha_pattern), "", 0, 1e6, NULL,
      "alpha of modules whose names end so" },
    { "init_lora_weights", FT_STR, offsetof(config, init_lora_weights), "true", 0, 0, inits,
      "true: A uniform, B zero; gaussian: A normal with deviation 1/r, B zero; false: B as A" },
    FT_TARGET_PARAMS(config, targets),
    { 0 }
};

/* torch's kaiming_uniform with a = sqrt(5): uniform within 1 / sqrt(fan_in). */
static ft_init uniform_for(int64_t fan_in)
{
    return ft_uniform(-1 / sqrt((double)fan_in), 1 / sqrt((double)fan_in));
}

/* Each expert's own update.  PEFT stores all A one after the other, B with the experts fastest. */
static ft_val apply_grouped(const config *c, ft_graph *g, const ft_site *s, ft_val x, int64_t r,
                            double scale, ft_init a, ft_init b)
{
    int64_t n = s->experts;
    if (c->lora_dropout != 0)
        return ft_fail(g, FT_EINVAL,
                       "lora_dropout must be 0 with target_parameters: PEFT reads no such adapter; "
                       "set it to 0 or leave target_parameters empty");
    ft_val A = ft_parameter(g, s, "lora_A.weight", ft_2d(r * n, s->in), FT_TRAIN, a);
    ft_val B = ft_parameter(g, s, "lora_B.weight", ft_2d(s->out, r * n), FT_TRAIN, b);
    A = ft_reshape(g, A, ft_3d(n, r, s->in));
    B = ft_transpose(g, ft_reshape(g, B, ft_2d(s->out * r, n)));
    B = ft_reshape(g, ft_scale(g, B, scale), ft_3d(n, s->out, r));
    return ft_add(g, ft_base(g, s, x), ft_grouped(g, s, ft_grouped(g, s, x, A), B));
}

static ft_val apply(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    const config *c = ((const lora *)self)->c;
    int64_t r = (int64_t)ft_pattern(g, &c->rank_pattern, s->name, (double)c->r);
    double alpha = ft_pattern(g, &c->alpha_pattern, s->name, c->lora_alpha);
    double scale = alpha / (c->use_rslora ? sqrt((double)r) : (double)r);
    bool gaussian = !strcmp(c->init_lora_weights, "gaussian"), embed = s->kind == FT_SITE_EMBED;
    bool zero = strcmp(c->init_lora_weights, "false") != 0;
    if (r > s->in)
        return ft_fail(g, FT_EINVAL,
                       "r = %lld exceeds in_features %lld of %s; choose a smaller rank",
                       (long long)r, (long long)s->in, s->name);
    if (embed) { /* PEFT: A zero, B normal */
        ft_val A = ft_parameter(g, s, "lora_embedding_A", ft_2d(r, s->in), FT_TRAIN,
                                zero ? ft_fill(0) : ft_normal(1));
        ft_val B = ft_parameter(g, s, "lora_embedding_B", ft_2d(s->out, r), FT_TRAIN, ft_normal(1));
        ft_val h = ft_embedding(g, x, ft_transpose(g, A));
        return ft_add(g, ft_base(g, s, x), ft_scale(g, ft_linear(g, h, B), scale));
    }
    ft_init a = gaussian ? ft_normal(1 / (double)r) : uniform_for(s->in);
    ft_init b = zero ? ft_fill(0) : uniform_for(s->kind == FT_SITE_GROUPED ? r * s->experts : r);
    if (s->kind == FT_SITE_GROUPED) return apply_grouped(c, g, s, x, r, scale, a, b);
    ft_val A = ft_parameter(g, s, "lora_A.weight", ft_2d(r, s->in), FT_TRAIN, a);
    ft_val B = ft_parameter(g, s, "lora_B.weight", ft_2d(s->out, r), FT_TRAIN, b);
    ft_val h = ft_linear(g, ft_dropout(g, x, c->lora_dropout), A);
    return ft_add(g, ft_base(g, s, x), ft_scale(g, ft_linear(g, h, B), scale));
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    (void)host;
    ((lora *)self)->c = cfg;
    return 0;
}

static const char *peft_extra(void *self)
{
    (void)self;
    return "\"fan_in_fan_out\": false, \"use_dora\": false";
}

static const ft_adapter adapter = {
    .size = sizeof adapter,
    .sites = FT_SITE_LINEAR | FT_SITE_EMBED | FT_SITE_GROUPED,
    .targets = offsetof(config, targets),
    .peft_type = "LORA",
    .apply = apply,
    .peft_extra = peft_extra,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.adapter/1", .name = "lora", .version = "0.1.0",
    .summary = "low-rank adaptation, with rank-stabilized scaling by option", .params = params,
    .config_size = sizeof(config), .instance_size = sizeof(lora), .open = open_, .vtable = &adapter,
};
FT_PLUGIN(plugin, "lora")

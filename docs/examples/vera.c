/* vera.c -- VeRA: a LoRA whose two matrices are random, frozen and shared by all layers; only a
 * vector for the rank (d) and one for the outputs (b) of each layer are trained.
 *
 *   y = W x + b * (B (d * (A x)))
 *
 * b starts at zero, so the adapted model starts equal to the base.  Kopiczko et al. 2023,
 * arXiv:2310.11454.  Build:  cc -shared -fPIC -I PREFIX/include vera.c -o vera.so */
#include "ft/adapter.h"

typedef struct {
    int64_t r;
    double d_initial;
    ft_targets targets;
} config;

typedef struct { const config *c; } vera;

static const ft_param params[] = {
    { "r", FT_INT, offsetof(config, r), "256", 1, 65536, NULL, "rank of A and B" },
    { "d_initial", FT_REAL, offsetof(config, d_initial), "0.1", 0, 1, NULL, "start value of d" },
    FT_TARGET_PARAMS(config, targets),
    { 0 }
};

static ft_val apply(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    const config *c = ((const vera *)self)->c;
    ft_val A = ft_shared(g, "base_model.vera_A", ft_2d(c->r, s->all->max_in), FT_FROZEN,
                         ft_normal(0.02));
    ft_val B = ft_shared(g, "base_model.vera_B", ft_2d(s->all->max_out, c->r), FT_FROZEN,
                         ft_normal(0.02));
    ft_val d = ft_parameter(g, s, "vera_lambda_d", ft_1d(c->r), FT_TRAIN, ft_fill(c->d_initial));
    ft_val b = ft_parameter(g, s, "vera_lambda_b", ft_1d(s->out), FT_TRAIN, ft_fill(0));
    ft_val h = ft_mul(g, ft_linear(g, x, ft_slice(g, A, 1, 0, s->in)), d);
    h = ft_mul(g, ft_linear(g, h, ft_slice(g, B, 0, 0, s->out)), b);
    return ft_add(g, ft_base(g, s, x), h);
}

static int open_(void *self, const ft_host *host, const void *cfg)
{
    (void)host;
    ((vera *)self)->c = cfg;
    return 0;
}

static const ft_adapter adapter = {
    .size = sizeof adapter, .sites = FT_SITE_LINEAR, .targets = offsetof(config, targets),
    .peft_type = "VERA", .apply = apply,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.adapter/1", .name = "vera", .version = "0.1.0",
    .summary = "vector-based random matrix adaptation", .params = params,
    .config_size = sizeof(config), .instance_size = sizeof(vera), .open = open_, .vtable = &adapter,
};
FT_PLUGIN(plugin, "vera")

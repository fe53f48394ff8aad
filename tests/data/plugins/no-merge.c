/* no-merge.c -- an adapter that no weight can hold: at linear modules, or at the places that a file
 * names which includes this one. */
#include "ft/adapter.h"
#ifndef NAME
#define NAME "no-merge"
#define SITES FT_SITE_LINEAR
#endif
#ifndef VIRTUAL_TOKENS
#define VIRTUAL_TOKENS 0
#endif

typedef struct { const char *what; ft_targets targets; } config;
typedef struct { const config *c; } self_t;

static const char *const ways[] = { "square", "constant", NULL };
static const ft_param params[] = {
    { "what", FT_STR, offsetof(config, what), "square", 0, 0, ways, "how" },
    FT_TARGET_PARAMS(config, targets),
    { 0 }
};

static int open_(void *self, const ft_host *host, const void *cfg)
{
    (void)host;
    ((self_t *)self)->c = cfg;
    return 0;
}

static int64_t virtual_tokens(void *self)
{
    (void)self;
    return VIRTUAL_TOKENS;
}

static ft_val apply(void *self, ft_graph *g, const ft_site *s, ft_val x)
{
    if (s->kind == FT_SITE_EMBED) {
        ft_val rows = ft_shared(g, "prompt_embeddings", ft_2d(2, s->out), FT_TRAIN, ft_normal(0.5));
        return ft_op(g, "embedding", NULL, 0, (ft_val[]){ x, ft_site_weight(g, s), rows }, 3);
    }
    ft_val b = ft_parameter(g, s, "b", ft_1d(s->out), FT_TRAIN, ft_fill(0.5));
    if (s->kind == FT_SITE_SUBLAYER) return ft_mul(g, x, b);
    ft_val y = ft_base(g, s, x);
    return *((const self_t *)self)->c->what == 's' ? ft_add(g, y, ft_mul(g, ft_mul(g, y, y), b))
                                                   : ft_add(g, y, b);
}

static const ft_adapter adapter = {
    .size = sizeof adapter,
    .sites = SITES,
    .targets = offsetof(config, targets),
    .peft_type = "NONE",
    .apply = apply,
    .virtual_tokens = virtual_tokens,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.adapter/1", .name = NAME, .version = "0.1.0",
    .summary = "for the tests of merge", .params = params, .config_size = sizeof(config),
    .instance_size = sizeof(self_t), .open = open_, .vtable = &adapter,
};
FT_PLUGIN(plugin, NAME)

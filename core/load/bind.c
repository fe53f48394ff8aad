/* bind.c -- see bind.h. */
#include "core/load/bind.h"

void ft_bind_stages(ft_config *c, ft_registry *r, ft_diags *d)
{
    for (size_t i = 0; i < c->n_stages; i++) {
        ft_config_stage *s = &c->stage[i];
        ft_err e = { 0 };
        s->plugin = ft_registry_get(r, s->use, &e);
        if (!s->plugin) {
            ft_diag(d, s->use_at, "%s", e.msg);
            continue;
        }
        s->params = s->plugin->params;
        s->config_size = s->plugin->desc.config_size;
    }
}

int ft_config_open(ft_config *c, ft_registry *r, const char *path, const char *const *override,
                   size_t n_override, unsigned flags, ft_diags *d)
{
    int code = ft_config_load(c, path, override, n_override, d);
    if (code == FT_ENOMEM) return code;
    /* What could be read is typed as well, so that one run shows all errors. */
    ft_bind_stages(c, r, d);
    return ft_config_type(c, flags, d);
}

/* bind.h -- from a file and a registry to stages that are typed and have their plugins. */
#ifndef FT_CORE_BIND_H
#define FT_CORE_BIND_H
#include "core/config/config.h"
#include "core/load/registry.h"

/* Loads each stage's plugin and notes its table.  A plugin that is missing or refused is an error
 * at its `use:`. */
void ft_bind_stages(ft_config *c, ft_registry *r, ft_diags *d);

/* ft_config_load, ft_bind_stages and ft_config_type.  Returns 0, or FT_E* with all errors in d. */
int ft_config_open(ft_config *c, ft_registry *r, const char *path, const char *const *override,
                   size_t n_override, unsigned flags, ft_diags *d);
#endif

/* parts.h -- the steps of ft_config_load, one file each. */
#ifndef FT_CORE_CONFIG_PARTS_H
#define FT_CORE_CONFIG_PARTS_H
#include "core/config/config.h"

/* extends.c: reads the file and what it extends, merged.  NULL after an error that leaves nothing
 * to go on with.  c->at is set to the file's start. */
ft_yaml *ft_config_read(ft_config *c, const char *path, ft_diags *d);

/* shape.c: checks `stages:` of one file and gives each stage its `id`; what is no stage is taken
 * out after an error. */
void ft_config_shape(ft_config *c, ft_yaml *root, ft_diags *d);
/* The id that shape.c gave a stage. */
const char *ft_stage_id(const ft_yaml *stage);
/* The stage of that id in a list of stages (NULL list: none). */
ft_yaml *ft_stage_find(const ft_yaml *stages, const char *id);

/* override.c: applies the n-th argument of the command line. */
void ft_config_override(ft_config *c, ft_yaml *root, const char *arg, int n, ft_diags *d);

/* expand.c: replaces ${…} in every scalar of the tree. */
void ft_config_expand(ft_config *c, ft_yaml *root, ft_diags *d);
#endif

/* merge.c -- merges the trained adapter into the model's weights.
 *
 * A stage with one choice; the work is the core's (core/run/merge.c): each adapted site's own graph
 * is run on the identity in fp32, which gives its merged weight for any adapter that is linear. */
#include "ft/export.h"

typedef struct { ft_merge_args args; } config;

static const ft_param params[] = { FT_MERGE_PARAMS(config, args), { 0 } };

static const ft_merger merger = { .size = sizeof merger, .args = offsetof(config, args) };

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.merger/1", .name = "merge", .version = "0.1.0",
    .summary = "merges the trained adapter into the weights", .params = params,
    .config_size = sizeof(config), .vtable = &merger,
};
FT_PLUGIN(plugin, "merge")

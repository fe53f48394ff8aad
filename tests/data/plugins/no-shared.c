/* no-shared.c -- a format plugin without the row that the host reads (FT_DATA_PARAMS). */
#include "ft/data.h"

typedef struct { ft_data_args args; } config;
static int next(void *self, ft_sample *out)
{
    (void)self, (void)out;
    return 0;
}
static const ft_format format = { .size = sizeof(ft_format), .args = offsetof(config, args),
                                  .next = next };
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.format/1", .name = "no-shared", .version = "0.1.0",
    .summary = "for tests", .config_size = sizeof(config), .vtable = &format,
};
FT_PLUGIN(plugin, "no-shared");

/* bad-list.c -- a quantizer whose vtable names a list where its config struct has none. */
#include "ft/quant.h"

static int parts(void *self, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS])
{
    (void)self, (void)dim, (void)ndim, (void)out;
    return FT_EUNSUP;
}
static int open_(void *self, const int64_t *dim, int ndim, const ft_tensor part[], ft_packed *out)
{
    (void)self, (void)dim, (void)ndim, (void)part, (void)out;
    return FT_EUNSUP;
}
static const ft_quantizer quantizer = {
    .size = sizeof(ft_quantizer), .scheme = "bad", .parts = parts, .open = open_, .skip_modules = 8,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.quantizer/1", .name = "bad-list", .version = "0.1.0",
    .summary = "for tests", .config_size = 64, .vtable = &quantizer,
};
FT_PLUGIN(plugin, "bad-list");

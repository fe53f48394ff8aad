/* base.h -- a small plugin of role "ft.tokens/1" that is right in every point.  A hostile one
 * defines what it does otherwise and includes this. */
#ifndef FT_TESTS_PLUGIN_BASE_H
#define FT_TESTS_PLUGIN_BASE_H
#include <stdlib.h>
#include "ft/data.h"

#ifdef ABORT_ON_LOAD /* what is refused by its note must never get here */
__attribute__((constructor)) static void abort_on_load(void) { abort(); }
#endif
#ifndef ROLE
#define ROLE "ft.tokens/1"
#endif
#ifndef PARAMS
#define PARAMS { 0 }
#endif
#ifndef CONFIG_SIZE
#define CONFIG_SIZE 64
#endif
#ifndef SHAPE
#define SHAPE shape
#endif
#ifndef ABI
#define ABI FT_ABI_INIT
#endif
#ifndef DESCRIPTOR_NAME
#define DESCRIPTOR_NAME NAME
#endif
#ifndef VTABLE_SIZE
#define VTABLE_SIZE sizeof(ft_token_source)
#endif
#ifndef VTABLE
#define VTABLE &vtable
#endif

static int shape(void *self, int64_t *batches, int64_t *rows_per_batch, int64_t *row_tokens)
{
    (void)self;
    *batches = *rows_per_batch = *row_tokens = 0;
    return 0;
}
static int row(void *self, int64_t i, ft_token_row *out)
{
    (void)self, (void)i, (void)out;
    return FT_EINVAL;
}
int (*const base_shape_)(void *, int64_t *, int64_t *, int64_t *) = shape; /* used,
    whatever SHAPE is */

static const ft_token_source vtable = { (uint32_t)(VTABLE_SIZE), SHAPE, row };
const ft_token_source *const base_vtable_ = &vtable;
static const ft_param params[] = { PARAMS };
static const ft_plugin plugin = {
    .abi = ABI, .role = ROLE, .name = DESCRIPTOR_NAME, .version = "0.1.0", .summary = "for tests",
    .params = params, .config_size = CONFIG_SIZE, .instance_size = 16, .vtable = VTABLE,
};
#ifndef NO_NOTE
FT_PLUGIN(plugin, NAME);
#endif
#endif

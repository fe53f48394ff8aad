/* larger-struct.c -- its note says that ft_plugin has eight bytes more. */
#include "ft/plugin.h"
typedef struct { ft_plugin now; void *more; } larger_plugin;
#define ft_plugin larger_plugin

/* Only the note is written with the larger struct. */
__attribute__((used, section(".note.ftabi"), aligned(4)))
static const ft_note note = { 4, sizeof(ft_note) - 16, 1, "ft", FT_ABI_MAJOR, FT_ABI_MINOR,
    sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin), "larger-struct" };
#undef ft_plugin
#define NAME "larger-struct"
#define NO_NOTE
#define ABORT_ON_LOAD
#include "base.h"
FT_EXPORT const ft_plugin *ft_plugin_entry_1(void);
const ft_plugin *ft_plugin_entry_1(void) { return &plugin; }

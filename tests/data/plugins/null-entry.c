/* null-entry.c -- its entry gives NULL. */
#define NAME "null-entry"
#define NO_NOTE
#include "base.h"
__attribute__((used, section(".note.ftabi"), aligned(4)))
static const ft_note note = { 4, sizeof(ft_note) - 16, 1, "ft", FT_ABI_MAJOR, FT_ABI_MINOR,
    sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin), NAME };
const ft_plugin *const unused_ = &plugin;
FT_EXPORT const ft_plugin *ft_plugin_entry_1(void);
const ft_plugin *ft_plugin_entry_1(void) { return NULL; }

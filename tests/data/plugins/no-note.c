/* no-note.c -- exports an entry, but has no .note.ftabi. */
#define NAME "no-note"
#define ABORT_ON_LOAD
#define NO_NOTE
#include "base.h"
FT_EXPORT const ft_plugin *ft_plugin_entry_1(void);
const ft_plugin *ft_plugin_entry_1(void) { return &plugin; }

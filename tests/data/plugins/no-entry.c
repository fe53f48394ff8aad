/* no-entry.c -- has a note, but exports nothing. */
#define NAME "no-entry"
#define NO_NOTE
#include "base.h"
__attribute__((used, section(".note.ftabi"), aligned(4)))
static const ft_note note = { 4, sizeof(ft_note) - 16, 1, "ft", FT_ABI_MAJOR, FT_ABI_MINOR,
    sizeof(ft_param), sizeof(ft_host), sizeof(ft_plugin), NAME };
const ft_plugin *const unused_ = &plugin;

/* unmergeable-prompt.c -- rows of its own for two virtual tokens. */
#define NAME "unmergeable-prompt"
#define SITES FT_SITE_EMBED
#include "unmergeable.c"

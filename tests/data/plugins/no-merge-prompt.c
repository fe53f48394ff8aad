/* no-merge-prompt.c -- rows of its own for two virtual tokens. */
#define NAME "no-merge-prompt"
#define SITES FT_SITE_EMBED
#include "no-merge.c"

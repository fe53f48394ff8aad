/* no-merge-prompt.c -- rows of its own for two virtual tokens. */
#define NAME "no-merge-prompt"
#define SITES FT_SITE_EMBED
#define VIRTUAL_TOKENS 2
#include "no-merge.c"

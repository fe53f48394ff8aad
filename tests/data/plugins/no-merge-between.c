/* no-merge-between.c -- what a sublayer adds is scaled. */
#define NAME "no-merge-between"
#define SITES FT_SITE_SUBLAYER
#include "no-merge.c"

/* unmergeable-sublayer.c -- what a sublayer adds is scaled. */
#define NAME "unmergeable-sublayer"
#define SITES FT_SITE_SUBLAYER
#include "unmergeable.c"

/* newer-minor.c -- built for the next minor ABI. */
#include "ft/plugin.h"
#undef FT_ABI_MINOR
#define FT_ABI_MINOR 1
#define NAME "newer-minor"
#define ABORT_ON_LOAD
#include "base.h"

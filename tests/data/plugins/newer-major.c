/* newer-major.c -- built for the next major ABI. */
#include "ft/plugin.h"
#undef FT_ABI_MAJOR
#define FT_ABI_MAJOR 2
#define NAME "newer-major"
#define ABORT_ON_LOAD
#include "base.h"

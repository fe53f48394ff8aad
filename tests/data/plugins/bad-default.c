/* bad-default.c -- a default outside of its own range. */
#define NAME "bad-default"
#define PARAMS { "r", FT_INT, 0, "0", 1, 8, 0, "rank" }, { 0 }
#include "base.h"

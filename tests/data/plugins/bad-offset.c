/* bad-offset.c -- a parameter that would be stored behind the config struct. */
#define NAME "bad-offset"
#define CONFIG_SIZE 8
#define PARAMS { "far", FT_STR, 8, "", 0, 0, 0, "behind the end" }, { 0 }
#include "base.h"

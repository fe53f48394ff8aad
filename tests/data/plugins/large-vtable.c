/* large-vtable.c -- its vtable is larger than this program knows. */
#define NAME "large-vtable"
#define VTABLE_SIZE (sizeof(ft_token_source) + 8)
#include "base.h"

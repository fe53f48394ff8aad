/* null-function.c -- a required function of its vtable is NULL. */
#define NAME "null-function"
#define SHAPE NULL
#include "base.h"

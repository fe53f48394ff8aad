/* null-vtable.c -- has no vtable. */
#define NAME "null-vtable"
#define VTABLE NULL
#include "base.h"

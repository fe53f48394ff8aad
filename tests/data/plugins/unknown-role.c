/* unknown-role.c -- a role that nobody knows. */
#define NAME "unknown-role"
#define ROLE "ft.token/1"
#include "base.h"

/* roles.h -- the roles that this program knows, and what each asks of a plugin's vtable. */
#ifndef FT_CORE_ROLES_H
#define FT_CORE_ROLES_H
#include "ft/plugin.h"

enum { FT_ROLE_REQUIRED = 16, FT_ROLE_SHARED = 8 };

/* A function pointer of the vtable that may not be NULL. */
typedef struct {
    const char *name;
    size_t offset;
} ft_role_function;

/* A parameter that the host itself reads, from the struct of shared arguments in the config. */
typedef struct {
    const char *key;
    ft_kind kind;
    size_t offset; /* in that struct */
} ft_role_argument;

typedef struct {
    const char *name;   /* "ft.format/1" */
    size_t size, first; /* of the vtable: now, and when the role was first released */
    ft_role_function required[FT_ROLE_REQUIRED]; /* ends with name NULL */
    size_t args_at;     /* where in the vtable stands the offset of the shared arguments */
    ft_role_argument shared[FT_ROLE_SHARED]; /* ends with key NULL; none: args_at means nothing */
} ft_role;

/* NULL: unknown. */
const ft_role *ft_role_find(const char *name);
/* The i-th role, NULL after the last. */
const ft_role *ft_role_at(size_t i);
#endif

/* roles.h -- the roles that this program knows, and what each asks of a plugin's vtable. */
#ifndef FT_CORE_ROLES_H
#define FT_CORE_ROLES_H
#include "ft/plugin.h"

/* A pointer of the vtable that may not be NULL. */
typedef struct {
    const char *name;
    size_t offset;
} ft_role_member;

/* A parameter that the host itself reads, from the struct of shared arguments in the config. */
typedef struct {
    const char *key;
    ft_kind kind;
    size_t offset; /* in that struct */
} ft_role_argument;

typedef struct {
    const char *name;               /* "ft.format/1" */
    size_t size, first;             /* of the vtable: now, and when the role was first released */
    const ft_role_member *required; /* ends with name NULL */
    const ft_role_argument *shared; /* ends with key NULL; NULL: none */
    size_t args_at;                 /* where the vtable has the offset of those in the config */
    size_t list_at;                 /* where it has the offset of one ft_list that the host reads
                                       as well, or (size_t)-1; 0: it has no such member */
} ft_role;

/* NULL: unknown. */
const ft_role *ft_role_find(const char *name);
/* The i-th role, NULL after the last. */
const ft_role *ft_role_at(size_t i);
#endif

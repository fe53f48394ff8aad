/* claim.c -- see claim.h. */
#include "core/run/claim.h"
#include <stdio.h>
#include <string.h>

typedef bool (*claims_fn)(const ft_source *);

const ft_loaded *ft_claimant(ft_registry *r, const char *role, size_t claims, const ft_source *s,
                             char *asked, ft_err *e)
{
    const ft_listed *list;
    size_t n, at = 0;
    *asked = 0;
    if (ft_registry_list(r, &list, &n, e)) return NULL;
    for (size_t i = 0; i < n; i++) {
        const ft_loaded *p = list[i].plugin;
        if (!p || strcmp(p->desc.role, role)) continue;
        const char *vt = p->desc.vtable;
        uint32_t size; /* every role's table begins with it */
        memcpy(&size, vt, sizeof size);
        if (size < claims + sizeof(claims_fn)) continue;
        claims_fn accepts = *(const claims_fn *)(const void *)(vt + claims);
        if (!accepts) continue;
        if (accepts(s)) return p;
        if (at + 80 < 400)
            at += (size_t)snprintf(asked + at, 400 - at, "%s%s", at ? ", " : "", p->name);
    }
    return NULL;
}

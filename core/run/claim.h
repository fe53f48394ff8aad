/* claim.h -- which plugin knows a model's files. */
#ifndef FT_CORE_CLAIM_H
#define FT_CORE_CLAIM_H
#include "core/load/registry.h"
#include "ft/source.h"

/* The first plugin of the role whose claims() accepts s; claims: where that function lies in the
 * role's vtable.  NULL: none does, or e->code is set.  asked [400]: the names of those asked. */
const ft_loaded *ft_claimant(ft_registry *r, const char *role, size_t claims, const ft_source *s,
                             char *asked, ft_err *e);
#endif

/* merge_site.h -- what one adapted site has become: its weight and bias, by running its graph. */
#ifndef FT_CORE_MERGE_SITE_H
#define FT_CORE_MERGE_SITE_H
#include "core/run/merge.h"

/* The merged weight (or bias) of item i, which is FT_MERGE_SITE.  FT_EUNSUP when the adapter is not
 * linear there. */
int ft_merge_site(ft_merge *m, const ft_merge_item *i, ft_merge_sink sink, void *ctx, ft_err *e);
#endif

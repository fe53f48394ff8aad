/* merge_use.c -- that nothing which was trained is lost on the way out: every tensor of an adapter
 * goes into one module, or stands for one weight. */
#include <stdio.h>
#include <string.h>
#include "core/run/merge.h"

void ft_merge_used(ft_merge *m, const char *name, const char *into)
{
    for (size_t i = 0; m->use && i < ft_tensors_count(m->lineup.init); i++) {
        ft_merge_use *u = &m->use[i];
        if (strcmp(ft_tensors_at(m->lineup.init, i)->name, name)) continue;
        if (!u->into) u->into = into;
        else if (strcmp(u->into, into)) u->also = into;
        return;
    }
}

int ft_merge_check_uses(const ft_merge *m, ft_err *e)
{
    for (size_t i = 0; m->use && i < ft_tensors_count(m->lineup.init); i++) {
        const ft_merge_use *u = &m->use[i];
        const char *name = ft_tensors_at(m->lineup.init, i)->name;
        if (!u->into)
            return ft_errf(e, FT_EUNSUP,
                           "adapter tensor %.160s has gone into no weight of what was written; "
                           "every tensor must be used once, so nothing is kept of it",
                           name);
        if (u->also)
            return ft_errf(e, FT_EUNSUP,
                           "adapter tensor %.160s has gone into %.160s and into %.160s; every "
                           "tensor must be used once, so nothing is kept of it",
                           name, u->into, u->also);
    }
    return 0;
}

/* profile.h -- where the time of training went, by op: `pipeline run --profile`. */
#ifndef FT_CORE_RUN_PROFILE_H
#define FT_CORE_RUN_PROFILE_H
#include <stdio.h>
#include "core/graph/exec.h"

/* A table to `to`, the slowest op first, and the same as DIR/profile.json:
 * [{"op","calls","seconds","percent","bytes","gflops_per_s"?}, …]. */
int ft_profile_write(const g_exec *x, const char *dir, FILE *to, ft_err *e);
#endif

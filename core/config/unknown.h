/* unknown.h -- what to say about a key that no table has. */
#ifndef FT_CORE_UNKNOWN_H
#define FT_CORE_UNKNOWN_H
#include "core/config/fill.h"

/* Reports v's key as unknown to `params` and job->also, with the likeliest meaning: a key of
 * another stage, another tool's spelling, or a slip of the fingers. */
void ft_report_unknown(const ft_param *params, const ft_yaml *v, const ft_fill_job *job);
#endif

/* match.h -- module names against the patterns of PEFT. */
#ifndef FT_CORE_MATCH_H
#define FT_CORE_MATCH_H
#include "core/base/err.h"

/* 1 when the pattern, as a regular expression, matches the end of name after its start or a dot
 * (rank_pattern: "(.*\.)?(PATTERN)$"); 0 when not; FT_EINVAL for a bad pattern. */
int ft_match_end(const char *pattern, const char *name, ft_err *e);
/* The same for a regular expression that must match the whole name (target_modules as a string). */
int ft_match_whole(const char *pattern, const char *name, ft_err *e);
/* True when name equals module or ends in "." + module (target_modules as a list). */
bool ft_match_module(const char *module, const char *name);
#endif

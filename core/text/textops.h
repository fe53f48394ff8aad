/* textops.h -- what Python's str can do with itself; filters and methods share it.  All strings
 * that come back keep the history of their bytes; positions are bytes. */
#ifndef FT_TEXT_TEXTOPS_H
#define FT_TEXT_TEXTOPS_H
#include "core/text/jinja.h"

enum { FTJ_CASE_UPPER, FTJ_CASE_LOWER, FTJ_CASE_TITLE, FTJ_CASE_CAPITALIZE, FTJ_CASE_SWAP };
const ftj_str *ftj_str_case(ftj_run *run, const ftj_str *s, int how);

enum { FTJ_LEFT = 1, FTJ_RIGHT = 2, FTJ_BOTH = 3 };
/* Without the characters of `chars` (NULL: white space) at the given ends. */
const ftj_str *ftj_str_strip(ftj_run *run, const ftj_str *s, const ftj_str *chars, int ends);
/* At most `count` replacements; negative: all. */
const ftj_str *ftj_str_replace(ftj_run *run, const ftj_str *s, const ftj_str *old,
                               const ftj_str *by, int64_t count);
/* sep NULL: white space.  max negative: no limit.  from_right: the limit counts from the end. */
ftj_list *ftj_str_split(ftj_run *run, const ftj_str *s, const ftj_str *sep, int64_t max,
                        bool from_right);
ftj_list *ftj_str_lines(ftj_run *run, const ftj_str *s, bool keep_ends);
/* Padded to `width` characters with the text before (FTJ_LEFT), after (FTJ_RIGHT) or between. */
const ftj_str *ftj_str_justify(ftj_run *run, const ftj_str *s, int64_t width, const ftj_str *fill,
                               int side);
/* Puts `sep` between the strings of the items. */
const ftj_str *ftj_str_join(ftj_run *run, const ftj_str *sep, const ftj_str *const *v, size_t n);
#endif

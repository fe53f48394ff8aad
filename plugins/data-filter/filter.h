/* filter.h -- the rules of data-filter that look at text. */
#ifndef DATA_FILTER_H
#define DATA_FILTER_H
#include "ft/buf.h"
#include "ft/data.h"

/* The number of characters. */
size_t filter_chars(const char *p, size_t n);
/* Part, 0 … 1, of the letters that belong to the named scripts; 1 where there is no letter that any
 * script of the table has.  filter_script: whether there is a script of this name. */
double filter_script_share(const char *p, size_t n, const ft_list *scripts);
bool filter_script(const char *name);
extern const char filter_scripts[]; /* their names, for messages */
/* Part of the runs of words (or characters) that stood before in the same text; grams is
 * scratch. */
double filter_repetition(const char *p, size_t n, ft_buf *grams);
/* Whether a reply begins as refusals do; phrases: others than the usual ones, or empty. */
bool filter_refuses(const char *p, size_t n, const ft_list *phrases);
/* Whether the text shows that it was broken on its way: U+FFFD, or control characters other than
 * tab, line break and carriage return. */
bool filter_broken(const char *p, size_t n);
#endif

/* json.h -- the strict JSON reader (grammar and promises: ft/json.h) and a small writer. */
#ifndef FT_CORE_JSON_H
#define FT_CORE_JSON_H
#include "core/base/err.h"
#include "ft/json.h"

/* Parses n bytes.  `what` names the source in errors ("config.json:3:7: …").  The tree, a copy of
 * the text among it, takes at most 64 MiB: what would take more is refused before it is made. */
ft_json_doc *ft_json_parse(const char *what, const char *text, size_t n, ft_err *e);
/* As above for large files: the document takes the text over, which does not count; `text` is
 * empty afterwards, also after an error. */
ft_json_doc *ft_json_parse_buf(const char *what, ft_buf *text, ft_err *e);
/* As above; *used receives the bytes read when something other than white space may follow. */
ft_json_doc *ft_json_parse_prefix(const char *what, const char *text, size_t n, size_t *used,
                                  ft_err *e);
/* Reads one object and hands its members to on(), one after the other; the tree of a member is
 * gone when on() returns.  So a header of 100 MB takes the memory of its largest member, whose
 * tree and copy may take at most `limit` bytes.  With `inside` it is the object under that key of the outer one
 * whose members are handed over (nothing when there is none); other values are only checked.
 * Equal keys are left for on() to find.  Stops at the first code that on() returns. */
typedef int (*ft_json_member)(void *ctx, const ft_json *member, ft_err *e);
int ft_json_each(const char *what, const char *text, size_t n, const char *inside, size_t limit,
                 ft_json_member on, void *ctx, ft_err *e);
const ft_json *ft_json_root(const ft_json_doc *);
void ft_json_done(ft_json_doc *);

/* Writes a value again: numbers as they were, strings with the shortest escapes, UTF-8 kept.
 * indent < 0: one line with ", " and ": " as Python's json.dumps; else that many blanks a level. */
void ft_json_write(ft_buf *out, const ft_json *v, int indent);

/* Appends the shortest decimal that reads back as v; "null" when v is not finite. */
void ft_json_real(ft_buf *out, double v);
#endif

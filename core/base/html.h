/* html.h -- text of any origin inside of HTML. */
#ifndef FT_CORE_HTML_H
#define FT_CORE_HTML_H
#include "ft/buf.h"

/* Appends n bytes so that they are text and nothing else, in elements and in quoted attributes:
 * & < > " ' are escaped; bytes that are no UTF-8 and control characters other than tab and newline
 * become U+FFFD. */
void ft_html_text(ft_buf *out, const char *p, size_t n);
/* The same for a string, cut with "…" after about `most` bytes. */
void ft_html_cut(ft_buf *out, const char *p, size_t n, size_t most);
static inline void ft_html_puts(ft_buf *out, const char *s) { ft_html_text(out, s, strlen(s)); }
#endif

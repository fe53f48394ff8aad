/* html.c -- see html.h. */
#include "core/base/html.h"
#include "core/base/utf8.h"

static const char *escape(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    }
    return NULL;
}

/* C0, DEL and C1 have no place in HTML. */
static bool is_control(uint32_t u)
{
    return (u < 32 && u != '\n' && u != '\t') || (u >= 127 && u < 160);
}

/* Marks that turn the direction of what follows could make the page say something else. */
static bool turns_direction(uint32_t u)
{
    return (u >= 0x202A && u <= 0x202E) || (u >= 0x2066 && u <= 0x2069);
}

void ft_html_text(ft_buf *out, const char *p, size_t n)
{
    for (size_t i = 0, k; i < n; i += k) {
        const char *safe = escape(p[i]);
        k = ft_utf8_length(p + i, n - i);
        uint32_t u = k ? ft_utf8_decode(p + i, k) : 0;
        if (safe) ft_buf_puts(out, safe);
        else if (!k || is_control(u) || turns_direction(u)) ft_buf_puts(out, "\xEF\xBF\xBD");
        else ft_buf_add(out, p + i, k);
        if (!k) k = 1;
    }
}

void ft_html_cut(ft_buf *out, const char *p, size_t n, size_t most)
{
    size_t keep = n < most ? n : most;
    while (keep < n && keep > 0 && ((unsigned char)p[keep] & 0xC0) == 0x80) keep--;
    ft_html_text(out, p, keep);
    if (keep < n) ft_buf_puts(out, " …");
}

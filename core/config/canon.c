/* canon.c -- see canon.h. */
#include "core/config/canon.h"
#include <inttypes.h>
#include "core/base/utf8.h"
#include "core/config/value.h"

/* Code points that a YAML reader refuses raw or takes for a line break. */
static bool must_escape(uint32_t u)
{
    return u < 0x20 || (u >= 0x7F && u < 0xA0) || u == 0x2028 || u == 0x2029 || u == 0xFEFF ||
           u == 0xFFFE || u == 0xFFFF;
}

/* Configuration texts are UTF-8 throughout: YAML and JSON are, and ${env:…} is checked. */
static void write_quoted(ft_buf *out, const char *s, bool expanded)
{
    size_t n = strlen(s);
    ft_buf_putc(out, '"');
    for (size_t i = 0, k; i < n; i += k) {
        k = ft_utf8_length(s + i, n - i);
        uint32_t u = k ? ft_utf8_decode(s + i, k) : '?';
        if (!k) k = 1;
        if (u == '"' || u == '\\') ft_buf_printf(out, "\\%c", (char)u);
        else if (u == '\n') ft_buf_puts(out, "\\n");
        else if (u == '\t') ft_buf_puts(out, "\\t");
        else if (must_escape(u)) ft_buf_printf(out, "\\u%04x", u);
        else if (u == '$' && expanded && (s[i + 1] == '$' || s[i + 1] == '{'))
            ft_buf_puts(out, "$$");
        else ft_buf_add(out, s + i, k);
    }
    ft_buf_putc(out, '"');
}

void ft_canon_text(ft_buf *out, const char *s) { write_quoted(out, s, true); }

/* A plain string stays one: "all-linear" is not ["all-linear"]. */
static void write_list(ft_buf *out, const ft_list *l)
{
    if (l->one) {
        ft_canon_text(out, l->v[0]);
        return;
    }
    ft_buf_putc(out, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i) ft_buf_puts(out, ", ");
        ft_canon_text(out, l->v[i]);
    }
    ft_buf_putc(out, ']');
}

/* [1, 2, 3] */
static void write_ints(ft_buf *out, const ft_ints *l)
{
    ft_buf_putc(out, '[');
    for (size_t i = 0; i < l->n; i++) ft_buf_printf(out, "%s%" PRId64, i ? ", " : "", l->v[i]);
    ft_buf_putc(out, ']');
}

/* {"name": 1.0}, in the order of the file. */
static void write_map(ft_buf *out, const ft_map *m)
{
    ft_buf_putc(out, '{');
    for (size_t i = 0; i < m->n; i++) {
        if (i) ft_buf_puts(out, ", ");
        write_quoted(out, m->key[i], false); /* keys are not expanded */
        ft_buf_puts(out, ": ");
        ft_real_write(out, m->value[i]);
    }
    ft_buf_putc(out, '}');
}

void ft_canon_value(ft_buf *out, const ft_param *row, const void *config)
{
    const void *at = (const char *)config + row->offset;
    switch (row->kind) {
    case FT_INT: ft_buf_printf(out, "%" PRId64, *(const int64_t *)at); return;
    case FT_REAL: ft_real_write(out, *(const double *)at); return;
    case FT_BOOL: ft_buf_puts(out, *(const bool *)at ? "true" : "false"); return;
    case FT_STR:
    case FT_PATH: ft_canon_text(out, *(const char *const *)at); return;
    case FT_LIST:
    case FT_STR_OR_LIST: write_list(out, at); return;
    case FT_INTS: write_ints(out, at); return;
    case FT_MAP: write_map(out, at); return;
    }
}

void ft_canon_params(ft_buf *out, const ft_param *params, const void *config, int indent)
{
    for (const ft_param *row = params; row && row->key; row++) {
        ft_buf_printf(out, "%*s%s: ", indent, "", row->key);
        ft_canon_value(out, row, config);
        ft_buf_putc(out, '\n');
    }
}

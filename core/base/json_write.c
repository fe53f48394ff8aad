/* json_write.c -- JSON written again from a tree, and numbers as short as they read back. */
#include <math.h>
#include "core/base/json.h"

void ft_json_real(ft_buf *out, double v)
{
    char text[40] = "null";
    for (int digits = 1; isfinite(v) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    ft_buf_puts(out, text);
}

static void newline(ft_buf *out, int indent, int level)
{
    if (indent < 0) return;
    ft_buf_putc(out, '\n');
    for (int i = 0; i < indent * level; i++) ft_buf_putc(out, ' ');
}

static void write_value(ft_buf *out, const ft_json *v, int indent, int level)
{
    bool object = v->type == FT_JSON_OBJECT;
    switch (v->type) {
    case FT_JSON_NULL: ft_buf_puts(out, "null"); return;
    case FT_JSON_BOOL: ft_buf_puts(out, v->truth ? "true" : "false"); return;
    case FT_JSON_NUMBER: ft_buf_add(out, v->text, v->len); return;
    case FT_JSON_STRING: ft_json_quote(out, v->text, v->len); return;
    case FT_JSON_ARRAY:
    case FT_JSON_OBJECT: break;
    }
    ft_buf_putc(out, object ? '{' : '[');
    for (size_t i = 0; i < v->len; i++) {
        if (i) ft_buf_puts(out, indent < 0 ? ", " : ",");
        newline(out, indent, level + 1);
        if (object) {
            ft_json_quote(out, v->item[i].key, v->item[i].key_len);
            ft_buf_puts(out, ": ");
        }
        write_value(out, &v->item[i], indent, level + 1);
    }
    if (v->len) newline(out, indent, level);
    ft_buf_putc(out, object ? '}' : ']');
}

void ft_json_write(ft_buf *out, const ft_json *v, int indent) { write_value(out, v, indent, 0); }

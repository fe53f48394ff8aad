/* rows.c -- a row put together again from its columns, as JSON (the reverse of the Dremel paper's
 * record shredding): structs become objects, LIST groups and repeated fields arrays, MAP groups of
 * texts objects.
 *
 * A value of a kind that no row of text has (decimals, 96-bit times, fixed bytes, bytes that are no
 * UTF-8, numbers that are not finite) becomes null. */
#include <math.h>
#include <string.h>
#include "ft/json.h"
#include "parquet.h"

typedef struct {
    ft_buf *out;
    file *f;
    const node *schema;
    column *c;
} writer;

static int write_field(writer *w, const node *n, uint32_t rep);

/* ---- columns --------------------------------------------------------------------------------- */

/* A row that is too long goes on being read, but is not kept. */
static void shorten(writer *w)
{
    if (w->out->n > MAX_ROW) w->out->n = MAX_ROW + 1;
}

/* Looks at the entry of column i, which must begin at this level. */
static int look(writer *w, int i, uint32_t rep)
{
    int got = column_look(&w->c[i]);
    if (got < 0) return -1;
    shorten(w);
    if (got == 0 || w->c[i].rep != rep)
        return file_fail(w->f, "its columns do not agree on where rows and lists begin");
    return 0;
}

/* Takes one entry from every column below n. */
static int take_all(writer *w, const node *n, uint32_t rep)
{
    const node *end = w->schema + n->end;
    for (; n < end; n++) {
        if (n->children) continue;
        if (look(w, n->column, rep)) return -1;
        w->c[n->column].loaded = false;
    }
    return 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Whether the bytes are UTF-8 (RFC 3629). */
static bool is_utf8(const unsigned char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        unsigned char c = p[i++], low = 0x80, high = 0xBF;
        int tail = c < 0x80 ? 0 : c >= 0xC2 && c <= 0xDF ? 1 : c >= 0xE0 && c <= 0xEF ? 2
                 : c >= 0xF0 && c <= 0xF4 ? 3 : -1;
        if (tail < 0 || (size_t)tail > n - i) return false;
        low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : low;
        high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : high;
        for (; tail; tail--, low = 0x80, high = 0xBF, i++) {
            if (p[i] < low || p[i] > high) return false;
        }
    }
    return true;
}

static void put_real(ft_buf *out, double x, int digits)
{
    if (isfinite(x)) ft_buf_printf(out, "%.*g", digits, x);
    else ft_buf_puts(out, "null");
}

static void put_number(ft_buf *out, const column *c)
{
    const char *p = c->value.p;
    bool no_sign = c->n->as == AS_UNSIGNED;
    int32_t i;
    int64_t k;
    float f;
    double d;
    switch (c->n->type) {
    case BOOLEAN: ft_buf_puts(out, *p ? "true" : "false"); return;
    case INT32:
        memcpy(&i, p, 4);
        ft_buf_printf(out, "%lld", no_sign ? (long long)(uint32_t)i : (long long)i);
        return;
    case INT64:
        memcpy(&k, p, 8);
        if (no_sign) ft_buf_printf(out, "%llu", (unsigned long long)k);
        else ft_buf_printf(out, "%lld", (long long)k);
        return;
    case FLOAT:
        memcpy(&f, p, 4);
        put_real(out, (double)f, 9);
        return;
    case DOUBLE:
        memcpy(&d, p, 8);
        put_real(out, d, 17);
        return;
    default: ft_buf_puts(out, "null"); return;
    }
}

/* The value of the entry that is looked at. */
static void put_value(ft_buf *out, const column *c)
{
    bytes v = c->value;
    writing as = c->n->as;
    if (as == AS_TEXT || (as == AS_BYTES && is_utf8((const unsigned char *)v.p, v.n)))
        ft_json_quote(out, v.p, v.n);
    else if (as == AS_NULL || as == AS_BYTES) ft_buf_puts(out, "null");
    else put_number(out, c);
}

/* ---- groups ---------------------------------------------------------------------------------- */

static void put_name(writer *w, const node *n)
{
    ft_json_quote(w->out, n->name.p, n->name.n);
    ft_buf_puts(w->out, ": ");
}

static int write_struct(writer *w, const node *n, uint32_t rep)
{
    const node *child = n + 1;
    ft_buf_putc(w->out, '{');
    for (int i = 0; i < n->children; i++, child = w->schema + child->end) {
        if (i) ft_buf_puts(w->out, ", ");
        put_name(w, child);
        if (write_field(w, child, rep)) return -1;
    }
    ft_buf_putc(w->out, '}');
    return 0;
}

static int write_list(writer *w, const node *list, const node *item, uint32_t rep);
static int write_map(writer *w, const node *item, uint32_t rep);

/* What is there: a value, list, map or struct. */
static int write_present(writer *w, const node *n, uint32_t rep)
{
    if (n->as == AS_LIST) return write_list(w, n, n + 1, rep);
    if (n->as == AS_MAP) return write_map(w, n + 1, rep);
    if (n->children) return write_struct(w, n, rep);
    if (look(w, n->column, rep)) return -1;
    put_value(w->out, &w->c[n->column]);
    w->c[n->column].loaded = false;
    return 0;
}

/* Whether another item of the repeated node follows: 1, 0 or -1. */
static int more_items(writer *w, const node *item)
{
    int got = column_look(&w->c[item->column]);
    return got <= 0 ? got : w->c[item->column].rep == (uint32_t)item->max_rep;
}

/* Of the three levels of a LIST the middle one is no struct of its own, unless it has the names
 * that old writers gave to one (LogicalTypes.md, "Backward-compatibility rules"). */
static bool is_wrapping(const node *list, const node *item)
{
    char tuple[100];
    int n = snprintf(tuple, sizeof tuple, "%.*s_tuple",
                     (int)(list->name.n < 80 ? list->name.n : 80), list->name.p);
    bool named = (item->name.n == 5 && !memcmp(item->name.p, "array", 5)) ||
                 (item->name.n == (size_t)n && !memcmp(item->name.p, tuple, (size_t)n));
    return list != item && item->children == 1 && !named;
}

/* The items of a repeated node; list: the LIST group around it, or itself. */
static int write_list(writer *w, const node *list, const node *item, uint32_t rep)
{
    int more = 1;
    if (look(w, item->column, rep)) return -1;
    ft_buf_putc(w->out, '[');
    if (w->c[item->column].def < (uint32_t)item->max_def) {
        if (take_all(w, item, rep)) return -1;
        more = 0;
    }
    for (bool first = true; more == 1; first = false) {
        if (!first) ft_buf_puts(w->out, ", ");
        int code = is_wrapping(list, item) ? write_field(w, item + 1, rep)
                                           : write_present(w, item, rep);
        if (code) return -1;
        rep = (uint32_t)item->max_rep;
        more = more_items(w, item);
    }
    ft_buf_putc(w->out, ']');
    return more;
}

static int write_map(writer *w, const node *item, uint32_t rep)
{
    int more = 1;
    if (look(w, item->column, rep)) return -1;
    ft_buf_putc(w->out, '{');
    if (w->c[item->column].def < (uint32_t)item->max_def) {
        if (take_all(w, item, rep)) return -1;
        more = 0;
    }
    for (bool first = true; more == 1; first = false) {
        if (!first) ft_buf_puts(w->out, ", ");
        if (write_present(w, item + 1, rep)) return -1;
        ft_buf_puts(w->out, ": ");
        if (write_field(w, w->schema + item[1].end, rep)) return -1;
        rep = (uint32_t)item->max_rep;
        more = more_items(w, item);
    }
    ft_buf_putc(w->out, '}');
    return more;
}

/* A member of a struct or the item of a list: there or not. */
static int write_field(writer *w, const node *n, uint32_t rep)
{
    if (n->rep == REPEATED) return write_list(w, n, n, rep);
    if (look(w, n->column, rep)) return -1;
    if (w->c[n->column].def >= (uint32_t)n->max_def) return write_present(w, n, rep);
    ft_buf_puts(w->out, "null");
    return take_all(w, n, rep);
}

int row_write(ft_buf *out, file *f, const footer *m, column *c)
{
    const node *root = (const node *)(const void *)m->node.p;
    writer w = { out, f, root, c };
    return write_struct(&w, root, 0);
}

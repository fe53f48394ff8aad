/* diag.c -- see diag.h. */
#include "core/config/diag.h"
#include <stdlib.h>
#include <string.h>
#include "core/base/utf8.h"

enum { SHOWN_BEFORE = 80, SHOWN_AFTER = 40 }; /* of a source line, around the caret; code points */

void ft_diag(ft_diags *d, ft_mark at, const char *fmt, ...)
{
    size_t i = d->n++;
    if (i >= FT_DIAGS_MAX) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *copy = ft_arena_strdup(&d->arena, text);
    if (!copy) d->no_memory = true;
    d->entry[i] = (ft_diag_entry){ at, copy ? copy : "out of memory", i };
}

/* By file, line, column, and last by the order of reporting. */
static int compare(const void *a, const void *b)
{
    const ft_diag_entry *x = a, *y = b;
    int fx = x->at.file ? x->at.file->order : -1, fy = y->at.file ? y->at.file->order : -1;
    if (fx != fy) return fx < fy ? -1 : 1;
    if (x->at.line != y->at.line) return x->at.line < y->at.line ? -1 : 1;
    if (x->at.col != y->at.col) return x->at.col < y->at.col ? -1 : 1;
    return x->seq < y->seq ? -1 : 1;
}

static size_t kept(const ft_diags *d) { return d->n < FT_DIAGS_MAX ? d->n : FT_DIAGS_MAX; }

static void sort(ft_diags *d) { qsort(d->entry, kept(d), sizeof *d->entry, compare); }

/* One well-formed code point, or '?' for control characters (C0, DEL, C1) and broken bytes.
 * Returns the bytes read. */
static size_t add_shown(ft_buf *out, const char *s, size_t n)
{
    size_t k = ft_utf8_length(s, n);
    uint32_t u = k ? ft_utf8_decode(s, k) : 0;
    if (u < 0x20 || (u >= 0x7F && u < 0xA0)) {
        ft_buf_putc(out, u == '\t' ? '\t' : '?');
    } else {
        ft_buf_add(out, s, k);
    }
    return k ? k : 1;
}

/* A text of the configuration, fit for a terminal. */
static void add_clean(ft_buf *out, const char *s)
{
    for (size_t i = 0, n = strlen(s); i < n;) i += add_shown(out, s + i, n - i);
}

/* Columns a terminal gives to u: two for the wide scripts (Unicode's East Asian Width W and F, by
 * block), so that a caret stands right under Korean text. */
static int width(uint32_t u)
{
    static const uint32_t wide[][2] = {
        { 0x1100, 0x115F }, { 0x2E80, 0xA4CF }, { 0xAC00, 0xD7A3 }, { 0xF900, 0xFAFF },
        { 0xFE30, 0xFE6F }, { 0xFF00, 0xFF60 }, { 0xFFE0, 0xFFE6 }, { 0x1F300, 0x1FAFF },
        { 0x20000, 0x3FFFD },
    };
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (u >= wide[i][0] && u <= wide[i][1]) return 2;
    }
    return 1;
}

/* The bytes of line `line` of f; false when it has none. */
static bool find_line(const ft_config_file *f, uint32_t line, const char **s, size_t *n)
{
    const char *p = f->text, *end = f->text + f->n;
    for (uint32_t i = 1; i < line && p; i++) {
        p = memchr(p, '\n', (size_t)(end - p));
        if (p) p++;
    }
    if (!p || line == 0) return false;
    const char *stop = memchr(p, '\n', (size_t)(end - p));
    if (!stop) stop = end;
    if (stop > p && stop[-1] == '\r') stop--;
    *s = p;
    *n = (size_t)(stop - p);
    return true;
}

/* The source line and, under it, a caret.  A long line is cut to what is around the caret. */
static void add_source(ft_buf *out, ft_mark at)
{
    const char *s;
    size_t n, from = at.col > SHOWN_BEFORE ? at.col - SHOWN_BEFORE : 1, col = 1;
    ft_buf under = { 0 };
    if (!find_line(at.file, at.line, &s, &n) || n == 0) return;
    if (from > 1) {
        ft_buf_puts(out, "…");
        ft_buf_putc(&under, ' ');
    }
    for (size_t i = 0; i < n; col++) {
        if (col == at.col + SHOWN_AFTER) {
            ft_buf_puts(out, "…");
            break;
        }
        size_t k = ft_utf8_length(s + i, n - i);
        if (col >= from) add_shown(out, s + i, n - i);
        if (col >= from && col < at.col) {
            ft_buf_putc(&under, s[i] == '\t' ? '\t' : ' ');
            if (k && width(ft_utf8_decode(s + i, k)) == 2) ft_buf_putc(&under, ' ');
        }
        i += k ? k : 1;
    }
    ft_buf_printf(out, "\n%s^\n", under.p ? under.p : "");
    ft_buf_free(&under);
}

/* "sft.yaml:23:7: ", or "command line: ". */
static void add_place(ft_buf *out, ft_mark at)
{
    if (!at.file) return;
    add_clean(out, at.file->name);
    if (at.line && !at.file->is_argument) ft_buf_printf(out, ":%u:%u", at.line, at.col);
    ft_buf_puts(out, ": ");
}

void ft_diags_write(ft_buf *out, ft_diags *d)
{
    sort(d);
    for (size_t i = 0; i < kept(d); i++) {
        add_place(out, d->entry[i].at);
        add_clean(out, d->entry[i].msg);
        ft_buf_putc(out, '\n');
        if (d->entry[i].at.file && d->entry[i].at.line) add_source(out, d->entry[i].at);
    }
    if (d->n > FT_DIAGS_MAX)
        ft_buf_printf(out, "and %zu more errors\n", d->n - FT_DIAGS_MAX);
    if (d->no_memory) ft_buf_puts(out, "out of memory while reading the configuration\n");
}

void ft_diags_print(FILE *to, ft_diags *d)
{
    ft_buf out = { 0 };
    ft_diags_write(&out, d);
    if (out.p) fwrite(out.p, 1, out.n, to);
    if (out.oom) fputs("out of memory while listing errors\n", to);
    ft_buf_free(&out);
}

int ft_diags_to_err(ft_diags *d, ft_err *e)
{
    if (d->no_memory) return ft_errf(e, FT_ENOMEM, "out of memory while reading the configuration");
    if (!d->n) return 0;
    ft_buf out = { 0 };
    sort(d);
    add_place(&out, d->entry[0].at);
    add_clean(&out, d->entry[0].msg);
    int code = ft_errf(e, FT_EINVAL, "%s", out.p ? out.p : "out of memory");
    ft_buf_free(&out);
    return code;
}

void ft_diags_free(ft_diags *d)
{
    ft_arena_free(&d->arena);
    *d = (ft_diags){ 0 };
}

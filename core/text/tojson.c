/* tojson.c -- the filter tojson as transformers defines it: json.dumps(x, ensure_ascii=False,
 * indent=None, separators=None, sort_keys=False), nothing escaped for HTML.
 *
 * What is written for a value of the row is data wholly, with its brackets and quotes; around
 * values in a container that the template made, punctuation is the template's. */
#include <stdio.h>
#include <string.h>
#include "core/text/jinja.h"

typedef struct {
    ftj_run *run;
    ftj_out *out;
    bool ascii, sort;
    const ftj_str *indent; /* of one level; NULL: all on one line */
    const ftj_str *item, *key; /* separators */
    int level;
} writer;

/* Appends a C string. */
static void put_c(writer *w, const char *text, const ftj_piece *like)
{
    ftj_put(w->run, w->out, text, strlen(text), like);
}

/* Appends s, as somebody else's. */
static void put_as(writer *w, const ftj_str *s, const ftj_piece *like)
{
    s = ftj_flat(w->run, s);
    ftj_put(w->run, w->out, s->p, s->n, like);
}

/* A line break and the indentation, where there is one. */
static void newline(writer *w, const ftj_piece *like)
{
    if (!w->indent) return;
    put_c(w, "\n", like);
    for (int i = 0; i < w->level; i++) put_as(w, w->indent, like);
}

/* A character that needs an escape, or not. */
static void write_char(writer *w, uint32_t c, const ftj_piece *like)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    char text[24];
    const char *p = c && c < 0x80 ? strchr(special, (int)c) : NULL;
    if (p) {
        snprintf(text, sizeof text, "\\%c", letter[p - special]);
    } else if (c < 0x20 || (w->ascii && c > 0x7E && c < 0x10000)) {
        snprintf(text, sizeof text, "\\u%04x", c);
    } else if (w->ascii && c >= 0x10000) {
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                 0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
        ftj_put_char(w->run, w->out, c, like);
        return;
    }
    put_c(w, text, like);
}

/* Runs of plain characters go in one piece. */
static bool plain(const writer *w, char c)
{
    unsigned char u = (unsigned char)c;
    return u >= 0x20 && c != '"' && c != '\\' && !(w->ascii && u > 0x7E);
}

/* A string with its quotes. */
static void write_str(writer *w, const ftj_str *s)
{
    s = ftj_flat(w->run, s);
    ftj_piece like = s->n_piece ? s->piece[0] : *ftj_here(w->run);
    put_c(w, "\"", &like);
    size_t at = 0, end = 0;
    for (size_t i = 0; i < s->n_piece; i++) {
        for (end += s->piece[i].n; at < end;) {
            size_t from = at;
            while (at < end && plain(w, s->p[at])) at++;
            ftj_put(w->run, w->out, s->p + from, at - from, &s->piece[i]);
            if (at < end) write_char(w, ftj_next_char(s, &at), &s->piece[i]);
        }
    }
    put_c(w, "\"", &like);
}

static void write_value(writer *w, ftj_val v);

/* repr(), but JavaScript's names for what is no number. */
static void write_float(writer *w, double f, const ftj_piece *like)
{
    char text[64];
    ftj_float_text(text, f);
    put_c(w, f != f ? "NaN" : f - f != 0 ? (f < 0 ? "-Infinity" : "Infinity") : text, like);
}

/* What has no items. */
static void write_scalar(writer *w, ftj_val v, const ftj_piece *like)
{
    switch (v.type) {
    case FTJ_NONE: put_c(w, "null", like); break;
    case FTJ_BOOL: put_c(w, v.b ? "true" : "false", like); break;
    case FTJ_INT: put_c(w, ftj_printf(w->run, "%lld", (long long)v.i), like); break;
    case FTJ_BIG: put_as(w, v.s, like); break;
    case FTJ_FLOAT: write_float(w, v.f, like); break;
    default:
        ftj_fail(w->run, "Object of type %s is not JSON serializable", ftj_type_name(v));
    }
}

/* Keys are strings; numbers, true, false and null become some. */
static void write_key(writer *w, ftj_val k, const ftj_piece *like)
{
    if (k.type == FTJ_STR) {
        write_str(w, k.s);
        return;
    }
    if (!ftj_is_number(k) && k.type != FTJ_NONE) {
        ftj_fail(w->run, "keys must be str, int, float, bool or None, not %s", ftj_type_name(k));
    }
    put_c(w, "\"", like);
    write_scalar(w, k, like);
    put_c(w, "\"", like);
}

/* [a, b] */
static void write_list(writer *w, const ftj_list *l, const ftj_piece *like)
{
    put_c(w, "[", like);
    w->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i) put_as(w, w->item, like);
        newline(w, like);
        write_value(w, l->v[i]);
    }
    w->level--;
    if (l->n) newline(w, like);
    put_c(w, "]", like);
}

/* The pairs of d in the order of their keys. */
static const ftj_dict *by_key(ftj_run *run, const ftj_dict *d)
{
    ftj_list *index = ftj_new_list(run, d->n);
    ftj_val *key = ftj_array(run, d->n, sizeof *key);
    for (size_t i = 0; i < d->n; i++) {
        key[i] = d->e[i].k;
        ftj_add(run, index, ftj_int((int64_t)i));
    }
    index = ftj_sorted(run, index, key, false);
    ftj_dict *sorted = ftj_new_dict(run, d->n);
    for (size_t i = 0; i < d->n; i++) sorted->e[sorted->n++] = d->e[index->v[i].i];
    return sorted;
}

/* {k: v}, sorted if so asked. */
static void write_dict(writer *w, const ftj_dict *d, const ftj_piece *like)
{
    if (w->sort) d = by_key(w->run, d);
    put_c(w, "{", like);
    w->level++;
    for (size_t i = 0; i < d->n; i++) {
        if (i) put_as(w, w->item, like);
        newline(w, like);
        write_key(w, d->e[i].k, like);
        put_as(w, w->key, like);
        write_value(w, d->e[i].v);
    }
    w->level--;
    if (d->n) newline(w, like);
    put_c(w, "}", like);
}

static void write_value(writer *w, ftj_val v)
{
    bool data = v.type == FTJ_LIST || v.type == FTJ_TUPLE ? v.l->data
              : v.type == FTJ_DICT                        ? v.d->data
                                                          : v.data;
    ftj_piece like = { .turn = w->run->turn, .origin = v.origin,
                       .from = data ? FT_FROM_DATA : FT_FROM_TEMPLATE };
    ftj_work(w->run, 1);
    ftj_enter(w->run);
    if (v.type == FTJ_STR) write_str(w, v.s);
    else if (v.type == FTJ_LIST || v.type == FTJ_TUPLE) write_list(w, v.l, &like);
    else if (v.type == FTJ_DICT) write_dict(w, v.d, &like);
    else write_scalar(w, v, &like);
    ftj_leave(w->run);
}

/* An argument that is there and not none. */
static bool given(ftj_val v) { return v.type != FTJ_MISSING && v.type != FTJ_NONE; }

/* A number of blanks or a string. */
static void read_indent(writer *w, ftj_val v)
{
    if (!given(v)) return;
    if (v.type == FTJ_STR) {
        w->indent = v.s;
        return;
    }
    int64_t n = ftj_want_int(w->run, v, "tojson: indent");
    if (n > 1000) ftj_fail(w->run, "tojson: indent = %lld exceeds 1000", (long long)n);
    w->indent = ftj_str_text(w->run, ftj_printf(w->run, "%*s", n < 0 ? 0 : (int)n, ""),
                             n < 0 ? 0 : (size_t)n);
}

ftj_val ftj_tojson(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    ftj_out out = { 0 };
    writer w = {
        .run = run, .out = &out, .ascii = ftj_truth(run, a[0]), .sort = ftj_truth(run, a[3])
    };
    read_indent(&w, a[1]);
    w.item = w.indent ? ftj_str_text(run, ",", 1) : ftj_str_text(run, ", ", 2);
    w.key = ftj_str_text(run, ": ", 2);
    if (given(a[2])) {
        const ftj_list *pair = ftj_items(run, a[2]);
        if (pair->n != 2) ftj_fail(run, "tojson: separators must be two strings");
        w.item = ftj_want_str(run, pair->v[0], "tojson: separators");
        w.key = ftj_want_str(run, pair->v[1], "tojson: separators");
    }
    write_value(&w, self);
    return ftj_of_str(ftj_out_done(run, &out));
}

/* repr.c -- str() and repr() of any value, keeping who wrote each byte: what a row supplied is
 * data, brackets and commas around it too when the container itself came from the row. */
#include <stdio.h>
#include <string.h>
#include "core/text/jinja.h"
#include "core/text/unicode.h"

/* The history of the text of a value that is not a string. */
static ftj_piece piece_of(ftj_run *run, ftj_val v)
{
    bool data = v.data;
    if (v.type == FTJ_LIST || v.type == FTJ_TUPLE) data = v.l->data;
    if (v.type == FTJ_DICT) data = v.d->data;
    return (ftj_piece){ .turn = run->turn, .origin = v.origin,
                        .from = data ? FT_FROM_DATA : FT_FROM_TEMPLATE };
}

/* Appends a C string. */
static void put_c(ftj_run *run, ftj_out *out, const char *text, const ftj_piece *like)
{
    ftj_put(run, out, text, strlen(text), like);
}

/* Escaped where str.isprintable says so. */
static void repr_char(ftj_run *run, ftj_out *out, uint32_t c, char quote, const ftj_piece *like)
{
    char text[16];
    const char *p = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : c == '\\' ? "\\\\"
                                                                                       : NULL;
    if (p) {
        put_c(run, out, p, like);
    } else if (c == (uint32_t)quote) {
        snprintf(text, sizeof text, "\\%c", quote);
        put_c(run, out, text, like);
    } else if (ftj_char_printable(c)) {
        ftj_put_char(run, out, c, like);
    } else {
        snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        put_c(run, out, text, like);
    }
}

/* In single quotes, unless it holds those and no double ones. */
static void repr_str(ftj_run *run, ftj_out *out, const ftj_str *s)
{
    s = ftj_flat(run, s);
    ftj_piece like = s->n_piece ? s->piece[0] : *ftj_here(run);
    bool single = s->n && memchr(s->p, '\'', s->n), dbl = s->n && memchr(s->p, '"', s->n);
    char quote = single && !dbl ? '"' : '\'';
    if (s->markup) put_c(run, out, "Markup(", &like);
    ftj_put(run, out, &quote, 1, &like);
    size_t at = 0, end = 0;
    for (size_t i = 0; i < s->n_piece; i++) {
        for (end += s->piece[i].n; at < end;)
            repr_char(run, out, ftj_next_char(s, &at), quote, &s->piece[i]);
    }
    ftj_put(run, out, &quote, 1, &like);
    if (s->markup) put_c(run, out, ")", &like);
}

/* "[a, b]" or "(a,)" */
static void repr_list(ftj_run *run, ftj_out *out, ftj_val v, const ftj_piece *like)
{
    bool list = v.type == FTJ_LIST;
    put_c(run, out, list ? "[" : "(", like);
    for (size_t i = 0; i < v.l->n; i++) {
        if (i) put_c(run, out, ", ", like);
        ftj_repr(run, out, v.l->v[i]);
    }
    put_c(run, out, list ? "]" : v.l->n == 1 ? ",)" : ")", like);
}

/* "{k: v}" */
static void repr_dict(ftj_run *run, ftj_out *out, const ftj_dict *d, const ftj_piece *like)
{
    put_c(run, out, "{", like);
    for (size_t i = 0; i < d->n; i++) {
        if (i) put_c(run, out, ", ", like);
        ftj_repr(run, out, d->e[i].k);
        put_c(run, out, ": ", like);
        ftj_repr(run, out, d->e[i].v);
    }
    put_c(run, out, "}", like);
}

/* "dict_keys([…])" */
static void repr_view(ftj_run *run, ftj_out *out, ftj_val v, const ftj_piece *like)
{
    ftj_val list = ftj_of_list(ftj_new_list(run, 0));
    const ftj_list *items = ftj_items(run, v);
    for (size_t i = 0; i < items->n; i++) ftj_add(run, list.l, items->v[i]);
    put_c(run, out, ftj_type_name(v), like);
    put_c(run, out, "(", like);
    ftj_repr(run, out, list);
    put_c(run, out, ")", like);
}

/* Numbers and words. */
static void repr_scalar(ftj_run *run, ftj_out *out, ftj_val v, const ftj_piece *like)
{
    char text[64] = "";
    switch (v.type) {
    case FTJ_UNDEF: case FTJ_MISSING: put_c(run, out, "Undefined", like); return;
    case FTJ_NONE: put_c(run, out, "None", like); return;
    case FTJ_BOOL: put_c(run, out, v.b ? "True" : "False", like); return;
    case FTJ_INT: snprintf(text, sizeof text, "%lld", (long long)v.i); break;
    case FTJ_FLOAT: ftj_float_text(text, v.f); break;
    case FTJ_BIG: ftj_put(run, out, v.s->p, v.s->n, like); return;
    default: break;
    }
    put_c(run, out, text, like);
}

/* The rest; what Python writes with an address is refused. */
static void repr_object(ftj_run *run, ftj_out *out, ftj_val v, const ftj_piece *like)
{
    const ftj_range *r = v.range;
    switch (v.type) {
    case FTJ_RANGE:
        put_c(run, out,
              ftj_printf(run, "range(%lld, %lld", (long long)r->start, (long long)r->stop), like);
        if (r->step != 1) put_c(run, out, ftj_printf(run, ", %lld", (long long)r->step), like);
        put_c(run, out, ")", like);
        return;
    case FTJ_SPACE:
        put_c(run, out, "<Namespace ", like);
        repr_dict(run, out, v.d, like);
        put_c(run, out, ">", like);
        return;
    case FTJ_LOOP:
        put_c(run, out, ftj_printf(run, "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1,
                                   (long long)ftj_length(run, v)), like);
        return;
    case FTJ_MACRO:
        put_c(run, out, ftj_printf(run, "<Macro '%s'>", v.macro->def->name), like);
        return;
    case FTJ_ITER:
        ftj_fail_code(run, FT_EUNSUP, "prints a %s object; add |list", v.iter->type);
    default:
        ftj_fail_code(run, FT_EUNSUP, "prints a %s; are parentheses missing after its name?",
                      ftj_type_name(v));
    }
}

void ftj_repr(ftj_run *run, ftj_out *out, ftj_val v)
{
    ftj_piece like = piece_of(run, v);
    ftj_work(run, 1);
    ftj_enter(run);
    switch (v.type) {
    case FTJ_STR: repr_str(run, out, v.s); break;
    case FTJ_LIST: case FTJ_TUPLE: repr_list(run, out, v, &like); break;
    case FTJ_DICT: repr_dict(run, out, v.d, &like); break;
    case FTJ_VIEW: repr_view(run, out, v, &like); break;
    case FTJ_RANGE: case FTJ_SPACE: case FTJ_LOOP: case FTJ_MACRO: case FTJ_ITER: case FTJ_METHOD:
    case FTJ_GLOBAL: repr_object(run, out, v, &like); break;
    default: repr_scalar(run, out, v, &like);
    }
    ftj_leave(run);
}

const ftj_str *ftj_to_str(ftj_run *run, ftj_val v)
{
    if (v.type == FTJ_STR) return ftj_markup(run, v.s, false);
    if (v.type == FTJ_UNDEF) return ftj_str_text(run, "", 0);
    ftj_out out = { 0 };
    ftj_repr(run, &out, v);
    return ftj_out_done(run, &out);
}

const char *ftj_show(ftj_run *run, ftj_val v)
{
    ftj_out out = { 0 };
    if (v.type >= FTJ_ITER) return ftj_type_name(v);
    ftj_repr(run, &out, v);
    return ftj_printf(run, "%.*s", (int)(out.n > 200 ? 200 : out.n), out.n ? out.p : "");
}

/* operate.c -- the operators + - * / // % ** between any two values, and HTML escaping, which `+`
 * needs for strings marked safe. */
#include <string.h>
#include "core/text/jinja.h"

static _Noreturn void unsupported(ftj_run *run, ftj_op op, ftj_val a, ftj_val b)
{
    static const char *const sign[] = { "+", "-", "*", "/", "//", "%", "** or pow()" };
    ftj_fail(run, "unsupported operand type(s) for %s: '%s' and '%s'", sign[op], ftj_type_name(a),
             ftj_type_name(b));
}

/* Two lists or two tuples. */
static ftj_val join_lists(ftj_run *run, ftj_val a, ftj_val b)
{
    ftj_list *l = ftj_new_list(run, a.l->n + b.l->n);
    for (size_t i = 0; i < a.l->n; i++) ftj_add(run, l, a.l->v[i]);
    for (size_t i = 0; i < b.l->n; i++) ftj_add(run, l, b.l->v[i]);
    ftj_work(run, l->n / 16);
    return a.type == FTJ_LIST ? ftj_of_list(l) : ftj_of_tuple(l);
}

/* + for what is no number. */
static ftj_val add(ftj_run *run, ftj_val a, ftj_val b)
{
    if (a.type == FTJ_STR && b.type == FTJ_STR) return ftj_of_str(ftj_concat(run, a.s, b.s));
    if (a.type == b.type && (a.type == FTJ_LIST || a.type == FTJ_TUPLE))
        return join_lists(run, a, b);
    if (a.type == FTJ_STR || a.type == FTJ_LIST || a.type == FTJ_TUPLE) {
        ftj_fail(run, "can only concatenate %s (not \"%s\") to %s", ftj_type_name(a),
                 ftj_type_name(b), ftj_type_name(a));
    }
    unsupported(run, FTJ_ADD, a, b);
}

/* A sequence n times, unless that grows beyond all bounds. */
static ftj_val repeat(ftj_run *run, ftj_val v, ftj_val times)
{
    if (!ftj_is_int(times)) {
        ftj_fail(run, "can't multiply sequence by non-int of type '%s'", ftj_type_name(times));
    }
    int64_t n = ftj_int_of(times);
    size_t size = v.type == FTJ_STR ? v.s->n : v.l->n;
    if (n < 0 || size == 0) n = 0;
    if ((uint64_t)n > FTJ_MAX_OUTPUT / (size ? size : 1))
        ftj_fail(run, "repeats something to more than %d MiB", FTJ_MAX_OUTPUT >> 20);
    if (v.type == FTJ_STR) {
        ftj_out out = { 0 };
        for (; n > 0; n--) ftj_put_str(run, &out, v.s);
        return ftj_of_str(ftj_markup(run, ftj_out_done(run, &out), v.s->markup));
    }
    ftj_list *l = ftj_new_list(run, size * (size_t)n);
    for (; n > 0; n--) {
        for (size_t i = 0; i < size; i++) ftj_add(run, l, v.l->v[i]);
    }
    ftj_work(run, l->n / 16);
    return v.type == FTJ_LIST ? ftj_of_list(l) : ftj_of_tuple(l);
}

/* What `*` repeats. */
static bool is_sequence(ftj_val v)
{
    return v.type == FTJ_STR || v.type == FTJ_LIST || v.type == FTJ_TUPLE;
}

ftj_val ftj_binary(ftj_run *run, ftj_op op, ftj_val a, ftj_val b)
{
    if (ftj_is_number(a) && ftj_is_number(b)) return ftj_arith(run, op, a, b);
    if (op == FTJ_MOD && a.type == FTJ_STR) return ftj_percent(run, a.s, b);
    if (a.type == FTJ_UNDEF) ftj_fail_undefined(run, a);
    if (b.type == FTJ_UNDEF) ftj_fail_undefined(run, b);
    if (op == FTJ_ADD) return add(run, a, b);
    if (op == FTJ_MUL && is_sequence(a)) return repeat(run, a, b);
    if (op == FTJ_MUL && is_sequence(b)) return repeat(run, b, a);
    unsupported(run, op, a, b);
}

ftj_val ftj_negate(ftj_run *run, ftj_val v)
{
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (v.type == FTJ_FLOAT) return ftj_float(-v.f);
    if (v.type == FTJ_BIG) {
        const char *digits = v.s->p[0] == '-' ? ftj_printf(run, "%.*s", (int)v.s->n - 1, v.s->p + 1)
                                              : ftj_printf(run, "-%.*s", (int)v.s->n, v.s->p);
        ftj_val minus = ftj_of_str(ftj_str_new(run, digits, strlen(digits), v.s->piece));
        ftj_val small;
        if (ftj_parse_int(run, minus.s, 10, &small) && small.type == FTJ_INT) return small;
        minus.type = FTJ_BIG;
        return minus;
    }
    if (ftj_is_int(v)) return ftj_arith(run, FTJ_SUB, ftj_int(0), v);
    ftj_fail(run, "bad operand type for unary -: '%s'", ftj_type_name(v));
}

const ftj_str *ftj_escape(ftj_run *run, const ftj_str *s)
{
    static const char special[] = "&<>'\"";
    static const char *const entity[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    if (s->markup) return s;
    ftj_out out = { 0 };
    s = ftj_flat(run, s);
    size_t at = 0;
    for (size_t i = 0; i < s->n_piece; i++) {
        for (size_t end = at + s->piece[i].n; at < end; at++) {
            const char *p = s->p[at] ? strchr(special, s->p[at]) : NULL;
            if (p)
                ftj_put(run, &out, entity[p - special], strlen(entity[p - special]), &s->piece[i]);
            else ftj_put(run, &out, s->p + at, 1, &s->piece[i]);
        }
    }
    return ftj_markup(run, ftj_out_done(run, &out), true);
}

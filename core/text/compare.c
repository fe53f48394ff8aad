/* compare.c -- ==, <, in and their kin, between any two values, as Python compares them. */
#include <stdlib.h>
#include <string.h>
#include "core/text/jinja.h"

/* -1, 0, 1 for two numbers; 2 when one is not a number (nan). */
static int compare_numbers(ftj_val a, ftj_val b)
{
    if (a.type == FTJ_BIG || b.type == FTJ_BIG) {
        if (a.type == FTJ_BIG && b.type == FTJ_BIG) {
            bool minus = a.s->p[0] == '-';
            if (minus != (b.s->p[0] == '-')) return minus ? -1 : 1;
            int c = a.s->n != b.s->n ? (a.s->n < b.s->n ? -1 : 1) : memcmp(a.s->p, b.s->p, a.s->n);
            c = c < 0 ? -1 : c > 0;
            return minus ? -c : c;
        }
        if (b.type == FTJ_BIG) {
            int c = compare_numbers(b, a);
            return c == 2 ? 2 : -c;
        }
        char text[400] = "";
        memcpy(text, a.s->p, a.s->n < 399 ? a.s->n : 399);
        double x = strtod(text, NULL), y = ftj_real_of(b);
        return y != y ? 2 : x < y ? -1 : x > y;
    }
    if (a.type == FTJ_FLOAT || b.type == FTJ_FLOAT) {
        /* long double holds every 64-bit integer and every double. */
        long double x = a.type == FTJ_FLOAT ? (long double)a.f : (long double)ftj_int_of(a);
        long double y = b.type == FTJ_FLOAT ? (long double)b.f : (long double)ftj_int_of(b);
        return x != x || y != y ? 2 : x < y ? -1 : x > y;
    }
    int64_t x = ftj_int_of(a), y = ftj_int_of(b);
    return x < y ? -1 : x > y;
}

/* As long, and item by item equal. */
static bool equal_lists(ftj_run *run, const ftj_list *a, const ftj_list *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!ftj_equal(run, a->v[i], b->v[i])) return false;
    }
    return true;
}

/* The same keys with equal values, in any order. */
static bool equal_dicts(ftj_run *run, const ftj_dict *a, const ftj_dict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        ftj_val other = ftj_dict_get(run, b, a->e[i].k);
        if (other.type == FTJ_MISSING || !ftj_equal(run, a->e[i].v, other)) return false;
    }
    return true;
}

/* Ranges are equal when they count out the same numbers. */
static bool equal_ranges(const ftj_range *a, const ftj_range *b)
{
    return a->n == b->n && (a->n == 0 || a->start == b->start) && (a->n < 2 || a->step == b->step);
}

/* Two values of one type that are no numbers. */
static bool equal_same_type(ftj_run *run, ftj_val a, ftj_val b)
{
    switch (a.type) {
    case FTJ_UNDEF: case FTJ_NONE: case FTJ_MISSING: return true;
    case FTJ_STR: return ftj_str_equal(run, a.s, b.s);
    case FTJ_LIST: case FTJ_TUPLE: return equal_lists(run, a.l, b.l);
    case FTJ_DICT: return equal_dicts(run, a.d, b.d);
    case FTJ_RANGE: return equal_ranges(a.range, b.range);
    default: return a.d == b.d; /* by identity: all are pointers */
    }
}

bool ftj_equal(ftj_run *run, ftj_val a, ftj_val b)
{
    ftj_work(run, 1);
    if (ftj_is_number(a) && ftj_is_number(b)) return compare_numbers(a, b) == 0;
    if (a.type != b.type) return false;
    ftj_enter(run);
    bool same = equal_same_type(run, a, b);
    ftj_leave(run);
    return same;
}

/* Whether the comparison is true of a and b when a compares to b as c says. */
static bool holds(ftj_op op, int c)
{
    if (c == 2) return false;
    return op == FTJ_LT ? c < 0 : op == FTJ_LE ? c <= 0 : op == FTJ_GT ? c > 0 : c >= 0;
}

/* The first pair that differs decides, else the length. */
static bool order_lists(ftj_run *run, ftj_op op, const ftj_list *a, const ftj_list *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    for (size_t i = 0; i < n; i++) {
        if (!ftj_equal(run, a->v[i], b->v[i])) return ftj_order(run, op, a->v[i], b->v[i]);
    }
    return holds(op, a->n < b->n ? -1 : a->n > b->n);
}

bool ftj_order(ftj_run *run, ftj_op op, ftj_val a, ftj_val b)
{
    static const char *const sign[] = { [FTJ_LT] = "<", [FTJ_LE] = "<=", [FTJ_GT] = ">",
                                        [FTJ_GE] = ">=" };
    ftj_work(run, 1);
    if (a.type == FTJ_UNDEF) ftj_fail_undefined(run, a);
    if (b.type == FTJ_UNDEF) ftj_fail_undefined(run, b);
    if (ftj_is_number(a) && ftj_is_number(b)) return holds(op, compare_numbers(a, b));
    if (a.type == FTJ_STR && b.type == FTJ_STR) return holds(op, ftj_str_order(run, a.s, b.s));
    if (a.type == b.type && (a.type == FTJ_LIST || a.type == FTJ_TUPLE)) {
        ftj_enter(run);
        bool yes = order_lists(run, op, a.l, b.l);
        ftj_leave(run);
        return yes;
    }
    ftj_fail(run, "'%s' not supported between instances of '%s' and '%s'", sign[op],
             ftj_type_name(a), ftj_type_name(b));
}

bool ftj_contains(ftj_run *run, ftj_val item, ftj_val box)
{
    if (box.type == FTJ_STR) {
        if (item.type != FTJ_STR) {
            ftj_fail(run, "'in <string>' requires string as left operand, not %s",
                     ftj_type_name(item));
        }
        return ftj_str_find(run, box.s, item.s, 0, box.s->n) != SIZE_MAX;
    }
    if (box.type == FTJ_DICT) return ftj_dict_get(run, box.d, item).type != FTJ_MISSING;
    if (!ftj_is_iterable(box))
        ftj_fail(run, "argument of type '%s' is not iterable", ftj_type_name(box));
    ftj_cursor c = ftj_iterate(run, box);
    ftj_val v;
    while (ftj_next(run, &c, &v)) {
        if (ftj_equal(run, v, item)) return true;
    }
    return false;
}

bool ftj_compare(ftj_run *run, ftj_op op, ftj_val a, ftj_val b)
{
    switch (op) {
    case FTJ_EQ: return ftj_equal(run, a, b);
    case FTJ_NE: return !ftj_equal(run, a, b);
    case FTJ_IN: return ftj_contains(run, a, b);
    case FTJ_NOT_IN: return !ftj_contains(run, a, b);
    default: return ftj_order(run, op, a, b);
    }
}

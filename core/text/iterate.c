/* iterate.c -- going through whatever can be gone through: lists, dicts, strings by character,
 * ranges, views, and generators, which are used up by it. */
#include <string.h>
#include "core/text/jinja.h"

bool ftj_is_iterable(ftj_val v)
{
    switch (v.type) {
    case FTJ_UNDEF: case FTJ_STR: case FTJ_LIST: case FTJ_TUPLE: case FTJ_DICT: case FTJ_RANGE:
    case FTJ_VIEW: case FTJ_ITER: return true;
    default: return false;
    }
}

ftj_cursor ftj_iterate(ftj_run *run, ftj_val v)
{
    if (!ftj_is_iterable(v)) ftj_fail(run, "'%s' object is not iterable", ftj_type_name(v));
    if (v.type == FTJ_STR) ftj_flat(run, v.s);
    return (ftj_cursor){ .over = v };
}

/* Item i of d.keys(), d.values() or d.items(). */
static ftj_val view_item(ftj_run *run, const ftj_view *view, size_t i)
{
    const ftj_pair *e = &view->d->e[i];
    if (view->kind == FTJ_KEYS) return e->k;
    if (view->kind == FTJ_VALUES) return e->v;
    ftj_val pair = ftj_pair_of(run, e->k, e->v);
    pair.origin = e->v.origin;
    pair.l->data = view->d->data;
    return pair;
}

/* The next character of a string, as a string. */
static bool next_char(ftj_run *run, ftj_cursor *c, ftj_val *out)
{
    const ftj_str *s = c->over.s;
    size_t from = c->at;
    if (from >= s->n) return false;
    ftj_next_char(s, &c->at);
    *out = ftj_of_str(ftj_sub(run, s, from, c->at));
    return true;
}

bool ftj_next(ftj_run *run, ftj_cursor *c, ftj_val *out)
{
    size_t i = c->at;
    ftj_work(run, 1);
    switch (c->over.type) {
    case FTJ_STR: return next_char(run, c, out);
    case FTJ_LIST: case FTJ_TUPLE:
        if (i >= c->over.l->n) return false;
        *out = c->over.l->v[i];
        break;
    case FTJ_DICT:
        if (i >= c->over.d->n) return false;
        *out = c->over.d->e[i].k;
        break;
    case FTJ_RANGE:
        if (i >= (uint64_t)c->over.range->n) return false;
        *out = ftj_int(c->over.range->start + (int64_t)i * c->over.range->step);
        break;
    case FTJ_VIEW:
        if (i >= c->over.view->d->n) return false;
        *out = view_item(run, c->over.view, i);
        break;
    case FTJ_ITER:
        if (c->over.iter->at >= c->over.iter->l->n) return false;
        *out = c->over.iter->l->v[c->over.iter->at++];
        break;
    default: return false; /* undefined: nothing */
    }
    c->at++;
    return true;
}

const ftj_list *ftj_items(ftj_run *run, ftj_val v)
{
    if (v.type == FTJ_LIST || v.type == FTJ_TUPLE) return v.l;
    ftj_list *l = ftj_new_list(run, 0);
    ftj_cursor c = ftj_iterate(run, v);
    ftj_val item;
    while (ftj_next(run, &c, &item)) ftj_add(run, l, item);
    return l;
}

int64_t ftj_length(ftj_run *run, ftj_val v)
{
    switch (v.type) {
    case FTJ_UNDEF: return 0;
    case FTJ_STR: return (int64_t)ftj_chars(run, v.s);
    case FTJ_LIST: case FTJ_TUPLE: return (int64_t)v.l->n;
    case FTJ_DICT: return (int64_t)v.d->n;
    case FTJ_RANGE: return v.range->n;
    case FTJ_VIEW: return (int64_t)v.view->d->n;
    case FTJ_LOOP: return ftj_loop_attr(run, v.loop, "length", 6).i;
    default: return -1;
    }
}

/* Merge sort of idx[0, n) by key, stable; with `reverse` equal items still keep their order. */
static void merge_sort(ftj_run *run, const ftj_val *key, uint32_t *idx, uint32_t *tmp, size_t n,
                       bool reverse)
{
    if (n < 2) return;
    size_t half = n / 2, a = 0, b = half, k = 0;
    merge_sort(run, key, idx, tmp, half, reverse);
    merge_sort(run, key, idx + half, tmp + half, n - half, reverse);
    while (a < half && b < n) {
        ftj_val x = key[idx[a]], y = key[idx[b]];
        bool later = reverse ? ftj_order(run, FTJ_LT, x, y) : ftj_order(run, FTJ_LT, y, x);
        tmp[k++] = later ? idx[b++] : idx[a++];
    }
    while (a < half) tmp[k++] = idx[a++];
    while (b < n) tmp[k++] = idx[b++];
    memcpy(idx, tmp, n * sizeof *idx);
}

ftj_list *ftj_sorted(ftj_run *run, const ftj_list *l, const ftj_val *key, bool reverse)
{
    uint32_t *idx = ftj_array(run, l->n * 2, sizeof *idx);
    for (size_t i = 0; i < l->n; i++) idx[i] = (uint32_t)i;
    merge_sort(run, key, idx, idx + l->n, l->n, reverse);
    ftj_list *out = ftj_new_list(run, l->n);
    for (size_t i = 0; i < l->n; i++) ftj_add(run, out, l->v[idx[i]]);
    return out;
}

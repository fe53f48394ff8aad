/* methods.c -- the methods of dicts, lists and tuples that the sandbox allows: those that change
 * nothing. */
#include <string.h>
#include "core/text/jinja.h"

/* keys(), values(), items(): views, which have a length and no index. */
static ftj_val view_of(ftj_run *run, ftj_val self, int kind)
{
    ftj_val v = ftj_none();
    v.type = FTJ_VIEW;
    v.origin = self.origin;
    v.view = ftj_alloc(run, sizeof *v.view);
    *v.view = (ftj_view){ self.d, kind };
    return v;
}

static ftj_val m_keys(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return view_of(run, self, FTJ_KEYS);
}

static ftj_val m_values(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return view_of(run, self, FTJ_VALUES);
}

static ftj_val m_items(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return view_of(run, self, FTJ_ITEMS);
}

/* get(key, default=none) */
static ftj_val m_get(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    ftj_val v = ftj_dict_get(run, self.d, a[0]);
    return v.type != FTJ_MISSING ? v : a[1].type != FTJ_MISSING ? a[1] : ftj_none();
}

/* copy(): of a message, still that message */
static ftj_val m_copy_dict(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    ftj_dict *d = ftj_new_dict(run, self.d->n);
    for (size_t i = 0; i < self.d->n; i++) d->e[d->n++] = self.d->e[i];
    d->data = self.d->data;
    d->msg = self.d->msg;
    ftj_work(run, d->n / 16);
    return ftj_of_dict(d);
}

const ftj_builtin ftj_dict_methods[] = {
    { "copy", m_copy_dict, "/", 0 },
    { "get", m_get, "/key default", 1 },
    { "items", m_items, "/", 0 },
    { "keys", m_keys, "/", 0 },
    { "values", m_values, "/", 0 },
    { "fromkeys", NULL, NULL, 0 },
    { 0 },
};

/* count(value) */
static ftj_val m_count(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t n = 0;
    for (size_t i = 0; i < self.l->n; i++) n += ftj_equal(run, self.l->v[i], a[0]);
    return ftj_int(n);
}

/* index(value, start=0, stop=end) */
static ftj_val m_index(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t n = (int64_t)self.l->n;
    int64_t from = a[1].type == FTJ_MISSING ? 0 : ftj_want_int(run, a[1], "index");
    int64_t to = a[2].type == FTJ_MISSING ? n : ftj_want_int(run, a[2], "index");
    if (from < 0) from = from < -n ? 0 : from + n;
    if (to < 0) to += n;
    for (int64_t i = from; i < n && i < to; i++) {
        if (ftj_equal(run, self.l->v[i], a[0])) return ftj_int(i);
    }
    ftj_fail(run, "%s is not in %s", ftj_show(run, a[0]), ftj_type_name(self));
}

static ftj_val m_copy_list(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_slice(run, self, ftj_none(), ftj_none(), ftj_none());
}

const ftj_builtin ftj_list_methods[] = {
    { "count", m_count, "/value", 1 },
    { "index", m_index, "/value start stop", 1 },
    { "copy", m_copy_list, "/", 0 },
    { 0 },
};

/* filters.c -- the filters over sequences and mappings.  Those that Python writes as generators
 * (map, select, items, batch …) hand out a generator too: to be gone through once, without a
 * length.  Their items are made at once instead of on demand. */
#include <string.h>
#include "core/text/jinja.h"
#include "core/text/textops.h"

/* An argument that is there and not none. */
static bool given(ftj_val v) { return v.type != FTJ_MISSING && v.type != FTJ_NONE; }

/* What Python writes with yield. */
static ftj_val generator(ftj_run *run, ftj_list *l) { return ftj_of_iter(run, l, "generator"); }

/* Strings in lower case, anything else as it is. */
static ftj_val ignore_case(ftj_run *run, ftj_val v)
{
    return v.type == FTJ_STR ? ftj_of_str(ftj_str_case(run, v.s, FTJ_CASE_LOWER)) : v;
}

/* The key of each item: its attribute (given or not), in lower case unless case counts. */
static ftj_val *keys_of(ftj_run *run, const ftj_list *l, ftj_val attribute, ftj_val otherwise,
                        bool case_sensitive)
{
    ftj_val *key = ftj_array(run, l->n, sizeof *key);
    for (size_t i = 0; i < l->n; i++) {
        key[i] = ftj_get_path(run, l->v[i], attribute, otherwise);
        if (!case_sensitive) key[i] = ignore_case(run, key[i]);
    }
    return key;
}

/* default(default_value="", boolean=false) */
static ftj_val f_default(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    bool take = self.type == FTJ_UNDEF || (ftj_truth(run, a[1]) && !ftj_truth(run, self));
    return !take ? self : a[0].type == FTJ_MISSING ? ftj_text(run, "") : a[0];
}

/* length, count */
static ftj_val f_length(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    int64_t n = ftj_length(run, self);
    if (n < 0) ftj_fail(run, "object of type '%s' has no len()", ftj_type_name(self));
    return ftj_int(n);
}

/* first: of a generator, it takes the item out */
static ftj_val f_first(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    ftj_val v;
    ftj_cursor c = ftj_iterate(run, self);
    return ftj_next(run, &c, &v) ? v
                                 : ftj_undefined_hint(run, "No first item, sequence was empty.");
}

/* last: not of generators */
static ftj_val f_last(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    if (self.type == FTJ_ITER || !ftj_is_iterable(self))
        ftj_fail(run, "'%s' object is not reversible", ftj_type_name(self));
    const ftj_list *l = ftj_items(run, self);
    return l->n ? l->v[l->n - 1] : ftj_undefined_hint(run, "No last item, sequence was empty.");
}

/* list: a new one */
static ftj_val f_list(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    const ftj_list *from = ftj_items(run, self);
    ftj_list *l = ftj_new_list(run, from->n);
    for (size_t i = 0; i < from->n; i++) ftj_add(run, l, from->v[i]);
    l->data = (self.type == FTJ_LIST || self.type == FTJ_TUPLE) && self.l->data;
    ftj_work(run, l->n / 16);
    return ftj_of_list(l);
}

/* items: pairs of a mapping; none of undefined */
static ftj_val f_items(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    ftj_list *l = ftj_new_list(run, 4);
    if (self.type == FTJ_UNDEF) return generator(run, l);
    if (self.type != FTJ_DICT) ftj_fail(run, "Can only get item pairs from a mapping.");
    for (size_t i = 0; i < self.d->n; i++) {
        ftj_val pair = ftj_pair_of(run, self.d->e[i].k, self.d->e[i].v);
        pair.l->data = self.d->data;
        ftj_add(run, l, pair);
    }
    return generator(run, l);
}

/* join(d="", attribute=none) */
static ftj_val f_join(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    const ftj_str **v = ftj_array(run, l->n, sizeof *v);
    for (size_t i = 0; i < l->n; i++)
        v[i] = ftj_to_str(run, ftj_get_path(run, l->v[i], a[1], ftj_none()));
    const ftj_str *sep = a[0].type == FTJ_MISSING ? ftj_str_text(run, "", 0)
                                                  : ftj_to_str(run, a[0]);
    return ftj_of_str(ftj_str_join(run, sep, v, l->n));
}

/* reverse: a string backwards, or an iterator */
static ftj_val f_reverse(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    if (self.type == FTJ_STR)
        return ftj_slice(run, self, ftj_none(), ftj_none(), ftj_int(-1));
    if (!ftj_is_iterable(self)) ftj_fail(run, "argument must be iterable");
    const ftj_list *from = ftj_items(run, self);
    ftj_list *l = ftj_new_list(run, from->n);
    for (size_t i = from->n; i-- > 0;) ftj_add(run, l, from->v[i]);
    ftj_work(run, l->n / 16);
    if (self.type == FTJ_ITER) return ftj_of_list(l);
    return ftj_of_iter(run, l, self.type == FTJ_LIST ? "list_reverseiterator" : "reversed");
}

/* attr(name): as x.name, but never an item */
static ftj_val f_attr(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *s = ftj_want_str(run, a[0], "attr");
    if (self.type == FTJ_DICT) { /* attributes alone, not the keys */
        ftj_val copy = ftj_of_dict(ftj_new_dict(run, 0));
        ftj_val found = ftj_get_attr(run, copy, s->p, s->n);
        if (found.type == FTJ_METHOD) found.method->self = self;
        return found;
    }
    return ftj_get_attr(run, self, s->p, s->n);
}

/* ---- order ---------------------------------------------------------------------------------- */

/* dictsort(case_sensitive=false, by="key", reverse=false) */
static ftj_val f_dictsort(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    bool by_value = ftj_str_is(run, a[1], "value");
    if (a[1].type != FTJ_MISSING && !by_value && !ftj_str_is(run, a[1], "key"))
        ftj_fail(run, "You can only sort by either \"key\" or \"value\"");
    if (self.type == FTJ_UNDEF) ftj_fail_undefined(run, self);
    if (self.type != FTJ_DICT)
        ftj_fail(run, "'%s' object has no attribute 'items'", ftj_type_name(self));
    ftj_list *l = ftj_new_list(run, self.d->n);
    for (size_t i = 0; i < self.d->n; i++)
        ftj_add(run, l, ftj_pair_of(run, self.d->e[i].k, self.d->e[i].v));
    ftj_val *key = keys_of(run, l, ftj_int(by_value), ftj_none(), ftj_truth(run, a[0]));
    return ftj_of_list(ftj_sorted(run, l, key, ftj_truth(run, a[2])));
}

/* The keys of sort: lists of one attribute or of several, "a,b". */
static ftj_val *sort_keys(ftj_run *run, const ftj_list *l, ftj_val attribute, bool case_sensitive)
{
    ftj_val *key = ftj_array(run, l->n, sizeof *key);
    ftj_list *paths = ftj_new_list(run, 1);
    if (attribute.type == FTJ_STR)
        paths = ftj_str_split(run, attribute.s, ftj_str_text(run, ",", 1), -1, false);
    else ftj_add(run, paths, attribute);
    for (size_t i = 0; i < l->n; i++) {
        ftj_list *parts = ftj_new_list(run, paths->n);
        for (size_t k = 0; k < paths->n; k++) {
            ftj_val v = ftj_get_path(run, l->v[i], paths->v[k], ftj_none());
            ftj_add(run, parts, case_sensitive ? v : ignore_case(run, v));
        }
        key[i] = ftj_of_list(parts);
    }
    return key;
}

/* sort(reverse=false, case_sensitive=false, attribute=none) */
static ftj_val f_sort(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    ftj_val *key = sort_keys(run, l, a[2], ftj_truth(run, a[1]));
    return ftj_of_list(ftj_sorted(run, l, key, ftj_truth(run, a[0])));
}

/* The first item whose key none of the others betters. */
static ftj_val extreme(ftj_run *run, ftj_val self, const ftj_val *a, ftj_op better)
{
    const ftj_list *l = ftj_items(run, self);
    if (!l->n) return ftj_undefined_hint(run, "No aggregated item, sequence was empty.");
    ftj_val *key = keys_of(run, l, a[1], ftj_none(), ftj_truth(run, a[0]));
    size_t best = 0;
    for (size_t i = 1; i < l->n; i++) {
        if (ftj_order(run, better, key[i], key[best])) best = i;
    }
    return l->v[best];
}

/* min(case_sensitive=false, attribute=none) */
static ftj_val f_min(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return extreme(run, self, a, FTJ_LT);
}

/* max(case_sensitive=false, attribute=none) */
static ftj_val f_max(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return extreme(run, self, a, FTJ_GT);
}

/* unique(case_sensitive=false, attribute=none): first ones, in order */
static ftj_val f_unique(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    ftj_val *key = keys_of(run, l, a[1], ftj_none(), ftj_truth(run, a[0]));
    ftj_dict *seen = ftj_new_dict(run, 8);
    ftj_list *out = ftj_new_list(run, 8);
    for (size_t i = 0; i < l->n; i++) {
        if (ftj_dict_get(run, seen, key[i]).type != FTJ_MISSING) continue;
        ftj_dict_set(run, seen, key[i], ftj_none());
        ftj_add(run, out, l->v[i]);
    }
    return generator(run, out);
}

/* groupby(attribute, default=none, case_sensitive=false): sorted, (key, items) */
static ftj_val f_groupby(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    bool case_sensitive = ftj_truth(run, a[2]);
    const ftj_list *l = ftj_items(run, self);
    l = ftj_sorted(run, l, keys_of(run, l, a[0], a[1], case_sensitive), false);
    ftj_val *key = keys_of(run, l, a[0], a[1], case_sensitive);
    ftj_list *out = ftj_new_list(run, 4), *group = NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (!i || !ftj_equal(run, key[i], key[i - 1])) {
            group = ftj_new_list(run, 4);
            ftj_val pair = ftj_pair_of(run, ftj_get_path(run, l->v[i], a[0], a[1]),
                                       ftj_of_list(group));
            pair.l->group = true;
            ftj_add(run, out, pair);
        }
        ftj_add(run, group, l->v[i]);
    }
    return ftj_of_list(out);
}

/* ---- portions ------------------------------------------------------------------------------- */

/* batch(linecount, fill_with=none): lists of so many */
static ftj_val f_batch(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    int64_t size = ftj_want_int(run, a[0], "batch");
    ftj_list *out = ftj_new_list(run, 4), *part = NULL;
    for (size_t i = 0; i < l->n; i++) {
        if (!part || (int64_t)part->n == size) {
            part = ftj_new_list(run, 4);
            ftj_add(run, out, ftj_of_list(part));
        }
        ftj_add(run, part, l->v[i]);
    }
    for (; part && given(a[1]) && (int64_t)part->n < size; ftj_work(run, 1))
        ftj_add(run, part, a[1]);
    return generator(run, out);
}

/* slice(slices, fill_with=none): so many lists */
static ftj_val f_slice(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    int64_t slices = ftj_want_int(run, a[0], "slice"), n = (int64_t)l->n;
    if (slices == 0) ftj_fail(run, "integer division or modulo by zero");
    ftj_list *out = ftj_new_list(run, 4);
    for (int64_t i = 0, at = 0; i < slices; i++) {
        int64_t size = n / slices + (i < n % slices);
        ftj_list *part = ftj_new_list(run, (size_t)size);
        for (int64_t k = 0; k < size; k++) ftj_add(run, part, l->v[at++]);
        if (given(a[1]) && i >= n % slices) ftj_add(run, part, a[1]);
        ftj_add(run, out, ftj_of_list(part));
        ftj_work(run, 1);
    }
    return generator(run, out);
}

/* sum(attribute=none, start=0) */
static ftj_val f_sum(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_list *l = ftj_items(run, self);
    ftj_val total = a[1].type == FTJ_MISSING ? ftj_int(0) : a[1];
    if (total.type == FTJ_STR) ftj_fail(run, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; i < l->n; i++) {
        ftj_work(run, 1);
        total = ftj_binary(run, FTJ_ADD, total, ftj_get_path(run, l->v[i], a[0], ftj_none()));
    }
    return total;
}

/* ---- map, select ---------------------------------------------------------------------------- */

/* Looks up the filter or test that a template names as a string. */
static const ftj_builtin *named(ftj_run *run, ftj_val name, bool filter)
{
    const ftj_str *s = name.type == FTJ_STR ? ftj_flat(run, name.s) : NULL;
    const ftj_builtin *def = !s ? NULL : filter ? ftj_find_filter(s->p, s->n)
                                                : ftj_find(ftj_tests, s->p, s->n);
    if (!def) ftj_fail(run, "No %s named %s.", filter ? "filter" : "test", ftj_show(run, name));
    return def;
}

/* The keyword argument of the name, or MISSING. */
static ftj_val keyword(const ftj_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_kw; i++) {
        if (!strcmp(args->kw[i].name, name)) return args->kw[i].v;
    }
    return (ftj_val){ .type = FTJ_MISSING };
}

/* map(filter, arguments …) or map(attribute=a, default=d) */
static ftj_val f_map(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    ftj_list *out = ftj_new_list(run, 4);
    if (!ftj_truth(run, self)) return generator(run, out);
    ftj_val attribute = keyword(args, "attribute"), otherwise = keyword(args, "default"), v;
    bool by_attribute = !args->n && attribute.type != FTJ_MISSING;
    if (!args->n && !by_attribute) ftj_fail(run, "map requires a filter argument");
    if (by_attribute && args->n_kw != 1u + (otherwise.type != FTJ_MISSING))
        ftj_fail(run, "map: unexpected keyword argument beside attribute and default");
    const ftj_builtin *def = by_attribute ? NULL : named(run, args->v[0], true);
    ftj_args rest = { by_attribute ? NULL : args->v + 1, by_attribute ? 0 : args->n - 1, args->kw,
                      args->n_kw };
    ftj_cursor c = ftj_iterate(run, self);
    while (ftj_next(run, &c, &v)) {
        ftj_add(run, out, by_attribute ? ftj_get_path(run, v, attribute, otherwise)
                                       : ftj_apply(run, def, v, &rest));
    }
    return generator(run, out);
}

/* select, reject, selectattr, rejectattr: the items whose (attribute's) test comes out `wanted`. */
static ftj_val choose(ftj_run *run, ftj_val self, const ftj_args *args, bool attribute, bool wanted)
{
    ftj_list *out = ftj_new_list(run, 4);
    if (!ftj_truth(run, self)) return generator(run, out);
    size_t off = attribute;
    if (args->n < off) ftj_fail(run, "Missing parameter for attribute name");
    const ftj_builtin *def = args->n > off ? named(run, args->v[off], false) : NULL;
    ftj_args rest = { def ? args->v + off + 1 : NULL, def ? args->n - off - 1 : 0, args->kw,
                      args->n_kw };
    ftj_cursor c = ftj_iterate(run, self);
    ftj_val v;
    while (ftj_next(run, &c, &v)) {
        ftj_val of = attribute ? ftj_get_path(run, v, args->v[0], ftj_none()) : v;
        bool yes = ftj_truth(run, def ? ftj_apply(run, def, of, &rest) : of);
        if (yes == wanted) ftj_add(run, out, v);
    }
    return generator(run, out);
}

/* select(test, arguments …) */
static ftj_val f_select(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    return choose(run, self, args, false, true);
}

/* reject(test, arguments …) */
static ftj_val f_reject(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    return choose(run, self, args, false, false);
}

/* selectattr(attribute, test, arguments …) */
static ftj_val f_selectattr(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    return choose(run, self, args, true, true);
}

/* rejectattr(attribute, test, arguments …) */
static ftj_val f_rejectattr(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    return choose(run, self, args, true, false);
}

const ftj_builtin ftj_filters[] = {
    { "attr", f_attr, "name", 1 },
    { "batch", f_batch, "linecount fill_with", 1 },
    { "count", f_length, "", 0 },
    { "d", f_default, "default_value boolean", 0 },
    { "default", f_default, "default_value boolean", 0 },
    { "dictsort", f_dictsort, "case_sensitive by reverse", 0 },
    { "first", f_first, "", 0 },
    { "groupby", f_groupby, "attribute default case_sensitive", 1 },
    { "items", f_items, "", 0 },
    { "join", f_join, "d attribute", 0 },
    { "last", f_last, "", 0 },
    { "length", f_length, "", 0 },
    { "list", f_list, "", 0 },
    { "map", f_map, NULL, 0 },
    { "max", f_max, "case_sensitive attribute", 0 },
    { "min", f_min, "case_sensitive attribute", 0 },
    { "reject", f_reject, NULL, 0 },
    { "rejectattr", f_rejectattr, NULL, 0 },
    { "reverse", f_reverse, "", 0 },
    { "select", f_select, NULL, 0 },
    { "selectattr", f_selectattr, NULL, 0 },
    { "slice", f_slice, "slices fill_with", 1 },
    { "sort", f_sort, "reverse case_sensitive attribute", 0 },
    { "sum", f_sum, "attribute start", 0 },
    { "unique", f_unique, "case_sensitive attribute", 0 },
    { "random", NULL, NULL, 0 }, /* Jinja has it; the same row would render differently */
    { 0 },
};

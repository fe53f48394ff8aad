/* value.c -- making values, asking what they are, lists and dicts.
 *
 * Dicts keep the order of insertion and are searched one by one: those of templates are small,
 * and a search through a large one is charged to the rendering's steps. */
#include <string.h>
#include "core/text/jinja.h"

/* A value of the type that comes from nowhere. */
static ftj_val make(ftj_type type)
{
    ftj_val v = { .type = (uint8_t)type, .origin = -1 };
    return v;
}

ftj_val ftj_none(void) { return make(FTJ_NONE); }

ftj_val ftj_bool(bool b)
{
    ftj_val v = make(FTJ_BOOL);
    v.b = b;
    return v;
}

ftj_val ftj_int(int64_t i)
{
    ftj_val v = make(FTJ_INT);
    v.i = i;
    return v;
}

ftj_val ftj_float(double f)
{
    ftj_val v = make(FTJ_FLOAT);
    v.f = f;
    return v;
}

ftj_val ftj_of_str(const ftj_str *s)
{
    ftj_val v = make(FTJ_STR);
    v.s = s;
    if (s->n_piece == 1) v.origin = s->piece[0].origin;
    return v;
}

ftj_val ftj_of_list(ftj_list *l)
{
    ftj_val v = make(FTJ_LIST);
    v.l = l;
    return v;
}

ftj_val ftj_of_tuple(ftj_list *l)
{
    ftj_val v = make(FTJ_TUPLE);
    v.l = l;
    return v;
}

ftj_val ftj_of_dict(ftj_dict *d)
{
    ftj_val v = make(FTJ_DICT);
    v.d = d;
    v.origin = d->msg;
    return v;
}

ftj_val ftj_text(ftj_run *run, const char *text)
{
    return ftj_of_str(ftj_str_text(run, text, strlen(text)));
}

ftj_val ftj_of_iter(ftj_run *run, ftj_list *l, const char *type)
{
    ftj_val v = make(FTJ_ITER);
    v.iter = ftj_alloc(run, sizeof *v.iter);
    v.iter->l = l;
    v.iter->type = type;
    return v;
}

/* ---- undefined ------------------------------------------------------------------------------ */

ftj_val ftj_undefined_hint(ftj_run *run, const char *hint)
{
    ftj_val v = make(FTJ_UNDEF);
    v.undef = ftj_alloc(run, sizeof *v.undef);
    v.undef->hint = hint;
    return v;
}

ftj_val ftj_undefined_name(ftj_run *run, const char *name)
{
    ftj_val v = ftj_undefined_hint(run, NULL);
    v.undef->name = name;
    v.undef->name_len = strlen(name);
    return v;
}

ftj_val ftj_undefined_of(ftj_run *run, ftj_val of, ftj_val key)
{
    ftj_val v = ftj_undefined_hint(run, NULL);
    v.undef->of = ftj_type_name(of);
    v.undef->element = key.type != FTJ_STR;
    if (key.type == FTJ_STR) {
        const ftj_str *s = ftj_flat(run, key.s);
        v.undef->name = s->p;
        v.undef->name_len = s->n;
    } else {
        v.undef->name = ftj_show(run, key);
        v.undef->name_len = strlen(v.undef->name);
    }
    return v;
}

_Noreturn void ftj_fail_undefined(ftj_run *run, ftj_val v)
{
    const ftj_undef *u = v.undef;
    int n = u->name_len > 200 ? 200 : (int)u->name_len;
    if (u->hint) ftj_fail(run, "%s", u->hint);
    if (!u->of) ftj_fail(run, "'%.*s' is undefined", n, u->name);
    const char *object = strcmp(u->of, "NoneType") ? " object" : "";
    const char *of = *object ? u->of : "None";
    if (u->element) ftj_fail(run, "%s%s has no element %.*s", of, object, n, u->name);
    ftj_fail(run, "'%s%s' has no attribute '%.*s'", of, object, n, u->name);
}

/* ---- asking --------------------------------------------------------------------------------- */

const char *ftj_type_name(ftj_val v)
{
    static const char *const names[] = {
        [FTJ_MISSING] = "missing", [FTJ_UNDEF] = "Undefined", [FTJ_NONE] = "NoneType",
        [FTJ_BOOL] = "bool", [FTJ_INT] = "int", [FTJ_BIG] = "int", [FTJ_FLOAT] = "float",
        [FTJ_STR] = "str", [FTJ_LIST] = "list", [FTJ_TUPLE] = "tuple", [FTJ_DICT] = "dict",
        [FTJ_RANGE] = "range", [FTJ_SPACE] = "Namespace", [FTJ_MACRO] = "Macro",
        [FTJ_METHOD] = "builtin_function_or_method", [FTJ_GLOBAL] = "function",
        [FTJ_LOOP] = "LoopContext",
    };
    static const char *const views[] = { "dict_keys", "dict_values", "dict_items" };
    if (v.type == FTJ_VIEW) return views[v.view->kind];
    if (v.type == FTJ_ITER) return v.iter->type;
    if (v.type == FTJ_STR && v.s->markup) return "Markup";
    return names[v.type];
}

bool ftj_truth(ftj_run *run, ftj_val v)
{
    switch (v.type) {
    case FTJ_MISSING: case FTJ_UNDEF: case FTJ_NONE: return false;
    case FTJ_BOOL: return v.b;
    case FTJ_INT: return v.i != 0;
    case FTJ_FLOAT: return v.f != 0;
    case FTJ_BIG: case FTJ_SPACE: case FTJ_ITER: case FTJ_MACRO: case FTJ_METHOD: case FTJ_GLOBAL:
        return true;
    default: return ftj_length(run, v) != 0;
    }
}

bool ftj_is_int(ftj_val v) { return v.type == FTJ_INT || v.type == FTJ_BOOL; }
bool ftj_is_number(ftj_val v) { return ftj_is_int(v) || v.type == FTJ_FLOAT || v.type == FTJ_BIG; }
int64_t ftj_int_of(ftj_val v) { return v.type == FTJ_BOOL ? v.b : v.i; }
double ftj_real_of(ftj_val v) { return v.type == FTJ_FLOAT ? v.f : (double)ftj_int_of(v); }

/* ---- lists ---------------------------------------------------------------------------------- */

ftj_list *ftj_new_list(ftj_run *run, size_t cap)
{
    ftj_list *l = ftj_alloc(run, sizeof *l);
    l->v = ftj_array(run, cap, sizeof *l->v);
    l->cap = cap;
    return l;
}

void ftj_add(ftj_run *run, ftj_list *l, ftj_val v)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        ftj_val *more = ftj_array(run, cap, sizeof *more);
        if (l->n) memcpy(more, l->v, l->n * sizeof *more);
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = v;
}

ftj_val ftj_pair_of(ftj_run *run, ftj_val a, ftj_val b)
{
    ftj_list *l = ftj_new_list(run, 2);
    ftj_add(run, l, a);
    ftj_add(run, l, b);
    return ftj_of_tuple(l);
}

/* ---- dicts ---------------------------------------------------------------------------------- */

ftj_dict *ftj_new_dict(ftj_run *run, size_t cap)
{
    ftj_dict *d = ftj_alloc(run, sizeof *d);
    d->e = ftj_array(run, cap, sizeof *d->e);
    d->cap = cap;
    d->msg = -1;
    return d;
}

void ftj_need_hash(ftj_run *run, ftj_val key)
{
    ftj_enter(run);
    if (key.type == FTJ_LIST || key.type == FTJ_DICT || key.type == FTJ_VIEW)
        ftj_fail(run, "unhashable type: '%s'", ftj_type_name(key));
    for (size_t i = 0; key.type == FTJ_TUPLE && i < key.l->n; i++) ftj_need_hash(run, key.l->v[i]);
    ftj_leave(run);
}

/* The pair of the key, or NULL. */
static ftj_pair *find(ftj_run *run, const ftj_dict *d, ftj_val key)
{
    ftj_work(run, d->n / 16);
    for (size_t i = 0; i < d->n; i++) {
        if (d->e[i].k.type == FTJ_STR && key.type == FTJ_STR) {
            if (ftj_str_equal(run, d->e[i].k.s, key.s)) return &d->e[i];
        } else if (ftj_equal(run, d->e[i].k, key)) {
            return &d->e[i];
        }
    }
    return NULL;
}

ftj_val ftj_dict_get(ftj_run *run, const ftj_dict *d, ftj_val key)
{
    ftj_need_hash(run, key);
    const ftj_pair *p = find(run, d, key);
    return p ? p->v : make(FTJ_MISSING);
}

ftj_val ftj_dict_find(ftj_run *run, const ftj_dict *d, const char *key, size_t n)
{
    ftj_work(run, d->n / 16);
    for (size_t i = 0; i < d->n; i++) {
        if (d->e[i].k.type != FTJ_STR || d->e[i].k.s->n != n) continue;
        if (!memcmp(ftj_flat(run, d->e[i].k.s)->p, key, n)) return d->e[i].v;
    }
    return make(FTJ_MISSING);
}

void ftj_dict_set(ftj_run *run, ftj_dict *d, ftj_val key, ftj_val v)
{
    ftj_need_hash(run, key);
    ftj_pair *p = find(run, d, key);
    if (p) {
        p->v = v;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 8;
        ftj_pair *more = ftj_array(run, cap, sizeof *more);
        if (d->n) memcpy(more, d->e, d->n * sizeof *more);
        d->e = more;
        d->cap = cap;
    }
    d->e[d->n++] = (ftj_pair){ key, v };
}

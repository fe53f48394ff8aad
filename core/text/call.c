/* call.c -- calling filters, tests, methods, global functions and macros with arguments bound to
 * parameters by position and by name. */
#include <string.h>
#include "core/text/jinja.h"

const ftj_builtin *ftj_find(const ftj_builtin *table, const char *name, size_t n)
{
    for (; table->name; table++) {
        if (strlen(table->name) == n && !memcmp(table->name, name, n)) return table;
    }
    return NULL;
}

const ftj_builtin *ftj_find_filter(const char *name, size_t n)
{
    const ftj_builtin *def = ftj_find(ftj_filters, name, n);
    return def ? def : ftj_find(ftj_text_filters, name, n);
}

/* Index of `name` in a blank-separated list, or -1. */
static int index_of(const char *params, const char *name)
{
    size_t n = strlen(name);
    int i = 0;
    for (const char *p = params; *p; i++) {
        size_t k = strcspn(p, " ");
        if (k == n && !memcmp(p, name, n)) return i;
        p += k + (p[k] == ' ');
    }
    return -1;
}

/* Words of a blank-separated list. */
static int count_words(const char *p)
{
    int n = *p != 0;
    for (; *p; p++) n += *p == ' ';
    return n;
}

static ftj_val bind_and_call(ftj_run *run, const ftj_builtin *def, ftj_val self,
                             const ftj_args *args)
{
    ftj_val a[FTJ_MAX_ARGS] = { { 0 } };
    bool by_name = def->params[0] != '/';
    const char *params = def->params + !by_name;
    int max = count_words(params);
    if (args->n > (size_t)max) {
        ftj_fail(run, "%s() takes at most %d argument%s (%zu given)", def->name, max,
                 max == 1 ? "" : "s", args->n);
    }
    for (size_t i = 0; i < args->n; i++) a[i] = args->v[i];
    for (size_t k = 0; k < args->n_kw; k++) {
        int i = by_name ? index_of(params, args->kw[k].name) : -1;
        if (i < 0)
            ftj_fail(run, "%s() got an unexpected keyword argument '%s'", def->name,
                     args->kw[k].name);
        if (a[i].type != FTJ_MISSING)
            ftj_fail(run, "%s() got multiple values for argument '%s'", def->name,
                     args->kw[k].name);
        a[i] = args->kw[k].v;
    }
    for (int i = 0; i < def->required; i++) {
        if (a[i].type == FTJ_MISSING)
            ftj_fail(run, "%s() is missing argument %d", def->name, i + 1);
    }
    return def->fn(run, self, a, args);
}

ftj_val ftj_apply(ftj_run *run, const ftj_builtin *def, ftj_val self, const ftj_args *args)
{
    ftj_work(run, 1);
    if (!def->fn) ftj_fail_code(run, FT_EUNSUP, "%s is not supported", def->name);
    if (!def->params) return def->fn(run, self, NULL, args);
    return bind_and_call(run, def, self, args);
}

ftj_val ftj_call(ftj_run *run, ftj_val callee, const ftj_args *args)
{
    switch (callee.type) {
    case FTJ_METHOD: return ftj_apply(run, callee.method->def, callee.method->self, args);
    case FTJ_GLOBAL: return ftj_apply(run, callee.global, ftj_none(), args);
    case FTJ_MACRO: return ftj_call_macro(run, callee.macro, args);
    case FTJ_UNDEF: ftj_fail_undefined(run, callee);
    case FTJ_LOOP: ftj_fail_code(run, FT_EUNSUP, "recursive loops are not supported");
    default: ftj_fail(run, "'%s' object is not callable", ftj_type_name(callee));
    }
}

int64_t ftj_want_int(ftj_run *run, ftj_val v, const char *who)
{
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (!ftj_is_int(v))
        ftj_fail(run, "%s: '%s' object cannot be interpreted as an integer", who, ftj_type_name(v));
    return ftj_int_of(v);
}

const ftj_str *ftj_want_str(ftj_run *run, ftj_val v, const char *who)
{
    if (v.type != FTJ_STR)
        ftj_fail(run, "%s: a string must stand here, not '%s'", who, ftj_type_name(v));
    return ftj_flat(run, v.s);
}

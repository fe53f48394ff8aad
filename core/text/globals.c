/* globals.c -- the functions a template finds without being given them: range, dict, namespace,
 * raise_exception, strftime_now. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/text/jinja.h"

/* range(stop), range(start, stop, step=1): at most FTJ_MAX_RANGE items. */
static ftj_val make_range(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)self;
    (void)args;
    int64_t start = 0, stop = ftj_want_int(run, a[0], "range"), step = 1;
    if (a[1].type != FTJ_MISSING) {
        start = stop;
        stop = ftj_want_int(run, a[1], "range");
    }
    if (a[2].type != FTJ_MISSING) step = ftj_want_int(run, a[2], "range");
    if (step == 0) ftj_fail(run, "range() arg 3 must not be zero");
    /* Unsigned: the distance of any two integers fits. */
    uint64_t span = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t size = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    bool empty = step > 0 ? start >= stop : start <= stop;
    uint64_t n = empty ? 0 : (span - 1) / size + 1;
    if (n > FTJ_MAX_RANGE) {
        ftj_fail(run, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                 FTJ_MAX_RANGE);
    }
    ftj_val v = ftj_none();
    v.type = FTJ_RANGE;
    v.range = ftj_alloc(run, sizeof *v.range);
    *v.range = (ftj_range){ start, stop, step, (int64_t)n };
    return v;
}

/* dict(mapping or pairs, key=value …) */
static ftj_dict *build_dict(ftj_run *run, const ftj_args *args)
{
    ftj_dict *d = ftj_new_dict(run, args->n_kw);
    if (args->n > 1) ftj_fail(run, "dict expected at most 1 argument, got %zu", args->n);
    if (args->n && args->v[0].type == FTJ_DICT) {
        const ftj_dict *from = args->v[0].d;
        for (size_t i = 0; i < from->n; i++) ftj_dict_set(run, d, from->e[i].k, from->e[i].v);
    } else if (args->n) {
        const ftj_list *pairs = ftj_items(run, args->v[0]);
        for (size_t i = 0; i < pairs->n; i++) {
            const ftj_list *pair = ftj_items(run, pairs->v[i]);
            if (pair->n != 2)
                ftj_fail(run,
                         "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                         pair->n);
            ftj_dict_set(run, d, pair->v[0], pair->v[1]);
        }
    }
    for (size_t i = 0; i < args->n_kw; i++)
        ftj_dict_set(run, d, ftj_text(run, args->kw[i].name), args->kw[i].v);
    return d;
}

static ftj_val make_dict(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)self;
    (void)a;
    return ftj_of_dict(build_dict(run, args));
}

/* namespace(…): attributes that `set ns.a` may change; none with a leading underscore. */
static ftj_val make_namespace(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)self;
    (void)a;
    ftj_val v = ftj_of_dict(build_dict(run, args));
    for (size_t i = 0; i < v.d->n; i++) {
        const ftj_str *k = v.d->e[i].k.type == FTJ_STR ? ftj_flat(run, v.d->e[i].k.s) : NULL;
        if (k && k->n && k->p[0] == '_')
            ftj_fail(run, "a namespace cannot hold the attribute '%.*s': it starts with an "
                     "underscore", (int)k->n, k->p);
    }
    v.type = FTJ_SPACE;
    return v;
}

/* The template's own words, without a place: they are meant for the user as they stand. */
static ftj_val raise_exception(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)self;
    (void)args;
    const ftj_str *s = ftj_flat(run, ftj_to_str(run, a[0]));
    ft_errf(run->err, FT_EINVAL, "%.*s", (int)s->n, s->p);
    longjmp(run->trap, 1);
}

/* ---- strftime_now --------------------------------------------------------------------------- */

/* Local time now; with SOURCE_DATE_EPOCH that moment in UTC, so that a build can be repeated. */
static void read_clock(ftj_run *run, struct tm *tm, long *microseconds)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    struct timespec now;
    *microseconds = 0;
    if (epoch && *epoch) {
        char *end;
        time_t t = (time_t)strtoll(epoch, &end, 10);
        if (*end || !gmtime_r(&t, tm))
            ftj_fail(run, "SOURCE_DATE_EPOCH is '%.40s', not a number of seconds", epoch);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, tm);
    *microseconds = now.tv_nsec / 1000;
}

/* Python's own codes: %f microseconds, %z and %Z nothing, as for a time without a zone. */
static const char *expand_codes(ftj_run *run, const ftj_str *s, long microseconds)
{
    ftj_out out = { 0 };
    const ftj_piece *like = ftj_here(run);
    for (size_t i = 0; i < s->n; i++) {
        char c = i + 1 < s->n && s->p[i] == '%' ? s->p[i + 1] : 0;
        if (c == 'f') ftj_put(run, &out, ftj_printf(run, "%06ld", microseconds), 6, like);
        else if (c && c != 'z' && c != 'Z') ftj_put(run, &out, s->p + i, 2, like);
        else if (!c) ftj_put(run, &out, s->p + i, 1, like);
        i += c != 0;
    }
    ftj_put(run, &out, "\0", 1, like);
    return out.p;
}

ftj_val ftj_strftime_now(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)self;
    (void)args;
    struct tm tm;
    long microseconds;
    const ftj_str *s = ftj_want_str(run, a[0], "strftime_now");
    if (s->n > 4096) ftj_fail(run, "strftime_now: a format of %u bytes exceeds 4096", s->n);
    if (memchr(s->p, 0, s->n)) ftj_fail(run, "embedded null character");
    read_clock(run, &tm, &microseconds);
    const char *format = expand_codes(run, s, microseconds);
    size_t room = 256 * (strlen(format) + 1);
    char *text = ftj_alloc(run, room);
    size_t n = strftime(text, room, format, &tm);
    return ftj_of_str(ftj_str_text(run, text, n));
}

const ftj_builtin ftj_globals[] = {
    { "range", make_range, "/start stop step", 1 },
    { "dict", make_dict, NULL, 0 },
    { "namespace", make_namespace, NULL, 0 },
    { "raise_exception", raise_exception, "message", 1 },
    { "strftime_now", ftj_strftime_now, "format", 1 },
    { "lipsum", NULL, NULL, 0 }, /* these are Jinja's too */
    { "cycler", NULL, NULL, 0 },
    { "joiner", NULL, NULL, 0 },
    { 0 },
};

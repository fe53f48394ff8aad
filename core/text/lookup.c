/* lookup.c -- x.name, x[key], x[a:b:c], as Jinja's sandbox does them: a missing attribute is
 * undefined, not an error; x.name prefers Python's attributes and x[key] the items, so that
 * `d.items` is the method even when d has a key "items"; what would change a list or dict is
 * undefined with a reason. */
#include <string.h>
#include "core/text/jinja.h"

/* Whether the blank-separated list has the name. */
static bool is_one_of(const char *list, const char *name, size_t n)
{
    for (const char *p = list; *p;) {
        size_t k = strcspn(p, " ");
        if (k == n && !memcmp(p, name, n)) return true;
        p += k + (p[k] == ' ');
    }
    return false;
}

/* What the sandbox gives for attributes it does not allow: undefined, with its reason. */
static ftj_val unsafe_attribute(ftj_run *run, ftj_val v, const char *name, size_t n)
{
    return ftj_undefined_hint(run, ftj_printf(run, "access to attribute '%.*s' of '%s' object is "
                                              "unsafe.", (int)n, name, ftj_type_name(v)));
}

/* A method together with the value it belongs to. */
static ftj_val bind(ftj_run *run, ftj_val self, const ftj_builtin *table, const char *name,
                    size_t n)
{
    const ftj_builtin *def = ftj_find(table, name, n);
    ftj_val v = { .type = FTJ_MISSING, .origin = -1 };
    if (!def) return v;
    v.type = FTJ_METHOD;
    v.method = ftj_alloc(run, sizeof *v.method);
    v.method->self = self;
    v.method->def = def;
    return v;
}

/* Attributes of tuples, and the two names of groupby's. */
static ftj_val tuple_attribute(ftj_run *run, ftj_val v, const char *name, size_t n)
{
    if (v.l->group && is_one_of("grouper", name, n)) return v.l->v[0];
    if (v.l->group && is_one_of("list", name, n)) return v.l->v[1];
    if (is_one_of("copy", name, n)) return (ftj_val){ .type = FTJ_MISSING }; /* a list's */
    return bind(run, v, ftj_list_methods, name, n);
}

/* count and index of a range, and what it was made from. */
static ftj_val range_attribute(ftj_run *run, ftj_val v, const char *name, size_t n)
{
    if (is_one_of("start", name, n)) return ftj_int(v.range->start);
    if (is_one_of("stop", name, n)) return ftj_int(v.range->stop);
    if (is_one_of("step", name, n)) return ftj_int(v.range->step);
    if (!is_one_of("count index", name, n)) return (ftj_val){ .type = FTJ_MISSING };
    ftj_list *l = ftj_new_list(run, (size_t)v.range->n);
    for (int64_t i = 0; i < v.range->n; i++)
        ftj_add(run, l, ftj_int(v.range->start + i * v.range->step));
    ftj_work(run, (uint64_t)v.range->n / 16);
    return bind(run, ftj_of_tuple(l), ftj_list_methods, name, n);
}

/* getattr(v, name) in the sandbox; MISSING where Python raises AttributeError. */
static ftj_val attribute(ftj_run *run, ftj_val v, const char *name, size_t n)
{
    static const char changes_dict[] = "clear pop popitem setdefault update";
    static const char changes_list[] = "append clear pop reverse insert sort extend remove";
    ftj_val none = { .type = FTJ_MISSING, .origin = -1 };
    switch (v.type) {
    case FTJ_STR:
        if (n > 2 && !memcmp(name, "is", 2)) return bind(run, v, ftj_ask_methods, name, n);
        return bind(run, v, ftj_text_methods, name, n);
    case FTJ_TUPLE: return tuple_attribute(run, v, name, n);
    case FTJ_RANGE: return range_attribute(run, v, name, n);
    case FTJ_SPACE: return ftj_dict_find(run, v.d, name, n);
    case FTJ_LOOP: return ftj_loop_attr(run, v.loop, name, n);
    case FTJ_DICT:
        if (is_one_of(changes_dict, name, n)) return unsafe_attribute(run, v, name, n);
        return bind(run, v, ftj_dict_methods, name, n);
    case FTJ_LIST:
        if (is_one_of(changes_list, name, n)) return unsafe_attribute(run, v, name, n);
        return bind(run, v, ftj_list_methods, name, n);
    default: return none;
    }
}

/* A name as the key of a dict. */
static ftj_val key_of(ftj_run *run, const char *name, size_t n)
{
    return ftj_of_str(ftj_str_text(run, name, n));
}

ftj_val ftj_get_attr(ftj_run *run, ftj_val v, const char *name, size_t n)
{
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    ftj_val found = attribute(run, v, name, n);
    if (found.type == FTJ_MISSING && v.type == FTJ_DICT) found = ftj_dict_find(run, v.d, name, n);
    if (found.type != FTJ_MISSING) return found;
    if (n > 4 && !memcmp(name, "__", 2) && !memcmp(name + n - 2, "__", 2))
        return unsafe_attribute(run, v, name, n);
    return ftj_undefined_of(run, v, key_of(run, name, n));
}

/* v[i] for a sequence, i from the end when negative; MISSING outside. */
static ftj_val element(ftj_run *run, ftj_val v, int64_t i)
{
    ftj_val none = { .type = FTJ_MISSING, .origin = -1 };
    int64_t n = ftj_length(run, v);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return none;
    if (v.type == FTJ_RANGE) return ftj_int(v.range->start + i * v.range->step);
    if (v.type != FTJ_STR) return v.l->v[i];
    size_t from = ftj_char_offset(run, v.s, (size_t)i), to = from;
    ftj_next_char(v.s, &to);
    return ftj_of_str(ftj_sub(run, v.s, from, to));
}

/* Whether Python could look the key up; it fails otherwise, and the item is undefined. */
static bool can_hash(ftj_val key)
{
    if (key.type == FTJ_LIST || key.type == FTJ_DICT || key.type == FTJ_VIEW) return false;
    for (size_t i = 0; key.type == FTJ_TUPLE && i < key.l->n; i++) {
        if (key.l->v[i].type >= FTJ_LIST && key.l->v[i].type <= FTJ_VIEW) return false;
    }
    return true;
}

/* What can be indexed by number. */
static bool is_sequence(ftj_val v)
{
    return v.type == FTJ_STR || v.type == FTJ_LIST || v.type == FTJ_TUPLE || v.type == FTJ_RANGE;
}

ftj_val ftj_get_item(ftj_run *run, ftj_val v, ftj_val key)
{
    ftj_val found = { .type = FTJ_MISSING, .origin = -1 };
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (v.type == FTJ_DICT && can_hash(key)) found = ftj_dict_get(run, v.d, key);
    else if (is_sequence(v) && ftj_is_int(key)) found = element(run, v, ftj_int_of(key));
    if (found.type == FTJ_MISSING && key.type == FTJ_STR) {
        const ftj_str *s = ftj_flat(run, key.s);
        found = attribute(run, v, s->p, s->n);
    }
    return found.type == FTJ_MISSING ? ftj_undefined_of(run, v, key) : found;
}

ftj_val ftj_get_path(ftj_run *run, ftj_val v, ftj_val path, ftj_val otherwise)
{
    if (path.type == FTJ_NONE || path.type == FTJ_MISSING) return v;
    const ftj_str *s = path.type == FTJ_STR ? ftj_flat(run, path.s) : NULL;
    for (size_t from = 0, to; !s || from <= s->n; from = to + 1) {
        ftj_val part = path;
        to = 0;
        if (s) {
            const char *dot = memchr(s->p + from, '.', s->n - from);
            to = dot ? (size_t)(dot - s->p) : s->n;
            part = ftj_of_str(ftj_sub(run, s, from, to));
            bool digits = to > from && strspn(s->p + from, "0123456789") >= to - from;
            if (digits) ftj_parse_int(run, part.s, 10, &part);
        }
        v = ftj_get_item(run, v, part);
        if (v.type == FTJ_UNDEF && otherwise.type != FTJ_NONE && otherwise.type != FTJ_MISSING)
            v = otherwise;
        if (!s) break;
    }
    return v;
}

/* ---- slices --------------------------------------------------------------------------------- */

/* One bound of a slice: clamped to [low, high], counted from the end when negative. */
static int64_t bound(ftj_run *run, ftj_val v, int64_t n, int64_t low, int64_t high, int64_t other)
{
    if (v.type == FTJ_NONE || v.type == FTJ_MISSING) return other;
    if (v.type == FTJ_BIG) return v.s->p[0] == '-' ? low : high;
    if (!ftj_is_int(v))
        ftj_fail(run, "slice indices must be integers or None or have an __index__ method");
    int64_t i = ftj_int_of(v);
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

static ftj_val slice_text(ftj_run *run, const ftj_str *s, int64_t start, int64_t step,
                          int64_t count)
{
    if (count == 0) return ftj_of_str(ftj_sub(run, s, 0, 0));
    if (step == 1) {
        size_t from = ftj_char_offset(run, s, (size_t)start);
        size_t to = ftj_char_offset(run, s, (size_t)(start + count));
        return ftj_of_str(ftj_sub(run, s, from, to));
    }
    uint32_t *at = ftj_array(run, ftj_chars(run, s) + 1, sizeof *at), n = 0;
    for (size_t i = 0; i < s->n; ftj_next_char(s, &i)) at[n++] = (uint32_t)i;
    at[n] = s->n;
    ftj_work(run, n / 16);
    ftj_out out = { 0 };
    for (; count > 0; count--, start += step)
        ftj_put_str(run, &out, ftj_sub(run, s, at[start], at[start + 1]));
    return ftj_of_str(ftj_markup(run, ftj_out_done(run, &out), s->markup));
}

/* count items from start on, step apart. */
static ftj_val slice_list(ftj_run *run, ftj_val v, int64_t start, int64_t step, int64_t count)
{
    ftj_list *l = ftj_new_list(run, (size_t)count);
    for (int64_t i = 0; i < count; i++) ftj_add(run, l, v.l->v[start + i * step]);
    l->data = v.l->data;
    ftj_work(run, (uint64_t)count / 16);
    ftj_val out = v.type == FTJ_LIST ? ftj_of_list(l) : ftj_of_tuple(l);
    out.origin = v.origin;
    return out;
}

static ftj_val slice_range(ftj_run *run, const ftj_range *r, int64_t a, int64_t b, int64_t step,
                           int64_t count)
{
    ftj_val v = ftj_none();
    v.type = FTJ_RANGE;
    v.range = ftj_alloc(run, sizeof *v.range);
    *v.range = (ftj_range){ .n = count, .step = r->step };
    if (__builtin_mul_overflow(a, r->step, &a) || __builtin_add_overflow(a, r->start, &a) ||
        __builtin_mul_overflow(b, r->step, &b) || __builtin_add_overflow(b, r->start, &b) ||
        __builtin_mul_overflow(step, r->step, &v.range->step))
        ftj_fail_code(run, FT_EUNSUP, "slices a range at the edge of 64 bits");
    v.range->start = a;
    v.range->stop = b;
    return v;
}

ftj_val ftj_slice(ftj_run *run, ftj_val v, ftj_val start, ftj_val stop, ftj_val step)
{
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (v.type == FTJ_DICT) ftj_fail(run, "unhashable type: 'slice'");
    if (!is_sequence(v)) ftj_fail(run, "'%s' object is not subscriptable", ftj_type_name(v));
    int64_t n = ftj_length(run, v), by = 1, written = 1;
    if (step.type != FTJ_NONE && step.type != FTJ_MISSING) {
        if (!ftj_is_int(step))
            ftj_fail(run, "slice indices must be integers or None or have an __index__ method");
        by = written = ftj_int_of(step);
        if (by == 0) ftj_fail(run, "slice step cannot be zero");
        if (by > n + 1) by = n + 1; /* the same items, and no product below can overflow */
        if (by < -n - 1) by = -n - 1;
    }
    int64_t low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
    int64_t a = bound(run, start, n, low, high, by > 0 ? low : high);
    int64_t b = bound(run, stop, n, low, high, by > 0 ? high : low);
    int64_t count = by > 0 ? (b > a ? (b - a - 1) / by + 1 : 0)
                           : (a > b ? (a - b - 1) / -by + 1 : 0);
    if (v.type == FTJ_STR) return slice_text(run, ftj_flat(run, v.s), a, by, count);
    if (v.type == FTJ_RANGE) return slice_range(run, v.range, a, b, written, count);
    return slice_list(run, v, a, by, count);
}

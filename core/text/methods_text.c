/* methods_text.c -- the methods of strings, as Python's str has them. */
#include <string.h>
#include "core/text/jinja.h"
#include "core/text/textops.h"

/* An argument that is there and not none. */
static bool given(ftj_val v) { return v.type != FTJ_MISSING && v.type != FTJ_NONE; }

static ftj_val with_case(ftj_run *run, ftj_val self, int how)
{
    return ftj_of_str(ftj_str_case(run, self.s, how));
}

static ftj_val m_upper(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return with_case(run, self, FTJ_CASE_UPPER);
}

static ftj_val m_lower(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return with_case(run, self, FTJ_CASE_LOWER);
}

static ftj_val m_title(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return with_case(run, self, FTJ_CASE_TITLE);
}

static ftj_val m_capitalize(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return with_case(run, self, FTJ_CASE_CAPITALIZE);
}

static ftj_val m_swapcase(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return with_case(run, self, FTJ_CASE_SWAP);
}

/* ---- ends ----------------------------------------------------------------------------------- */

/* strip(chars=none) and its one-sided kin. */
static ftj_val strip(ftj_run *run, ftj_val self, const ftj_val *a, int ends)
{
    const ftj_str *chars = given(a[0]) ? ftj_want_str(run, a[0], "strip") : NULL;
    return ftj_of_str(ftj_str_strip(run, self.s, chars, ends));
}

static ftj_val m_strip(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return strip(run, self, a, FTJ_BOTH);
}

static ftj_val m_lstrip(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return strip(run, self, a, FTJ_LEFT);
}

static ftj_val m_rstrip(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return strip(run, self, a, FTJ_RIGHT);
}

/* removeprefix(prefix) */
static ftj_val m_removeprefix(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *s = ftj_flat(run, self.s), *x = ftj_want_str(run, a[0], "removeprefix");
    bool has = x->n && x->n <= s->n && !memcmp(s->p, x->p, x->n);
    return has ? ftj_of_str(ftj_sub(run, s, x->n, s->n)) : self;
}

/* removesuffix(suffix) */
static ftj_val m_removesuffix(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *s = ftj_flat(run, self.s), *x = ftj_want_str(run, a[0], "removesuffix");
    bool has = x->n && x->n <= s->n && !memcmp(s->p + s->n - x->n, x->p, x->n);
    return has ? ftj_of_str(ftj_sub(run, s, 0, s->n - x->n)) : self;
}

/* ljust, rjust, center(width, fillchar=" ") */
static ftj_val justify(ftj_run *run, ftj_val self, const ftj_val *a, int side)
{
    const ftj_str *fill = a[1].type == FTJ_MISSING ? ftj_str_text(run, " ", 1)
                                                   : ftj_want_str(run, a[1], "justify");
    int64_t width = ftj_want_int(run, a[0], "justify");
    return ftj_of_str(ftj_str_justify(run, self.s, width, fill, side));
}

static ftj_val m_ljust(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return justify(run, self, a, FTJ_RIGHT);
}

static ftj_val m_rjust(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return justify(run, self, a, FTJ_LEFT);
}

static ftj_val m_center(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return justify(run, self, a, FTJ_BOTH);
}

/* zfill(width): zeros between sign and digits */
static ftj_val m_zfill(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *s = ftj_flat(run, self.s);
    size_t sign = s->n && (s->p[0] == '-' || s->p[0] == '+');
    int64_t width = ftj_want_int(run, a[0], "zfill") - (int64_t)sign;
    const ftj_str *digits = ftj_sub(run, s, sign, s->n);
    digits = ftj_str_justify(run, digits, width, ftj_str_text(run, "0", 1), FTJ_LEFT);
    return ftj_of_str(sign ? ftj_concat(run, ftj_sub(run, s, 0, 1), digits) : digits);
}

/* ---- search --------------------------------------------------------------------------------- */

/* The bytes that the optional arguments start and end leave of s; false when start lies past it. */
static bool read_window(ftj_run *run, const ftj_str *s, const ftj_val *a, size_t *from, size_t *to)
{
    int64_t n = (int64_t)ftj_chars(run, s);
    int64_t start = given(a[0]) ? ftj_want_int(run, a[0], "start") : 0;
    int64_t end = given(a[1]) ? ftj_want_int(run, a[1], "end") : n;
    if (start < 0) start = start < -n ? 0 : start + n;
    if (end < 0) end = end < -n ? 0 : end + n;
    if (end > n) end = n;
    if (start > end) return false;
    *from = ftj_char_offset(run, s, (size_t)start);
    *to = ftj_char_offset(run, s, (size_t)end);
    return true;
}

/* Character index of the first or last hit, or -1. */
static int64_t search(ftj_run *run, ftj_val self, const ftj_val *a, bool last)
{
    size_t from, to, hit;
    const ftj_str *s = ftj_flat(run, self.s), *what = ftj_want_str(run, a[0], "find");
    if (!read_window(run, s, a + 1, &from, &to)) return -1;
    hit = last ? ftj_str_rfind(run, s, what, from, to) : ftj_str_find(run, s, what, from, to);
    if (hit == SIZE_MAX) return -1;
    return (int64_t)ftj_chars(run, ftj_sub(run, s, 0, hit));
}

static ftj_val m_find(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_int(search(run, self, a, false));
}

static ftj_val m_rfind(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_int(search(run, self, a, true));
}

/* index() and rindex() fail where find() gives -1. */
static ftj_val need_hit(ftj_run *run, int64_t i)
{
    if (i < 0) ftj_fail(run, "substring not found");
    return ftj_int(i);
}

static ftj_val m_index(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return need_hit(run, search(run, self, a, false));
}

static ftj_val m_rindex(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return need_hit(run, search(run, self, a, true));
}

/* count(sub, start, end): hits that do not overlap */
static ftj_val m_count(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    size_t from, to, hit;
    int64_t n = 0;
    const ftj_str *s = ftj_flat(run, self.s), *what = ftj_want_str(run, a[0], "count");
    if (!read_window(run, s, a + 1, &from, &to)) return ftj_int(0);
    if (!what->n) return ftj_int((int64_t)ftj_chars(run, ftj_sub(run, s, from, to)) + 1);
    for (; (hit = ftj_str_find(run, s, what, from, to)) != SIZE_MAX; from = hit + what->n) {
        ftj_work(run, 1);
        n++;
    }
    return ftj_int(n);
}

/* Whether [from, to) of s starts or ends with v. */
static bool has_end(ftj_run *run, const ftj_str *s, ftj_val v, size_t from, size_t to, bool at_end)
{
    const ftj_str *x = ftj_want_str(run, v, at_end ? "endswith" : "startswith");
    return x->n <= to - from && !memcmp(s->p + (at_end ? to - x->n : from), x->p, x->n);
}

/* startswith, endswith(text or tuple of texts, start, end) */
static ftj_val with_end(ftj_run *run, ftj_val self, const ftj_val *a, bool at_end)
{
    size_t from, to;
    const ftj_str *s = ftj_flat(run, self.s);
    if (a[0].type != FTJ_TUPLE) ftj_want_str(run, a[0], at_end ? "endswith" : "startswith");
    if (!read_window(run, s, a + 1, &from, &to)) return ftj_bool(false);
    if (a[0].type != FTJ_TUPLE) return ftj_bool(has_end(run, s, a[0], from, to, at_end));
    for (size_t i = 0; i < a[0].l->n; i++) {
        if (has_end(run, s, a[0].l->v[i], from, to, at_end)) return ftj_bool(true);
    }
    return ftj_bool(false);
}

static ftj_val m_startswith(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return with_end(run, self, a, false);
}

static ftj_val m_endswith(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return with_end(run, self, a, true);
}

/* ---- parts ---------------------------------------------------------------------------------- */

/* split, rsplit(sep=none, maxsplit=-1) */
static ftj_val split(ftj_run *run, ftj_val self, const ftj_val *a, bool from_right)
{
    const ftj_str *sep = given(a[0]) ? ftj_want_str(run, a[0], "split") : NULL;
    int64_t max = a[1].type == FTJ_MISSING ? -1 : ftj_want_int(run, a[1], "split");
    return ftj_of_list(ftj_str_split(run, self.s, sep, max, from_right));
}

static ftj_val m_split(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return split(run, self, a, false);
}

static ftj_val m_rsplit(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return split(run, self, a, true);
}

/* splitlines(keepends=false) */
static ftj_val m_splitlines(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return ftj_of_list(ftj_str_lines(run, self.s, ftj_truth(run, a[0])));
}

/* (before, sep, after); all of it in the first or last when sep is not there. */
static ftj_val partition(ftj_run *run, ftj_val self, ftj_val by, bool last)
{
    const ftj_str *s = ftj_flat(run, self.s), *sep = ftj_want_str(run, by, "partition");
    if (!sep->n) ftj_fail(run, "empty separator");
    size_t hit = last ? ftj_str_rfind(run, s, sep, 0, s->n) : ftj_str_find(run, s, sep, 0, s->n);
    bool found = hit != SIZE_MAX;
    size_t from = found ? hit : last ? 0 : s->n, to = found ? hit + sep->n : from;
    ftj_list *l = ftj_new_list(run, 3);
    ftj_add(run, l, ftj_of_str(ftj_sub(run, s, 0, from)));
    ftj_add(run, l, ftj_of_str(ftj_sub(run, s, from, to)));
    ftj_add(run, l, ftj_of_str(ftj_sub(run, s, to, s->n)));
    return ftj_of_tuple(l);
}

static ftj_val m_partition(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return partition(run, self, a[0], false);
}

static ftj_val m_rpartition(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    return partition(run, self, a[0], true);
}

/* What methods of a string marked safe do to their arguments, whatever they are. */
static const ftj_str *escaped(ftj_run *run, ftj_val v)
{
    return ftj_escape(run, v.type == FTJ_STR ? v.s : ftj_to_str(run, v));
}

/* replace(old, new, count=-1) */
static ftj_val m_replace(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t count = a[2].type == FTJ_MISSING ? -1 : ftj_want_int(run, a[2], "replace");
    const ftj_str *by = self.s->markup ? escaped(run, a[1]) : ftj_want_str(run, a[1], "replace");
    return ftj_of_str(ftj_str_replace(run, self.s, ftj_want_str(run, a[0], "replace"), by, count));
}

/* join(iterable of strings) */
static ftj_val m_join(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    if (!ftj_is_iterable(a[0])) ftj_fail(run, "can only join an iterable");
    const ftj_list *l = ftj_items(run, a[0]);
    const ftj_str **v = ftj_array(run, l->n, sizeof *v);
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].type != FTJ_STR && !self.s->markup) {
            ftj_fail(run, "sequence item %zu: expected str instance, %s found", i,
                     ftj_type_name(l->v[i]));
        }
        v[i] = self.s->markup ? escaped(run, l->v[i]) : l->v[i].s;
    }
    return ftj_of_str(ftj_markup(run, ftj_str_join(run, self.s, v, l->n), self.s->markup));
}

/* format(values …) */
static ftj_val m_format(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    return ftj_format(run, self.s, args);
}

const ftj_builtin ftj_text_methods[] = {
    { "capitalize", m_capitalize, "/", 0 },
    { "center", m_center, "/width fillchar", 1 },
    { "count", m_count, "/sub start end", 1 },
    { "endswith", m_endswith, "/suffix start end", 1 },
    { "find", m_find, "/sub start end", 1 },
    { "format", m_format, NULL, 0 },
    { "index", m_index, "/sub start end", 1 },
    { "join", m_join, "/iterable", 1 },
    { "ljust", m_ljust, "/width fillchar", 1 },
    { "lower", m_lower, "/", 0 },
    { "lstrip", m_lstrip, "/chars", 0 },
    { "partition", m_partition, "/sep", 1 },
    { "removeprefix", m_removeprefix, "/prefix", 1 },
    { "removesuffix", m_removesuffix, "/suffix", 1 },
    { "replace", m_replace, "/old new count", 2 },
    { "rfind", m_rfind, "/sub start end", 1 },
    { "rindex", m_rindex, "/sub start end", 1 },
    { "rjust", m_rjust, "/width fillchar", 1 },
    { "rpartition", m_rpartition, "/sep", 1 },
    { "rsplit", m_rsplit, "sep maxsplit", 0 },
    { "rstrip", m_rstrip, "/chars", 0 },
    { "split", m_split, "sep maxsplit", 0 },
    { "splitlines", m_splitlines, "keepends", 0 },
    { "startswith", m_startswith, "/prefix start end", 1 },
    { "strip", m_strip, "/chars", 0 },
    { "swapcase", m_swapcase, "/", 0 },
    { "title", m_title, "/", 0 },
    { "upper", m_upper, "/", 0 },
    { "zfill", m_zfill, "/width", 1 },
    { "casefold", NULL, NULL, 0 }, /* Python has these; no chat template needs them */
    { "encode", NULL, NULL, 0 },
    { "expandtabs", NULL, NULL, 0 },
    { "format_map", NULL, NULL, 0 },
    { "maketrans", NULL, NULL, 0 },
    { "translate", NULL, NULL, 0 },
    { 0 },
};

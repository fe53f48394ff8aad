/* filters_text.c -- the filters that make text or numbers of one value. */
#include <math.h>
#include <string.h>
#include "core/base/utf8.h"
#include "core/text/jinja.h"
#include "core/text/textops.h"
#include "core/text/unicode.h"

/* What most filters do first: a string as it is (marked safe or not), anything else as str(). */
static const ftj_str *soft(ftj_run *run, ftj_val v)
{
    return v.type == FTJ_STR ? ftj_flat(run, v.s) : ftj_flat(run, ftj_to_str(run, v));
}

/* upper */
static ftj_val f_upper(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_str_case(run, soft(run, self), FTJ_CASE_UPPER));
}

/* lower */
static ftj_val f_lower(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_str_case(run, soft(run, self), FTJ_CASE_LOWER));
}

/* capitalize */
static ftj_val f_capitalize(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_str_case(run, soft(run, self), FTJ_CASE_CAPITALIZE));
}

/* Whether the character at `at` parts words; *next is the one behind it. */
static bool starts_word(const ftj_str *s, size_t at, size_t *next)
{
    *next = at;
    uint32_t c = ftj_next_char(s, next);
    return ftj_char_space(c) || (c < 0x80 && strchr("-({[<", (int)c));
}

/* Jinja's own: words begin after white space and -({[<, their rest is lower case. */
static ftj_val f_title(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    const ftj_str *s = soft(run, self);
    ftj_out out = { 0 };
    for (size_t at = 0, next; at < s->n;) {
        size_t from = at;
        bool gap = starts_word(s, at, &next);
        size_t first = next;
        for (at = next; at < s->n && starts_word(s, at, &next) == gap;) at = next;
        ftj_put_str(run, &out, ftj_str_case(run, ftj_sub(run, s, from, first), FTJ_CASE_UPPER));
        ftj_put_str(run, &out, ftj_str_case(run, ftj_sub(run, s, first, at), FTJ_CASE_LOWER));
    }
    return ftj_of_str(ftj_out_done(run, &out));
}

/* trim(chars=none) */
static ftj_val f_trim(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *chars = a[0].type == FTJ_MISSING || a[0].type == FTJ_NONE
                               ? NULL : ftj_want_str(run, a[0], "trim");
    return ftj_of_str(ftj_str_strip(run, soft(run, self), chars, FTJ_BOTH));
}

/* replace(old, new, count=none): on str() of all three */
static ftj_val f_replace(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t count = a[2].type == FTJ_MISSING || a[2].type == FTJ_NONE
                        ? -1 : ftj_want_int(run, a[2], "replace");
    return ftj_of_str(ftj_str_replace(run, ftj_to_str(run, self), ftj_to_str(run, a[0]),
                                      ftj_to_str(run, a[1]), count));
}

/* string: keeps the mark of safety */
static ftj_val f_string(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(soft(run, self));
}

/* safe: marks the string, so that `+` escapes what is added */
static ftj_val f_safe(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_markup(run, soft(run, self), true));
}

/* e, escape: unless it is marked safe already */
static ftj_val f_escape(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_escape(run, soft(run, self)));
}

/* forceescape: in any case */
static ftj_val f_forceescape(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    return ftj_of_str(ftj_escape(run, ftj_markup(run, soft(run, self), false)));
}

/* center(width=80) */
static ftj_val f_center(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t width = a[0].type == FTJ_MISSING ? 80 : ftj_want_int(run, a[0], "center");
    return ftj_of_str(ftj_str_justify(run, soft(run, self), width, ftj_str_text(run, " ", 1),
                                      FTJ_BOTH));
}

/* format(values …): as "…" % values */
static ftj_val f_format(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a;
    if (args->n && args->n_kw)
        ftj_fail(run, "can't handle positional and keyword arguments at the same time");
    ftj_list *l = ftj_new_list(run, args->n);
    for (size_t i = 0; i < args->n; i++) ftj_add(run, l, args->v[i]);
    ftj_dict *d = ftj_new_dict(run, args->n_kw);
    for (size_t i = 0; i < args->n_kw; i++)
        ftj_dict_set(run, d, ftj_text(run, args->kw[i].name), args->kw[i].v);
    return ftj_percent(run, soft(run, self), args->n_kw ? ftj_of_dict(d) : ftj_of_tuple(l));
}

/* Lines joined by "\n" again, each but the first (unless asked for) and the empty ones indented. */
static ftj_val f_indent(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    const ftj_str *indent;
    bool first = ftj_truth(run, a[1]), blank = ftj_truth(run, a[2]);
    if (a[0].type == FTJ_STR) {
        indent = a[0].s;
    } else {
        int64_t n = a[0].type == FTJ_MISSING ? 4 : ftj_want_int(run, a[0], "indent");
        ftj_val blanks = ftj_binary(run, FTJ_MUL, ftj_text(run, " "), ftj_int(n));
        indent = blanks.s;
    }
    if (self.type != FTJ_STR) ftj_binary(run, FTJ_ADD, self, ftj_text(run, "\n")); /* fails */
    const ftj_str *s = ftj_concat(run, self.s, ftj_markup(run, ftj_str_text(run, "\n", 1),
                                                          self.s->markup));
    const ftj_list *lines = ftj_str_lines(run, s, false);
    ftj_out out = { 0 };
    if (first) ftj_put_str(run, &out, indent);
    for (size_t i = 0; i < lines->n; i++) {
        if (i) ftj_put_str(run, &out, ftj_str_text(run, "\n", 1));
        if (i && (blank || lines->v[i].s->n)) ftj_put_str(run, &out, indent);
        ftj_put_str(run, &out, lines->v[i].s);
    }
    return ftj_of_str(ftj_markup(run, ftj_out_done(run, &out), self.s->markup));
}

/* truncate(length=255, killwords=false, end="...", leeway=5) */
static ftj_val f_truncate(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    int64_t length = a[0].type == FTJ_MISSING ? 255 : ftj_want_int(run, a[0], "truncate");
    const ftj_str *end = a[2].type == FTJ_MISSING ? ftj_str_text(run, "...", 3)
                                                  : ftj_want_str(run, a[2], "truncate");
    int64_t leeway = a[3].type == FTJ_MISSING || a[3].type == FTJ_NONE
                         ? 5 : ftj_want_int(run, a[3], "truncate");
    int64_t kept = length - (int64_t)ftj_chars(run, end), n = ftj_length(run, self);
    if (kept < 0) ftj_fail(run, "truncate: length %lld is less than its end's", (long long)length);
    if (leeway < 0) ftj_fail(run, "expected leeway >= 0, got %lld", (long long)leeway);
    if (n < 0) ftj_fail(run, "object of type '%s' has no len()", ftj_type_name(self));
    if (n <= length || n - length <= leeway) return self;
    const ftj_str *s = ftj_want_str(run, self, "truncate");
    const ftj_str *cut = ftj_sub(run, s, 0, ftj_char_offset(run, s, (size_t)kept));
    if (!ftj_truth(run, a[1]))
        cut = ftj_str_split(run, cut, ftj_str_text(run, " ", 1), 1, true)->v[0].s;
    return ftj_of_str(ftj_concat(run, cut, end));
}

/* wordcount: runs of letters, digits and _ */
static ftj_val f_wordcount(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    const ftj_str *s = soft(run, self);
    int64_t words = 0;
    bool inside = false;
    for (size_t at = 0; at < s->n;) {
        uint32_t c = ftj_next_char(s, &at);
        bool word = c == '_' || ftj_char_alpha(c) || ftj_char_numeric(c);
        words += word && !inside;
        inside = word;
    }
    ftj_work(run, s->n / 16);
    return ftj_int(words);
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* int(default=0, base=10): also of "3.9" */
static ftj_val f_int(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    ftj_val otherwise = a[0].type == FTJ_MISSING ? ftj_int(0) : a[0], out;
    int64_t base = a[1].type == FTJ_MISSING ? 10 : ftj_want_int(run, a[1], "int");
    double f = NAN;
    if (self.type == FTJ_UNDEF) ftj_fail_undefined(run, self);
    if (self.type == FTJ_BIG) return self;
    if (ftj_is_int(self)) return ftj_int(ftj_int_of(self));
    if (self.type == FTJ_FLOAT && isinf(self.f)) return ftj_from_float(run, self.f); /* fails */
    if (self.type == FTJ_FLOAT) f = self.f;
    bool base_fits = base == 0 || (base >= 2 && base <= 36);
    if (self.type == FTJ_STR) {
        if (base_fits && ftj_parse_int(run, self.s, base, &out)) return out;
        if (!ftj_parse_float(run, self.s, &f)) return otherwise;
    }
    return isfinite(f) ? ftj_from_float(run, f) : otherwise;
}

/* float(default=0.0) */
static ftj_val f_float(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    double f;
    if (self.type == FTJ_UNDEF) ftj_fail_undefined(run, self);
    bool text = self.type == FTJ_STR || self.type == FTJ_BIG;
    if (text && ftj_parse_float(run, self.s, &f)) return ftj_float(f);
    if (!text && ftj_is_number(self)) return ftj_float(ftj_real_of(self));
    return a[0].type == FTJ_MISSING ? ftj_float(0) : a[0];
}

/* abs */
static ftj_val f_abs(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)a, (void)args;
    if (self.type == FTJ_FLOAT) return ftj_float(fabs(self.f));
    if (self.type == FTJ_BIG)
        return ftj_flat(run, self.s)->p[0] == '-' ? ftj_negate(run, self) : self;
    if (self.type == FTJ_UNDEF) ftj_fail_undefined(run, self);
    if (!ftj_is_int(self)) ftj_fail(run, "bad operand type for abs(): '%s'", ftj_type_name(self));
    return ftj_int_of(self) < 0 ? ftj_negate(run, self) : ftj_int(ftj_int_of(self));
}

/* round(precision=0, method="common"): floor and ceil give floats */
static ftj_val f_round(ftj_run *run, ftj_val self, const ftj_val *a, const ftj_args *args)
{
    (void)args;
    ftj_val digits = a[0].type == FTJ_MISSING ? ftj_int(0) : a[0];
    bool up = ftj_str_is(run, a[1], "ceil"), down = ftj_str_is(run, a[1], "floor");
    if (a[1].type != FTJ_MISSING && !up && !down && !ftj_str_is(run, a[1], "common"))
        ftj_fail(run, "method must be common, ceil or floor");
    if (!ftj_is_number(self)) {
        if (self.type == FTJ_UNDEF) ftj_fail_undefined(run, self);
        ftj_fail(run, "type %s doesn't define __round__ method", ftj_type_name(self));
    }
    if (!up && !down) return ftj_round(run, self, ftj_want_int(run, digits, "round"));
    ftj_val ten = ftj_arith(run, FTJ_POW, ftj_int(10), digits);
    ftj_val scaled = ftj_arith(run, FTJ_MUL, self, ten);
    if (scaled.type == FTJ_FLOAT)
        scaled = ftj_from_float(run, up ? ceil(scaled.f) : floor(scaled.f));
    return ftj_arith(run, FTJ_DIV, scaled, ten);
}

const ftj_builtin ftj_text_filters[] = {
    { "abs", f_abs, "", 0 },
    { "capitalize", f_capitalize, "", 0 },
    { "center", f_center, "width", 0 },
    { "e", f_escape, "", 0 },
    { "escape", f_escape, "", 0 },
    { "float", f_float, "default", 0 },
    { "forceescape", f_forceescape, "", 0 },
    { "format", f_format, NULL, 0 },
    { "indent", f_indent, "width first blank", 0 },
    { "int", f_int, "default base", 0 },
    { "lower", f_lower, "", 0 },
    { "replace", f_replace, "old new count", 2 },
    { "round", f_round, "precision method", 0 },
    { "safe", f_safe, "", 0 },
    { "string", f_string, "", 0 },
    { "title", f_title, "", 0 },
    { "tojson", ftj_tojson, "ensure_ascii indent separators sort_keys", 0 },
    { "trim", f_trim, "chars", 0 },
    { "truncate", f_truncate, "length killwords end leeway", 0 },
    { "upper", f_upper, "", 0 },
    { "wordcount", f_wordcount, "", 0 },
    { "filesizeformat", NULL, NULL, 0 }, /* Jinja has these; no chat template needs them */
    { "pprint", NULL, NULL, 0 },
    { "striptags", NULL, NULL, 0 },
    { "urlencode", NULL, NULL, 0 },
    { "urlize", NULL, NULL, 0 },
    { "wordwrap", NULL, NULL, 0 },
    { "xmlattr", NULL, NULL, 0 },
    { 0 },
};

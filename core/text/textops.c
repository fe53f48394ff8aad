/* textops.c -- see textops.h. */
#include "core/text/textops.h"
#include <string.h>
#include "core/text/unicode.h"

/* ---- case ----------------------------------------------------------------------------------- */

/* The character before byte `at`, or 0; *at moves to it. */
static uint32_t previous_char(const ftj_str *s, size_t *at)
{
    if (*at == 0) return 0;
    do --*at;
    while (*at && (s->p[*at] & 0xC0) == 0x80);
    size_t i = *at;
    return ftj_next_char(s, &i);
}

/* Whether the capital sigma at [from, to) ends a word: a cased letter before, none after it. */
static bool is_final_sigma(const ftj_str *s, size_t from, size_t to)
{
    uint32_t c;
    do c = previous_char(s, &from);
    while (c && ftj_char_ignorable(c));
    if (!c || !ftj_char_cased(c)) return false;
    do c = to < s->n ? ftj_next_char(s, &to) : 0;
    while (c && ftj_char_ignorable(c));
    return !c || !ftj_char_cased(c);
}

/* How the character c is to be mapped; `word` tells whether a cased letter stands before it. */
static int form_of(int how, uint32_t c, bool first, bool word)
{
    switch (how) {
    case FTJ_CASE_UPPER: return FTJ_UPPER;
    case FTJ_CASE_LOWER: return FTJ_LOWER;
    case FTJ_CASE_TITLE: return word ? FTJ_LOWER : FTJ_TITLE;
    case FTJ_CASE_CAPITALIZE: return first ? FTJ_TITLE : FTJ_LOWER;
    default: return ftj_char_upper(c) ? FTJ_LOWER : ftj_char_lower(c) ? FTJ_UPPER : -1;
    }
}

const ftj_str *ftj_str_case(ftj_run *run, const ftj_str *s, int how)
{
    ftj_out out = { 0 };
    s = ftj_flat(run, s);
    bool word = false;
    size_t at = 0, end = 0;
    for (size_t i = 0; i < s->n_piece; i++) {
        for (end += s->piece[i].n; at < end;) {
            size_t from = at;
            uint32_t c = ftj_next_char(s, &at), mapped[3] = { c };
            int form = form_of(how, c, from == 0, word);
            size_t n = form < 0 ? 1 : ftj_char_case(c, form, mapped);
            if (c == 0x3A3 && form == FTJ_LOWER && is_final_sigma(s, from, at)) mapped[0] = 0x3C2;
            for (size_t k = 0; k < n; k++) ftj_put_char(run, &out, mapped[k], &s->piece[i]);
            word = ftj_char_cased(c);
        }
    }
    ftj_work(run, s->n / 16);
    return ftj_markup(run, ftj_out_done(run, &out), s->markup);
}

/* ---- ends ----------------------------------------------------------------------------------- */

/* Whether c is one of chars, or white space. */
static bool is_in(ftj_run *run, const ftj_str *chars, uint32_t c)
{
    bool found = false;
    if (!chars) return ftj_char_space(c);
    size_t at = 0;
    while (at < chars->n && !found) found = ftj_next_char(chars, &at) == c;
    ftj_work(run, at / 16);
    return found;
}

const ftj_str *ftj_str_strip(ftj_run *run, const ftj_str *s, const ftj_str *chars, int ends)
{
    s = ftj_flat(run, s);
    if (chars) chars = ftj_flat(run, chars);
    size_t from = 0, to = s->n, next;
    while (ends & FTJ_LEFT && from < to) {
        next = from;
        if (!is_in(run, chars, ftj_next_char(s, &next))) break;
        from = next;
    }
    while (ends & FTJ_RIGHT && to > from) {
        next = to;
        if (!is_in(run, chars, previous_char(s, &next))) break;
        to = next;
    }
    ftj_work(run, (s->n - (to - from)) / 16);
    return ftj_sub(run, s, from, to);
}

const ftj_str *ftj_str_justify(ftj_run *run, const ftj_str *s, int64_t width, const ftj_str *fill,
                               int side)
{
    int64_t more = width - (int64_t)ftj_chars(run, s);
    if (ftj_chars(run, fill) != 1)
        ftj_fail(run, "The fill character must be exactly one character long");
    if (more <= 0) return s;
    if (more > FTJ_MAX_OUTPUT) ftj_fail(run, "pads to %lld characters", (long long)width);
    int64_t left = side == FTJ_LEFT ? more : side == FTJ_RIGHT ? 0 : more / 2 + (more & width & 1);
    ftj_out out = { 0 };
    for (int64_t i = 0; i < left; i++) ftj_put_str(run, &out, fill);
    ftj_put_str(run, &out, s);
    for (int64_t i = left; i < more; i++) ftj_put_str(run, &out, fill);
    return ftj_markup(run, ftj_out_done(run, &out), s->markup);
}

/* ---- parts ---------------------------------------------------------------------------------- */

const ftj_str *ftj_str_replace(ftj_run *run, const ftj_str *s, const ftj_str *old,
                               const ftj_str *by, int64_t count)
{
    ftj_out out = { 0 };
    s = ftj_flat(run, s);
    if (s->markup) by = ftj_escape(run, by);
    size_t at = 0;
    while (count != 0) {
        size_t hit = ftj_str_find(run, s, old, at, s->n);
        if (hit == SIZE_MAX) break;
        size_t next = hit + old->n;
        ftj_put_str(run, &out, ftj_sub(run, s, at, hit));
        ftj_put_str(run, &out, by);
        ftj_work(run, 1);
        if (count > 0) count--;
        at = next;
        if (old->n == 0) { /* between any two characters, and at both ends */
            if (hit >= s->n) break;
            ftj_next_char(s, &next);
            ftj_put_str(run, &out, ftj_sub(run, s, hit, next));
            at = next;
        }
    }
    ftj_put_str(run, &out, ftj_sub(run, s, at, s->n));
    return ftj_markup(run, ftj_out_done(run, &out), s->markup);
}

/* Appends [from, to) of s. */
static void add_sub(ftj_run *run, ftj_list *l, const ftj_str *s, size_t from, size_t to)
{
    ftj_work(run, 1);
    ftj_add(run, l, ftj_of_str(ftj_sub(run, s, from, to)));
}

/* At runs of white space; what is beyond `max` keeps its end. */
static ftj_list *split_space(ftj_run *run, const ftj_str *s, int64_t max)
{
    ftj_list *l = ftj_new_list(run, 4);
    for (size_t at = 0, from, next; at < s->n;) {
        next = at;
        if (ftj_char_space(ftj_next_char(s, &next))) {
            at = next;
            continue;
        }
        from = at;
        if (max >= 0 && (int64_t)l->n >= max) {
            add_sub(run, l, s, from, s->n);
            break;
        }
        for (next = at; at < s->n && !ftj_char_space(ftj_next_char(s, &next));) at = next;
        add_sub(run, l, s, from, at);
    }
    ftj_work(run, s->n / 16);
    return l;
}

static void reverse_list(ftj_list *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        ftj_val v = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = v;
    }
}

/* The same from the right; what is beyond `max` keeps its start. */
static ftj_list *rsplit_space(ftj_run *run, const ftj_str *s, int64_t max)
{
    ftj_list *l = ftj_new_list(run, 4);
    for (size_t at = s->n, to, next; at > 0;) {
        next = at;
        if (ftj_char_space(previous_char(s, &next))) {
            at = next;
            continue;
        }
        to = at;
        if (max >= 0 && (int64_t)l->n >= max) {
            add_sub(run, l, s, 0, to);
            break;
        }
        for (next = at; at > 0 && !ftj_char_space(previous_char(s, &next));) at = next;
        add_sub(run, l, s, at, to);
    }
    ftj_work(run, s->n / 16);
    reverse_list(l);
    return l;
}

ftj_list *ftj_str_split(ftj_run *run, const ftj_str *s, const ftj_str *sep, int64_t max,
                        bool from_right)
{
    s = ftj_flat(run, s);
    if (!sep) return from_right ? rsplit_space(run, s, max) : split_space(run, s, max);
    if (sep->n == 0) ftj_fail(run, "empty separator");
    ftj_list *l = ftj_new_list(run, 4);
    size_t from = 0, to = s->n;
    while (max < 0 || (int64_t)l->n < max) {
        size_t hit = from_right ? ftj_str_rfind(run, s, sep, from, to)
                                : ftj_str_find(run, s, sep, from, to);
        if (hit == SIZE_MAX) break;
        if (from_right) add_sub(run, l, s, hit + sep->n, to);
        else add_sub(run, l, s, from, hit);
        if (from_right) to = hit;
        else from = hit + sep->n;
    }
    add_sub(run, l, s, from, to);
    if (from_right) reverse_list(l);
    return l;
}

ftj_list *ftj_str_lines(ftj_run *run, const ftj_str *s, bool keep_ends)
{
    ftj_list *l = ftj_new_list(run, 4);
    s = ftj_flat(run, s);
    for (size_t at = 0, from = 0; at < s->n; from = at) {
        size_t end = at, next = at;
        while (at < s->n) {
            uint32_t c = ftj_next_char(s, &next);
            end = at;
            at = next;
            if (c == '\r' && at < s->n && s->p[at] == '\n') at++;
            if (ftj_char_newline(c)) break;
            end = next = at;
        }
        add_sub(run, l, s, from, keep_ends ? at : end);
    }
    ftj_work(run, s->n / 16);
    return l;
}

const ftj_str *ftj_str_join(ftj_run *run, const ftj_str *sep, const ftj_str *const *v, size_t n)
{
    ftj_out out = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (i) ftj_put_str(run, &out, sep);
        ftj_put_str(run, &out, v[i]);
    }
    return ftj_out_done(run, &out);
}

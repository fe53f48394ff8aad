/* format.c -- "…%s…" % values and "…{}…".format(values).  What a value brings keeps its history;
 * the rest belongs to whoever wrote the format string. */
#include <ctype.h>
#include <string.h>
#include "core/text/format.h"

/* Markup would escape what is put in; no template needs that. */
static void need_plain(ftj_run *run, const ftj_str *s)
{
    if (s->markup) ftj_fail_code(run, FT_EUNSUP, "formats a string marked safe");
}

/* ---- % -------------------------------------------------------------------------------------- */

typedef struct {
    ftj_run *run;
    const ftj_str *s;
    size_t at;        /* in s */
    ftj_val args;
    size_t used;      /* of a tuple of values */
} percent;

/* The character at hand; a format may not end here. */
static char peek(const percent *p)
{
    if (p->at >= p->s->n) ftj_fail(p->run, "incomplete format");
    return p->s->p[p->at];
}

/* The next of the values, or the only one. */
static ftj_val next_value(percent *p)
{
    size_t n = p->args.type == FTJ_TUPLE ? p->args.l->n : 1;
    if (p->used >= n) ftj_fail(p->run, "not enough arguments for format string");
    return p->args.type == FTJ_TUPLE ? p->args.l->v[p->used++] : (p->used++, p->args);
}

/* Width or precision: digits, or '*' for the next value. */
static int64_t read_size(percent *p, bool *negative)
{
    int64_t n = 0;
    *negative = false;
    if (p->at < p->s->n && p->s->p[p->at] == '*') {
        p->at++;
        n = ftj_want_int(p->run, next_value(p), "* wants int");
        *negative = n < 0;
        return n < 0 ? -n : n;
    }
    for (; isdigit((unsigned char)peek(p)); p->at++) {
        if (n <= FTJ_MAX_WIDTH) n = n * 10 + (peek(p) - '0');
    }
    return n;
}

/* [flags][width][.precision][h, l or L]type */
static ftj_spec read_percent_spec(percent *p)
{
    ftj_spec spec = { .precision = -1 };
    bool left = false, zero = false, negative = false;
    for (; strchr("-+ #0", peek(p)) && peek(p); p->at++) {
        char c = peek(p);
        left |= c == '-';
        zero |= c == '0';
        spec.alternate |= c == '#';
        if (c == '+' || (c == ' ' && !spec.sign)) spec.sign = c;
    }
    spec.width = read_size(p, &negative);
    left |= negative;
    if (peek(p) == '.') {
        p->at++;
        spec.precision = read_size(p, &negative);
        if (negative) spec.precision = 0;
    }
    while (strchr("hlL", peek(p)) && peek(p)) p->at++;
    spec.align = left ? '<' : '>';
    spec.type = peek(p);
    p->at++;
    if (zero && !left) {
        spec.align = '=';
        spec.fill = '0';
    }
    return spec;
}

/* One value, by the type letter. */
static void put_percent(percent *p, ftj_out *out, ftj_val v, ftj_spec *spec)
{
    ftj_run *run = p->run;
    char t = spec->type;
    if (t == 's' || t == 'r') {
        ftj_out repr = { 0 };
        if (t == 'r') ftj_repr(run, &repr, v);
        const ftj_str *text = t == 'r' ? ftj_out_done(run, &repr) : ftj_to_str(run, v);
        if (spec->align == '=') *spec = (ftj_spec){ .align = '>', .width = spec->width,
                                                    .precision = spec->precision };
        spec->sign = 0;
        spec->type = 0;
        ftj_put_formatted(run, out, ftj_of_str(text), spec);
        return;
    }
    if (v.type == FTJ_UNDEF) ftj_fail_undefined(run, v);
    if (t == 'i' || t == 'u') spec->type = t = 'd';
    if (t == 'd' && v.type == FTJ_FLOAT) v = ftj_from_float(run, v.f);
    if (t == 'c' && v.type == FTJ_STR && ftj_chars(run, v.s) == 1) {
        ftj_put_padded(run, out, v.s, spec, '>');
        return;
    }
    if (!strchr("dxXoeEfFgGc", t) || !t) {
        ftj_fail(run, "unsupported format character '%c' (0x%x) at index %zu", t ? t : '?',
                 (unsigned)t, p->at - 1);
    }
    if (!ftj_is_number(v))
        ftj_fail(run, "%%%c format: a number is required, not %s", t, ftj_type_name(v));
    ftj_put_formatted(run, out, v, spec);
}

/* "(name)": the value of that key. */
static ftj_val read_key(percent *p)
{
    size_t from = ++p->at, depth = 1;
    if (p->args.type != FTJ_DICT) ftj_fail(p->run, "format requires a mapping");
    for (; depth; p->at++) depth += (peek(p) == '(') - (size_t)(peek(p) == ')');
    const ftj_str *key = ftj_sub(p->run, p->s, from, p->at - 1);
    ftj_val v = ftj_dict_get(p->run, p->args.d, ftj_of_str(key));
    if (v.type == FTJ_MISSING) ftj_fail(p->run, "KeyError: '%.*s'", (int)key->n, key->p);
    return v;
}

ftj_val ftj_percent(ftj_run *run, const ftj_str *format, ftj_val args)
{
    percent p = { run, ftj_flat(run, format), 0, args, 0 };
    ftj_out out = { 0 };
    need_plain(run, format);
    while (p.at < p.s->n) {
        size_t from = p.at;
        const char *mark = memchr(p.s->p + from, '%', p.s->n - from);
        p.at = mark ? (size_t)(mark - p.s->p) : p.s->n;
        ftj_put_str(run, &out, ftj_sub(run, p.s, from, p.at));
        if (!mark) break;
        p.at++;
        ftj_val key = { .type = FTJ_MISSING };
        if (peek(&p) == '(') key = read_key(&p);
        ftj_spec spec = read_percent_spec(&p);
        if (spec.type == '%') ftj_put_str(run, &out, ftj_sub(run, p.s, p.at - 1, p.at));
        else put_percent(&p, &out, key.type == FTJ_MISSING ? next_value(&p) : key, &spec);
    }
    bool left = args.type == FTJ_TUPLE ? p.used < args.l->n
              : args.type != FTJ_DICT && args.type != FTJ_LIST && args.type != FTJ_UNDEF &&
                    p.used == 0; /* what can be subscripted may be left over, as in Python */
    if (left) ftj_fail(run, "not all arguments converted during string formatting");
    return ftj_of_str(ftj_out_done(run, &out));
}

/* ---- str.format ----------------------------------------------------------------------------- */

typedef struct {
    ftj_run *run;
    const ftj_args *args;
    int64_t next;  /* number of the next {} */
    bool numbered; /* a {0} was seen */
} braces;

/* The argument that a number, a name or the next {} stands for. */
static ftj_val argument(braces *b, const ftj_str *s, size_t from, size_t to)
{
    ftj_run *run = b->run;
    int64_t i = 0;
    bool digits = to > from;
    for (size_t k = from; k < to; k++) {
        digits = digits && isdigit((unsigned char)s->p[k]);
        if (digits && i < 1000) i = i * 10 + (s->p[k] - '0');
    }
    if (from == to || digits) {
        if ((from == to && b->numbered) || (digits && b->next > 0))
            ftj_fail(run, "cannot mix automatic field numbering with manual field specification");
        b->numbered |= digits;
        if (!digits) i = b->next++;
        if ((uint64_t)i >= b->args->n)
            ftj_fail(run, "Replacement index %lld out of range for positional args tuple",
                     (long long)i);
        return b->args->v[i];
    }
    for (size_t k = 0; k < b->args->n_kw; k++) {
        const char *name = b->args->kw[k].name;
        if (strlen(name) == to - from && !memcmp(name, s->p + from, to - from))
            return b->args->kw[k].v;
    }
    ftj_fail(run, "KeyError: '%.*s'", (int)(to - from), s->p + from);
}

/* The value of a field "0.name[key]". */
static ftj_val field(braces *b, const ftj_str *s, size_t from, size_t to)
{
    size_t at = from;
    while (at < to && s->p[at] != '.' && s->p[at] != '[') at++;
    ftj_val v = argument(b, s, from, at);
    while (at < to) {
        bool item = s->p[at] == '[';
        size_t start = ++at;
        while (at < to && (item ? s->p[at] != ']' : s->p[at] != '.' && s->p[at] != '[')) at++;
        if (at == start) ftj_fail(b->run, "Empty attribute in format string");
        ftj_val key = ftj_of_str(ftj_sub(b->run, s, start, at));
        if (item && strspn(s->p + start, "0123456789") >= at - start)
            ftj_parse_int(b->run, key.s, 10, &key);
        v = item ? ftj_get_item(b->run, v, key) : ftj_get_attr(b->run, v, s->p + start, at - start);
        at += item;
    }
    return v;
}

/* Digits at *at; huge ones stay above FTJ_MAX_WIDTH. */
static int64_t read_number(const ftj_str *s, size_t *at)
{
    int64_t n = 0;
    for (; *at < s->n && isdigit((unsigned char)s->p[*at]); ++*at) {
        if (n <= FTJ_MAX_WIDTH) n = n * 10 + (s->p[*at] - '0');
    }
    return n;
}

static bool is_align(const ftj_str *s, size_t at)
{
    return at < s->n && s->p[at] && strchr("<>^=", s->p[at]);
}

/* [[fill]align][sign][#][0][width][grouping][.precision][type] */
static ftj_spec read_spec(ftj_run *run, const ftj_str *s)
{
    ftj_spec spec = { .precision = -1 };
    size_t at = 0, second = 0;
    if (s->n) ftj_next_char(s, &second);
    if (s->n && is_align(s, second)) {
        spec.fill = ftj_next_char(s, &at);
        spec.align = s->p[at++];
    } else if (is_align(s, 0)) {
        spec.align = s->p[at++];
    }
    if (at < s->n && strchr("+- ", s->p[at]) && s->p[at])
        spec.sign = s->p[at] == '-' ? 0 : s->p[at];
    at += at < s->n && s->p[at] && strchr("+- ", s->p[at]);
    if (at < s->n && s->p[at] == '#') spec.alternate = ++at;
    if (at < s->n && s->p[at] == '0' && !spec.align) {
        spec.align = '=';
        spec.fill = '0';
        at++;
    }
    spec.width = read_number(s, &at);
    if (at < s->n && (s->p[at] == ',' || s->p[at] == '_')) spec.group = s->p[at++];
    if (at < s->n && s->p[at] == '.') {
        size_t from = ++at;
        spec.precision = read_number(s, &at);
        if (at == from) ftj_fail(run, "Format specifier missing precision");
    }
    if (at < s->n) spec.type = s->p[at++];
    if (at < s->n) ftj_fail(run, "Invalid format specifier");
    return spec;
}

static const ftj_str *fill_braces(braces *b, const ftj_str *s, int depth);

/* What stands in s between '{' at `from` - 1 and its '}' at `to`. */
static void put_field(braces *b, ftj_out *out, const ftj_str *s, size_t from, size_t to, int depth)
{
    ftj_run *run = b->run;
    size_t name = from, spec_at = to;
    char conversion = 0;
    for (int square = 0; name < to && (square || (s->p[name] != ':' && s->p[name] != '!')); name++)
        square += (s->p[name] == '[') - (s->p[name] == ']');
    if (name < to && s->p[name] == '!') {
        conversion = name + 1 < to ? s->p[name + 1] : 0;
        if (conversion != 'r' && conversion != 's')
            ftj_fail_code(run, FT_EUNSUP, "format: only the conversions !r and !s are supported");
        if (name + 2 < to && s->p[name + 2] != ':')
            ftj_fail(run, "expected ':' after conversion specifier");
        spec_at = name + 2 < to ? name + 3 : to;
    } else if (name < to) {
        spec_at = name + 1;
    }
    ftj_val v = field(b, s, from, name);
    ftj_out repr = { 0 };
    if (conversion == 'r') {
        ftj_repr(run, &repr, v);
        v = ftj_of_str(ftj_out_done(run, &repr));
    } else if (conversion == 's') {
        v = ftj_of_str(ftj_to_str(run, v));
    }
    const ftj_str *spec_text = fill_braces(b, ftj_sub(run, s, spec_at, to), depth + 1);
    if (spec_text->n == 0) {
        ftj_put_str(run, out, ftj_to_str(run, v));
        return;
    }
    ftj_spec spec = read_spec(run, ftj_flat(run, spec_text));
    if (ftj_is_int(v) && spec.precision >= 0 && (!spec.type || strchr("bcdoxX", spec.type)))
        ftj_fail(run, "Precision not allowed in integer format specifier");
    ftj_put_formatted(run, out, v, &spec);
}

/* s with its fields filled in; a field's specification may hold fields itself. */
static const ftj_str *fill_braces(braces *b, const ftj_str *s, int depth)
{
    ftj_run *run = b->run;
    ftj_out out = { 0 };
    s = ftj_flat(run, s);
    if (depth > 2) ftj_fail(run, "Max string recursion exceeded");
    for (size_t at = 0; at < s->n;) {
        size_t from = at;
        while (at < s->n && s->p[at] != '{' && s->p[at] != '}') at++;
        ftj_put_str(run, &out, ftj_sub(run, s, from, at));
        if (at >= s->n) break;
        char c = s->p[at++];
        if (at < s->n && s->p[at] == c && depth == 1) {
            ftj_put_str(run, &out, ftj_sub(run, s, at, at + 1));
            at++;
            continue;
        }
        if (c == '}') ftj_fail(run, "Single '}' encountered in format string");
        from = at;
        for (int open = 1; open; at++) {
            if (at >= s->n) ftj_fail(run, "expected '}' before end of string");
            open += (s->p[at] == '{') - (s->p[at] == '}');
        }
        put_field(b, &out, s, from, at - 1, depth);
    }
    return ftj_out_done(run, &out);
}

ftj_val ftj_format(ftj_run *run, const ftj_str *format, const ftj_args *args)
{
    braces b = { run, args, 0, false };
    need_plain(run, format);
    return ftj_of_str(fill_braces(&b, format, 1));
}

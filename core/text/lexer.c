/* lexer.c -- a template's text into tokens, by the rules of Jinja's lexer with trim_blocks and
 * lstrip_blocks set as transformers sets them:
 *   - line ends become \n, and one at the very end is dropped;
 *   - `-` inside a tag's bracket strips all white space on that side; `+` keeps it;
 *   - else the first \n after a block or comment is dropped, and white space before one goes when
 *     nothing else stands before it on its line;
 *   - }} and %} inside brackets are operators.
 * Checked against jinja2 itself by tests/tools/template-diff.py. */
#include "core/text/lexer.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "core/base/utf8.h"
#include "core/text/unicode.h"

typedef struct {
    ftj_run *run;
    const char *s;
    size_t n, at;
    uint32_t line;
    size_t line_counted;   /* newlines before this byte are in `line` */
    bool line_starting;    /* the last thing matched ended with \n */
    char bracket[FTJ_MAX_NEST];
    size_t open;           /* brackets not yet closed */
    ftj_tokens *out;
    uint32_t cap;
} lexer;

_Noreturn void ftj_fail_at(ftj_run *run, const ftj_tokens *t, size_t at, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    uint32_t line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at && i < t->source_len; i++) {
        if (t->source[i] != '\n') continue;
        line++;
        start = i + 1;
    }
    ft_errf(run->err, FT_EINVAL, "%s:%u:%zu: %s", run->what, line, at - start + 1, text);
    longjmp(run->trap, 1);
}

/* Brings x->line up to byte `to`. */
static void count_lines(lexer *x, size_t to)
{
    for (; x->line_counted < to; x->line_counted++) x->line += x->s[x->line_counted] == '\n';
}

/* Appends a token that starts at byte `at`. */
static void add(lexer *x, int type, size_t at, const char *p, size_t n)
{
    ftj_tokens *t = x->out;
    count_lines(x, at);
    t->token = ftj_grow(x->run, t->token, t->n, &x->cap, sizeof *t->token);
    t->token[t->n++] = (ftj_token){ type, x->line, at, p, n };
}

/* Whether the source goes on with the text at `at`. */
static bool looks(const lexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return x->n - at >= n && at <= x->n && !memcmp(x->s + at, text, n);
}

/* Past the white space from `at` on. */
static size_t skip_space(const lexer *x, size_t at)
{
    while (at < x->n) {
        size_t k = ft_utf8_length(x->s + at, x->n - at);
        if (!ftj_char_space(ft_utf8_decode(x->s + at, k))) break;
        at += k;
    }
    return at;
}

/* Back to the end of what is not white space in [from, to). */
static size_t strip_end(const lexer *x, size_t from, size_t to)
{
    while (to > from) {
        size_t i = to - 1;
        while (i > from && (x->s[i] & 0xC0) == 0x80) i--;
        if (!ftj_char_space(ft_utf8_decode(x->s + i, to - i))) break;
        to = i;
    }
    return to;
}

/* Where the text [from, to) before a tag really ends; sign: the character after the tag's "{%". */
static size_t text_end(const lexer *x, size_t from, size_t to, char sign, bool variable)
{
    if (sign == '-') return strip_end(x, from, to);
    if (sign == '+' || variable) return to;
    size_t line = to;
    while (line > from && x->s[line - 1] != '\n') line--;
    if (line == from && !x->line_starting) return to;
    return strip_end(x, line, to) == line ? line : to;
}

/* ---- strings -------------------------------------------------------------------------------- */

/* Up to three octal digits at s; how many there are. */
static size_t put_octal(const char *s, size_t n, uint32_t *c)
{
    size_t k = 0;
    for (*c = 0; k < 3 && k < n && s[k] >= '0' && s[k] <= '7'; k++)
        *c = *c * 8 + (uint32_t)(s[k] - '0');
    return k;
}

/* \xHH, \uHHHH, \UHHHHHHHH: the digits at s. */
static bool read_hex(const char *s, size_t n, size_t digits, uint32_t *c)
{
    *c = 0;
    if (n < digits) return false;
    for (size_t i = 0; i < digits; i++) {
        if (!isxdigit((unsigned char)s[i])) return false;
        int d = isdigit((unsigned char)s[i]) ? s[i] - '0' : tolower((unsigned char)s[i]) - 'a' + 10;
        *c = *c * 16 + (uint32_t)d;
    }
    return *c <= 0x10FFFF && (*c < 0xD800 || *c > 0xDFFF);
}

/* The escape at s (after its backslash) into out; returns the bytes it takes, 0: keep the
 * backslash, SIZE_MAX: an error. */
static size_t read_escape(const char *s, size_t n, char out[4], size_t *out_n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    uint32_t c;
    size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    const char *p = s[0] ? strchr(from, s[0]) : NULL;
    *out_n = 0;
    if (s[0] == '\n') return 1;
    if (s[0] == 'N') return SIZE_MAX; /* \N{…}: a table of names that nobody needs */
    if (p) {
        out[(*out_n)++] = to[p - from];
        return 1;
    }
    if (digits) {
        if (!read_hex(s + 1, n - 1, digits, &c)) return SIZE_MAX;
        *out_n = ft_utf8_encode(c, out);
        return digits + 1;
    }
    size_t k = put_octal(s, n, &c);
    if (k) *out_n = ft_utf8_encode(c, out);
    return k;
}

/* The literal in [from, to), quotes included, without its escapes. */
static void add_string(lexer *x, size_t from, size_t to)
{
    char *text = ftj_alloc(x->run, to - from + 1);
    size_t n = 0;
    for (size_t i = from + 1; i < to - 1;) {
        char b[4];
        size_t k;
        size_t used = x->s[i] == '\\' ? read_escape(x->s + i + 1, to - 2 - i, b, &k) : 0;
        if (used == SIZE_MAX)
            ftj_fail_at(x->run, x->out, i, "this escape in a string is not supported");
        if (x->s[i] == '\\' && used) {
            memcpy(text + n, b, k);
            n += k;
            i += used + 1;
        } else {
            text[n++] = x->s[i++];
        }
    }
    add(x, FTJ_T_STRING, from, text, n);
}

/* Past the closing quote of the literal at x->at, or 0. */
static size_t string_end(const lexer *x)
{
    char quote = x->s[x->at];
    for (size_t i = x->at + 1; i < x->n; i++) {
        if (x->s[i] == quote) return i + 1;
        if (x->s[i] == '\\') i++;
    }
    return 0;
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Past digits of the base with single underscores between them; `at` itself when there is none. */
static size_t digits_end(const lexer *x, size_t at, int base)
{
    size_t i = at;
    for (;; i++) {
        bool under = i > at && i < x->n && x->s[i] == '_';
        size_t k = i + under;
        int c = k < x->n ? tolower((unsigned char)x->s[k]) : 0;
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
        if (d >= base) return i;
        i = k;
    }
}

/* End of a float at x->at, or 0. */
static size_t float_end(const lexer *x)
{
    size_t whole = digits_end(x, x->at, 10), i = whole;
    if (whole == x->at || (x->at && x->s[x->at - 1] == '.')) return 0;
    if (i < x->n && x->s[i] == '.') {
        size_t k = digits_end(x, i + 1, 10);
        if (k > i + 1) i = k;
    }
    if (i < x->n && (x->s[i] == 'e' || x->s[i] == 'E')) {
        size_t k = i + 1 + (i + 1 < x->n && (x->s[i + 1] == '+' || x->s[i + 1] == '-'));
        size_t end = digits_end(x, k, 10);
        if (end > k) return end;
    }
    return i > whole ? i : 0;
}

/* End of the integer at x->at: 0b, 0o, 0x, decimal, or zeros. */
static size_t integer_end(const lexer *x)
{
    size_t i = x->at;
    int c = i + 1 < x->n ? tolower((unsigned char)x->s[i + 1]) : 0;
    int base = x->s[i] != '0' ? 10 : c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 1;
    if (base == 1 || base == 10) return digits_end(x, i, base);
    size_t from = i + 2 + (i + 2 < x->n && x->s[i + 2] == '_'), end = digits_end(x, from, base);
    return end > from ? end : i + 1;
}

/* ---- inside tags ---------------------------------------------------------------------------- */

/* End of the name at x->at, x->at itself when there is none. */
static size_t name_end(const lexer *x)
{
    size_t i = x->at;
    while (i < x->n) {
        size_t k = ft_utf8_length(x->s + i, x->n - i);
        if (!ftj_char_name(ft_utf8_decode(x->s + i, k), i == x->at)) break;
        i += k;
    }
    return i;
}

/* Keeps count of the brackets that are open. */
static void bracket(lexer *x, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *p = strchr(open, c);
    if (p) {
        if (x->open == FTJ_MAX_NEST)
            ftj_fail_at(x->run, x->out, x->at, "brackets nested deeper than %d", FTJ_MAX_NEST);
        x->bracket[x->open++] = close[p - open];
    } else if (strchr(close, c)) {
        if (!x->open) ftj_fail_at(x->run, x->out, x->at, "unexpected '%c'", c);
        if (x->bracket[--x->open] != c)
            ftj_fail_at(x->run, x->out, x->at, "unexpected '%c', expected '%c'", c,
                        x->bracket[x->open]);
    }
}

/* The longest operator that fits. */
static void add_operator(lexer *x)
{
    static const struct { char text[3]; int type; } two[] = {
        { "//", FTJ_T_FLOORDIV }, { "**", FTJ_T_POW }, { "==", FTJ_T_EQ }, { "!=", FTJ_T_NE },
        { ">=", FTJ_T_GE }, { "<=", FTJ_T_LE },
    };
    for (size_t i = 0; i < sizeof two / sizeof *two; i++) {
        if (!looks(x, x->at, two[i].text)) continue;
        add(x, two[i].type, x->at, x->s + x->at, 2);
        x->at += 2;
        return;
    }
    char c = x->s[x->at];
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
        ftj_fail_at(x->run, x->out, x->at, "unexpected character");
    bracket(x, c);
    add(x, c, x->at, x->s + x->at, 1);
    x->at++;
}

/* One token inside of a tag. */
static void add_inside(lexer *x)
{
    char c = x->s[x->at];
    size_t end;
    if (isdigit((unsigned char)c) && (end = float_end(x)) != 0) {
        add(x, FTJ_T_FLOAT, x->at, x->s + x->at, end - x->at);
    } else if (isdigit((unsigned char)c)) {
        end = integer_end(x);
        add(x, FTJ_T_INTEGER, x->at, x->s + x->at, end - x->at);
    } else if ((end = name_end(x)) > x->at) {
        add(x, FTJ_T_NAME, x->at, x->s + x->at, end - x->at);
    } else if ((c == '"' || c == '\'') && (end = string_end(x)) != 0) {
        add_string(x, x->at, end);
    } else {
        add_operator(x);
        return;
    }
    x->at = end;
}

/* The end of a tag at x->at: "%}", "-%}" (and the white space after it) or, for blocks, "+%}".
 * Returns the byte after it, or 0. */
static size_t tag_end(const lexer *x, size_t at, const char *close, bool block)
{
    if (looks(x, at, "-") && looks(x, at + 1, close)) return skip_space(x, at + 3);
    if (block && looks(x, at, "+") && looks(x, at + 1, close)) return at + 3;
    if (!looks(x, at, close)) return 0;
    return at + 2 + (block && looks(x, at + 2, "\n"));
}

/* From behind "{{" or "{%" to behind its end. */
static void lex_tag(lexer *x, bool block)
{
    const char *close = block ? "%}" : "}}";
    size_t opened = x->at - 2, end;
    x->open = 0;
    for (;;) {
        if (!x->open && (end = tag_end(x, x->at, close, block)) != 0) break;
        size_t next = skip_space(x, x->at);
        if (next > x->at) {
            x->at = next;
            continue;
        }
        if (x->at >= x->n) ftj_fail_at(x->run, x->out, opened, "this tag does not end");
        add_inside(x);
    }
    add(x, block ? FTJ_T_BLOCK_END : FTJ_T_VARIABLE_END, x->at, x->s + x->at, end - x->at);
    x->at = end;
}

/* From behind "{#" to behind its end. */
static void lex_comment(lexer *x)
{
    size_t opened = x->at - 2, end = 0;
    if (x->at == x->n) return; /* Jinja lets a template end with "{#" */
    for (; x->at < x->n; x->at++) {
        if ((end = tag_end(x, x->at, "#}", true)) != 0) break;
    }
    if (!end) ftj_fail_at(x->run, x->out, opened, "Missing end of comment tag");
    x->at = end;
}

/* ---- outside tags --------------------------------------------------------------------------- */

/* "{% raw %}" at `at`: the byte after it, or 0. */
static size_t raw_begin(const lexer *x, size_t at)
{
    if (!looks(x, at, "{%")) return 0;
    at += 2;
    at += looks(x, at, "-") || looks(x, at, "+");
    at = skip_space(x, at);
    if (!looks(x, at, "raw")) return 0;
    at = skip_space(x, at + 3);
    if (looks(x, at, "-%}")) return skip_space(x, at + 3);
    return looks(x, at, "%}") ? at + 2 : 0;
}

/* "{% endraw %}" at `at`: the byte after it, or 0. */
static size_t raw_end(const lexer *x, size_t at)
{
    if (!looks(x, at, "{%")) return 0;
    at += 2;
    at += looks(x, at, "-") || looks(x, at, "+");
    at = skip_space(x, at);
    if (!looks(x, at, "endraw")) return 0;
    return tag_end(x, skip_space(x, at + 6), "%}", true);
}

/* The text [from, to), unless it is empty. */
static void add_text(lexer *x, size_t from, size_t to)
{
    if (to > from) add(x, FTJ_T_DATA, from, x->s + from, to - from);
}

/* From behind {% raw %} to behind {% endraw %}. */
static void lex_raw(lexer *x, size_t opened)
{
    size_t from = x->at, end = 0;
    if (from == x->n) return; /* as with "{#" */
    for (; x->at < x->n; x->at++) {
        if ((end = raw_end(x, x->at)) != 0) break;
    }
    if (!end) ftj_fail_at(x->run, x->out, opened, "Missing end of raw directive");
    add_text(x, from, text_end(x, from, x->at, x->s[x->at + 2], false));
    x->at = end;
}

/* Text up to the next tag, and that tag. */
static void lex_outside(lexer *x)
{
    size_t from = x->at, at = from;
    while (at < x->n && !looks(x, at, "{{") && !looks(x, at, "{%") && !looks(x, at, "{#")) at++;
    if (at >= x->n) {
        add_text(x, from, at);
        x->at = at;
        return;
    }
    char kind = x->s[at + 1], sign = at + 2 < x->n ? x->s[at + 2] : 0;
    add_text(x, from, text_end(x, from, at, sign, kind == '{'));
    size_t raw = raw_begin(x, at);
    if (raw) {
        x->at = raw;
        x->line_starting = x->s[raw - 1] == '\n';
        lex_raw(x, at);
    } else {
        if (kind != '#')
            add(x, kind == '{' ? FTJ_T_VARIABLE_BEGIN : FTJ_T_BLOCK_BEGIN, at, x->s + at, 2);
        x->at = at + 2 + (sign == '-' || sign == '+');
        if (kind == '#') lex_comment(x);
        else lex_tag(x, kind == '%');
    }
    x->line_starting = x->s[x->at - 1] == '\n';
}

/* A copy with \n as the only line end, less one at the very end. */
static const char *normalise(ftj_run *run, const char *s, size_t n, size_t *out_n)
{
    char *out = ftj_alloc(run, n + 1);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\r' && i + 1 < n && s[i + 1] == '\n') continue;
        out[k++] = s[i] == '\r' ? '\n' : s[i];
    }
    if (k && out[k - 1] == '\n') out[--k] = 0;
    *out_n = k;
    return out;
}

ftj_tokens *ftj_tokenize(ftj_run *run, const char *source, size_t n)
{
    ftj_tokens *t = ftj_alloc(run, sizeof *t);
    lexer x = { .run = run, .line = 1, .line_starting = true, .out = t };
    x.s = t->source = normalise(run, source, n, &x.n);
    t->source_len = x.n;
    while (x.at < x.n) lex_outside(&x);
    add(&x, FTJ_T_EOF, x.n, "", 0);
    return t;
}

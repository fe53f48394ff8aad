/* json_check.c -- see json_check.h.  Grammar: RFC 8259, with the refusals that ft/json.h lists but
 * that of duplicate keys, which json.c finds in the tree.  Nothing is allocated but four bytes for
 * every array and object; recursion is bounded by FT_JSON_DEPTH. */
#include "core/base/json_check.h"
#include "core/base/utf8.h"

typedef ft_json_check reader;

int ft_json_fail_at(const reader *r, size_t at, const char *msg)
{
    size_t line = 1, start = 0;
    for (size_t i = 0; i < at && i < r->n; i++) {
        if (r->s[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    return ft_errf(r->err, FT_EFORMAT, "%s:%zu:%zu: %s", r->what, line, at - start + 1, msg);
}

static int fail(const reader *r, const char *msg) { return ft_json_fail_at(r, r->at, msg); }

void ft_json_skip_space(reader *r)
{
    while (r->at < r->n) {
        char c = r->s[r->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
        r->at++;
    }
}

/* ---- numbers --------------------------------------------------------------------------------- */

static bool digit_at(const reader *r, size_t i)
{
    return i < r->n && r->s[i] >= '0' && r->s[i] <= '9';
}

static int check_number(reader *r)
{
    size_t i = r->at;
    if (r->s[i] == '-') i++;
    if (!digit_at(r, i)) return ft_json_fail_at(r, i, "a number needs a digit here");
    if (r->s[i] == '0' && digit_at(r, i + 1))
        return ft_json_fail_at(r, i, "a number may not start with 0");
    while (digit_at(r, i)) i++;
    if (i < r->n && r->s[i] == '.') {
        if (!digit_at(r, ++i))
            return ft_json_fail_at(r, i, "a digit must follow the decimal point");
        while (digit_at(r, i)) i++;
    }
    if (i < r->n && (r->s[i] == 'e' || r->s[i] == 'E')) {
        i++;
        if (i < r->n && (r->s[i] == '+' || r->s[i] == '-')) i++;
        if (!digit_at(r, i)) return ft_json_fail_at(r, i, "a digit must follow the exponent sign");
        while (digit_at(r, i)) i++;
    }
    r->at = i;
    return 0;
}

/* ---- strings --------------------------------------------------------------------------------- */

static uint32_t hex_digit(char c)
{
    return c >= '0' && c <= '9' ? (uint32_t)(c - '0')
         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16;
}

/* Four hexadecimal digits at s, of which `left` bytes may be read. */
static bool hex4(const char *s, size_t left, uint32_t *out)
{
    uint32_t u = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t d = i < left ? hex_digit(s[i]) : 16;
        if (d == 16) return false;
        u = u * 16 + d;
    }
    *out = u;
    return true;
}

/* \uXXXX with r->at on the 'u'; a high surrogate must be followed by its low one. */
static int check_unicode_escape(reader *r)
{
    uint32_t u, low = 0;
    if (!hex4(r->s + r->at + 1, r->n - r->at - 1, &u))
        return fail(r, "\\u needs four hexadecimal digits");
    size_t end = r->at + 5;
    if (u >= 0xDC00 && u <= 0xDFFF) return fail(r, "lone low surrogate");
    if (u >= 0xD800 && u <= 0xDBFF) {
        bool two = end + 6 <= r->n && r->s[end] == '\\' && r->s[end + 1] == 'u';
        if (two) hex4(r->s + end + 2, r->n - end - 2, &low);
        if (low < 0xDC00 || low > 0xDFFF)
            return fail(r, "lone high surrogate");
        end += 6;
    }
    r->at = end;
    return 0;
}

static const char escape_from[] = "\"\\/bfnrt", escape_to[] = "\"\\/\b\f\n\r\t";

static int check_escape(reader *r)
{
    r->at++;
    if (r->at >= r->n) return fail(r, "string does not end");
    char c = r->s[r->at];
    if (c == 'u') return check_unicode_escape(r);
    if (!c || !strchr(escape_from, c)) return fail(r, "unknown escape in a string");
    r->at++;
    return 0;
}

/* A string, r->at on its quote; *escaped: it holds escapes. */
static int check_string(reader *r, bool *escaped)
{
    size_t open = r->at++;
    *escaped = false;
    while (r->at < r->n && r->s[r->at] != '"') {
        unsigned char c = (unsigned char)r->s[r->at];
        if (c < 0x20) return fail(r, "control character in a string; write it as \\u00XX");
        if (c == '\\') {
            int code = check_escape(r);
            if (code) return code;
            *escaped = true;
            continue;
        }
        size_t k = ft_utf8_length(r->s + r->at, r->n - r->at);
        if (k == 0) return fail(r, "invalid UTF-8");
        r->at += k;
    }
    if (r->at >= r->n) return ft_json_fail_at(r, open, "string does not end");
    r->at++;
    return 0;
}

/* The code point of \uXXXX (and of the pair behind a high surrogate); s is behind the 'u'. */
static size_t unescape_unicode(char *to, const char **s)
{
    uint32_t u = 0, low = 0;
    hex4(*s, 4, &u);
    *s += 4;
    if (u >= 0xD800 && u <= 0xDBFF) {
        hex4(*s + 2, 4, &low);
        u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
        *s += 6;
    }
    return ft_utf8_encode(u, to);
}

size_t ft_json_unescape(char *to, const char *from, size_t n)
{
    const char *end = from + n;
    char *start = to;
    while (from < end) {
        const char *stop = memchr(from, '\\', (size_t)(end - from));
        size_t k = (size_t)((stop ? stop : end) - from);
        if (to != from) memmove(to, from, k);
        to += k;
        from += k;
        if (from == end) break;
        char c = from[1], u[4];
        from += 2;
        if (c != 'u') {
            *to++ = escape_to[strchr(escape_from, c) - escape_from];
            continue;
        }
        size_t m = unescape_unicode(u, &from);
        memcpy(to, u, m);
        to += m;
    }
    return (size_t)(to - start);
}

/* ---- values ---------------------------------------------------------------------------------- */

size_t ft_json_tree_bytes(const reader *r)
{
    /* Sorting the keys of an object takes a pointer each, and as much again inside qsort. */
    return r->values * sizeof(ft_json) + r->counts.n + r->escaped_keys +
           r->widest * 2 * sizeof(ft_json *);
}

int ft_json_check_key(reader *r, size_t *from, size_t *n)
{
    bool escaped;
    if (r->at >= r->n || r->s[r->at] != '"') return fail(r, "a key in quotes must stand here");
    *from = r->at + 1;
    int code = check_string(r, &escaped);
    if (code) return code;
    *n = r->at - 1 - *from;
    if (escaped) r->escaped_keys += *n + 1;
    ft_json_skip_space(r);
    if (r->at >= r->n || r->s[r->at] != ':') return fail(r, "':' must follow a key");
    r->at++;
    return 0;
}

/* One item of an array or object, r->at on its first character or white space before it. */
static int check_item(reader *r, bool object, int depth)
{
    size_t from, n;
    ft_json_skip_space(r);
    int code = object ? ft_json_check_key(r, &from, &n) : 0;
    if (!code) code = ft_json_check_value(r, depth);
    if (code) return code;
    r->values++;
    if (ft_json_tree_bytes(r) > r->limit)
        return fail(r, "one value has more parts than are allowed here");
    return 0;
}

/* Array or object; r->at on its bracket. */
static int check_items(reader *r, int depth)
{
    bool object = r->s[r->at] == '{';
    char close = object ? '}' : ']';
    size_t slot = r->counts.n;
    uint32_t items = 0;
    if (depth >= FT_JSON_DEPTH) return fail(r, "nested deeper than 512");
    ft_buf_add(&r->counts, &items, sizeof items);
    if (r->counts.oom)
        return ft_errf(r->err, FT_ENOMEM, "%s: out of memory while reading JSON", r->what);
    r->at++;
    ft_json_skip_space(r);
    bool more = !(r->at < r->n && r->s[r->at] == close);
    while (more) {
        int code = check_item(r, object, depth + 1);
        if (code) return code;
        items++;
        ft_json_skip_space(r);
        if (r->at >= r->n) return fail(r, object ? "object does not end" : "array does not end");
        if (r->s[r->at] != ',' && r->s[r->at] != close)
            return fail(r, "',' or the end must stand here");
        more = r->s[r->at] == ',';
        if (more) r->at++;
    }
    r->at++;
    memcpy(r->counts.p + slot, &items, sizeof items);
    if (object && items > r->widest) r->widest = items;
    return 0;
}

static int check_word(reader *r)
{
    static const char *const words[] = { "null", "true", "false" };
    for (size_t i = 0; i < 3; i++) {
        size_t k = strlen(words[i]);
        if (r->n - r->at >= k && !memcmp(r->s + r->at, words[i], k)) {
            r->at += k;
            return 0;
        }
    }
    return fail(r, "a JSON value must stand here");
}

int ft_json_check_value(reader *r, int depth)
{
    bool escaped;
    ft_json_skip_space(r);
    if (r->at >= r->n) return fail(r, "the text ends where a value must stand");
    char c = r->s[r->at];
    if (c == '{' || c == '[') return check_items(r, depth);
    if (c == '-' || (c >= '0' && c <= '9')) return check_number(r);
    return c == '"' ? check_string(r, &escaped) : check_word(r);
}

/* json.c -- a strict JSON reader into a tree of plain structs, and the writing of strings.
 *
 * Grammar: RFC 8259, with the refusals that ft/json.h lists.  One pass, recursion bounded by
 * DEPTH.  Items of an array or object are collected on a stack and copied, contiguous, into the
 * arena when their bracket closes; duplicate keys are found by sorting pointers to them.  Why not
 * cJSON: it accepts duplicate keys, trailing bytes, invalid UTF-8, cuts strings at \u0000 and keeps
 * numbers as doubles, so that 1.0 becomes 1 in a chat template. */
#include "core/base/json.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include "core/base/arena.h"
#include "core/base/utf8.h"

enum { DEPTH = 512 };

struct ft_json_doc {
    ft_arena arena;
    ft_json root;
};

typedef struct {
    const char *what, *s;
    size_t n, at;
    ft_arena *arena;
    ft_buf stack;   /* ft_json items of the open arrays and objects */
    ft_buf scratch; /* the string being unescaped */
    size_t limit;   /* most bytes that a tree may take; 0: any */
    ft_err *err;
} reader;

/* Line and column (in bytes, from 1) of offset `at`. */
static int fail_at(reader *r, size_t at, const char *msg)
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

static int fail(reader *r, const char *msg) { return fail_at(r, r->at, msg); }
static int no_memory(reader *r)
{
    return ft_errf(r->err, FT_ENOMEM, "%s: out of memory while reading JSON", r->what);
}

static void skip_space(reader *r)
{
    while (r->at < r->n) {
        char c = r->s[r->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') break;
        r->at++;
    }
}

static bool digit_at(const reader *r, size_t i)
{
    return i < r->n && r->s[i] >= '0' && r->s[i] <= '9';
}

static int read_number(reader *r, ft_json *v)
{
    size_t from = r->at, i = from;
    if (r->s[i] == '-') i++;
    if (!digit_at(r, i)) return fail_at(r, i, "a number needs a digit here");
    if (r->s[i] == '0' && digit_at(r, i + 1)) return fail_at(r, i, "a number may not start with 0");
    while (digit_at(r, i)) i++;
    if (i < r->n && r->s[i] == '.') {
        if (!digit_at(r, ++i)) return fail_at(r, i, "a digit must follow the decimal point");
        while (digit_at(r, i)) i++;
    }
    if (i < r->n && (r->s[i] == 'e' || r->s[i] == 'E')) {
        i++;
        if (i < r->n && (r->s[i] == '+' || r->s[i] == '-')) i++;
        if (!digit_at(r, i)) return fail_at(r, i, "a digit must follow the exponent sign");
        while (digit_at(r, i)) i++;
    }
    v->type = FT_JSON_NUMBER;
    v->len = i - from;
    v->text = ft_arena_strndup(r->arena, r->s + from, v->len);
    r->at = i;
    return v->text ? 0 : no_memory(r);
}

static int hex4(const reader *r, size_t at, uint32_t *out)
{
    uint32_t u = 0;
    for (size_t i = at; i < at + 4; i++) {
        if (i >= r->n) return -1;
        char c = r->s[i];
        uint32_t d = c >= '0' && c <= '9' ? (uint32_t)(c - '0')
                   : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                   : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10) : 16;
        if (d == 16) return -1;
        u = u * 16 + d;
    }
    *out = u;
    return 0;
}

/* \uXXXX with r->at on the 'u'; a high surrogate must be followed by its low one. */
static int read_unicode_escape(reader *r)
{
    uint32_t u, low;
    if (hex4(r, r->at + 1, &u)) return fail(r, "\\u needs four hexadecimal digits");
    size_t end = r->at + 5;
    if (u >= 0xDC00 && u <= 0xDFFF) return fail(r, "lone low surrogate");
    if (u >= 0xD800 && u <= 0xDBFF) {
        if (end + 6 > r->n || r->s[end] != '\\' || r->s[end + 1] != 'u' ||
            hex4(r, end + 2, &low) || low < 0xDC00 || low > 0xDFFF)
            return fail(r, "lone high surrogate");
        u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
        end += 6;
    }
    char b[4];
    ft_buf_add(&r->scratch, b, ft_utf8_encode(u, b));
    r->at = end;
    return 0;
}

static int read_escape(reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    r->at++;
    if (r->at >= r->n) return fail(r, "string does not end");
    char c = r->s[r->at];
    if (c == 'u') return read_unicode_escape(r);
    const char *p = c ? strchr(from, c) : NULL;
    if (!p) return fail(r, "unknown escape in a string");
    ft_buf_putc(&r->scratch, to[p - from]);
    r->at++;
    return 0;
}

/* A string, r->at on its quote; the unescaped bytes go to the arena. */
static int read_string(reader *r, const char **text, size_t *len)
{
    size_t open = r->at++;
    r->scratch.n = 0;
    while (r->at < r->n && r->s[r->at] != '"') {
        unsigned char c = (unsigned char)r->s[r->at];
        if (c < 0x20) return fail(r, "control character in a string; write it as \\u00XX");
        if (c == '\\') {
            int code = read_escape(r);
            if (code) return code;
            continue;
        }
        size_t k = ft_utf8_length(r->s + r->at, r->n - r->at);
        if (k == 0) return fail(r, "invalid UTF-8");
        ft_buf_add(&r->scratch, r->s + r->at, k);
        r->at += k;
    }
    if (r->at >= r->n) return fail_at(r, open, "string does not end");
    r->at++;
    if (r->scratch.oom) return no_memory(r);
    *len = r->scratch.n;
    *text = ft_arena_strndup(r->arena, r->scratch.p ? r->scratch.p : "", *len);
    return *text ? 0 : no_memory(r);
}

static int compare_keys(const void *a, const void *b)
{
    const ft_json *x = *(const ft_json *const *)a, *y = *(const ft_json *const *)b;
    size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, n);
    if (c) return c;
    if (x->key_len != y->key_len) return x->key_len < y->key_len ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int refuse_duplicates(reader *r, const ft_json *item, size_t n)
{
    if (n < 2) return 0;
    const ft_json **p = malloc(n * sizeof *p);
    if (!p) return no_memory(r);
    for (size_t i = 0; i < n; i++) p[i] = &item[i];
    qsort(p, n, sizeof *p, compare_keys);
    int code = 0;
    for (size_t i = 1; i < n && !code; i++) {
        if (p[i]->key_len == p[i - 1]->key_len &&
            !memcmp(p[i]->key, p[i - 1]->key, p[i]->key_len)) {
            char msg[160];
            snprintf(msg, sizeof msg, "duplicate key \"%.100s\"", p[i]->key);
            code = fail_at(r, p[i]->at, msg);
        }
    }
    free(p);
    return code;
}

static int read_value(reader *r, ft_json *v, int depth);

/* "key" : with r->at on the quote; ends behind the colon. */
static int read_key(reader *r, const char **key, size_t *len)
{
    if (r->at >= r->n || r->s[r->at] != '"') return fail(r, "a key in quotes must stand here");
    int code = read_string(r, key, len);
    if (code) return code;
    skip_space(r);
    if (r->at >= r->n || r->s[r->at] != ':') return fail(r, "':' must follow a key");
    r->at++;
    return 0;
}

/* "key" : value, with r->at on the quote. */
static int read_member(reader *r, ft_json *item, int depth)
{
    const char *key;
    size_t key_len;
    int code = read_key(r, &key, &key_len);
    if (code) return code;
    code = read_value(r, item, depth);
    item->key = key;
    item->key_len = key_len;
    return code;
}

/* Array or object; r->at on its bracket. */
static int read_items(reader *r, ft_json *v, int depth)
{
    bool object = r->s[r->at] == '{';
    char close = object ? '}' : ']';
    size_t base = r->stack.n;
    if (depth >= DEPTH) return fail(r, "nested deeper than 512");
    v->type = object ? FT_JSON_OBJECT : FT_JSON_ARRAY;
    r->at++;
    skip_space(r);
    bool more = !(r->at < r->n && r->s[r->at] == close);
    while (more) {
        ft_json item = { 0 };
        skip_space(r);
        int code = object ? read_member(r, &item, depth + 1) : read_value(r, &item, depth + 1);
        if (code) return code;
        ft_buf_add(&r->stack, &item, sizeof item);
        if (r->limit && r->stack.n + r->arena->used > r->limit)
            return fail(r, "one value has more parts than are allowed here");
        skip_space(r);
        if (r->at >= r->n) return fail(r, object ? "object does not end" : "array does not end");
        if (r->s[r->at] != ',' && r->s[r->at] != close)
            return fail(r, "',' or the end must stand here");
        more = r->s[r->at] == ',';
        if (more) r->at++;
    }
    r->at++;
    if (r->stack.oom) return no_memory(r);
    v->len = (r->stack.n - base) / sizeof(ft_json);
    ft_json *item = ft_arena_array(r->arena, v->len, sizeof *item);
    if (!item) return no_memory(r);
    if (v->len) memcpy(item, r->stack.p + base, v->len * sizeof *item);
    v->item = item;
    r->stack.n = base;
    return object ? refuse_duplicates(r, item, v->len) : 0;
}

static int read_word(reader *r, ft_json *v)
{
    static const struct { const char *word; ft_json_type type; bool truth;
    } words[] = {
        { "null", FT_JSON_NULL, false },
        { "true", FT_JSON_BOOL, true },
        { "false", FT_JSON_BOOL, false },
    };
    for (size_t i = 0; i < 3; i++) {
        size_t k = strlen(words[i].word);
        if (r->n - r->at >= k && !memcmp(r->s + r->at, words[i].word, k)) {
            v->type = words[i].type;
            v->truth = words[i].truth;
            r->at += k;
            return 0;
        }
    }
    return fail(r, "a JSON value must stand here");
}

static int read_value(reader *r, ft_json *v, int depth)
{
    skip_space(r);
    if (r->at >= r->n) return fail(r, "the text ends where a value must stand");
    v->at = r->at;
    char c = r->s[r->at];
    if (c == '{' || c == '[') return read_items(r, v, depth);
    if (c == '-' || (c >= '0' && c <= '9')) return read_number(r, v);
    if (c != '"') return read_word(r, v);
    v->type = FT_JSON_STRING;
    return read_string(r, &v->text, &v->len);
}

ft_json_doc *ft_json_parse_prefix(const char *what, const char *text, size_t n, size_t *used,
                                  ft_err *e)
{
    ft_json_doc *doc = calloc(1, sizeof *doc);
    if (!doc) {
        ft_errf(e, FT_ENOMEM, "%s: out of memory while reading JSON", what);
        return NULL;
    }
    reader r = { .what = what, .s = text, .n = n, .arena = &doc->arena, .err = e };
    int code = read_value(&r, &doc->root, 0);
    skip_space(&r);
    if (!code && !used && r.at < n) code = fail(&r, "nothing may follow the JSON value");
    if (used) *used = r.at;
    ft_buf_free(&r.stack);
    ft_buf_free(&r.scratch);
    if (!code) return doc;
    ft_json_done(doc);
    return NULL;
}

ft_json_doc *ft_json_parse(const char *what, const char *text, size_t n, ft_err *e)
{
    return ft_json_parse_prefix(what, text, n, NULL, e);
}

/* The members of the object at r->at; with `inside`, those of the object under that key. */
static int each_member(reader *r, const char *inside, ft_json_member on, void *ctx)
{
    if (r->at >= r->n || r->s[r->at] != '{') return fail(r, "an object must stand here");
    r->at++;
    skip_space(r);
    bool more = !(r->at < r->n && r->s[r->at] == '}'), entered = false;
    while (more) {
        ft_json v = { 0 };
        const char *key;
        size_t key_len;
        skip_space(r);
        int code = read_key(r, &key, &key_len);
        if (!code && inside && key_len == strlen(inside) && !memcmp(key, inside, key_len)) {
            if (entered) return fail(r, "duplicate key");
            entered = true;
            skip_space(r);
            code = each_member(r, NULL, on, ctx);
        } else if (!code) {
            code = read_value(r, &v, 1);
            v.key = key;
            v.key_len = key_len;
            if (!code && !inside) code = on(ctx, &v, r->err);
        }
        ft_arena_free(r->arena);
        if (code) return code;
        skip_space(r);
        if (r->at >= r->n) return fail(r, "object does not end");
        if (r->s[r->at] != ',' && r->s[r->at] != '}')
            return fail(r, "',' or the end must stand here");
        more = r->s[r->at] == ',';
        if (more) r->at++;
    }
    r->at++;
    return 0;
}

int ft_json_each(const char *what, const char *text, size_t n, const char *inside, size_t limit,
                 ft_json_member on, void *ctx, ft_err *e)
{
    ft_arena arena = { 0 };
    reader r = { .what = what, .s = text, .n = n, .arena = &arena, .limit = limit, .err = e };
    skip_space(&r);
    int code = each_member(&r, inside, on, ctx);
    skip_space(&r);
    if (!code && r.at < n) code = fail(&r, "nothing may follow the JSON value");
    ft_buf_free(&r.stack);
    ft_buf_free(&r.scratch);
    ft_arena_free(&arena);
    return code;
}

const ft_json *ft_json_root(const ft_json_doc *d) { return &d->root; }

void ft_json_done(ft_json_doc *d)
{
    if (!d) return;
    ft_arena_free(&d->arena);
    free(d);
}

/* ---- writing ------------------------------------------------------------------------------ */

void ft_json_real(ft_buf *out, double v)
{
    char text[40] = "null";
    for (int digits = 1; isfinite(v) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    ft_buf_puts(out, text);
}

static void newline(ft_buf *out, int indent, int level)
{
    if (indent < 0) return;
    ft_buf_putc(out, '\n');
    for (int i = 0; i < indent * level; i++) ft_buf_putc(out, ' ');
}

static void write_value(ft_buf *out, const ft_json *v, int indent, int level)
{
    bool object = v->type == FT_JSON_OBJECT;
    switch (v->type) {
    case FT_JSON_NULL: ft_buf_puts(out, "null"); return;
    case FT_JSON_BOOL: ft_buf_puts(out, v->truth ? "true" : "false"); return;
    case FT_JSON_NUMBER: ft_buf_add(out, v->text, v->len); return;
    case FT_JSON_STRING: ft_json_quote(out, v->text, v->len); return;
    case FT_JSON_ARRAY:
    case FT_JSON_OBJECT: break;
    }
    ft_buf_putc(out, object ? '{' : '[');
    for (size_t i = 0; i < v->len; i++) {
        if (i) ft_buf_puts(out, indent < 0 ? ", " : ",");
        newline(out, indent, level + 1);
        if (object) {
            ft_json_quote(out, v->item[i].key, v->item[i].key_len);
            ft_buf_puts(out, ": ");
        }
        write_value(out, &v->item[i], indent, level + 1);
    }
    if (v->len) newline(out, indent, level);
    ft_buf_putc(out, object ? '}' : ']');
}

void ft_json_write(ft_buf *out, const ft_json *v, int indent) { write_value(out, v, indent, 0); }

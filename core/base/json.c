/* json.c -- JSON into a tree of plain structs, in little memory.
 *
 * Three passes.  json_check.c judges the text and counts, so that the tree is one block of exactly
 * the size it needs; the second pass lays the values out, the items of an array or object
 * contiguous, names and texts pointing into the text itself, and finds duplicate keys; the third
 * unescapes the texts where they lie and puts a zero byte behind each.  So a tree takes the text
 * and sizeof(ft_json) a value: a tokenizer.json of 33 MB with half a million merges stays within
 * 64 MiB beside its text, and a text that would not is refused before its tree is made.
 *
 * Why not cJSON: it accepts duplicate keys, trailing bytes, invalid UTF-8, cuts strings at \u0000
 * and keeps numbers as doubles, so that 1.0 becomes 1 in a chat template. */
#include "core/base/json.h"
#include "core/base/json_check.h"

enum { MOST_TREE = 64 << 20 };

struct ft_json_doc {
    char *text;     /* what names and texts point into */
    ft_json *value; /* [1 + values]: the root, then the items of each array and object */
    char *keys;     /* keys that held escapes */
};

/* The second pass. */
typedef struct {
    char *s;               /* a copy of the value's text, with a zero byte behind it */
    size_t at;
    uint64_t base;         /* of s in the text, for ft_json.at */
    const uint32_t *count; /* of the next array or object */
    ft_json *next;         /* free values */
    char *key;             /* room for escaped keys */
} builder;

static int no_memory(const char *what, ft_err *e)
{
    return ft_errf(e, FT_ENOMEM, "%s: out of memory while reading JSON", what);
}

/* ---- second pass: the text is known to be well-formed ---------------------------------------- */

/* To the next character that is neither white space nor one that parts values. */
static char next_mark(builder *b)
{
    b->at += strspn(b->s + b->at, " \t\n\r,:");
    return b->s[b->at];
}

/* The length of the string whose first character is at b->at; b->at is then behind its quote. */
static size_t string_length(builder *b)
{
    size_t from = b->at;
    while (b->s[b->at] != '"') b->at += b->s[b->at] == '\\' ? 2 : 1;
    return b->at++ - from;
}

/* A key; one with escapes is unescaped at once, as duplicates are found by comparing. */
static void build_key(builder *b, ft_json *v)
{
    next_mark(b);
    v->key = b->s + ++b->at;
    size_t n = string_length(b);
    if (memchr(v->key, '\\', n)) {
        char *to = b->key;
        b->key += n + 1;
        n = ft_json_unescape(to, v->key, n);
        to[n] = 0;
        v->key = to;
    }
    v->key_len = (uint32_t)n;
}

/* A number: at least one character, and those that numbers are made of. */
static void build_number(builder *b, ft_json *v)
{
    size_t n = strspn(b->s + b->at, "+-.0123456789eE");
    v->type = FT_JSON_NUMBER;
    v->text = b->s + b->at;
    v->len = (uint32_t)n;
    b->at += n;
}

static void build_word(builder *b, ft_json *v, char c)
{
    v->type = c == 'n' ? FT_JSON_NULL : FT_JSON_BOOL;
    v->truth = c == 't';
    b->at += c == 'f' ? 5 : 4;
}

static void build_value(builder *b, ft_json *v);

static void build_items(builder *b, ft_json *v, char open)
{
    uint32_t n = *b->count++;
    ft_json *item = b->next;
    b->next += n;
    v->type = open == '{' ? FT_JSON_OBJECT : FT_JSON_ARRAY;
    v->item = item;
    v->len = n;
    b->at++;
    for (uint32_t i = 0; i < n; i++) {
        if (open == '{') build_key(b, &item[i]);
        build_value(b, &item[i]);
    }
    next_mark(b);
    b->at++;
}

static void build_value(builder *b, ft_json *v)
{
    char c = next_mark(b);
    v->at = (uint32_t)(b->base + b->at);
    if (c == '{' || c == '[') build_items(b, v, c);
    else if (c == '-' || (c >= '0' && c <= '9')) build_number(b, v);
    else if (c != '"') build_word(b, v, c);
    else {
        v->type = FT_JSON_STRING;
        v->text = b->s + ++b->at;
        v->len = (uint32_t)string_length(b);
    }
}

/* ---- duplicate keys -------------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    const ft_json *x = *(const ft_json *const *)a, *y = *(const ft_json *const *)b;
    size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
    int c = memcmp(x->key, y->key, n);
    if (c) return c;
    if (x->key_len != y->key_len) return x->key_len < y->key_len ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* By sorting pointers to the items; order has room for all of an object's. */
static int refuse_duplicates(const ft_json_check *r, const ft_json *v, const ft_json **order)
{
    for (size_t i = 0; i < v->len; i++) order[i] = &v->item[i];
    qsort(order, v->len, sizeof *order, compare_keys);
    for (size_t i = 1; i < v->len; i++) {
        const ft_json *x = order[i - 1], *y = order[i];
        if (x->key_len != y->key_len || memcmp(x->key, y->key, y->key_len)) continue;
        char msg[160];
        snprintf(msg, sizeof msg, "duplicate key \"%.*s\"",
                 y->key_len < 100 ? (int)y->key_len : 100, y->key);
        return ft_json_fail_at(r, y->at, msg);
    }
    return 0;
}

/* Objects of two keys and more, the root and all below it. */
static int check_objects(const ft_json_check *r, const ft_json *value, size_t n)
{
    size_t most = 1;
    int code = 0;
    for (size_t i = 0; i < n; i++) {
        if (value[i].type == FT_JSON_OBJECT && value[i].len > most) most = value[i].len;
    }
    if (most == 1) return 0;
    const ft_json **order = malloc(most * sizeof *order);
    if (!order) return no_memory(r->what, r->err);
    for (size_t i = 0; i < n && !code; i++) {
        if (value[i].type == FT_JSON_OBJECT && value[i].len > 1)
            code = refuse_duplicates(r, &value[i], order);
    }
    free(order);
    return code;
}

/* ---- third pass ------------------------------------------------------------------------------ */

/* Unescapes and ends every text; `from`, `n`: the text that is not yet ended (keys with escapes
 * lie elsewhere, finished). */
static void end_texts(ft_json *value, size_t n, const char *from, size_t length)
{
    for (size_t i = 0; i < n; i++) {
        ft_json *v = &value[i];
        if (v->key >= from && v->key < from + length) ((char *)(uintptr_t)v->key)[v->key_len] = 0;
        if (v->type != FT_JSON_STRING && v->type != FT_JSON_NUMBER) continue;
        char *text = (char *)(uintptr_t)v->text;
        if (v->type == FT_JSON_STRING) v->len = (uint32_t)ft_json_unescape(text, text, v->len);
        text[v->len] = 0;
    }
}

/* ---- documents ------------------------------------------------------------------------------- */

/* The tree of what r has checked, which is text[0 … length) of a copy; base: where that began.
 * The copy is the document's from here on, also after an error. */
static ft_json_doc *build(const ft_json_check *r, char *text, size_t length, uint64_t base)
{
    ft_json_doc *d = calloc(1, sizeof *d);
    size_t n = r->values + 1;
    if (!d) {
        free(text);
        no_memory(r->what, r->err);
        return NULL;
    }
    d->text = text;
    d->value = calloc(n, sizeof *d->value);
    d->keys = malloc(r->escaped_keys + 1);
    int code = d->value && d->keys ? 0 : no_memory(r->what, r->err);
    if (!code) {
        builder b = { .s = text, .base = base, .next = d->value + 1, .key = d->keys,
                      .count = (const uint32_t *)(const void *)r->counts.p };
        build_value(&b, d->value);
        code = check_objects(r, d->value, n);
    }
    if (!code) {
        end_texts(d->value, n, text, length);
        return d;
    }
    ft_json_done(d);
    return NULL;
}

/* A copy of n bytes that ends with a zero byte, as every number of the second pass must end. */
static char *copy_of(const ft_json_check *r, const char *p, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) {
        no_memory(r->what, r->err);
        return NULL;
    }
    if (n) memcpy(copy, p, n);
    copy[n] = 0;
    return copy;
}

/* Checks the value at r->at and, unless `used`, that nothing follows; *from: where it begins.
 * copied: its text will be copied, which counts as part of the tree. */
static int check_text(ft_json_check *r, size_t *from, size_t *used, bool copied)
{
    if (r->n >= UINT32_MAX) return ft_errf(r->err, FT_EFORMAT, "%s: longer than 4 GiB", r->what);
    ft_json_skip_space(r);
    *from = r->at;
    int code = ft_json_check_value(r, 0);
    size_t end = r->at;
    ft_json_skip_space(r);
    if (!code && !used && r->at < r->n)
        code = ft_json_fail_at(r, r->at, "nothing may follow the JSON value");
    if (used) *used = r->at;
    r->at = end;
    if (!code && ft_json_tree_bytes(r) + (copied ? end - *from : 0) > r->limit)
        code = ft_json_fail_at(r, *from, "one value has more parts than are allowed here");
    return code;
}

ft_json_doc *ft_json_parse_prefix(const char *what, const char *text, size_t n, size_t *used,
                                  ft_err *e)
{
    ft_json_check r = { .what = what, .s = text, .n = n, .err = e, .limit = MOST_TREE };
    size_t from;
    char *copy = NULL;
    ft_json_doc *d = NULL;
    int code = check_text(&r, &from, used, true);
    size_t length = r.at - from;
    if (!code) copy = copy_of(&r, text + from, length);
    if (copy) d = build(&r, copy, length, from);
    ft_buf_free(&r.counts);
    return d;
}

ft_json_doc *ft_json_parse(const char *what, const char *text, size_t n, ft_err *e)
{
    return ft_json_parse_prefix(what, text, n, NULL, e);
}

ft_json_doc *ft_json_parse_buf(const char *what, ft_buf *text, ft_err *e)
{
    ft_json_check r = { .what = what, .s = text->p ? text->p : "", .n = text->n, .err = e,
                        .limit = MOST_TREE };
    size_t from;
    ft_json_doc *d = NULL;
    if (!check_text(&r, &from, NULL, false)) {
        char *p = text->p; /* a checked text is not empty */
        *text = (ft_buf){ 0 };
        d = build(&r, p, r.n, 0);
    }
    ft_buf_free(text);
    ft_buf_free(&r.counts);
    return d;
}

const ft_json *ft_json_root(const ft_json_doc *d) { return d->value; }

void ft_json_done(ft_json_doc *d)
{
    if (!d) return;
    free(d->text);
    free(d->value);
    free(d->keys);
    free(d);
}

/* ---- member by member ------------------------------------------------------------------------ */

typedef struct {
    ft_json_check r;
    const char *inside;
    ft_json_member on;
    void *ctx;
} walk;

/* The value at r->at as a tree of its own, named by [key, key + n), to on(). */
static int hand_over(walk *w, size_t from, size_t key, size_t n)
{
    ft_json_check *r = &w->r;
    char *copy, *name;
    if (r->at - from + ft_json_tree_bytes(r) > r->limit)
        return ft_json_fail_at(r, from, "one value has more parts than are allowed here");
    if (!(copy = copy_of(r, r->s + from, r->at - from))) return FT_ENOMEM;
    ft_json_doc *d = build(r, copy, r->at - from, from);
    if (!d) return r->err && r->err->code ? r->err->code : FT_EFORMAT;
    int code = (name = copy_of(r, r->s + key, n)) ? 0 : FT_ENOMEM;
    if (!code) {
        d->value->key_len = (uint32_t)ft_json_unescape(name, name, n);
        name[d->value->key_len] = 0;
        d->value->key = name;
        code = w->on(w->ctx, d->value, r->err);
    }
    free(name);
    ft_json_done(d);
    return code;
}

static int each_member(walk *w, bool inner);

/* Whether the key of n bytes, still escaped, says `name`. */
static bool key_is(const char *key, size_t n, const char *name)
{
    char plain[256];
    return n < sizeof plain && ft_json_unescape(plain, key, n) == strlen(name) &&
           !memcmp(plain, name, strlen(name));
}

/* One member: handed over, entered, or only checked. */
static int one_member(walk *w, bool inner, bool *entered)
{
    ft_json_check *r = &w->r;
    size_t key, n;
    ft_json_skip_space(r);
    int code = ft_json_check_key(r, &key, &n);
    if (code) return code;
    ft_json_skip_space(r);
    r->values = r->widest = r->escaped_keys = r->counts.n = 0;
    if (w->inside && !inner && key_is(r->s + key, n, w->inside)) {
        if (*entered) return ft_json_fail_at(r, r->at, "duplicate key");
        *entered = true;
        return each_member(w, true);
    }
    size_t from = r->at;
    code = ft_json_check_value(r, 1);
    return code || (w->inside && !inner) ? code : hand_over(w, from, key, n);
}

/* The members of the object at r->at. */
static int each_member(walk *w, bool inner)
{
    ft_json_check *r = &w->r;
    if (r->at >= r->n || r->s[r->at] != '{')
        return ft_json_fail_at(r, r->at, "an object must stand here");
    r->at++;
    ft_json_skip_space(r);
    bool more = !(r->at < r->n && r->s[r->at] == '}'), entered = false;
    while (more) {
        int code = one_member(w, inner, &entered);
        if (code) return code;
        ft_json_skip_space(r);
        if (r->at >= r->n) return ft_json_fail_at(r, r->at, "object does not end");
        if (r->s[r->at] != ',' && r->s[r->at] != '}')
            return ft_json_fail_at(r, r->at, "',' or the end must stand here");
        more = r->s[r->at] == ',';
        if (more) r->at++;
    }
    r->at++;
    return 0;
}

int ft_json_each(const char *what, const char *text, size_t n, const char *inside, size_t limit,
                 ft_json_member on, void *ctx, ft_err *e)
{
    walk w = { { .what = what, .s = text, .n = n, .limit = limit, .err = e }, inside, on, ctx };
    ft_json_check *r = &w.r;
    if (n >= UINT32_MAX) return ft_errf(e, FT_EFORMAT, "%s: longer than 4 GiB", what);
    ft_json_skip_space(r);
    int code = each_member(&w, false);
    ft_json_skip_space(r);
    if (!code && r->at < r->n)
        code = ft_json_fail_at(r, r->at, "nothing may follow the JSON value");
    ft_buf_free(&r->counts);
    return code;
}

/* ft/json.h -- JSON as the project reads it: strictly, keeping what other readers lose.
 *
 * A document is a tree of plain structs in one arena; walk it freely, free it as a whole.  The
 * reader (core/base/json.c; for plugins the interface "ft.json/1") accepts exactly RFC 8259 and
 * refuses: invalid UTF-8, control characters in strings, lone surrogates, duplicate keys, leading
 * zeros, anything after the value but white space, nesting deeper than 512, trees of more than
 * 64 MiB.  Numbers keep their
 * text, so that 9007199254740993 and 1.0 stay what they were; strings may hold zero bytes and
 * carry their length.  Objects keep the order of their keys. */
#ifndef FT_JSON_H
#define FT_JSON_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "ft/buf.h"

typedef enum __attribute__((packed)) {
    FT_JSON_NULL, FT_JSON_BOOL, FT_JSON_NUMBER, FT_JSON_STRING, FT_JSON_ARRAY, FT_JSON_OBJECT
} ft_json_type;

typedef struct ft_json ft_json;
struct ft_json { /* 32 bytes: large files have millions of values */
    ft_json_type type;
    bool truth;              /* BOOL */
    uint32_t key_len;
    union {
        const char *text;    /* STRING: unescaped bytes; NUMBER: as written.  Zero-terminated */
        const ft_json *item; /* ARRAY, OBJECT: the values, contiguous */
    };
    const char *key; /* inside an object: the name of this value, zero-terminated */
    uint32_t len;    /* bytes of text; ARRAY, OBJECT: number of items */
    uint32_t at;     /* byte offset of the value in the source */
};

/* The value of `key`, or NULL when o is not an object or has none. */
static inline const ft_json *ft_json_get(const ft_json *o, const char *key)
{
    if (!o || o->type != FT_JSON_OBJECT) return NULL;
    size_t n = strlen(key);
    for (size_t i = 0; i < o->len; i++) {
        if (o->item[i].key_len == n && memcmp(o->item[i].key, key, n) == 0) return &o->item[i];
    }
    return NULL;
}

/* True when v is a string without a zero byte inside: safe to use as a C string. */
static inline bool ft_json_is_text(const ft_json *v)
{
    return v && v->type == FT_JSON_STRING && strlen(v->text) == v->len;
}

/* The string of `key`, or `other` when it is absent or no plain string. */
static inline const char *ft_json_str(const ft_json *o, const char *key, const char *other)
{
    const ft_json *v = ft_json_get(o, key);
    return ft_json_is_text(v) ? v->text : other;
}

/* A value for messages: numbers and strings as they are written, else what kind it is. */
static inline const char *ft_json_shown(const ft_json *v)
{
    if (v->type == FT_JSON_NUMBER || v->type == FT_JSON_STRING) return v->text;
    return v->type == FT_JSON_NULL    ? "null"
           : v->type == FT_JSON_BOOL  ? "a truth value"
           : v->type == FT_JSON_ARRAY ? "a list" : "an object";
}

/* A number as an integer: false when it has a fraction or an exponent, or does not fit. */
static inline bool ft_json_as_int(const ft_json *v, int64_t *out)
{
    if (!v || v->type != FT_JSON_NUMBER || strpbrk(v->text, ".eE")) return false;
    errno = 0;
    long long k = strtoll(v->text, NULL, 10);
    if (errno) return false;
    *out = k;
    return true;
}

/* A number as a double: false when it is too large for one. */
static inline bool ft_json_as_real(const ft_json *v, double *out)
{
    if (!v || v->type != FT_JSON_NUMBER) return false;
    double d = strtod(v->text, NULL);
    if (!(d - d == 0)) return false;
    *out = d;
    return true;
}

/* Appends n bytes of s as a JSON string with its quotes, escaped as Python's
 * json.dumps(ensure_ascii=False): UTF-8 stays. */
static inline void ft_json_quote(ft_buf *out, const char *s, size_t n)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    ft_buf_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        const char *p = s[i] ? strchr(special, s[i]) : NULL;
        if (p) {
            ft_buf_putc(out, '\\');
            ft_buf_putc(out, letter[p - special]);
        } else if ((unsigned char)s[i] < 0x20) {
            ft_buf_printf(out, "\\u%04x", (unsigned)(unsigned char)s[i]);
        } else {
            ft_buf_putc(out, s[i]);
        }
    }
    ft_buf_putc(out, '"');
}

typedef struct ft_json_doc ft_json_doc; /* owns the tree */
typedef struct ft_host ft_host;

/* Interface "ft.json/1" of ft_host.get. */
typedef struct {
    uint32_t size;
    /* Parses n bytes.  NULL after host->fail() with `what`, line and column.  The text may be
     * freed afterwards; the tree lives until done(). */
    ft_json_doc *(*parse)(const ft_host *, const char *what, const char *text, size_t n);
    const ft_json *(*root)(const ft_json_doc *);
    void (*done)(ft_json_doc *); /* NULL is fine */
    /* Number as integer: false when it has a fraction or does not fit.  As real: false when
     * it is not a number or not finite.  NULL is no number. */
    bool (*to_int)(const ft_json *, int64_t *out);
    bool (*to_real)(const ft_json *, double *out);
} ft_json_api;
#endif

/* ft/buf.h -- a growable run of bytes, for core and plugins alike (header only, so that no
 * malloc/free pair crosses the border between them).
 *
 * Errors are sticky: once an allocation fails, `oom` is set, the contents are kept, and every
 * later append does nothing.  Check `oom` once, at the end.  The bytes are always followed by a
 * zero byte that `n` does not count, so `p` may be read as a string when it is not NULL. */
#ifndef FT_BUF_H
#define FT_BUF_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *p;       /* owned; NULL until the first append */
    size_t n, cap; /* bytes used, bytes allocated */
    bool oom;      /* sticky */
} ft_buf;

static inline void ft_buf_free(ft_buf *b)
{
    free(b->p);
    *b = (ft_buf){ 0 };
}

/* Makes room for `more` bytes and the closing zero; false (and oom set) if there is none. */
static inline bool ft_buf_room(ft_buf *b, size_t more)
{
    size_t need, cap = b->cap ? b->cap : 64;
    if (b->oom || __builtin_add_overflow(b->n, more, &need) || need >= SIZE_MAX / 2) {
        b->oom = true;
        return false;
    }
    if (need + 1 <= b->cap) return true;
    while (cap < need + 1) cap *= 2;
    char *p = (char *)realloc(b->p, cap);
    if (!p) {
        b->oom = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

/* Appends n bytes of s. */
static inline void ft_buf_add(ft_buf *b, const void *s, size_t n)
{
    if (!ft_buf_room(b, n)) return;
    if (n) memcpy(b->p + b->n, s, n);
    b->n += n;
    b->p[b->n] = 0;
}

static inline void ft_buf_puts(ft_buf *b, const char *s) { ft_buf_add(b, s, strlen(s)); }
static inline void ft_buf_putc(ft_buf *b, char c) { ft_buf_add(b, &c, 1); }

/* Appends n zero bytes and returns where they start (valid until the next append), or NULL. */
static inline void *ft_buf_grow(ft_buf *b, size_t n)
{
    if (!ft_buf_room(b, n)) return NULL;
    char *at = b->p + b->n;
    memset(at, 0, n + 1);
    b->n += n;
    return at;
}

__attribute__((format(printf, 2, 0)))
static inline void ft_buf_vprintf(ft_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && ft_buf_room(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    } else {
        b->oom = true;
    }
    va_end(again);
}

__attribute__((format(printf, 2, 3)))
static inline void ft_buf_printf(ft_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ft_buf_vprintf(b, fmt, ap);
    va_end(ap);
}
#endif

/* arena.c -- see arena.h.  Blocks grow from 4 KiB to 1 MiB; a large request gets its own. */
#include "core/base/arena.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ft_block {
    ft_block *next;
    size_t used, cap;
    _Alignas(max_align_t) char data[];
};

enum { ALIGN = _Alignof(max_align_t), FIRST = 4096, LARGEST = 1 << 20 };

static ft_block *add_block(ft_arena *a, size_t need)
{
    size_t cap = a->head ? a->head->cap * 2 : FIRST;
    if (cap > LARGEST) cap = LARGEST;
    if (cap < need) cap = need;
    ft_block *b = cap > SIZE_MAX - sizeof *b ? NULL : calloc(1, sizeof *b + cap);
    if (!b) {
        a->oom = true;
        return NULL;
    }
    b->cap = cap;
    b->next = a->head;
    a->head = b;
    return b;
}

void *ft_arena_alloc(ft_arena *a, size_t n)
{
    if (n > SIZE_MAX / 2) {
        a->oom = true;
        return NULL;
    }
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (n == 0) n = ALIGN;
    ft_block *b = a->head;
    if (!b || b->cap - b->used < n) b = add_block(a, n);
    if (!b) return NULL;
    void *p = b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

void *ft_arena_array(ft_arena *a, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) {
        a->oom = true;
        return NULL;
    }
    return ft_arena_alloc(a, n);
}

char *ft_arena_strndup(ft_arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? ft_arena_alloc(a, n + 1) : NULL;
    if (p && n) memcpy(p, s, n);
    return p;
}

char *ft_arena_strdup(ft_arena *a, const char *s) { return ft_arena_strndup(a, s, strlen(s)); }

char *ft_arena_printf(ft_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : ft_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}

void ft_arena_free(ft_arena *a)
{
    for (ft_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (ft_arena){ 0 };
}

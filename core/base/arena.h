/* arena.h -- memory that is given back all at once: configuration trees, graphs, plans.
 *
 * Blocks come from malloc and never move, so pointers stay valid until ft_arena_free.  All memory
 * is zeroed.  When there is none left NULL is returned and `oom` stays set, so that a long
 * construction may check once at its end. */
#ifndef FT_CORE_ARENA_H
#define FT_CORE_ARENA_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct ft_block ft_block;
typedef struct {
    ft_block *head;
    size_t used; /* bytes handed out */
    bool oom;
} ft_arena;

/* n zeroed bytes, aligned for any type. */
void *ft_arena_alloc(ft_arena *a, size_t n);
/* count * size with the product checked. */
void *ft_arena_array(ft_arena *a, size_t count, size_t size);
/* Copies of text; the first n bytes of s, or all of it. */
char *ft_arena_strndup(ft_arena *a, const char *s, size_t n);
char *ft_arena_strdup(ft_arena *a, const char *s);
char *ft_arena_printf(ft_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ft_arena_free(ft_arena *a);
#endif

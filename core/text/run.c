/* run.c -- the ground a rendering stands on: memory, limits and the way out on errors. */
#include <stdio.h>
#include <string.h>
#include "core/text/jinja.h"

int ftj_guard(ftj_run *run, void (*fn)(ftj_run *, void *), void *arg)
{
    if (setjmp(run->trap) == 0) fn(run, arg);
    return run->err->code;
}

_Noreturn void ftj_fail_code(ftj_run *run, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    ft_verrf(run->err, code, fmt, ap);
    va_end(ap);
    ft_err_prefix(run->err, "%s, line %u", run->what, run->line);
    longjmp(run->trap, 1);
}

_Noreturn void ftj_fail(ftj_run *run, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ftj_fail_code(run, FT_EINVAL, "%s", text);
}

void *ftj_alloc(ftj_run *run, size_t n)
{
    if (n > FTJ_MAX_MEMORY || run->arena->used > FTJ_MAX_MEMORY - n)
        ftj_fail_code(run, FT_ENOMEM, "needs more than %d MiB of memory", FTJ_MAX_MEMORY >> 20);
    void *p = ft_arena_alloc(run->arena, n);
    if (!p) ftj_fail_code(run, FT_ENOMEM, "out of memory");
    return p;
}

void *ftj_array(ftj_run *run, size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n)) n = SIZE_MAX;
    return ftj_alloc(run, n);
}

void *ftj_grow(ftj_run *run, void *p, size_t n, uint32_t *cap, size_t size)
{
    if (n < *cap) return p;
    size_t more = *cap ? (size_t)*cap * 2 : 8;
    void *q = ftj_array(run, more, size);
    if (n) memcpy(q, p, n * size);
    *cap = (uint32_t)more; /* more * size is at most FTJ_MAX_MEMORY */
    return q;
}

void ftj_work(ftj_run *run, uint64_t cost)
{
    if ((run->steps += (int64_t)cost) > FTJ_MAX_STEPS)
        ftj_fail(run, "takes more than %d steps; does a loop never end?", FTJ_MAX_STEPS);
}

const char *ftj_printf(ftj_run *run, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    size_t room = n < 0 ? 0 : (size_t)n;
    char *p = ftj_alloc(run, room + 1);
    if (n > 0) vsnprintf(p, room + 1, fmt, again);
    va_end(again);
    return p;
}

static uint32_t hash_name(const char *p, size_t n)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 16777619u;
    return h;
}

/* The slot of a name: the one it is in, or the free one where it belongs. */
static const char **find_slot(const ftj_names *t, const char *name, size_t n)
{
    uint32_t i = hash_name(name, n) & (t->cap - 1);
    while (t->slot[i] && (strlen(t->slot[i]) != n || memcmp(t->slot[i], name, n)))
        i = (i + 1) & (t->cap - 1);
    return &t->slot[i];
}

/* Twice the room. */
static void grow_names(ftj_run *run, ftj_names *t)
{
    ftj_names more = { .cap = t->cap ? t->cap * 2 : 64, .n = t->n };
    more.slot = ftj_array(run, more.cap, sizeof *more.slot);
    for (uint32_t i = 0; i < t->cap; i++) {
        if (t->slot[i]) *find_slot(&more, t->slot[i], strlen(t->slot[i])) = t->slot[i];
    }
    *t = more;
}

const char *ftj_intern(ftj_run *run, const char *name, size_t n, bool add)
{
    ftj_names *t = run->names;
    if (memchr(name, 0, n)) return NULL; /* of a row's key: no name of the template */
    const char **slot = t->cap ? find_slot(t, name, n) : NULL;
    if (slot && *slot) return *slot;
    if (!add) return NULL;
    if (t->n >= t->cap / 2) grow_names(run, t);
    slot = find_slot(t, name, n);
    char *copy = ftj_alloc(run, n + 1);
    memcpy(copy, name, n);
    t->n++;
    return *slot = copy;
}

void ftj_enter(ftj_run *run)
{
    if (++run->depth > FTJ_MAX_DEPTH)
        ftj_fail(run, "nested deeper than %d levels; does a macro call itself without end?",
                 FTJ_MAX_DEPTH);
}

void ftj_leave(ftj_run *run) { run->depth--; }

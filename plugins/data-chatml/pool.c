/* pool.c -- see pool.h. */
#include "pool.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct pool_block {
    pool_block *next;
    size_t used, cap;
    _Alignas(max_align_t) char data[];
};

enum { BLOCK = 64 << 10, ALIGN = _Alignof(max_align_t) };

void *pool_get(pool *p, size_t n)
{
    if (n > SIZE_MAX / 4) {
        p->oom = true;
        return NULL;
    }
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    pool_block *b = p->head;
    if (!b || b->cap - b->used < n) {
        size_t cap = n > BLOCK ? n : BLOCK;
        b = malloc(sizeof *b + cap);
        if (!b) {
            p->oom = true;
            return NULL;
        }
        *b = (pool_block){ .next = p->head, .cap = cap };
        p->head = b;
    }
    void *out = b->data + b->used;
    b->used += n;
    return memset(out, 0, n);
}

static void free_blocks(pool_block *b)
{
    while (b) {
        pool_block *next = b->next;
        free(b);
        b = next;
    }
}

void pool_reset(pool *p)
{
    pool_block *kept = p->head && p->head->cap == BLOCK ? p->head : NULL;
    free_blocks(kept ? kept->next : p->head);
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    *p = (pool){ .head = kept };
}

void pool_free(pool *p)
{
    free_blocks(p->head);
    *p = (pool){ 0 };
}

/* ---- JSON ----------------------------------------------------------------------------------- */

/* A value under a name, of no type yet. */
static ft_json named(const char *key)
{
    return (ft_json){ .key = key, .key_len = key ? (uint32_t)strlen(key) : 0 };
}

ft_json json_text(const char *key, const char *text, size_t n)
{
    ft_json v = named(key);
    v.type = FT_JSON_STRING;
    v.text = text;
    v.len = (uint32_t)n;
    return v;
}

ft_json json_bool(const char *key, bool truth)
{
    ft_json v = named(key);
    v.type = FT_JSON_BOOL;
    v.truth = truth;
    return v;
}

/* An array or object of copied items. */
static ft_json json_items(pool *p, ft_json_type type, const char *key, const ft_json *item,
                          size_t n)
{
    ft_json v = named(key);
    ft_json *copy = pool_get(p, n * sizeof *copy);
    v.type = type;
    if (copy && n) memcpy(copy, item, n * sizeof *copy);
    v.item = copy;
    v.len = copy ? (uint32_t)n : 0;
    return v;
}

ft_json json_object(pool *p, const char *key, const ft_json *item, size_t n)
{
    return json_items(p, FT_JSON_OBJECT, key, item, n);
}

ft_json json_array(pool *p, const char *key, const ft_json *item, size_t n)
{
    return json_items(p, FT_JSON_ARRAY, key, item, n);
}

ft_json json_named(const char *key, const ft_json *v)
{
    ft_json copy = *v;
    copy.key = key;
    copy.key_len = key ? (uint32_t)strlen(key) : 0;
    return copy;
}

const char *pool_join(pool *p, const ft_json *a, const char *between, const ft_json *b, size_t *n)
{
    size_t k = strlen(between);
    char *out = pool_get(p, a->len + k + b->len + 1);
    *n = 0;
    if (!out) return "";
    memcpy(out, a->text, a->len);
    memcpy(out + a->len, between, k);
    memcpy(out + a->len + k, b->text, b->len);
    *n = a->len + k + b->len;
    return out;
}

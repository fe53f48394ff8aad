/* pool.h -- memory of one row, given back all at once when the next row is read. */
#ifndef CHATML_POOL_H
#define CHATML_POOL_H
#include <stdbool.h>
#include <stddef.h>
#include "ft/json.h"

typedef struct pool_block pool_block;
typedef struct {
    pool_block *head;
    bool oom; /* sticky until the next reset */
} pool;

/* n zeroed bytes, or NULL and oom set. */
void *pool_get(pool *p, size_t n);
void pool_reset(pool *p); /* keeps one block for the next row */
void pool_free(pool *p);

/* JSON made by hand.  Texts are borrowed; items of objects and arrays are copied to the pool. */
ft_json json_text(const char *key, const char *text, size_t n);
ft_json json_bool(const char *key, bool truth);
ft_json json_object(pool *p, const char *key, const ft_json *item, size_t n);
ft_json json_array(pool *p, const char *key, const ft_json *item, size_t n);
/* v under another name. */
ft_json json_named(const char *key, const ft_json *v);
/* a, between and b in one string. */
const char *pool_join(pool *p, const ft_json *a, const char *between, const ft_json *b, size_t *n);
#endif

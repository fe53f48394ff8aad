/* ft/gguf.h -- key-values as a GGUF file has them, appended to a buffer (header only).
 *
 *   string key | u32 type | value       string: u64 length, bytes
 *                                       array:  u32 type of the items, u64 count, items
 *
 * Everything is little-endian and nothing is aligned (ggml/docs/gguf.md).  Whoever writes a file
 * counts the keys: the header wants their number. */
#ifndef FT_GGUF_H
#define FT_GGUF_H
#include "ft/buf.h"
#include "ft/tensor.h"

/* Key-values and how many. */
typedef struct { ft_buf bytes; uint64_t n; } ft_gguf_keys;

static inline void ft_gguf_u32(ft_buf *b, uint32_t v) { ft_buf_add(b, &v, 4); }
static inline void ft_gguf_u64(ft_buf *b, uint64_t v) { ft_buf_add(b, &v, 8); }
static inline void ft_gguf_text(ft_buf *b, const char *s, size_t n)
{
    ft_gguf_u64(b, n);
    ft_buf_add(b, s, n);
}

static inline void ft_gguf_key(ft_gguf_keys *k, const char *key, ft_meta_type type)
{
    ft_gguf_text(&k->bytes, key, strlen(key));
    ft_gguf_u32(&k->bytes, (uint32_t)type);
    k->n++;
}

static inline void ft_gguf_put_u32(ft_gguf_keys *k, const char *key, uint32_t v)
{
    ft_gguf_key(k, key, FT_META_U32);
    ft_gguf_u32(&k->bytes, v);
}
static inline void ft_gguf_put_f32(ft_gguf_keys *k, const char *key, float v)
{
    ft_gguf_key(k, key, FT_META_F32);
    ft_buf_add(&k->bytes, &v, 4);
}
static inline void ft_gguf_put_bool(ft_gguf_keys *k, const char *key, bool v)
{
    ft_gguf_key(k, key, FT_META_BOOL);
    ft_buf_putc(&k->bytes, v ? 1 : 0);
}
static inline void ft_gguf_put_text(ft_gguf_keys *k, const char *key, const char *s, size_t n)
{
    ft_gguf_key(k, key, FT_META_STRING);
    ft_gguf_text(&k->bytes, s, n);
}

/* The head of a list; its n items are appended to k->bytes by the caller. */
static inline void ft_gguf_put_list(ft_gguf_keys *k, const char *key, ft_meta_type item, uint64_t n)
{
    ft_gguf_key(k, key, FT_META_ARRAY);
    ft_gguf_u32(&k->bytes, (uint32_t)item);
    ft_gguf_u64(&k->bytes, n);
}

/* A value that was read from a file, as it stood there. */
static inline void ft_gguf_put_meta(ft_gguf_keys *k, const ft_meta *m)
{
    static const uint8_t size[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    ft_meta_type item = m->type == FT_META_ARRAY ? m->item : m->type;
    uint64_t bytes = m->n * size[item];
    if (item == FT_META_STRING) {
        const void *at = m->data;
        const char *s;
        uint64_t len;
        for (uint64_t i = 0; i < m->n; i++) ft_meta_next_str(&at, &s, &len);
        bytes = (uint64_t)((const char *)at - (const char *)m->data);
    }
    if (m->type == FT_META_ARRAY) ft_gguf_put_list(k, m->key, m->item, m->n);
    else ft_gguf_key(k, m->key, m->type);
    ft_buf_add(&k->bytes, m->data, bytes);
}
#endif

/* gguf_write.h -- GGUF files of a test's own: keys, and tensors of one number each. */
#ifndef FT_TESTS_GGUF_WRITE_H
#define FT_TESTS_GGUF_WRITE_H
#include "ft/gguf.h"
#include "tests/tiny.h"

typedef struct {
    const char *name;
    int64_t dim[3];  /* outermost first; 0: no more axes */
    uint32_t type;   /* 0 F32, 1 F16, 26 I32 */
    double fill;
} gguf_tensor;

static inline uint32_t gguf_axes(const gguf_tensor *t)
{
    return t->dim[1] ? t->dim[2] ? 3 : 2 : 1;
}

static inline uint64_t gguf_tensor_bytes(const gguf_tensor *t)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < gguf_axes(t); i++) n *= (uint64_t)t->dim[i];
    return (n * (t->type == 1 ? 2 : 4) + 31) / 32 * 32;
}

static inline void gguf_write(const char *path, const ft_gguf_keys *k, const gguf_tensor *t,
                              size_t n)
{
    ft_buf b = { 0 };
    ft_err e = { 0 };
    uint64_t at = 0;
    ft_buf_puts(&b, "GGUF");
    ft_gguf_u32(&b, 3);
    ft_gguf_u64(&b, n);
    ft_gguf_u64(&b, k->n);
    ft_buf_add(&b, k->bytes.p, k->bytes.n);
    for (size_t i = 0; i < n; i++) {
        uint32_t axes = gguf_axes(&t[i]);
        ft_gguf_text(&b, t[i].name, strlen(t[i].name));
        ft_gguf_u32(&b, axes);
        while (axes--) ft_gguf_u64(&b, (uint64_t)t[i].dim[axes]);
        ft_gguf_u32(&b, t[i].type);
        ft_gguf_u64(&b, at);
        at += gguf_tensor_bytes(&t[i]);
    }
    while (b.n % 32) ft_buf_putc(&b, 0);
    for (size_t i = 0; i < n; i++) {
        float f = (float)t[i].fill;
        for (uint64_t left = gguf_tensor_bytes(&t[i]) / 4; left--;) ft_buf_add(&b, &f, 4);
    }
    tiny_must(ft_file_write_buf(path, &b, &e), &e);
    ft_buf_free(&b);
}
#endif

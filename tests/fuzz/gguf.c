/* gguf.c -- fuzzes the GGUF reader: the bytes of every tensor and the items of every key that it
 * accepts can be touched, and every block decoded. */
#include "core/io/blocks.h"
#include "tests/fuzz/fuzz.h"

static volatile char last;

/* The first and the last numbers of a block tensor. */
static void decode(const ft_tensor *t)
{
    const ft_block_format *f = t->scheme ? ft_block_of(t) : NULL;
    float x[256];
    uint64_t numbers = f ? t->bytes / f->bytes * f->elements : 0;
    uint64_t k = numbers < 256 ? numbers : 256;
    if (!f || !f->elements || !k) return;
    ft_block_decode(x, f, f->decode, t->data, 0, k);
    ft_block_decode(x, f, f->decode, t->data, numbers - k, k);
}

static void touch_strings(const ft_meta *m)
{
    const void *cursor = m->data;
    const char *text = "";
    uint64_t len = 0;
    bool strings = m->type == FT_META_STRING ||
                   (m->type == FT_META_ARRAY && m->item == FT_META_STRING);
    for (uint64_t i = 0; strings && i < m->n; i++) {
        ft_meta_next_str(&cursor, &text, &len);
        if (len) last = text[len - 1];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    ft_err e = { 0 };
    ft_tensors *s = ft_tensors_parse("x.gguf", data, n, 0, &e);
    if (!s) {
        fuzz_refused(&e);
        return 0;
    }
    size_t n_meta;
    const ft_meta *m = ft_tensors_metas(s, &n_meta);
    for (size_t i = 0; i < n_meta; i++) {
        touch_strings(&m[i]);
        ft_tensors_note(s, m[i].key);
    }
    for (size_t i = 0; i < ft_tensors_count(s); i++) {
        const ft_tensor *t = ft_tensors_at(s, i);
        for (uint64_t k = 0; k < t->bytes; k++) last = ((const char *)t->data)[k];
        decode(t);
    }
    ft_tensors_close(s);
    return 0;
}

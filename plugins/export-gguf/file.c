/* file.c -- a GGUF file, version 3: header, list of tensors, data (ggml/docs/gguf.md).
 *
 *   "GGUF" | u32 3 | u64 tensors | u64 keys | the keys
 *   a tensor  string name | u32 dimensions | u64 each, fastest first | u32 type | u64 offset
 *   zeros up to a multiple of 32 | each tensor's blocks, then zeros up to a multiple of 32
 *
 * Vectors and biases are F32, as are routers of experts, whose choice hangs on small differences.
 * Matrices get the type that was asked for; those outside of the layers (embedding and head) are
 * q8_0 where it has fewer bits, and rows that are no whole number of its blocks are q8_0, or f16.
 * One tensor is in memory at a time, and only where its rows change places. */
#include <math.h>
#include "ft/ck.h"
#include "gguf.h"

typedef struct {
    ft_export_tensor t;
    ft_gguf_name name;
    const gguf_type *type;
    uint64_t numbers, bytes;
} entry;

typedef struct {
    exporter *e;
    const ft_export *x;
    const gguf_type *asked;
    const entry *now;
    uint64_t done;       /* numbers of it that have been written */
    ft_buf blocks, whole, rows, shifted;
    size_t fallen;       /* matrices that got another type than was asked for */
} writing;

static int no_memory(const writing *w)
{
    return w->e->host->fail(w->e->host, FT_ENOMEM, "out of memory while writing %s",
                            w->now ? w->now->name.name : "a GGUF file");
}

/* ---- which type ------------------------------------------------------------------------------ */

static const gguf_type *type_for(writing *w, const entry *i)
{
    int64_t row = i->t.dim[i->t.ndim - 1];
    const gguf_type *q8 = gguf_type_find("q8_0"), *type = w->asked;
    const char *name = i->name.name, *end = strrchr(name, '.');
    bool outside = strncmp(name, "blk.", 4) != 0, bias = end && !strcmp(end, ".bias");
    if (i->t.ndim < 2 || bias || strstr(name, ".ffn_gate_inp.")) return gguf_type_find("f32");
    if (type->elements > 1 && outside) type = q8;
    if (row % type->elements) type = row % q8->elements ? gguf_type_find("f16") : q8;
    w->fallen += type != w->asked;
    return type;
}

static int describe(writing *w, entry *i, size_t k)
{
    w->x->tensor(w->x, k, &i->t);
    int code = w->x->gguf_name(w->x, i->t.name, &i->name);
    if (code) return code;
    i->type = type_for(w, i);
    if (!ck_numel(&i->numbers, i->t.dim, i->t.ndim) ||
        !ck_mul(&i->bytes, i->numbers / i->type->elements, i->type->bytes))
        return w->e->host->fail(w->e->host, FT_ESHAPE, "%s is too large", i->t.name);
    return 0;
}

/* ---- header ---------------------------------------------------------------------------------- */

void gguf_put_head(ft_buf *b, uint64_t tensors, const ft_gguf_keys *keys)
{
    ft_buf_puts(b, "GGUF");
    ft_gguf_u32(b, 3);
    ft_gguf_u64(b, tensors);
    ft_gguf_u64(b, keys->n);
    ft_buf_add(b, keys->bytes.p, keys->bytes.n);
}

void gguf_put_info(ft_buf *b, const char *name, const int64_t *dim, int ndim, uint32_t type,
                   uint64_t *offset, uint64_t bytes)
{
    ft_gguf_text(b, name, strlen(name));
    ft_gguf_u32(b, (uint32_t)ndim);
    for (int d = ndim - 1; d >= 0; d--) ft_gguf_u64(b, (uint64_t)dim[d]);
    ft_gguf_u32(b, type);
    ft_gguf_u64(b, *offset);
    *offset += (bytes + GGUF_ALIGN - 1) / GGUF_ALIGN * GGUF_ALIGN;
}

static int put_header(writing *w, const entry *all)
{
    const exporter *e = w->e;
    ft_buf b = { 0 };
    uint64_t offset = 0;
    gguf_put_head(&b, w->x->n_tensors + (uint64_t)e->n_extra, &e->keys);
    for (int i = 0; i < e->n_extra; i++)
        gguf_put_info(&b, e->extra[i].name, &e->extra[i].n, 1, 0, &offset,
                 (uint64_t)e->extra[i].n * sizeof(float));
    for (size_t i = 0; i < w->x->n_tensors; i++)
        gguf_put_info(&b, all[i].name.name, all[i].t.dim, all[i].t.ndim, all[i].type->ggml, &offset,
                 all[i].bytes);
    while (b.n % GGUF_ALIGN && !b.oom) ft_buf_putc(&b, 0);
    int code = b.oom ? no_memory(w) : w->x->append(w->x, b.p, b.n);
    ft_buf_free(&b);
    return code;
}

/* ---- data ------------------------------------------------------------------------------------ */

static int pad(const writing *w, uint64_t bytes)
{
    static const char zeros[GGUF_ALIGN];
    size_t over = bytes % GGUF_ALIGN;
    return over ? w->x->append(w->x, zeros, GGUF_ALIGN - over) : 0;
}

/* n numbers, whole blocks, as their type. */
static int put_blocks(writing *w, const float *v, uint64_t n)
{
    const gguf_type *type = w->now->type;
    size_t blocks = n / type->elements;
    w->blocks.n = 0;
    uint8_t *to = ft_buf_grow(&w->blocks, blocks * type->bytes);
    if (!to) return no_memory(w);
    type->encode(to, v, blocks);
    return w->x->append(w->x, to, blocks * type->bytes);
}

static int check_numbers(const writing *w, const float *v, int64_t n)
{
    const ft_host *h = w->e->host;
    float most = w->now->type->ggml == 1 ? 65520.0f : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(v[i]) < most) continue;
        if (isfinite(v[i]))
            return h->fail(h, FT_EINVAL,
                           "%s holds %g, above the limit of f16, 65504; write type: bf16 or f32",
                           w->now->t.name, (double)v[i]);
        return h->fail(h, FT_EFORMAT,
                       "%s holds numbers that are not finite; the training went astray: look at "
                       "its metrics and lower learning_rate",
                       w->now->t.name);
    }
    return 0;
}

/* The numbers plus what GGUF's are larger by. */
static const float *shifted(writing *w, const float *v, int64_t n)
{
    w->shifted.n = 0;
    float *to = ft_buf_grow(&w->shifted, (size_t)n * sizeof *v);
    for (int64_t i = 0; to && i < n; i++) to[i] = (float)((double)v[i] + w->now->name.shift);
    return to;
}

/* The next whole rows.  Matrices whose rows change places are kept until all are there. */
static int take(void *ctx, const float *v, int64_t n)
{
    writing *w = ctx;
    int code = check_numbers(w, v, n);
    if (code) return code;
    w->done += (uint64_t)n;
    if (w->now->name.shift != 0 && !(v = shifted(w, v, n))) return no_memory(w);
    if (!w->now->name.interleaved_heads) return put_blocks(w, v, (uint64_t)n);
    ft_buf_add(&w->whole, v, (size_t)n * sizeof *v);
    return w->whole.oom ? no_memory(w) : 0;
}

/* Row p * half + i of each head goes to 2i + p (llama.cpp's rotary pairs lie side by side). */
const float *gguf_interleave(ft_buf *to, const float *v, int64_t rows, int64_t cols, int64_t heads)
{
    int64_t size = rows / heads, half = size / 2;
    to->n = 0;
    float *out = ft_buf_grow(to, (size_t)(rows * cols) * sizeof *v);
    for (int64_t r = 0; out && r < rows; r++) {
        int64_t in = r % size, from = r - in + in % 2 * half + in / 2;
        memcpy(out + r * cols, v + from * cols, (size_t)cols * sizeof *v);
    }
    return out;
}

static int put_interleaved(writing *w)
{
    const entry *i = w->now;
    int64_t cols = i->t.ndim > 1 ? i->t.dim[1] : 1;
    const float *v = gguf_interleave(&w->rows, (const float *)(const void *)w->whole.p,
                                     i->t.dim[0], cols, i->name.interleaved_heads);
    return v ? put_blocks(w, v, i->numbers) : no_memory(w);
}

static int put_tensor(writing *w, const entry *i, size_t k)
{
    w->now = i;
    w->done = 0;
    w->whole.n = 0;
    int code = w->x->values(w->x, k, take, w);
    if (!code && w->done != i->numbers)
        code = w->e->host->fail(w->e->host, FT_ESHAPE, "%s: %llu numbers where its shape has %llu",
                                i->t.name, (unsigned long long)w->done,
                                (unsigned long long)i->numbers);
    if (!code && i->name.interleaved_heads) code = put_interleaved(w);
    return code ? code : pad(w, i->bytes);
}

static int put_extras(writing *w)
{
    int code = 0;
    for (int i = 0; i < w->e->n_extra && !code; i++) {
        const gguf_extra *x = &w->e->extra[i];
        uint64_t bytes = (uint64_t)x->n * sizeof *x->v;
        code = w->x->append(w->x, x->v, bytes);
        if (!code) code = pad(w, bytes);
    }
    return code;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int put_all(writing *w, entry *all, const char *name)
{
    int code = 0;
    for (size_t k = 0; k < w->x->n_tensors && !code; k++) code = describe(w, &all[k], k);
    if (!code) code = w->x->begin(w->x, name);
    if (!code) code = put_header(w, all);
    if (!code) code = put_extras(w);
    for (size_t k = 0; k < w->x->n_tensors && !code; k++) code = put_tensor(w, &all[k], k);
    return code ? code : w->x->end(w->x);
}

int gguf_write_file(exporter *e, const ft_export *x, const char *name, const gguf_type *type)
{
    writing w = { .e = e, .x = x, .asked = type };
    entry *all = calloc(x->n_tensors + 1, sizeof *all);
    int code = all ? put_all(&w, all, name) : no_memory(&w);
    if (!code && w.fallen)
        e->host->log(e->host, FT_INFO,
                     "%zu matrices are not %s: embedding and head, and rows that are no whole "
                     "number of blocks, keep more",
                     w.fallen, type->name);
    free(all);
    ft_buf_free(&w.blocks);
    ft_buf_free(&w.whole);
    ft_buf_free(&w.rows);
    ft_buf_free(&w.shifted);
    return code;
}

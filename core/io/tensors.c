/* tensors.c -- see tensors.h: which reader a path goes to, the sealed set, and the interface.
 *
 * A set is filled by one of the readers (safetensors.c, shards.c, gguf.c), sealed, and from then on
 * only read, by any number of threads.  It owns the mappings that its tensors point into: a file
 * that is replaced by rename meanwhile goes on to exist behind them.  A file that is truncated in
 * place by another program kills the reader with SIGBUS; nothing of ours does that. */
#include "core/io/tensors.h"
#include <math.h>
#include <stdarg.h>
#include "core/base/utf8.h"
#include "core/io/blocks.h"
#include "core/io/tensor_set.h"

enum { MAX_WARNINGS = 16, MOST_APART = 1 << 13 };

/* The one message for a failed allocation; returns FT_ENOMEM. */
static int no_memory(ft_err *e, const char *what)
{
    return ft_errf(e, FT_ENOMEM, "%s: out of memory while opening it", what);
}

/* ---- filling ------------------------------------------------------------------------------- */

/* Names end up in C strings and in messages, so an empty one, a zero byte inside and broken
 * UTF-8 are refused although the formats' reference readers accept some of that. */
const char *ft_bad_name(const char *name, size_t len)
{
    size_t bad;
    if (len == 0) return "is empty";
    if (memchr(name, 0, len)) return "holds a zero byte";
    return ft_utf8_valid(name, len, &bad) ? NULL : "is not valid UTF-8";
}

/* The name is copied; the rest of *t must have been checked by the caller.  The items move while
 * the set grows, so nobody keeps a pointer to one before ft_set_seal. */
int ft_set_add(ft_tensors *s, const char *what, const ft_tensor *t, ft_err *e)
{
    if (ft_set_count(s) >= FT_MAX_TENSORS)
        return ft_errf(e, FT_EFORMAT, "%s: more than the %d tensors that are allowed", what,
                       FT_MAX_TENSORS);
    ft_tensor copy = *t;
    copy.name = ft_arena_strdup(&s->arena, t->name);
    ft_buf_add(&s->items, &copy, sizeof copy);
    return copy.name && !s->items.oom ? 0 : no_memory(e, what);
}

int ft_set_note(ft_tensors *s, const char *key, const char *value, size_t len, ft_err *e)
{
    ft_note_pair note = { key, ft_arena_strndup(&s->arena, value, len) };
    ft_buf_add(&s->notes, &note, sizeof note);
    return note.value && !s->notes.oom ? 0 : no_memory(e, key);
}

/* A strict set makes the sentence an error.  Else the first MAX_WARNINGS are kept for the user:
 * a hostile file could have a million. */
int ft_set_warn(ft_tensors *s, ft_err *e, const char *fmt, ...)
{
    ft_err text = { 0 };
    va_list ap;
    va_start(ap, fmt);
    ft_verrf(&text, FT_EFORMAT, fmt, ap);
    va_end(ap);
    if (s->flags & FT_TENSORS_STRICT) return ft_errf(e, FT_EFORMAT, "%s", text.msg);
    if (s->warnings.n / sizeof(char *) >= MAX_WARNINGS) return 0;
    const char *copy = ft_arena_strdup(&s->arena, text.msg);
    ft_buf_add(&s->warnings, &copy, sizeof copy);
    return copy && !s->warnings.oom ? 0 : no_memory(e, "warnings");
}

/* The mapping is given back by ft_tensors_close, also after an error further on. */
int ft_set_map(ft_tensors *s, ft_map_file *out, const char *path, ft_err *e)
{
    int code = ft_file_map(out, path, e);
    if (code) return code;
    ft_buf_add(&s->maps, out, sizeof *out);
    if (!s->maps.oom) return 0;
    ft_file_unmap(out);
    return no_memory(e, path);
}

/* Order of ft_set_seal and ft_tensors_find: bytes of the names. */
static int by_name(const void *a, const void *b)
{
    return strcmp((*(const ft_tensor *const *)a)->name, (*(const ft_tensor *const *)b)->name);
}

/* n log n, whatever the names are: no hash that a file could be made to collide in. */
int ft_set_seal(ft_tensors *s, const char *what, ft_err *e)
{
    size_t n = ft_set_count(s);
    s->by_name = calloc(n + 1, sizeof *s->by_name);
    if (!s->by_name) return no_memory(e, what);
    for (size_t i = 0; i < n; i++) s->by_name[i] = &ft_set_items(s)[i];
    qsort(s->by_name, n, sizeof *s->by_name, by_name);
    for (size_t i = 1; i < n; i++) {
        if (!strcmp(s->by_name[i - 1]->name, s->by_name[i]->name))
            return ft_errf(e, FT_EFORMAT, "%s: tensor \"%.200s\" stands there twice", what,
                           s->by_name[i]->name);
    }
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Other files that people have, told by how they begin; NULL for what may be a safetensors file:
 * read as its header length, each of these beginnings is past all limits. */
static const char *foreign(const char *p, size_t n)
{
    uint64_t length;
    if (n < 8) return NULL;
    memcpy(&length, p, 8);
    if (length <= UINT32_MAX) return NULL;
    if (!memcmp(p, "PK\3\4", 4))
        return "a PyTorch (.bin, .pt) or zip file; save the model as safetensors";
    if ((unsigned char)p[0] == 0x80 && p[1] >= 2 && p[1] <= 5)
        return "a Python pickle; save the model as safetensors";
    if (!memcmp(p, "\x89HDF\r\n\x1a\n", 8)) return "an HDF5 file; save the model as safetensors";
    if (!memcmp(p, "version ", 8))
        return "a Git LFS pointer, not the file itself; run `git lfs pull`";
    return NULL;
}

/* Whether s ends with the text `end`. */
static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* One file: GGUF by its magic or by its name (then with GGUF's own message when the magic is
 * wrong), safetensors otherwise. */
static int read_bytes(ft_tensors *s, const char *what, const char *p, size_t n, ft_err *e)
{
    const char *other = foreign(p, n);
    if (other) return ft_errf(e, FT_EFORMAT, "%s is %s", what, other);
    s->gguf = ends_with(what, ".gguf") || (n >= 4 && !memcmp(p, "GGUF", 4));
    int code = s->gguf ? ft_gguf_read(s, what, p, n, e) : ft_safetensors_read(s, what, p, n, e);
    return code ? code : ft_set_seal(s, what, e);
}

/* A file by its path; an index leads to its shards. */
static int read_file(ft_tensors *s, const char *path, ft_err *e)
{
    ft_map_file m;
    if (ends_with(path, ".index.json")) return ft_shards_read(s, path, e);
    int code = ft_set_map(s, &m, path, e);
    return code ? code : read_bytes(s, path, m.p, m.n, e);
}

/* transformers' order: the single file wins over an index that an older save left behind. */
static int read_folder(ft_tensors *s, const char *dir, ft_err *e)
{
    static const char *const names[] = { "model.safetensors", "model.safetensors.index.json" };
    char path[4096];
    for (size_t i = 0; i < 2; i++) {
        int code = ft_path_join(path, sizeof path, dir, names[i], e);
        if (code) return code;
        if (ft_file_exists(path)) return read_file(s, path, e);
    }
    return ft_errf(e, FT_EIO, "%s holds no weights: neither %s nor %s is there", dir, names[0],
                   names[1]);
}

ft_tensors *ft_tensors_open_with(const char *path, unsigned flags, ft_err *e)
{
    ft_tensors *s = calloc(1, sizeof *s);
    int code = s ? 0 : no_memory(e, path);
    if (s) s->flags = flags;
    if (!code) code = ft_is_dir(path) ? read_folder(s, path, e) : read_file(s, path, e);
    if (!code) return s;
    ft_tensors_close(s);
    return NULL;
}

ft_tensors *ft_tensors_open(const char *path, ft_err *e)
{
    return ft_tensors_open_with(path, 0, e);
}

ft_tensors *ft_tensors_parse(const char *what, const void *p, size_t n, unsigned flags, ft_err *e)
{
    ft_tensors *s = calloc(1, sizeof *s);
    int code = s ? 0 : no_memory(e, what);
    if (s) s->flags = flags;
    if (!code) code = read_bytes(s, what, p, n, e);
    if (!code) return s;
    ft_tensors_close(s);
    return NULL;
}

void ft_tensors_close(ft_tensors *s)
{
    if (!s) return;
    ft_map_file *m = (ft_map_file *)(void *)s->maps.p;
    for (size_t i = 0; i < s->maps.n / sizeof *m; i++) ft_file_unmap(&m[i]);
    free(s->by_name);
    ft_buf_free(&s->maps);
    ft_buf_free(&s->items);
    ft_buf_free(&s->notes);
    ft_buf_free(&s->metas);
    ft_buf_free(&s->warnings);
    ft_arena_free(&s->arena);
    free(s);
}

/* ---- looking ------------------------------------------------------------------------------- */

size_t ft_tensors_count(const ft_tensors *s) { return ft_set_count(s); }
bool ft_tensors_is_gguf(const ft_tensors *s) { return s->gguf; }

const ft_tensor *ft_tensors_at(const ft_tensors *s, size_t i)
{
    return i < ft_set_count(s) ? &ft_set_items(s)[i] : NULL;
}

/* bsearch: a name against an item of by_name. */
static int name_against(const void *key, const void *item)
{
    return strcmp(key, (*(const ft_tensor *const *)item)->name);
}

const ft_tensor *ft_tensors_find(const ft_tensors *s, const char *name)
{
    const ft_tensor **hit =
        bsearch(name, s->by_name, ft_set_count(s), sizeof *s->by_name, name_against);
    return hit ? *hit : NULL;
}

const char *ft_tensors_note(const ft_tensors *s, const char *key)
{
    const ft_note_pair *note = (const ft_note_pair *)(const void *)s->notes.p;
    for (size_t i = 0; i < s->notes.n / sizeof *note; i++) {
        if (!strcmp(note[i].key, key)) return note[i].value;
    }
    return NULL;
}

const ft_meta *ft_tensors_metas(const ft_tensors *s, size_t *n)
{
    *n = s->metas.n / sizeof(ft_meta);
    return (const ft_meta *)(const void *)s->metas.p;
}

const ft_meta *ft_tensors_meta(const ft_tensors *s, const char *key)
{
    size_t n;
    const ft_meta *m = ft_tensors_metas(s, &n);
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(m[i].key, key)) return &m[i];
    }
    return NULL;
}

const char *const *ft_tensors_warnings(const ft_tensors *s, size_t *n)
{
    *n = s->warnings.n / sizeof(char *);
    return (const char *const *)(const void *)s->warnings.p;
}

/* Whether one of four 16-bit numbers has the greatest exponent: adding one in its lowest place then
 * carries into the sign, which was taken away. */
static bool any16(const char *p, uint64_t exponent)
{
    uint64_t x;
    memcpy(&x, p, 8);
    const uint64_t lanes = 0x0001000100010001u;
    return (((x & exponent * lanes) + (exponent & (~exponent + 1)) * lanes) & 0x8000 * lanes) != 0;
}

/* Numbers with the greatest exponent: NaN and the infinities.  memcpy, as a file aligns nothing. */
static uint64_t count16(const char *p, uint64_t n, uint16_t exponent)
{
    uint64_t count = 0, i = 0;
    while (i < n) {
        for (; i + 4 <= n && !any16(p + 2 * i, exponent); i += 4) continue;
        for (uint64_t end = i + 4 < n ? i + 4 : n; i < end; i++) {
            uint16_t v;
            memcpy(&v, p + 2 * i, 2);
            count += (v & exponent) == exponent;
        }
    }
    return count;
}

static uint64_t count32(const char *p, uint64_t n)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t v;
        memcpy(&v, p + 4 * i, 4);
        count += (v & 0x7f800000u) == 0x7f800000u;
    }
    return count;
}

/* Reads the whole tensor, so it is for weights that are about to be used anyway, not for opening.
 * In a block format a scale that is not finite makes the whole block so, hence a number a block. */
bool ft_tensor_nonfinite(const ft_tensor *t, uint64_t *count)
{
    const ft_block_format *f = ft_block_of(t);
    float x;
    *count = 0;
    if (!f || !f->decode) return false;
    uint64_t n = t->bytes / f->bytes;
    if (!t->scheme && t->dtype == FT_F32) *count = count32(t->data, n);
    else if (!t->scheme && t->dtype == FT_BF16) *count = count16(t->data, n, 0x7f80);
    else if (!t->scheme && t->dtype == FT_F16) *count = count16(t->data, n, 0x7c00);
    else for (uint64_t i = 0; i < n; i++) {
        ft_block_decode(&x, f, f->decode, t->data, i * f->elements, 1);
        *count += isfinite(x) ? 0 : f->elements;
    }
    return true;
}

/* ---- interface "ft.tensors/1" ---------------------------------------------------------------- */

/* ft_tensors_open for a plugin: the error goes to fail(), each warning to the run's log. */
static ft_tensors *open_for_plugin(const ft_host *host, const char *path)
{
    ft_err e = { 0 };
    size_t n;
    ft_tensors *s = ft_tensors_open(path, &e);
    if (!s) {
        host->fail(host, e.code, "%s", e.msg);
        return NULL;
    }
    const char *const *text = ft_tensors_warnings(s, &n);
    for (size_t i = 0; i < n; i++) host->log(host, FT_WARN, "%s", text[i]);
    return s;
}

const ft_tensors_api ft_tensors_interface = {
    .size = sizeof(ft_tensors_api),
    .open = open_for_plugin,
    .close = ft_tensors_close,
    .count = ft_tensors_count,
    .at = ft_tensors_at,
    .find = ft_tensors_find,
    .note = ft_tensors_note,
    .meta = ft_tensors_meta,
};

void ft_tensors_forget(const ft_tensors *s)
{
    const ft_map_file *m = (const ft_map_file *)(const void *)s->maps.p;
    for (size_t i = 0; i < s->maps.n / sizeof *m; i++) ft_file_forget(&m[i], 0, m[i].n);
}

/* Rounded to whole pages outwards: what a neighbour needs is mapped again when it is read. */
void ft_tensors_forget_part(const ft_tensors *s, const void *data, uint64_t n)
{
    const ft_map_file *m = (const ft_map_file *)(const void *)s->maps.p;
    for (size_t i = 0; i < s->maps.n / sizeof *m; i++) {
        const uintptr_t at = (uintptr_t)data - (uintptr_t)m[i].p; /* huge where it lies before */
        if (at < m[i].n) ft_file_forget(&m[i], at, n);
    }
}

void ft_tensors_apart(const ft_tensors *s)
{
    const size_t n = ft_set_count(s);
    for (size_t i = 0; i < n && n <= MOST_APART && s->maps.n; i++) {
        if (ft_set_items(s)[i].bytes) ft_file_apart(ft_set_items(s)[i].data);
    }
    ft_tensors_forget(s);
}

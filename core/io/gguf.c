/* gguf.c -- reads one GGUF file, version 2 or 3, little-endian.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_kv
 *   n_kv times       string key | u32 type | value
 *   n_tensors times  string name | u32 n_dims | u64 dims, fastest first | u32 type | u64 offset
 *   padding to general.alignment (32) | data; each tensor begins where the padded one before ends
 *   string: u64 length, bytes.  array: u32 type of the items, u64 count, items.
 *
 * Format: ggml/docs/gguf.md and ggml's gguf.cpp.  Every number is held against the bytes that are
 * left before it is used; nothing is allocated by a count from the file, and both counts are
 * capped, so memory stays under 64 MiB beside the mapped file.  What readers of this format broke
 * on (count times size, offset plus size, padding, zero dimensions, alignment, declared against
 * used types) has a test by the name that llama.cpp gives it.  Left out: big-endian files, version
 * 1, arrays of arrays, models split over several files: refused by name. */
#include <inttypes.h>
#include "ft/ck.h"
#include "core/io/blocks.h"
#include "core/io/dtype.h"
#include "core/io/tensor_set.h"

enum {
    MAX_KV = 1 << 16,
    MAX_GGUF_TENSORS = 1 << 16,
    MAX_KEY = 65535,
    MAX_KEYS = 8 << 20,       /* bytes of all keys */
    MAX_NAME = 63,            /* ggml's GGML_MAX_NAME with its zero */
    MAX_GGUF_DIMS = 4,
    MAX_ALIGN = 65536,
    MAX_NOTE = 1 << 20,       /* a longer string has no note, */
    MAX_NOTES = 8 << 20,      /* nor those past this many bytes */
};

/* Bytes of a value, by ft_meta_type; 0: strings and arrays. */
static const uint8_t value_bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
enum { N_TYPES = sizeof value_bytes };

typedef struct {
    ft_tensors *set;
    const char *what, *p;
    uint64_t n, at;      /* bytes of the file, and how many are read */
    uint64_t keys_left, notes_left; /* bytes that they may still take */
    uint64_t align;
    ft_err *err;
} reader;

/* An error of the whole file; `why` completes "FILE: …". */
static int fail(const reader *r, const char *why)
{
    return ft_errf(r->err, FT_EFORMAT, "%s: %s", r->what, why);
}

static uint64_t left(const reader *r) { return r->n - r->at; }

/* The next n bytes, or NULL when there are not as many. */
static const char *take(reader *r, uint64_t n)
{
    if (n > left(r)) return NULL;
    const char *p = r->p + r->at;
    r->at += n;
    return p;
}

/* The header wants more bytes than there are. */
static int ended(const reader *r)
{
    return ft_errf(r->err, FT_EFORMAT, "%s: the file ends inside its header, after byte %" PRIu64
                   " (cut off?)", r->what, r->at);
}

/* Numbers are copied: nothing in a GGUF header is aligned. */
static int read_u32(reader *r, uint32_t *out)
{
    const char *p = take(r, 4);
    if (p) memcpy(out, p, 4);
    return p ? 0 : ended(r);
}

static int read_u64(reader *r, uint64_t *out)
{
    const char *p = take(r, 8);
    if (p) memcpy(out, p, 8);
    return p ? 0 : ended(r);
}

/* A length and that many bytes; *s points into the file. */
static int read_string(reader *r, const char **s, uint64_t *len)
{
    int code = read_u64(r, len);
    if (code) return code;
    if (*len > left(r))
        return ft_errf(r->err, FT_EFORMAT, "%s: a string of %" PRIu64 " bytes at byte %" PRIu64
                       " exceeds the file", r->what, *len, r->at - 8);
    *s = take(r, *len);
    return 0;
}

/* A key or a tensor's name; *s points into the file. */
static int read_name(reader *r, const char **s, uint64_t *len, const char *kind, uint64_t max)
{
    int code = read_string(r, s, len);
    if (code) return code;
    const char *bad = *len > max ? "is too long" : ft_bad_name(*s, *len);
    if (!bad) return 0;
    return ft_errf(r->err, FT_EFORMAT,
                   "%s: the %s at byte %" PRIu64 " (%" PRIu64 " bytes; at most %" PRIu64 ") %s",
                   r->what, kind, r->at - *len, *len, max, bad);
}

/* ---- key-values ---------------------------------------------------------------------------- */

/* The n strings of a list, each held against what is left; n is at most left / 8 here. */
static int skip_strings(reader *r, uint64_t n)
{
    const char *s;
    uint64_t len = 0;
    int code = 0;
    for (uint64_t i = 0; i < n && !code; i++) code = read_string(r, &s, &len);
    return code;
}

/* A list: the count times the least size of an item must fit into what is left, so the loop over
 * strings is bounded by the file's size.  Lists of lists exist in the format's text but in no
 * file, and llama.cpp refuses them too. */
static int read_array(reader *r, ft_meta *m)
{
    uint32_t type;
    uint64_t bytes = 0;
    int code = read_u32(r, &type);
    if (!code) code = read_u64(r, &m->n);
    if (code) return code;
    if (type >= N_TYPES || type == FT_META_ARRAY)
        return ft_errf(r->err, FT_EFORMAT, "%s: key \"%.200s\" is a list of items of type %" PRIu32
                       ", which is not supported", r->what, m->key, type);
    m->item = (ft_meta_type)type;
    m->data = r->p + r->at;
    uint64_t least = type == FT_META_STRING ? 8 : value_bytes[type]; /* of one item */
    if (!ck_mul(&bytes, m->n, least) || bytes > left(r))
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: key \"%.200s\" is a list of %" PRIu64 " items, which "
                       "exceeds the file",
                       r->what, m->key, m->n);
    if (type == FT_META_STRING) return skip_strings(r, m->n);
    r->at += bytes;
    return 0;
}

/* The value behind a key: m->data points at it, r->at ends behind it. */
static int read_value(reader *r, ft_meta *m)
{
    const char *s;
    uint64_t len;
    m->n = 1;
    m->data = r->p + r->at;
    if (m->type == FT_META_ARRAY) return read_array(r, m);
    if (m->type == FT_META_STRING) return read_string(r, &s, &len);
    return take(r, value_bytes[m->type]) ? 0 : ended(r);
}

/* The value as text for ft_tensors_note, where it has one. */
static int add_note(reader *r, const ft_meta *m)
{
    char number[40];
    const char *s = number;
    uint64_t len = 0;
    int64_t i;
    double d;
    if (m->type == FT_META_STRING) s = ft_meta_str(m, &len);
    else if (m->type == FT_META_ARRAY) return 0;
    else if (m->type == FT_META_BOOL) s = *(const char *)m->data ? "true" : "false";
    else if (ft_meta_int(m, &i)) snprintf(number, sizeof number, "%" PRId64, i);
    else if (ft_meta_real(m, &d))
        snprintf(number, sizeof number, "%.*g", m->type == FT_META_F32 ? 9 : 17, d);
    else return 0;
    if (m->type != FT_META_STRING) len = strlen(s);
    if (len > MAX_NOTE || len > r->notes_left || memchr(s, 0, len)) return 0;
    r->notes_left -= len;
    return ft_set_note(r->set, m->key, s, len, r->err);
}

/* One key and its value.  Keys are copied, so all of them together are capped. */
static int read_kv(reader *r)
{
    ft_meta m = { 0 };
    const char *key;
    uint64_t len = 0;
    uint32_t type;
    int code = read_name(r, &key, &len, "key", r->keys_left < MAX_KEY ? r->keys_left : MAX_KEY);
    if (code) return code;
    r->keys_left -= len;
    m.key = ft_arena_strndup(&r->set->arena, key, len);
    if (!m.key) return ft_errf(r->err, FT_ENOMEM, "%s: out of memory", r->what);
    code = read_u32(r, &type);
    if (code) return code;
    if (type >= N_TYPES)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: key \"%.200s\" has type %" PRIu32 "; the types end at %d", r->what,
                       m.key, type, N_TYPES - 1);
    m.type = (ft_meta_type)type;
    code = read_value(r, &m);
    if (!code) code = add_note(r, &m);
    ft_buf_add(&r->set->metas, &m, sizeof m);
    if (!code && r->set->metas.oom) code = ft_errf(r->err, FT_ENOMEM, "%s: out of memory", r->what);
    return code;
}

/* qsort: pointers to keys, by their bytes. */
static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* By sorting: llama.cpp's own search is quadratic, which a file with many keys could use. */
static int refuse_duplicate_keys(reader *r)
{
    size_t n;
    const ft_meta *m = ft_tensors_metas(r->set, &n);
    const char **key = malloc((n + 1) * sizeof *key);
    if (!key) return ft_errf(r->err, FT_ENOMEM, "%s: out of memory while opening it", r->what);
    for (size_t i = 0; i < n; i++) key[i] = m[i].key;
    qsort(key, n, sizeof *key, by_key);
    int code = 0;
    for (size_t i = 1; i < n && !code; i++) {
        if (!strcmp(key[i - 1], key[i]))
            code = ft_errf(r->err, FT_EFORMAT, "%s: key \"%.200s\" stands there twice", r->what,
                           key[i]);
    }
    free(key);
    return code;
}

/* general.alignment, and keys that tell of what is not supported. */
static int read_known_keys(reader *r)
{
    const ft_meta *align = ft_tensors_meta(r->set, "general.alignment");
    const ft_meta *split = ft_tensors_meta(r->set, "split.count");
    int64_t value = 32;
    if (align && (align->type != FT_META_U32 || !ft_meta_int(align, &value)))
        return fail(r, "general.alignment is not of type u32");
    if (value < 1 || value > MAX_ALIGN || (value & (value - 1)))
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: general.alignment = %" PRId64 " is not a power of two "
                       "up to %d",
                       r->what, value, MAX_ALIGN);
    r->align = (uint64_t)value;
    value = 0;
    if (split && (!ft_meta_int(split, &value) || value > 1))
        return ft_errf(r->err, FT_EUNSUP,
                       "%s is one of %" PRId64 " parts of a split model; join them "
                       "with `llama-gguf-split --merge`",
                       r->what, value);
    return 0;
}

/* ---- tensors ------------------------------------------------------------------------------- */

/* An error of one tensor, by name. */
static int bad_tensor(const reader *r, const ft_tensor *t, const char *why)
{
    return ft_errf(r->err, FT_EFORMAT, "%s: tensor \"%s\": %s", r->what, t->name, why);
}

/* Dimensions, fastest first in the file, slowest first in *t. */
static int read_dims(reader *r, ft_tensor *t)
{
    uint32_t n;
    uint64_t dim;
    int code = read_u32(r, &n);
    if (code) return code;
    if (n > MAX_GGUF_DIMS)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: tensor \"%s\" has %" PRIu32 " dimensions; GGUF has at "
                       "most %d",
                       r->what, t->name, n, MAX_GGUF_DIMS);
    t->ndim = (int32_t)n;
    for (uint32_t i = 0; i < n && !code; i++) {
        code = read_u64(r, &dim);
        if (!code && dim > INT64_MAX) code = bad_tensor(r, t, "a dimension is negative");
        if (!code) t->dim[n - 1 - i] = (int64_t)dim;
    }
    return code;
}

/* t->bytes from shape and block format; rows are whole numbers of blocks. */
static int set_size(reader *r, ft_tensor *t, const ft_block_format *f)
{
    uint64_t span, bytes;
    bool zero;
    int64_t row = t->ndim ? t->dim[t->ndim - 1] : 1;
    if (row % f->elements)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: tensor \"%s\": rows of %" PRId64 " elements are no whole "
                       "number of %s blocks of %" PRIu32,
                       r->what, t->name, row, f->name, f->elements);
    if (!ft_shape_span(&span, &zero, t->dim, t->ndim) || span > INT64_MAX ||
        !ck_mul(&bytes, span / f->elements, f->bytes) || bytes > INT64_MAX)
        return bad_tensor(r, t, "its shape makes more bytes than fit into 63 bits");
    t->bytes = zero ? 0 : bytes;
    t->dtype = f->plain ? f->plain : FT_U8;
    t->scheme = f->plain ? NULL : f->name;
    return 0;
}

/* One tensor's entry; *next is the offset where its data must begin, and then where it ends. */
static int read_tensor(reader *r, uint64_t *next)
{
    char copy[MAX_NAME + 1];
    ft_tensor t = { .name = copy };
    const char *name;
    uint32_t type;
    uint64_t offset, len = 0;
    int code = read_name(r, &name, &len, "tensor name", MAX_NAME);
    if (code) return code;
    memcpy(copy, name, len);
    copy[len] = 0;
    code = read_dims(r, &t);
    if (!code) code = read_u32(r, &type);
    if (!code) code = read_u64(r, &offset);
    if (code) return code;
    /* Types that ggml removed are not in the table: their block size of 0 was a division by
     * zero. */
    const ft_block_format *f = ft_block_ggml(type);
    if (!f)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: tensor \"%s\" has ggml type %" PRIu32 ", which is not "
                       "known",
                       r->what, t.name, type);
    code = set_size(r, &t, f);
    if (code) return code;
    if (offset != *next)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s: tensor \"%s\" begins at byte %" PRIu64 " of the data where "
                       "%" PRIu64 " is next (alignment %" PRIu64 ")",
                       r->what, t.name, offset, *next, r->align);
    t.data = (const void *)(uintptr_t)offset; /* made a pointer once the data's place is known */
    if (!ck_add(next, offset, t.bytes) || !ck_align(next, *next, r->align))
        return bad_tensor(r, &t, "the data of all tensors does not fit into 64 bits");
    return ft_set_add(r->set, r->what, &t, r->err);
}

/* Turns offsets into pointers; every tensor lies inside the file. */
static int place_data(reader *r)
{
    ft_tensor *t = ft_set_items(r->set);
    size_t n = ft_set_count(r->set);
    uint64_t base, begin, end;
    for (size_t i = 0; i < n; i++) {
        bool fits = ck_align(&base, r->at, r->align) &&
                    ck_add(&begin, base, (uintptr_t)t[i].data) && ck_add(&end, begin, t[i].bytes) &&
                    end <= r->n;
        if (!fits && t[i].bytes)
            return ft_errf(r->err, FT_EFORMAT,
                           "%s: tensor \"%s\" of %" PRIu64 " bytes exceeds the file "
                           "of %" PRIu64 " (cut off?)",
                           r->what, t[i].name, t[i].bytes, r->n);
        t[i].data = r->p + (fits ? begin : 0);
    }
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------ */

/* Magic, version and the two counts.  A count must be possible for the bytes that are left (with
 * the smallest entry there can be) and below the cap, before anything is done with it. */
static int read_header(reader *r, uint64_t *n_tensors, uint64_t *n_kv)
{
    enum { LEAST_KV = 8 + 1 + 4 + 1, LEAST_TENSOR = 8 + 1 + 4 + 4 + 8 };
    uint32_t version;
    const char *magic = take(r, 4);
    if (!magic || memcmp(magic, "GGUF", 4))
        return fail(r, "this is not a GGUF file (no \"GGUF\" at its start)");
    int code = read_u32(r, &version);
    if (code) return code;
    if (version && (version & 0xffff) == 0)
        return ft_errf(r->err, FT_EUNSUP,
                       "%s is a big-endian GGUF file; convert it to little-endian", r->what);
    if (version < 2 || version > 3)
        return ft_errf(r->err, FT_EUNSUP,
                       "%s has GGUF version %" PRIu32 "; versions 2 and 3 are supported", r->what,
                       version);
    code = read_u64(r, n_tensors);
    if (!code) code = read_u64(r, n_kv);
    if (code) return code;
    if (*n_tensors > MAX_GGUF_TENSORS || *n_tensors > left(r) / LEAST_TENSOR)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s says that it has %" PRIu64 " tensors, more than it can hold "
                       "or than %d",
                       r->what, *n_tensors, MAX_GGUF_TENSORS);
    if (*n_kv > MAX_KV || *n_kv > left(r) / LEAST_KV)
        return ft_errf(r->err, FT_EFORMAT,
                       "%s says that it has %" PRIu64 " keys, more than it can hold or "
                       "than %d",
                       r->what, *n_kv, MAX_KV);
    return 0;
}

/* The order of the file; tensors are held against its size once the header's end is known. */
int ft_gguf_read(ft_tensors *s, const char *what, const char *p, size_t n, ft_err *e)
{
    reader r = { .set = s, .what = what, .p = p, .n = n, .keys_left = MAX_KEYS,
                 .notes_left = MAX_NOTES, .err = e };
    uint64_t n_tensors = 0, n_kv = 0, next = 0;
    int code = read_header(&r, &n_tensors, &n_kv);
    for (uint64_t i = 0; i < n_kv && !code; i++) code = read_kv(&r);
    if (!code) code = refuse_duplicate_keys(&r);
    if (!code) code = read_known_keys(&r);
    for (uint64_t i = 0; i < n_tensors && !code; i++) code = read_tensor(&r, &next);
    return code ? code : place_data(&r);
}

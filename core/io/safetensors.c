/* safetensors.c -- reads one safetensors file.
 *
 *   u64 N, little-endian | N bytes of JSON | data
 *   { "__metadata__": { TEXT: TEXT, … },
 *     NAME: { "dtype": TEXT, "shape": [n, …], "data_offsets": [begin, end] }, … }
 *
 * Format: https://github.com/huggingface/safetensors (README and tensor.rs).  Stricter than the
 * reference where it is looser than its own README: duplicate names and metadata keys, empty names,
 * zero bytes in names, and an entry that is not an object are refused; an unknown field of an entry
 * is a warning.  At most FT_MAX_DIMS dimensions.  The header is read member by member, so that
 * memory is that of the tensor table.  Data is not looked at and not promised to be aligned.
 * Checked: one file for every rule, every truncation, every flipped bit of a header, and against
 * the reference on mutated files (tests/tools/diff_safetensors.py). */
#include <inttypes.h>
#include "core/base/json.h"
#include "core/io/dtype.h"
#include "core/io/tensor_set.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor files are little-endian");

enum { MAX_HEADER = 100000000, MAX_MEMBER = 64 << 20, MAX_NAME_SHOWN = 200 };

typedef struct {
    ft_tensors *set;
    const char *what;
    const char *data; /* where data_offsets count from */
    uint64_t n;       /* bytes of data */
    bool metadata;    /* a "__metadata__" has been read */
} reader;

/* An error of one entry, by name; returns FT_EFORMAT. */
static int fail(const reader *r, const ft_json *entry, ft_err *e, const char *why)
{
    return ft_errf(e, FT_EFORMAT, "%s: tensor \"%.*s\": %s", r->what, MAX_NAME_SHOWN, entry->key,
                   why);
}

/* A JSON integer from 0 to INT64_MAX: no sign, no fraction, no exponent. */
static bool natural(const ft_json *v, int64_t *out)
{
    return v->type == FT_JSON_NUMBER && v->text[0] != '-' && ft_json_as_int(v, out);
}

/* "__metadata__": text to text, once.  Duplicate keys inside have been refused by the JSON
 * reader. */
static int read_metadata(reader *r, const ft_json *m, ft_err *e)
{
    if (r->metadata)
        return ft_errf(e, FT_EFORMAT, "%s: \"__metadata__\" stands there twice", r->what);
    r->metadata = true;
    if (m->type != FT_JSON_OBJECT)
        return ft_errf(e, FT_EFORMAT, "%s: \"__metadata__\" is not an object", r->what);
    for (size_t i = 0; i < m->len; i++) {
        const ft_json *v = &m->item[i];
        if (!ft_json_is_text(v) || strlen(v->key) != v->key_len)
            return ft_errf(e, FT_EFORMAT, "%s: \"__metadata__\": \"%.*s\" is not plain text",
                           r->what, MAX_NAME_SHOWN, v->key);
        const char *key = ft_arena_strdup(&r->set->arena, v->key);
        if (!key) return ft_errf(e, FT_ENOMEM, "%s: out of memory", r->what);
        int code = ft_set_note(r->set, key, v->text, v->len, e);
        if (code) return code;
    }
    return 0;
}

/* "shape" into t->dim. */
static int read_shape(const reader *r, ft_tensor *t, const ft_json *entry, const ft_json *shape,
                      ft_err *e)
{
    if (!shape || shape->type != FT_JSON_ARRAY) return fail(r, entry, e, "\"shape\" is not a list");
    if (shape->len > FT_MAX_DIMS)
        return ft_errf(e, FT_EUNSUP,
                       "%s: tensor \"%.*s\" has %u dimensions; at most %d are supported", r->what,
                       MAX_NAME_SHOWN, entry->key, shape->len, FT_MAX_DIMS);
    t->ndim = (int32_t)shape->len;
    for (size_t i = 0; i < shape->len; i++) {
        if (!natural(&shape->item[i], &t->dim[i]))
            return fail(r, entry, e,
                        "\"shape\" holds something else than integers from 0 to 2^63-1");
    }
    return 0;
}

/* Offsets, the size that dtype and shape make, and whether both agree with the file. */
static int read_place(const reader *r, ft_tensor *t, const ft_json *entry, const ft_json *at,
                      ft_err *e)
{
    int64_t begin, end;
    uint64_t bytes;
    if (!at || at->type != FT_JSON_ARRAY || at->len != 2 || !natural(&at->item[0], &begin) ||
        !natural(&at->item[1], &end))
        return fail(r, entry, e, "\"data_offsets\" is not a list of two integers from 0 to 2^63-1");
    if (begin > end) return fail(r, entry, e, "\"data_offsets\": it ends before it begins");
    const char *why = ft_plain_bytes(&bytes, t->dtype, t->dim, t->ndim);
    if (why) return fail(r, entry, e, why);
    if ((uint64_t)(end - begin) != bytes)
        return ft_errf(e, FT_EFORMAT,
                       "%s: tensor \"%.*s\" has %" PRId64 " bytes where its dtype and "
                       "shape make %" PRIu64,
                       r->what, MAX_NAME_SHOWN, entry->key, end - begin, bytes);
    if ((uint64_t)end > r->n)
        return ft_errf(e, FT_EFORMAT,
                       "%s: tensor \"%.*s\" ends at byte %" PRId64 " of the data; the "
                       "file holds %" PRIu64 " of them (cut off?)",
                       r->what, MAX_NAME_SHOWN, entry->key, end, r->n);
    t->data = r->data + begin;
    t->bytes = bytes;
    return 0;
}

/* One tensor's entry.  Its size and place are checked against the file here; that the places
 * cover the data exactly once can only be checked when all are known (check_places). */
static int read_entry(reader *r, const ft_json *entry, ft_err *e)
{
    ft_tensor t = { .name = entry->key };
    const char *bad = ft_bad_name(entry->key, entry->key_len);
    if (bad) return ft_errf(e, FT_EFORMAT, "%s: the name of a tensor %s", r->what, bad);
    if (entry->type != FT_JSON_OBJECT) return fail(r, entry, e, "its entry is not an object");
    for (size_t i = 0; i < entry->len; i++) {
        const char *key = entry->item[i].key;
        if (strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets")) {
            int code = ft_set_warn(r->set, e, "%s: tensor \"%.*s\" has an unknown field \"%.40s\"",
                                   r->what, MAX_NAME_SHOWN, entry->key, key);
            if (code) return code;
        }
    }
    const char *dtype = ft_json_str(entry, "dtype", NULL);
    if (!dtype) return fail(r, entry, e, "\"dtype\" is missing or no text");
    t.dtype = ft_dtype_find(dtype);
    if (t.dtype == FT_NO_DTYPE)
        return ft_errf(e, FT_EFORMAT, "%s: tensor \"%.*s\": dtype \"%.40s\" is not known", r->what,
                       MAX_NAME_SHOWN, entry->key, dtype);
    int code = read_shape(r, &t, entry, ft_json_get(entry, "shape"), e);
    if (!code) code = read_place(r, &t, entry, ft_json_get(entry, "data_offsets"), e);
    return code ? code : ft_set_add(r->set, r->what, &t, e);
}

/* A member of the header: metadata or a tensor. */
static int on_member(void *ctx, const ft_json *m, ft_err *e)
{
    bool metadata = m->key_len == 12 && !memcmp(m->key, "__metadata__", 12);
    return metadata ? read_metadata(ctx, m, e) : read_entry(ctx, m, e);
}

/* By place and then by size: a tensor without bytes may share the offset of the next one. */
static int by_place(const void *a, const void *b)
{
    const ft_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Puts the tensors from `first` on into the order of their data, which must cover all of it once:
 * a hole or an overlap could hide another file. */
static int check_places(const reader *r, size_t first, ft_err *e)
{
    size_t n = ft_set_count(r->set) - first, sorted = 1;
    ft_tensor *t = n ? ft_set_items(r->set) + first : NULL;
    while (sorted < n && by_place(&t[sorted - 1], &t[sorted]) <= 0) sorted++;
    if (sorted < n) qsort(t, n, sizeof *t, by_place);
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t begin = (uint64_t)((const char *)t[i].data - r->data);
        if (begin != at)
            return ft_errf(e, FT_EFORMAT,
                           "%s: tensor \"%.*s\" begins at byte %" PRIu64 " of the data "
                           "where byte %" PRIu64 " is next: %s",
                           r->what, MAX_NAME_SHOWN, t[i].name, begin, at,
                           begin < at ? "tensors overlap" : "there is a hole");
        at += t[i].bytes; /* each end has been checked against the file */
    }
    if (at == r->n) return 0;
    return ft_errf(e, FT_EFORMAT, "%s: %" PRIu64 " bytes follow the last tensor", r->what,
                   r->n - at);
}

/* The length is compared before it is used: N + 8 is never formed, so it cannot wrap. */
int ft_safetensors_read(ft_tensors *s, const char *what, const char *p, size_t n, ft_err *e)
{
    uint64_t header;
    size_t first = ft_set_count(s);
    if (n < 8)
        return ft_errf(e, FT_EFORMAT, "%s: %zu bytes are too few for a safetensors file", what, n);
    memcpy(&header, p, 8);
    if (header > MAX_HEADER)
        return ft_errf(e, FT_EFORMAT,
                       "%s: a header of %" PRIu64 " bytes exceeds the %d allowed; is "
                       "this a safetensors or GGUF file?",
                       what, header, MAX_HEADER);
    if (header > n - 8)
        return ft_errf(e, FT_EFORMAT,
                       "%s: its header of %" PRIu64 " bytes exceeds the file (cut off?)", what,
                       header);
    reader r = { .set = s, .what = what, .data = p + 8 + header, .n = n - 8 - header };
    int code = ft_json_each(what, p + 8, header, NULL, MAX_MEMBER, on_member, &r, e);
    return code ? code : check_places(&r, first, e);
}

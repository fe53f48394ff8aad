/* column.c -- the entries of one column of a row group, page by page: only its page and its
 * dictionary are in memory.
 *
 *   page header (thrift) | v1: packed (levels, values); v2: levels, packed (values)
 *
 * Values are PLAIN, by dictionary, or RLE (booleans); delta encodings are refused by name.  What
 * all columns hold in memory and how many entries the file may have are bounded by its size. */
#include <string.h>
#include <zlib.h>
#include "parquet.h"

enum { DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_2 };
enum { PLAIN = 0, PLAIN_DICTIONARY = 2, RLE = 3, RLE_DICTIONARY = 8 };
enum { MAX_HEADER = 1 << 20 }; /* statistics hold whole values */

typedef struct {
    int64_t kind, unpacked, packed, crc;
    int64_t n, encoding, def_encoding, rep_encoding; /* of any kind of page */
    int64_t def_bytes, rep_bytes, is_packed;         /* v2 */
} header;

static const thrift_field page_1[] = {
    { 1, T_INT, offsetof(header, n), NULL, NULL },
    { 2, T_INT, offsetof(header, encoding), NULL, NULL },
    { 3, T_INT, offsetof(header, def_encoding), NULL, NULL },
    { 4, T_INT, offsetof(header, rep_encoding), NULL, NULL },
    { 0, T_INT, 0, NULL, NULL },
};
static const thrift_field page_2[] = {
    { 1, T_INT, offsetof(header, n), NULL, NULL },
    { 4, T_INT, offsetof(header, encoding), NULL, NULL },
    { 5, T_INT, offsetof(header, def_bytes), NULL, NULL },
    { 6, T_INT, offsetof(header, rep_bytes), NULL, NULL },
    { 7, T_INT, offsetof(header, is_packed), NULL, NULL },
    { 0, T_INT, 0, NULL, NULL },
};
static const thrift_field header_fields[] = {
    { 1, T_INT, offsetof(header, kind), NULL, NULL },
    { 2, T_INT, offsetof(header, unpacked), NULL, NULL },
    { 3, T_INT, offsetof(header, packed), NULL, NULL },
    { 4, T_INT, offsetof(header, crc), NULL, NULL },
    { 5, T_STRUCT, 0, page_1, NULL },
    { 7, T_STRUCT, 0, page_1, NULL },
    { 8, T_STRUCT, 0, page_2, NULL },
    { 0, T_INT, 0, NULL, NULL },
};

/* An error of this column, by name. */
static int fail(column *c, const char *why)
{
    return file_fail(c->f, "column \"%.*s\": %s", (int)(c->n->name.n < 80 ? c->n->name.n : 80),
                     c->n->name.p, why);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void release(file *f, ft_buf *b)
{
    f->held -= b->cap;
    ft_buf_free(b);
}

/* Room for n bytes in b, whose contents are lost; NULL after an error. */
static uint8_t *room(column *c, ft_buf *b, uint64_t n)
{
    release(c->f, b);
    if (n > c->f->most || c->f->held > c->f->most - n) {
        char why[160];
        snprintf(why, sizeof why, "a page of %llu bytes: its pages would take more than the %llu "
                 "MiB that a file of this size may", (unsigned long long)n,
                 (unsigned long long)(c->f->most >> 20));
        fail(c, why);
        return NULL;
    }
    b->p = malloc(n + 1);
    b->cap = b->p ? (size_t)n + 1 : 0;
    b->n = (size_t)n;
    c->f->held += b->cap;
    if (!b->p) fail(c, "out of memory");
    return (uint8_t *)b->p;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* The header at c->at, which is then behind it. */
static int read_header(column *c, header *h)
{
    uint8_t first[512], *p = first;
    ft_buf whole = { 0 };
    size_t n = c->end - c->at < sizeof first ? (size_t)(c->end - c->at) : sizeof first;
    if (file_read(c->f, p, c->at, n)) return -1;
    for (;;) {
        *h = (header){ .kind = -1, .unpacked = -1, .packed = -1, .crc = INT64_MIN, .n = -1,
                       .encoding = -1, .is_packed = 1 };
        thrift t = { p, p + n, NULL };
        thrift_read(&t, header_fields, h);
        size_t used = (size_t)(t.p - p);
        const char *bad = t.bad;
        bool more = n < MAX_HEADER && n < c->end - c->at;
        if (!bad || !more) {
            release(c->f, &whole);
            c->at += used;
            return bad ? fail(c, "a page's header is malformed") : 0;
        }
        /* It may only have been cut off: once more with all that a header may take. */
        n = c->end - c->at < MAX_HEADER ? (size_t)(c->end - c->at) : MAX_HEADER;
        p = room(c, &whole, n);
        if (!p || file_read(c->f, p, c->at, n)) {
            release(c->f, &whole);
            return -1;
        }
    }
}

/* The packed bytes of the page at c->at into `packed`, checked against their sum. */
static uint8_t *read_packed(column *c, const header *h, ft_buf *packed)
{
    uint8_t *p = room(c, packed, (uint64_t)h->packed);
    if (!p || file_read(c->f, p, c->at, (size_t)h->packed)) return NULL;
    if (h->crc != INT64_MIN && (uint32_t)h->crc != crc32(0, p, (uInt)h->packed)) {
        fail(c, "a page's check sum is wrong");
        return NULL;
    }
    c->at += (uint64_t)h->packed;
    return p;
}

/* Unpacks the page into `out`; its first `plain` bytes are not packed. */
static int read_page(column *c, const header *h, ft_buf *out, size_t plain)
{
    ft_buf packed = { 0 };
    const char *why = NULL;
    uint8_t *in = read_packed(c, h, &packed), *to = in ? room(c, out, (uint64_t)h->unpacked) : NULL;
    if (to) {
        memcpy(to, in, plain);
        why = unpack(h->is_packed ? c->codec : 0, to + plain, (size_t)h->unpacked - plain,
                     in + plain, (size_t)h->packed - plain);
    }
    release(c->f, &packed);
    return !to ? -1 : why ? fail(c, why) : 0;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Bytes of a PLAIN value; 0: they are said in front of it, or it is a bit. */
static size_t plain_bytes(const node *n)
{
    static const uint8_t size[] = { [BOOLEAN] = 0, [INT32] = 4, [INT64] = 8, [INT96] = 12,
                                    [FLOAT] = 4, [DOUBLE] = 8, [BYTE_ARRAY] = 0 };
    return n->type == FIXED ? (size_t)n->length : size[n->type];
}

/* The value at *p; false when it does not end before `end`. */
static bool next_plain(const node *n, const uint8_t **p, const uint8_t *end, bytes *out)
{
    uint32_t length = (uint32_t)plain_bytes(n);
    size_t left = (size_t)(end - *p);
    if (n->type == BYTE_ARRAY) {
        if (left < 4) return false;
        memcpy(&length, *p, 4);
        *p += 4;
        left -= 4;
    }
    if (length > left) return false;
    *out = (bytes){ (const char *)*p, length };
    *p += length;
    return true;
}

/* Where each word of the dictionary ends. */
static int index_dictionary(column *c, int64_t words)
{
    const uint8_t *start = (const uint8_t *)c->dictionary.p, *p = start;
    const uint8_t *end = start + c->dictionary.n;
    size_t least = c->n->type == BYTE_ARRAY ? 4 : plain_bytes(c->n);
    bytes word;
    /* A negative number of words is a very large one here. */
    if (c->n->type == BOOLEAN || (uint64_t)words > c->dictionary.n / (least ? least : 1))
        return fail(c, "its dictionary is damaged");
    uint32_t *at = (uint32_t *)(void *)room(c, &c->offset, ((uint64_t)words + 1) * 4);
    if (!at) return -1;
    for (int64_t i = 0; i < words; i++) {
        at[i] = (uint32_t)(p - start);
        if (!next_plain(c->n, &p, end, &word)) return fail(c, "its dictionary is damaged");
    }
    at[words] = (uint32_t)(p - start);
    c->words = (size_t)words;
    return 0;
}

static bool next_word(column *c)
{
    const uint32_t *at = (const uint32_t *)(const void *)c->offset.p;
    uint32_t i;
    if (!runs_next(&c->index, &i) || i >= c->words) return false;
    size_t prefix = c->n->type == BYTE_ARRAY ? 4 : 0;
    c->value = (bytes){ c->dictionary.p + at[i] + prefix, at[i + 1] - at[i] - prefix };
    return true;
}

static bool next_bit(column *c)
{
    uint32_t bit;
    if (c->encoding == RLE) {
        if (!runs_next(&c->index, &bit)) return false;
        c->bit = (uint8_t)bit;
    } else {
        if (c->p >= c->p_end) return false;
        c->bit = *c->p >> c->plain_bit & 1;
        c->plain_bit = (c->plain_bit + 1) % 8;
        c->p += c->plain_bit == 0;
    }
    c->value = (bytes){ (const char *)&c->bit, 1 };
    return true;
}

static bool next_value(column *c)
{
    if (c->encoding == RLE_DICTIONARY) return next_word(c);
    return c->n->type == BOOLEAN ? next_bit(c) : next_plain(c->n, &c->p, c->p_end, &c->value);
}

/* Readies the values at p. */
static int start_values(column *c, int64_t encoding, const uint8_t *p, const uint8_t *end)
{
    bool words = encoding == RLE_DICTIONARY || encoding == PLAIN_DICTIONARY;
    bool bits = encoding == RLE && c->n->type == BOOLEAN;
    c->encoding = words ? RLE_DICTIONARY : encoding;
    c->p = p;
    c->p_end = end;
    c->plain_bit = 0;
    if (encoding == PLAIN) return 0;
    if (words) {
        int width = p < end ? *p++ : 0;
        if (width > 32) return fail(c, "its indices have more than 32 bits");
        c->index = (runs){ .p = p, .end = end, .width = width };
        return 0;
    }
    if (bits && end - p >= 4) {
        c->index = (runs){ .p = p + 4, .end = end, .width = 1 };
        return 0;
    }
    char why[120];
    snprintf(why, sizeof why, "its encoding %lld is not supported: write it with plain or "
             "dictionary encoding", (long long)encoding);
    return fail(c, why);
}

/* ---- levels ---------------------------------------------------------------------------------- */

static int bits_of(int most)
{
    int n = 0;
    while (most >> n) n++;
    return n;
}

/* Levels of version 1: a length and that many bytes; none where the level can only be 0. */
static int start_levels(column *c, runs *r, int most, int64_t encoding, const uint8_t **p,
                        const uint8_t *end)
{
    uint32_t n;
    *r = (runs){ .p = NULL };
    if (most == 0) return 0;
    if (encoding != RLE) return fail(c, "its levels are packed in a way of old, not supported");
    if (end - *p < 4) return fail(c, "a page ends too early");
    memcpy(&n, *p, 4);
    *p += 4;
    if (n > (size_t)(end - *p)) return fail(c, "a page ends too early");
    *r = (runs){ .p = *p, .end = *p + n, .width = bits_of(most) };
    *p += n;
    return 0;
}

static int start_page_1(column *c, const header *h)
{
    if (read_page(c, h, &c->page, 0)) return -1;
    const uint8_t *p = (const uint8_t *)c->page.p, *end = p + c->page.n;
    if (start_levels(c, &c->reps, c->n->max_rep, h->rep_encoding, &p, end) ||
        start_levels(c, &c->defs, c->n->max_def, h->def_encoding, &p, end))
        return -1;
    return start_values(c, h->encoding, p, end);
}

static int start_page_2(column *c, const header *h)
{
    /* The sum of two numbers that are not negative fits. */
    uint64_t levels = (uint64_t)h->rep_bytes + (uint64_t)h->def_bytes;
    if (h->rep_bytes < 0 || h->def_bytes < 0 || levels > (uint64_t)h->packed ||
        levels > (uint64_t)h->unpacked)
        return fail(c, "a page's header is wrong");
    if (read_page(c, h, &c->page, levels)) return -1;
    const uint8_t *p = (const uint8_t *)c->page.p;
    c->reps = (runs){ .p = p, .end = p + h->rep_bytes, .width = bits_of(c->n->max_rep) };
    c->defs = (runs){ .p = p + h->rep_bytes, .end = p + levels, .width = bits_of(c->n->max_def) };
    return start_values(c, h->encoding, p + levels, p + c->page.n);
}

/* ---- the column ------------------------------------------------------------------------------ */

void column_start(column *c, file *f, const node *n, const chunk *k)
{
    column_free(c);
    bool first = k->dictionary_at > 0 && k->dictionary_at < k->data_at;
    uint64_t at = (uint64_t)(first ? k->dictionary_at : k->data_at);
    *c = (column){ .f = f, .n = n, .codec = k->codec, .at = at, .end = at + (uint64_t)k->size,
                   .chunk_left = (uint64_t)k->values };
}

void column_free(column *c)
{
    if (!c->f) return;
    release(c->f, &c->page);
    release(c->f, &c->dictionary);
    release(c->f, &c->offset);
}

/* The next page of any kind. */
static int next_page(column *c)
{
    header h;
    if (read_header(c, &h)) return -1;
    /* Negative ones are very large ones here. */
    if ((uint64_t)h.packed > c->end - c->at || (uint64_t)h.packed > UINT32_MAX ||
        (uint64_t)h.unpacked > UINT32_MAX)
        return fail(c, "a page exceeds its column");
    bool data = h.kind == DATA_PAGE || h.kind == DATA_PAGE_2;
    if (data && (h.n < 0 || (uint64_t)h.n > c->chunk_left))
        return fail(c, "its pages have more values than it says");
    if (data) {
        c->page_left = (uint64_t)h.n;
        c->chunk_left -= c->page_left;
        return h.kind == DATA_PAGE ? start_page_1(c, &h) : start_page_2(c, &h);
    }
    if (h.kind != DICTIONARY_PAGE) { /* an index: of no use here */
        c->at += (uint64_t)h.packed;
        return 0;
    }
    if (c->words) return fail(c, "it has two dictionaries");
    h.is_packed = 1;
    return read_page(c, &h, &c->dictionary, 0) ? -1 : index_dictionary(c, h.n);
}

/* A level of the entry; where it can only be 0 none is written. */
static bool next_level(runs *r, int most, uint32_t *out)
{
    *out = 0;
    return most == 0 || (runs_next(r, out) && *out <= (uint32_t)most);
}

int column_look(column *c)
{
    if (c->loaded) return 1;
    while (c->page_left == 0) {
        if (c->chunk_left == 0) return 0;
        if (c->at >= c->end) return fail(c, "it has fewer values than it says");
        if (next_page(c)) return -1;
    }
    if (c->f->entries == 0)
        return file_fail(c->f, "it has more values than a file of %llu bytes may",
                         (unsigned long long)c->f->size);
    c->f->entries--;
    c->page_left--;
    if (!next_level(&c->reps, c->n->max_rep, &c->rep) ||
        !next_level(&c->defs, c->n->max_def, &c->def))
        return fail(c, "a page's levels are damaged");
    if (c->def == (uint32_t)c->n->max_def && !next_value(c))
        return fail(c, "a page's values are damaged");
    c->loaded = true;
    return 1;
}

/* gguf_plans.h -- GGUF files that are wrong in one point each, by the names that llama.cpp's
 * test-gguf.cpp gives them and by the classes of overflow that readers of this format had. */
#ifndef FT_TESTS_GGUF_PLANS_H
#define FT_TESTS_GGUF_PLANS_H
#include <string.h>
#include "core/io/tensors.h"
#include "ft/buf.h"

enum { NONE = -1, ZERO = -2 }; /* in fields where 0 means: not given */
enum { F32 = 0, Q4_0 = 2, Q8_0 = 8, I8 = 24, I64 = 27 };

/* A file with key "k" (u32 7), perhaps general.alignment, and two tensors: "a" F32 [4 x 2] and "b"
 * Q8_0 [32]; fields that are not 0 depart from that. */
typedef struct {
    const char *test, *says;      /* says NULL: accepted */
    const char *magic;
    int64_t version, n_tensors, n_kv;
    const char *key;
    int64_t key_len;              /* the length field, not the bytes */
    int64_t kv_type, value_len;   /* value_len: of a string, or items of a list */
    int64_t item_type;            /* of a list */
    bool two_keys;                /* the key again */
    int64_t align, align_type;
    const char *name;             /* of tensor a */
    int64_t name_len, n_dims, dims[4], type, offset;
    bool same_name;
    int64_t b_offset;             /* of tensor b; NONE: 0, where an empty a ends */
    int64_t written_align;        /* how the file is laid out, when not by align */
    int64_t data;                 /* bytes of data: more or less than needed */
} plan;

static inline void u32(ft_buf *b, int64_t v)
{
    uint32_t x = (uint32_t)v;
    ft_buf_add(b, &x, 4);
}

static inline void u64(ft_buf *b, int64_t v) { ft_buf_add(b, &v, 8); }

static inline void text(ft_buf *b, const char *s, int64_t len)
{
    u64(b, len ? len : (int64_t)strlen(s));
    ft_buf_puts(b, s);
}

static inline void write_key(ft_buf *b, const plan *p)
{
    text(b, p->key ? p->key : "k", p->key_len);
    int64_t type = p->kv_type ? p->kv_type : FT_META_U32;
    u32(b, type);
    if (type == FT_META_STRING) text(b, "value", p->value_len);
    else if (type == FT_META_ARRAY) {
        u32(b, p->item_type);
        u64(b, p->value_len);
        u64(b, 0); /* eight bytes of items */
    } else u32(b, 7);
}

static inline void pad(ft_buf *b, int64_t align)
{
    while (b->n % (size_t)align) ft_buf_putc(b, 0);
}

static inline int64_t padded(int64_t n, int64_t align) { return (n + align - 1) / align * align; }

static inline void write_tensors(ft_buf *b, const plan *p, int64_t align)
{
    int64_t dims[4] = { 4, 2 }, n_dims = p->n_dims ? p->n_dims : 2, type = p->type;
    if (p->dims[0]) memcpy(dims, p->dims, sizeof dims);
    text(b, p->name ? p->name : "a", p->name_len);
    u32(b, n_dims);
    for (int64_t i = 0; i < n_dims && i < 4; i++) u64(b, dims[i] == ZERO ? 0 : dims[i]);
    u32(b, type);
    u64(b, p->offset);
    text(b, p->same_name ? "a" : "b", 0);
    u32(b, 1);
    u64(b, 32);
    u32(b, Q8_0);
    u64(b, p->b_offset == NONE ? 0 : p->b_offset ? p->b_offset : padded(32, align));
}

static inline ft_buf build(const plan *p)
{
    ft_buf b = { 0 };
    int64_t align = p->written_align ? p->written_align : p->align ? p->align : 32;
    ft_buf_add(&b, p->magic ? p->magic : "GGUF", 4);
    u32(&b, p->version ? (p->version == NONE ? 0 : p->version) : 3);
    u64(&b, p->n_tensors ? (p->n_tensors == ZERO ? 0 : p->n_tensors) : 2);
    u64(&b, p->n_kv ? p->n_kv : 1 + (p->align != 0) + p->two_keys);
    write_key(&b, p);
    if (p->two_keys) write_key(&b, p);
    if (p->align) {
        text(&b, "general.alignment", 0);
        u32(&b, p->align_type ? p->align_type : FT_META_U32);
        u32(&b, p->align == ZERO ? 0 : p->align);
    }
    write_tensors(&b, p, align);
    pad(&b, align);
    for (int64_t i = 0; i < padded(32, align) + 34 + p->data; i++) ft_buf_putc(&b, (char)i);
    return b;
}

/* A file of n tensors of bytes (I8) and nothing else, each where the one before ends. */
static inline ft_buf bytes_only(const int64_t *size, int n)
{
    ft_buf b = { 0 };
    uint64_t at = 0;
    ft_buf_puts(&b, "GGUF");
    u32(&b, 3);
    u64(&b, n);
    u64(&b, 0);
    for (int i = 0; i < n; i++) {
        text(&b, (char[2]){ (char)('a' + i) }, 0);
        u32(&b, 1);
        u64(&b, size[i]);
        u32(&b, I8);
        u64(&b, (int64_t)at);
        at += ((uint64_t)size[i] + 31) / 32 * 32;
    }
    return b;
}

#define BIG INT64_MAX
static const char long_name[] = "a_tensor_name_of_sixty_four_bytes_which_is_one_more_than_allowed_";
static const plan plans[] = {
    { .test = "SUCCESS" },
    { .test = "HEADER_BAD_MAGIC", .magic = "FUGG", .says = "not a GGUF" },
    { .test = "HEADER_BAD_VERSION_0", .version = NONE, .says = "version 0" },
    { .test = "HEADER_BAD_VERSION_1", .version = 1, .says = "version 1" },
    { .test = "HEADER_VERSION_2", .version = 2 },
    { .test = "HEADER_BAD_VERSION_FUTURE", .version = 4, .says = "version 4" },
    { .test = "HEADER_BIG_ENDIAN", .version = 0x03000000, .says = "big-endian" },
    { .test = "HEADER_BAD_N_TENSORS", .n_tensors = -1, .says = "tensors, more than" },
    { .test = "HEADER_N_TENSORS_TIMES_SIZE",
      .n_tensors = (int64_t)1 << 60,
      .says = "tensors, more than" },
    { .test = "HEADER_BAD_N_KV", .n_kv = -1, .says = "keys, more than" },
    { .test = "HEADER_N_KV_TIMES_SIZE", .n_kv = ((int64_t)1 << 58) + 1, .says = "keys, more than" },
    { .test = "HEADER_N_TENSORS_BELOW_CAP", .n_tensors = 60000, .says = "tensors, more than" },
    { .test = "HEADER_N_KV_BELOW_CAP", .n_kv = 60000, .says = "keys, more than" },
    { .test = "HEADER_ONE_TENSOR_TOO_MANY", .n_tensors = 3, .says = "" },
    { .test = "HEADER_ONE_KEY_TOO_MANY", .n_kv = 2, .says = "" },
    { .test = "KV_BAD_KEY_SIZE", .key_len = -1, .says = "exceeds the file" },
    { .test = "KV_KEY_SIZE_WRAPS", .key_len = -8, .says = "exceeds the file" },
    { .test = "KV_EMPTY_KEY", .key = "", .says = "is empty" },
    { .test = "KV_KEY_NOT_UTF8", .key = "\xff", .says = "UTF-8" },
    { .test = "KV_BAD_TYPE", .kv_type = 13, .says = "type 13" },
    { .test = "KV_BAD_TYPE_NEGATIVE", .kv_type = -1, .says = "type 4294967295" },
    { .test = "KV_BAD_VALUE_SIZE",
      .kv_type = FT_META_STRING,
      .value_len = (int64_t)1 << 40,
      .says = "exceeds the file" },
    { .test = "KV_BAD_VALUE_SIZE_WRAPS",
      .kv_type = FT_META_STRING,
      .value_len = -1,
      .says = "exceeds the file" },
    { .test = "KV_STRING", .kv_type = FT_META_STRING },
    { .test = "KV_ARRAY", .kv_type = FT_META_ARRAY, .item_type = FT_META_I16, .value_len = 4 },
    { .test = "KV_ARRAY_COUNT_TIMES_SIZE",
      .kv_type = FT_META_ARRAY,
      .item_type = FT_META_U64,
      .value_len = ((int64_t)1 << 61) + 1,
      .says = "exceeds the file" },
    { .test = "KV_ARRAY_TOO_LONG",
      .kv_type = FT_META_ARRAY,
      .item_type = FT_META_U8,
      .value_len = 100000,
      .says = "exceeds the file" },
    { .test = "KV_ARRAY_STRINGS_TOO_MANY",
      .kv_type = FT_META_ARRAY,
      .item_type = FT_META_STRING,
      .value_len = (int64_t)1 << 61,
      .says = "exceeds the file" },
    { .test = "KV_ARRAY_BAD_TYPE",
      .kv_type = FT_META_ARRAY,
      .item_type = 13,
      .value_len = 1,
      .says = "type 13" },
    { .test = "KV_ARRAY_OF_ARRAYS",
      .kv_type = FT_META_ARRAY,
      .item_type = FT_META_ARRAY,
      .value_len = 1,
      .says = "type 9" },
    { .test = "KV_DUPLICATE_KEY", .two_keys = true, .says = "twice" },
    { .test = "KV_BAD_ALIGN", .align = 13, .says = "power of two" },
    { .test = "KV_ZERO_ALIGN", .align = ZERO, .written_align = 32, .says = "power of two" },
    { .test = "KV_HUGE_ALIGN", .align = 0x80000000, .written_align = 32, .says = "power of two" },
    { .test = "KV_LARGEST_ALIGN", .align = 65536 },
    { .test = "KV_ALIGN_PAST_LARGEST", .align = 131072, .says = "power of two" },
    { .test = "KV_WRONG_TYPE_ALIGN",
      .align = 32,
      .align_type = FT_META_I32,
      .says = "not of type u32" },
    { .test = "KV_SPLIT", .key = "split.count", .says = "llama-gguf-split" },
    { .test = "TENSORS_BAD_NAME_SIZE", .name = long_name, .says = "too long" },
    { .test = "TENSORS_NAME_SIZE_WRAPS", .name_len = -1, .says = "exceeds the file" },
    { .test = "TENSORS_EMPTY_NAME", .name = "", .says = "is empty" },
    { .test = "TENSORS_BAD_N_DIMS", .n_dims = 5, .says = "at most 4" },
    { .test = "TENSORS_HUGE_N_DIMS", .n_dims = -1, .says = "at most 4" },
    { .test = "TENSORS_BAD_SHAPE", .dims = { -1, -1 }, .says = "negative" },
    { .test = "TENSORS_ZERO_DIM", .dims = { 4, ZERO }, .b_offset = NONE },
    { .test = "TENSORS_ZERO_DIM_HIDES_OVERFLOW",
      .n_dims = 4,
      .dims = { BIG, BIG, ZERO, 1 },
      .says = "63 bits" },
    { .test = "TENSORS_NE_TOO_BIG",
      .dims = { (int64_t)4 * INT32_MAX, (int64_t)4 * INT32_MAX },
      .says = "63 bits" },
    { .test = "TENSORS_NBYTES_TOO_BIG",
      .type = I64,
      .dims = { 1539235392, 1539235392 },
      .says = "63 bits" },
    { .test = "TENSORS_NE_PAST_63_BITS",
      .type = Q4_0,
      .dims = { (int64_t)1 << 62, 2 },
      .says = "63 bits" },
    { .test = "TENSORS_NBYTES_PAST_63_BITS",
      .dims = { (int64_t)1 << 60, 2 },
      .says = "63 bits" },
    { .test = "TENSORS_BAD_TYPE",
      .type = 4,
      .says = "ggml type 4" }, /* removed: its block size is 0 */
    { .test = "TENSORS_BAD_TYPE_FUTURE", .type = 4242, .says = "ggml type 4242" },
    { .test = "TENSORS_BAD_TYPE_NEGATIVE", .type = -7, .says = "not known" },
    { .test = "TENSORS_ROW_NO_BLOCKS", .type = Q4_0, .dims = { 4, 8 }, .says = "no whole number" },
    { .test = "TENSORS_BAD_OFFSET", .offset = -1, .says = "begins at byte" },
    { .test = "TENSORS_OFFSET_INTO_HEADER", .offset = -64, .says = "begins at byte" },
    { .test = "TENSORS_OVERLAP", .b_offset = 16, .says = "begins at byte" },
    { .test = "TENSORS_HOLE", .b_offset = 64, .says = "begins at byte" },
    { .test = "TENSORS_DUPLICATE_NAME", .same_name = true, .says = "twice" },
    { .test = "TENSORS_BAD_ALIGN", .align = 13, .written_align = 1, .says = "power of two" },
    { .test = "TENSORS_INCONSISTENT_ALIGN",
      .written_align = 1,
      .b_offset = 33,
      .says = "begins at byte" },
    { .test = "TENSORS_CUSTOM_ALIGN", .align = 1 },
    { .test = "DATA_NOT_ENOUGH_DATA", .data = -1, .says = "exceeds the file" },
    { .test = "DATA_NONE", .data = -66, .says = "exceeds the file" },
    { .test = "DATA_MORE", .data = 30 }, /* padding of the last tensor */
    { .test = "DATA_BAD_ALIGN", .align = 13, .says = "power of two" },
    { .test = "DATA_INCONSISTENT_ALIGN",
      .align = 64,
      .written_align = 32,
      .says = "begins at byte" },
    { .test = "DATA_CUSTOM_ALIGN", .align = 128 },
    { .test = "DATA_MEM_SIZE_OVERFLOW",
      .type = I8,
      .dims = { 0x7FFFFFFFFFFFFFC0, 1 },
      .b_offset = 0x7FFFFFFFFFFFFFC0,
      .says = "exceeds the file" },
    { .test = "DATA_TENSOR_PAST_FILE", .dims = { 1000, 1000 }, .b_offset = 4000000,
      .says = "exceeds the file" },
};
enum { N_PLANS = sizeof plans / sizeof *plans };

#endif

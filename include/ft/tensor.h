/* ft/tensor.h -- tensors as they lie in files and memory, and how to find them by name.
 *
 * An ft_tensor is a borrowed, read-only view: it owns nothing.  Plain tensors are row-major and
 * contiguous; packed ones (a `scheme`) keep their logical shape and are turned into numbers by the
 * quantizer of that name (ft/quant.h).  Data is not promised to be aligned: copy with memcpy. */
#ifndef FT_TENSOR_H
#define FT_TENSOR_H
#include "ft/json.h"

typedef enum {
    FT_NO_DTYPE = 0,
    FT_F32, FT_BF16, FT_F16, FT_F64, FT_I64, FT_I32, FT_I16, FT_I8, FT_U64, FT_U32, FT_U16, FT_U8,
    FT_BOOL8, FT_F8_E4M3, FT_F8_E5M2, FT_F8_E8M0, FT_F6_E2M3, FT_F6_E3M2, FT_F4_E2M1, FT_C64,
    FT_F8_E4M3_FNUZ, FT_F8_E5M2_FNUZ,
    FT_N_DTYPES
} ft_dtype;

enum { FT_MAX_DIMS = 8 };

typedef struct {
    const char *name;   /* as the file has it */
    ft_dtype dtype;     /* of the stored numbers; with a scheme: what one part holds (U8) */
    int32_t ndim;
    int64_t dim[FT_MAX_DIMS];
    const char *scheme; /* NULL: plain.  Else "q4_0", "q8_0", …: GGUF block formats, lower case */
    const void *data;
    uint64_t bytes;
} ft_tensor;

/* ---- key-value metadata of a GGUF file ------------------------------------------------------ */
typedef enum {
    FT_META_U8, FT_META_I8, FT_META_U16, FT_META_I16, FT_META_U32, FT_META_I32, FT_META_F32,
    FT_META_BOOL, FT_META_STRING, FT_META_ARRAY, FT_META_U64, FT_META_I64, FT_META_F64
} ft_meta_type; /* numbered as GGUF numbers them */

typedef struct {
    const char *key;
    ft_meta_type type;
    ft_meta_type item; /* ARRAY: type of the items (never ARRAY itself); else U8 */
    uint64_t n;        /* ARRAY: number of items; else 1 */
    const void *data;  /* values as in the file, little-endian, unaligned; strings: u64 length and
                          bytes; BOOL: a byte, true unless 0.  All lengths have been checked. */
} ft_meta;

/* Steps through the strings of a STRING or an ARRAY of STRING: start with *cursor = m->data and
 * call at most m->n times.  *s is not zero-terminated. */
static inline void ft_meta_next_str(const void **cursor, const char **s, uint64_t *len)
{
    const char *p = (const char *)*cursor;
    memcpy(len, p, 8);
    *s = p + 8;
    *cursor = p + 8 + *len;
}

/* The value as an integer: any integer type or BOOL.  False, *out untouched, for other types and
 * for a U64 past INT64_MAX; m may be NULL.  A reader must never guess a type. */
static inline bool ft_meta_int(const ft_meta *m, int64_t *out)
{
    union { uint8_t u8; int8_t i8; uint16_t u16; int16_t i16; uint32_t u32; int32_t i32;
            uint64_t u64; int64_t i64; } v;
    static const uint8_t size[] = { 1, 1, 2, 2, 4, 4, 0, 1, 0, 0, 8, 8, 0 };
    if (!m || m->type > FT_META_F64 || !size[m->type]) return false;
    memcpy(&v, m->data, size[m->type]);
    switch (m->type) {
    case FT_META_U8: *out = v.u8; return true;
    case FT_META_I8: *out = v.i8; return true;
    case FT_META_U16: *out = v.u16; return true;
    case FT_META_I16: *out = v.i16; return true;
    case FT_META_U32: *out = v.u32; return true;
    case FT_META_I32: *out = v.i32; return true;
    case FT_META_BOOL: *out = v.u8 != 0; return true;
    case FT_META_I64: *out = v.i64; return true;
    default: break;
    }
    if (v.u64 > INT64_MAX) return false;
    *out = (int64_t)v.u64;
    return true;
}

/* The value as a real number: F32, F64, or an integer; false for other types. */
static inline bool ft_meta_real(const ft_meta *m, double *out)
{
    float f;
    int64_t i;
    if (m && m->type == FT_META_F32) {
        memcpy(&f, m->data, 4);
        *out = (double)f;
    } else if (m && m->type == FT_META_F64) {
        memcpy(out, m->data, 8);
    } else if (ft_meta_int(m, &i)) {
        *out = (double)i;
    } else {
        return false;
    }
    return true;
}

/* The value as text (not zero-terminated), or NULL when it is not a STRING. */
static inline const char *ft_meta_str(const ft_meta *m, uint64_t *len)
{
    const char *s;
    if (!m || m->type != FT_META_STRING) return NULL;
    const void *cursor = m->data;
    ft_meta_next_str(&cursor, &s, len);
    return s;
}

/* ---- interface "ft.tensors/1": open a safetensors file, a folder with model.safetensors or an
 *      index and shards, or a GGUF file.  Every rule of the formats is checked on opening.
 *      ------ */
typedef struct ft_tensors ft_tensors;
typedef struct {
    uint32_t size;
    ft_tensors *(*open)(const ft_host *, const char *path); /* NULL after host->fail() */
    void (*close)(ft_tensors *);                            /* NULL is fine */
    size_t (*count)(const ft_tensors *);
    const ft_tensor *(*at)(const ft_tensors *, size_t i);   /* in file order */
    const ft_tensor *(*find)(const ft_tensors *, const char *name); /* NULL: not there */
    /* The safetensors "__metadata__" value or the GGUF value of `key`; NULL: not there. */
    const char *(*note)(const ft_tensors *, const char *key);
    const ft_meta *(*meta)(const ft_tensors *, const char *key);
} ft_tensors_api;
#endif

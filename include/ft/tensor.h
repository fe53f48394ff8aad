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
    ft_meta_type item; /* ARRAY: type of the items (never ARRAY itself) */
    uint64_t n;        /* ARRAY: number of items; else 1 */
    const void *data;  /* values as in the file, little-endian, unaligned; strings: u64 length, bytes.
                          All lengths have been checked against the file. */
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

/* ---- interface "ft.tensors/1": open a safetensors file, a folder with model.safetensors or an
 *      index and shards, or a GGUF file.  Every rule of the formats is checked on opening. ------ */
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

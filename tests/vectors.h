/* vectors.h -- reading tensors of a safetensors file in a test.  Test data is trusted: anything
 * wrong in it fails the test. */
#ifndef FT_TESTS_VECTORS_H
#define FT_TESTS_VECTORS_H
#include "core/base/json.h"
#include "ft/tensor.h"
#include "tests/harness.h"

typedef struct {
    ft_buf file;
    ft_json_doc *doc;
    const char *data;
    size_t n;
} vectors;

static inline void vectors_open(vectors *v, const char *dir, const char *name)
{
    char path[4096];
    ft_err e = { 0 };
    uint64_t header = 0;
    *v = (vectors){ 0 };
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_msg(ft_file_read(&v->file, path, (size_t)1 << 28, &e) == 0, "%s", e.msg);
    ck_assert_uint_gt(v->file.n, 8);
    memcpy(&header, v->file.p, 8);
    ck_assert_uint_le(header, v->file.n - 8);
    v->doc = ft_json_parse(path, v->file.p + 8, (size_t)header, &e);
    ck_assert_msg(v->doc != NULL, "%s", e.msg);
    v->data = v->file.p + 8 + header;
    v->n = v->file.n - 8 - (size_t)header;
}

static inline void vectors_close(vectors *v)
{
    ft_json_done(v->doc);
    ft_buf_free(&v->file);
}

/* Fills *t; false when the file has no tensor of that name. */
static inline bool vectors_find(const vectors *v, ft_tensor *t, const char *name)
{
    static const struct { const char *name; ft_dtype dtype; } dtypes[] = {
        { "F32", FT_F32 }, { "BF16", FT_BF16 }, { "F16", FT_F16 }, { "U8", FT_U8 },
        { "I64", FT_I64 }, { "I32", FT_I32 }, { "F64", FT_F64 },
    };
    const ft_json *o = ft_json_get(ft_json_root(v->doc), name);
    if (!o) return false;
    const ft_json *shape = ft_json_get(o, "shape"), *at = ft_json_get(o, "data_offsets");
    int64_t from = 0, to = 0;
    *t = (ft_tensor){ .name = o->key, .ndim = (int32_t)shape->len };
    for (size_t i = 0; i < shape->len; i++) ft_json_as_int(&shape->item[i], &t->dim[i]);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, ft_json_str(o, "dtype", "")) == 0) t->dtype = dtypes[i].dtype;
    }
    ck_assert(ft_json_as_int(&at->item[0], &from) && ft_json_as_int(&at->item[1], &to));
    ck_assert(t->dtype && from >= 0 && from <= to && (uint64_t)to <= v->n);
    t->data = v->data + from;
    t->bytes = (uint64_t)(to - from);
    return true;
}

/* The tensor "PREFIX" + "NAME"; the test fails when it is not there. */
static inline ft_tensor vectors_get(const vectors *v, const char *prefix, const char *name)
{
    char full[512];
    ft_tensor t = { 0 };
    snprintf(full, sizeof full, "%s%s", prefix, name);
    ck_assert_msg(vectors_find(v, &t, full), "no tensor \"%s\"", full);
    return t;
}
#endif

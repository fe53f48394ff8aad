/* state.c -- the parts of a packed weight as bitsandbytes names them, and reading them back.
 *
 *   WEIGHT                                     U8 [ceil(n / 2), 1]   codes
 *   WEIGHT.absmax                              F32 [blocks], or U8 [blocks] when nested
 *   WEIGHT.quant_map                           F32 [16]
 *   WEIGHT.nested_absmax, .nested_quant_map    F32 [ceil(blocks / 256)], F32 [256]
 *   WEIGHT.quant_state.bitsandbytes__nf4       U8 [bytes of a JSON object]
 *
 * The JSON's length would depend on the numbers in it, and sizes have to be known from the shape
 * alone; so it is written with blanks after it, which JSON allows.
 *
 * Opening trusts nothing: sizes, the JSON against the shape that the model asks for, the levels,
 * and that every absmax, as restored, is finite.  Left out: other block sizes than 64 and 256. */
#include "nf4.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include "ft/buf.h"

enum { STATE_CAP = 65536 };

static const char *const suffix[NF4_PARTS] = {
    [NF4_CODES] = "",
    [NF4_ABSMAX] = ".absmax",
    [NF4_QUANT_MAP] = ".quant_map",
    [NF4_NESTED_ABSMAX] = ".nested_absmax",
    [NF4_NESTED_MAP] = ".nested_quant_map",
    [NF4_STATE] = ".quant_state.bitsandbytes__nf4",
};

/* ---- sizes ----------------------------------------------------------------------------------- */
size_t nf4_state_text(char *out, size_t n, const int64_t *dim, int ndim, const char *dtype,
                      const char *offset)
{
    char shape[FT_MAX_DIMS * 24], nested[128] = "";
    size_t at = 0;
    for (int i = 0; i < ndim; i++) {
        at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%lld", i ? ", " : "",
                               (long long)dim[i]);
    }
    if (offset) {
        snprintf(nested, sizeof nested, ", \"nested_blocksize\": %d, "
                 "\"nested_dtype\": \"float32\", \"nested_offset\": %s", NF4_NEST, offset);
    }
    return (size_t)snprintf(out, n, "{\"quant_type\": \"nf4\", \"blocksize\": %d, "
                            "\"dtype\": \"%s\", \"shape\": [%s]%s}", NF4_BLOCK, dtype,
                            shape, nested);
}

/* Numbers and blocks of a shape; an error where it cannot be packed. */
static int measure(const ft_host *h, const int64_t *dim, int ndim, int64_t *numel,
                   int64_t *blocks)
{
    uint64_t n;
    if (ndim < 2 || ndim > FT_MAX_DIMS) {
        return h->fail(h, FT_EUNSUP, "a tensor of %d dimensions cannot be packed: only matrices, "
                       "and stacks of them up to %d dimensions, can", ndim, FT_MAX_DIMS);
    }
    if (!ck_numel(&n, dim, ndim) || n == 0 || n > INT64_MAX / 8) {
        return h->fail(h, FT_EUNSUP, "a weight of %lld x … x %lld numbers cannot be packed",
                       (long long)dim[0], (long long)dim[ndim - 1]);
    }
    *numel = (int64_t)n;
    *blocks = (*numel + NF4_BLOCK - 1) / NF4_BLOCK;
    return 0;
}

/* A part of n numbers in one dimension. */
static ft_part row(ft_dtype dtype, int64_t n)
{
    return (ft_part){ .dtype = dtype, .ndim = 1, .dim = { n, 1 } };
}

/* All six, in the order of nf4.h; without double quantization two of them are not made. */
int nf4_parts(const ft_host *h, bool nested, const int64_t *dim, int ndim, ft_part out[])
{
    int64_t n, blocks;
    int rc = measure(h, dim, ndim, &n, &blocks);
    if (rc) return rc;
    // The longest that any dtype and any offset make it.
    const char *longest = nested ? "-1.2345678901234567e-308" : NULL;
    size_t text = nf4_state_text(NULL, 0, dim, ndim, "bfloat16", longest);
    for (int i = 0; i < NF4_PARTS; i++) out[i] = row(FT_NO_DTYPE, 0);
    out[NF4_CODES] = row(FT_U8, n / 2 + n % 2);
    out[NF4_CODES].ndim = 2;
    out[NF4_ABSMAX] = row(nested ? FT_U8 : FT_F32, blocks);
    out[NF4_QUANT_MAP] = row(FT_F32, 16);
    if (nested) out[NF4_NESTED_ABSMAX] = row(FT_F32, (blocks + NF4_NEST - 1) / NF4_NEST);
    if (nested) out[NF4_NESTED_MAP] = row(FT_F32, NF4_MAP);
    out[NF4_STATE] = row(FT_U8, (int64_t)text);
    for (int i = 0; i < NF4_PARTS; i++) strcpy(out[i].suffix, suffix[i]);
    return NF4_PARTS;
}

/* ---- opening --------------------------------------------------------------------------------- */
/* What is being opened, and what has been found out about it. */
typedef struct {
    const ft_host *host;
    const ft_tensor *part;
    const char *name;      /* of the weight */
    const int64_t *dim;
    int ndim;
    int64_t numel, blocks;
    bool nested;           /* the file has nested parts */
    double offset;         /* what its JSON says */
} opening;

/* A part must be there, of this dtype (FT_NO_DTYPE: any) and this many bytes. */
static int need(const opening *o, int i, ft_dtype dtype, int64_t bytes)
{
    const ft_host *h = o->host;
    const ft_tensor *t = &o->part[i];
    if (!t->data) {
        return h->fail(h, FT_EFORMAT, "%s: part \"%s\" is not in the file: it was not written "
                       "whole, or not by bitsandbytes' NF4", o->name, suffix[i]);
    }
    if (dtype && t->dtype != dtype) {
        return h->fail(h, FT_EFORMAT, "%s%s: its dtype is not the one of NF4 with%s double "
                       "quantization", o->name, suffix[i], o->nested ? "" : "out");
    }
    if (t->bytes != (uint64_t)bytes) {
        return h->fail(h, FT_EFORMAT, "%s%s: %llu bytes, but %lld weights in blocks of %d need "
                       "%lld", o->name, suffix[i], (unsigned long long)t->bytes,
                       (long long)o->numel, NF4_BLOCK, (long long)bytes);
    }
    return 0;
}

/* The state has no such key, or another value there. */
static int bad_state(const opening *o, const char *key, const char *want)
{
    return o->host->fail(o->host, FT_EFORMAT, "%s%s: \"%s\" must be %s", o->name,
                         suffix[NF4_STATE], key, want);
}

/* v is there and is this integer; below: v is an array of these. */
static bool is_int(const ft_json_api *json, const ft_json *v, int64_t want)
{
    int64_t got;
    return v && json->to_int(v, &got) && got == want;
}

static bool is_shape(const ft_json_api *json, const ft_json *v, const int64_t *dim, int ndim)
{
    if (!v || v->type != FT_JSON_ARRAY || v->len != (size_t)ndim) return false;
    for (int i = 0; i < ndim; i++) {
        if (!is_int(json, &v->item[i], dim[i])) return false;
    }
    return true;
}

/* The JSON says what we think it is; its nested offset. */
static int check_state(opening *o, const ft_json_api *json, const ft_json *s)
{
    if (s->type != FT_JSON_OBJECT) return bad_state(o, "{", "the start of an object");
    if (strcmp(ft_json_str(s, "quant_type", ""), "nf4") != 0) {
        return bad_state(o, "quant_type", "\"nf4\"");
    }
    if (!is_int(json, ft_json_get(s, "blocksize"), NF4_BLOCK)) {
        return bad_state(o, "blocksize", "64, the only one supported");
    }
    if (!is_shape(json, ft_json_get(s, "shape"), o->dim, o->ndim)) {
        return bad_state(o, "shape", "the shape that config.json gives this weight");
    }
    if (!o->nested) return 0;
    if (!is_int(json, ft_json_get(s, "nested_blocksize"), NF4_NEST)) {
        return bad_state(o, "nested_blocksize", "256, the only one supported");
    }
    if (strcmp(ft_json_str(s, "nested_dtype", ""), "float32") != 0) {
        return bad_state(o, "nested_dtype", "\"float32\"");
    }
    const ft_json *v = ft_json_get(s, "nested_offset");
    if (!json->to_real(v, &o->offset) || fabs(o->offset) > (double)FLT_MAX) {
        return bad_state(o, "nested_offset", "a number that fits fp32");
    }
    return 0;
}

/* Parses the state and checks it.  It is the first part that is read, because it says best what is
 * wrong with a file of another kind. */
static int read_state(opening *o)
{
    const ft_host *h = o->host;
    const ft_tensor *t = &o->part[NF4_STATE];
    const ft_json_api *json = h->get(h, "ft.json/1");
    if (!json) return h->fail(h, FT_EUNSUP, "this host does not offer ft.json/1");
    if (!t->data) return need(o, NF4_STATE, FT_U8, 0);
    if (t->bytes > STATE_CAP) return bad_state(o, "{", "the start of at most 64 KiB");
    ft_json_doc *doc = json->parse(h, o->name, t->data, (size_t)t->bytes);
    if (!doc) return FT_EFORMAT;
    int rc = check_state(o, json, json->root(doc));
    json->done(doc);
    return rc;
}

/* The largest absolute value of n fp32 numbers, or infinity when one is not finite. */
static double largest(const void *p, int64_t n)
{
    uint32_t top = 0;
    float f;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, (const char *)p + i * 4, 4);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    memcpy(&f, &top, 4);
    return top < 0x7f800000 ? (double)f : (double)INFINITY;
}

/* Every absmax comes out finite: the plain ones are looked at, nested ones are bounded. */
static int check_range(const opening *o)
{
    const ft_tensor *p = o->part;
    double bound;
    if (o->nested) {
        int64_t n = (o->blocks + NF4_NEST - 1) / NF4_NEST;
        bound = largest(p[NF4_NESTED_MAP].data, NF4_MAP) * largest(p[NF4_NESTED_ABSMAX].data, n) +
                fabs(o->offset);
    } else {
        bound = largest(p[NF4_ABSMAX].data, o->blocks);
    }
    if (bound <= (double)FLT_MAX) return 0;
    return o->host->fail(o->host, FT_EFORMAT, "%s%s: a block's absmax is not a finite number: the "
                         "file is damaged", o->name, suffix[NF4_ABSMAX]);
}

/* Sizes and dtypes of all parts but the state, the levels, and the range of absmax. */
static int check_parts(const opening *o)
{
    int rc = need(o, NF4_CODES, FT_NO_DTYPE, o->numel / 2 + o->numel % 2);
    if (!rc) rc = need(o, NF4_ABSMAX, o->nested ? FT_U8 : FT_F32, o->blocks * (o->nested ? 1 : 4));
    if (!rc) rc = need(o, NF4_QUANT_MAP, FT_F32, sizeof nf4_code);
    if (!rc && o->nested) {
        rc = need(o, NF4_NESTED_ABSMAX, FT_F32, (o->blocks + NF4_NEST - 1) / NF4_NEST * 4);
        if (!rc) rc = need(o, NF4_NESTED_MAP, FT_F32, NF4_MAP * 4);
    }
    if (rc) return rc;
    if (memcmp(o->part[NF4_QUANT_MAP].data, nf4_code, sizeof nf4_code) != 0) {
        return o->host->fail(o->host, FT_EFORMAT, "%s%s: these are not the 16 levels of NF4",
                             o->name, suffix[NF4_QUANT_MAP]);
    }
    return check_range(o);
}

/* Copies nothing: the parts stay where they are, and absmax stays as packed as it is. */
int nf4_open(const ft_host *h, const int64_t *dim, int ndim, const ft_tensor part[],
             ft_packed *out)
{
    opening o = { .host = h, .part = part, .dim = dim, .ndim = ndim };
    o.name = part[NF4_CODES].name ? part[NF4_CODES].name : "weight";
    o.nested = part[NF4_NESTED_ABSMAX].data || part[NF4_NESTED_MAP].data;
    int rc = measure(h, dim, ndim, &o.numel, &o.blocks);
    if (!rc) rc = read_state(&o);
    if (!rc) rc = check_parts(&o);
    if (rc) return rc;
    *out = (ft_packed){
        .tile = nf4_tile,
        .rows = o.numel / dim[ndim - 1],
        .cols = dim[ndim - 1],
        .part = { part[NF4_CODES].data, part[NF4_ABSMAX].data, part[NF4_NESTED_ABSMAX].data,
                  part[NF4_NESTED_MAP].data },
        .info = nf4_best_variant(),
        .number = { o.offset },
    };
    return 0;
}

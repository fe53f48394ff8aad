/* quant-fp4.c -- plugin "quant-fp4": reads weights that bitsandbytes saved in 4 bits as FP4.
 *
 *   X.weight, .absmax, .quant_map, .nested_absmax, .nested_quant_map,
 *   .quant_state.bitsandbytes__fp4       as in quant-nf4/state.c
 *
 *   w = level[code] * absmax[i / blocksize]        two codes a byte, the first in the high nibble
 *   absmax = map[code] * nested_absmax[b / 256] + offset    with double quantization
 *
 * each step rounded to fp32.  The sixteen levels are those that the file has.  Blocks of 64 to 4096
 * weights, over the flat matrix.  Left out: writing.  Opening trusts nothing: sizes, the JSON
 * against the shape that the model asks for, and that all scales are finite.  Checked against
 * bitsandbytes' own dequantization (quant-fp4_test.c). */
#include <math.h>
#include <stdio.h>
#include "quant-common/reader.h"
#include "ft/ck.h"

enum { CODES, ABSMAX, LEVELS, NESTED, MAP, STATE, PARTS, NEST = 256, STATE_CAP = 65536 };

static const char *const suffix[PARTS] = {
    "", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
    ".quant_state.bitsandbytes__fp4",
};

/* ---- numbers --------------------------------------------------------------------------------- */

/* part: codes, absmax, nested absmax or NULL, its map; info: the levels; number: weights of a
 * block, offset of nested scales. */
static float absmax(const ft_packed *p, int64_t block)
{
    if (!p->part[2]) return quant_f32(p->part[1], block);
    float v = quant_f32(p->part[3], ((const uint8_t *)p->part[1])[block]);
    v = v * quant_f32(p->part[2], block / NEST);
    return v + (float)p->number[1];
}

static void tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
                 void *dst, int64_t ld)
{
    int64_t size = (int64_t)p->number[0];
    for (int64_t r = 0; r < nr; r++) {
        int64_t at = (r0 + r) * p->cols + c0, last = -1;
        float scale = 0;
        for (int64_t c = 0; c < nc; c++, at++) {
            if (at / size != last) scale = absmax(p, last = at / size);
            unsigned byte = ((const uint8_t *)p->part[0])[at / 2];
            float w = quant_f32(p->info, at % 2 ? byte & 15 : byte >> 4) * scale;
            quant_store(dst, to, r * ld + c, w);
        }
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

/* What parts are there depends on the file; sizes are checked when it is opened. */
static int parts(void *me, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS])
{
    const quant_reader *self = me;
    if (ndim != 2)
        return self->host->fail(self->host, FT_EUNSUP,
                                "a tensor of %d dimensions cannot be packed in 4 bits", ndim);
    (void)dim;
    for (int i = 0; i < PARTS; i++) {
        out[i] = (ft_part){ .dtype = i == CODES ? FT_U8 : FT_NO_DTYPE };
        snprintf(out[i].suffix, sizeof out[i].suffix, "%s", suffix[i]);
    }
    return PARTS;
}

typedef struct {
    const ft_host *host;
    const ft_tensor *part;
    int64_t numel, size;    /* weights; of a block */
    double offset;
    bool nested;
} opening;

static int wrong(const opening *o, int i, const char *what)
{
    return quant_wrong(o->host, &o->part[CODES], suffix[i], what);
}

/* What is not there, or no whole number, stays what is not allowed. */
static int check_state(opening *o, const ft_json_api *json, const ft_json *s, const int64_t *dim)
{
    const ft_json *shape = ft_json_get(s, "shape"), *offset = ft_json_get(s, "nested_offset");
    static const char other[] = "\"shape\" is not the one that config.json gives this weight";
    int64_t a = -1, b = -1, nest = -1;
    if (strcmp(ft_json_str(s, "quant_type", ""), "fp4"))
        return wrong(o, STATE, "\"quant_type\" must be \"fp4\"");
    json->to_int(ft_json_get(s, "blocksize"), &o->size);
    if (o->size < 64 || o->size > 4096 || (o->size & (o->size - 1)))
        return wrong(o, STATE, "\"blocksize\" must be a power of two from 64 to 4096");
    if (!shape || shape->type != FT_JSON_ARRAY || shape->len != 2) return wrong(o, STATE, other);
    json->to_int(&shape->item[0], &a);
    json->to_int(&shape->item[1], &b);
    if (a != dim[0] || b != dim[1]) return wrong(o, STATE, other);
    if (!o->nested) return 0;
    json->to_int(ft_json_get(s, "nested_blocksize"), &nest);
    if (nest != NEST) return wrong(o, STATE, "\"nested_blocksize\" must be 256");
    if (!json->to_real(offset, &o->offset) || !isfinite((float)o->offset))
        return wrong(o, STATE, "\"nested_offset\" must be a number that fits fp32");
    return 0;
}

static int read_state(opening *o, const int64_t *dim)
{
    const ft_tensor *t = &o->part[STATE];
    const ft_json_api *json = o->host->get(o->host, "ft.json/1");
    if (!json || !t->data || t->bytes > STATE_CAP)
        return wrong(o, STATE, "is not in the file, or larger than 64 KiB");
    ft_json_doc *doc = json->parse(o->host, "quant_state", t->data, (size_t)t->bytes);
    if (!doc) return FT_EFORMAT;
    int code = check_state(o, json, json->root(doc), dim);
    json->done(doc);
    return code;
}

/* n numbers of a part, all finite. */
static int need_numbers(const opening *o, int i, int64_t n)
{
    const ft_tensor *t = &o->part[i];
    if (!t->data || t->dtype != FT_F32 || t->bytes != (uint64_t)n * 4)
        return wrong(o, i, "is not in the file, or not of the size that its weights need");
    for (int64_t k = 0; k < n; k++) {
        if (!isfinite(quant_f32(t->data, k)))
            return wrong(o, i, "holds a number that is not finite");
    }
    return 0;
}

static int check_parts(const opening *o)
{
    int64_t blocks = (o->numel + o->size - 1) / o->size, nests = (blocks + NEST - 1) / NEST;
    const ft_tensor *a = &o->part[ABSMAX];
    if (o->part[CODES].bytes != (uint64_t)(o->numel / 2 + o->numel % 2))
        return wrong(o, CODES, "is not of the size that its shape needs");
    int code = need_numbers(o, LEVELS, 16);
    if (code) return code;
    if (!o->nested) return need_numbers(o, ABSMAX, blocks);
    if (!a->data || a->dtype != FT_U8 || a->bytes != (uint64_t)blocks)
        return wrong(o, ABSMAX, "is not of the size that its blocks need");
    code = need_numbers(o, MAP, NEST);
    return code ? code : need_numbers(o, NESTED, nests);
}

static int open_parts(void *me, const int64_t *dim, int ndim, const ft_tensor part[],
                      ft_packed *out)
{
    opening o = { .host = ((const quant_reader *)me)->host, .part = part };
    uint64_t n;
    (void)ndim;
    o.nested = part[NESTED].data || part[MAP].data;
    if (!(ck_numel(&n, dim, 2) && n <= INT64_MAX / 8))
        return wrong(&o, CODES, "is too large");
    o.numel = (int64_t)n;
    int code = read_state(&o, dim);
    if (!code) code = check_parts(&o);
    if (code) return code;
    *out = (ft_packed){ .tile = tile,
                        .rows = dim[0],
                        .cols = dim[1],
                        .part = { part[CODES].data, part[ABSMAX].data, part[NESTED].data,
                                  part[MAP].data },
                        .info = part[LEVELS].data,
                        .number = { (double)o.size, o.offset } };
    return 0;
}

/* ---- the plugin ------------------------------------------------------------------------------ */

/* FP4 is what bitsandbytes takes where nothing is said. */
static bool claims(const ft_source *s) { return quant_is_bnb(s, "load_in_4bit", "fp4", "fp4"); }

static const ft_quantizer quantizer = {
    .size = sizeof quantizer,
    .scheme = "fp4",
    .parts = parts,
    .open = open_parts,
    .skip_modules = (size_t)-1,
    .claims = claims,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.quantizer/1",
    .name = "quant-fp4",
    .version = "0.1.0",
    .summary = "reads the FP4 weights of bitsandbytes",
    .instance_size = sizeof(quant_reader),
    .open = quant_reader_open,
    .vtable = &quantizer,
};
FT_PLUGIN(plugin, "quant-fp4")

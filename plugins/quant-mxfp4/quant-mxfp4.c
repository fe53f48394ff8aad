/* quant-mxfp4.c -- reads the MXFP4 weights of gpt-oss folders; a decode-only quantizer.
 *
 * An experts' weight X (experts, in, out) is stored as its transposes, in blocks of 32 numbers:
 *   X_blocks U8 (experts, out, in / 32, 16)   two codes a byte, the first in the lower half
 *   X_scales U8 (experts, out, in / 32)       E8M0: 2^(s - 127) for the block
 *   number = e2m1[code] 2^(s - 127),  e2m1 = 0 .5 1 1.5 2 3 4 6 and the same negated
 *
 * OCP Microscaling Formats 1.0 (2023); transformers' convert_moe_packed_tensors.  Every number is
 * exact in fp32, and in bf16.  Left out: encoding; s above 252, whose numbers fp32 cannot hold: a
 * folder with such a scale is refused.  GGUF's MXFP4, with the same numbers in another order, is
 * the core's.  Checked against transformers' numbers (quant-mxfp4_test.c). */
#include <stdio.h>
#include "quant-common/reader.h"

enum { BLOCKS, SCALES, PARTS };
enum { BLOCK = 32, MOST_SCALE = 252, N_SCALES = MOST_SCALE + 1 };

typedef struct {
    quant_reader reader;
    float level[N_SCALES][16]; /* by scale and code */
} instance;

/* ---- numbers --------------------------------------------------------------------------------- */

/* e2m1[code] 2^(scale - 127), made of its bits, so that no processor mode can lose small ones. */
static float number(unsigned code, unsigned scale)
{
    static const int exponent[8] = { 0, -1, 0, 0, 1, 1, 2, 2 };
    static const uint32_t half[8] = { 0, 0, 0, 1, 0, 1, 0, 1 };
    unsigned c = code & 7;
    int e = exponent[c] + (int)scale;
    uint32_t m = half[c] << 22, bits = e >= 1 ? (uint32_t)e << 23 | m : (0x800000 | m) >> (1 - e);
    if (c == 0) bits = 0;
    bits |= (code & 8) << 28;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* Numbers i … i + n - 1 of one stored line, `step` elements apart. */
static void decode(const ft_packed *p, int64_t line, int64_t i, int64_t n, ft_dtype to, void *dst,
                   int64_t at, int64_t step)
{
    const instance *self = p->info;
    int64_t groups = (int64_t)p->number[0] / BLOCK;
    const uint8_t *blocks = (const uint8_t *)p->part[BLOCKS] + line * groups * (BLOCK / 2);
    const uint8_t *scales = (const uint8_t *)p->part[SCALES] + line * groups;
    for (int64_t k = i; k < i + n; k++, at += step)
        quant_store(dst, to, at, self->level[scales[k / BLOCK]][blocks[k / 2] >> (k % 2 * 4) & 15]);
}

/* Rows are numbers of a line, columns are lines. */
static void tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
                 void *dst, int64_t ld)
{
    int64_t in = (int64_t)p->number[0];
    for (int64_t r = r0, n; r < r0 + nr; r += n) {
        int64_t e = r / in, i = r % in;
        n = in - i < r0 + nr - r ? in - i : r0 + nr - r;
        for (int64_t c = 0; c < nc; c++)
            decode(p, e * p->cols + c0 + c, i, n, to, dst, (r - r0) * ld + c, ld);
    }
}

/* ---- parts ----------------------------------------------------------------------------------- */

static int parts(void *me, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS])
{
    const instance *self = me;
    if (ndim != 3 || dim[1] % BLOCK)
        return self->reader.host->fail(self->reader.host, FT_EUNSUP,
                                "only experts' weights whose inputs are a multiple of %d are "
                                "packed as MXFP4",
                                BLOCK);
    int64_t lines = dim[0] * dim[2];
    out[BLOCKS] = (ft_part){ .suffix = "_blocks", .dtype = FT_U8, .ndim = 2,
                             .dim = { lines, dim[1] / 2 } };
    out[SCALES] = (ft_part){ .suffix = "_scales", .dtype = FT_U8, .ndim = 2,
                             .dim = { lines, dim[1] / BLOCK } };
    return PARTS;
}

/* which: "_blocks" or "_scales". */
static int wrong(const instance *self, const ft_tensor *t, const char *which, const char *what)
{
    const ft_host *h = self->reader.host;
    return h->fail(h, FT_EFORMAT, "the MXFP4 part %s %s", t->name ? t->name : which, what);
}

static int open_parts(void *me, const int64_t *dim, int ndim, const ft_tensor part[],
                      ft_packed *out)
{
    const instance *self = me;
    const ft_tensor *blocks = &part[BLOCKS], *scales = &part[SCALES];
    if (ndim != 3 || dim[1] % BLOCK)
        return wrong(self, blocks, "_blocks", "belongs to no experts' weight");
    int64_t stored[4] = { dim[0], dim[2], dim[1] / BLOCK, BLOCK / 2 };
    if (!quant_part_is(blocks, FT_U8, stored, 4))
        return wrong(self, blocks, "_blocks", "is not of the shape that its weight needs");
    if (!quant_part_is(scales, FT_U8, stored, 3))
        return wrong(self, scales, "_scales", "is not of the shape that its weight needs");
    for (uint64_t i = 0; i < scales->bytes; i++) {
        if (((const uint8_t *)scales->data)[i] > MOST_SCALE)
            return wrong(self, scales, "_scales",
                         "holds a scale above 2^125: the numbers would not be finite");
    }
    *out = (ft_packed){ .tile = tile,
                        .rows = dim[0] * dim[1],
                        .cols = dim[2],
                        .part = { blocks->data, scales->data },
                        .info = self,
                        .number = { (double)dim[1] } };
    return 0;
}

/* ---- the plugin ------------------------------------------------------------------------------ */

static bool claims(const ft_source *s)
{
    const ft_json *q = ft_json_get(s->config, "quantization_config");
    return !strcmp(ft_json_str(q, "quant_method", ""), "mxfp4");
}

static int open_instance(void *me, const ft_host *host, const void *cfg)
{
    instance *self = me;
    for (unsigned s = 0; s < N_SCALES; s++) {
        for (unsigned c = 0; c < 16; c++) self->level[s][c] = number(c, s);
    }
    return quant_reader_open(self, host, cfg);
}

static const ft_quantizer quantizer = {
    .size = sizeof quantizer,
    .scheme = "mxfp4",
    .parts = parts,
    .open = open_parts,
    .skip_modules = (size_t)-1,
    .claims = claims,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.quantizer/1",
    .name = "quant-mxfp4",
    .version = "0.1.0",
    .summary = "reads the MXFP4 experts of gpt-oss",
    .instance_size = sizeof(instance),
    .open = open_instance,
    .vtable = &quantizer,
};
FT_PLUGIN(plugin, "quant-mxfp4")

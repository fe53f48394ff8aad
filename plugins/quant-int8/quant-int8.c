/* quant-int8.c -- plugin "quant-int8": reads weights that bitsandbytes saved as LLM.int8().
 *
 *   X.weight          I8 [out, in]     codes
 *   X.SCB             F32 [out]        largest magnitude of each row
 *   X.weight_format   U8               0: rows as they stand
 *
 *   w = (code * SCB) * (1/127), each step rounded to fp32 (int8_vectorwise_dequant)
 *
 * Dettmers et al. 2022, arXiv:2208.07339.  bitsandbytes also rounds activations to 8 bits and keeps
 * outlier columns apart while it multiplies: that is its kernel's matter, not the file's, and is
 * left out.  So are writing, and the other weight formats.  Checked against bitsandbytes' own
 * dequantization (quant-int8_test.c). */
#include <math.h>
#include "quant-common/reader.h"
#include "ft/ck.h"

enum { CODES, SCALE, FORMAT, PARTS };

static int parts(void *me, const int64_t *dim, int ndim, ft_part out[FT_MAX_PARTS])
{
    const quant_reader *self = me;
    if (ndim != 2)
        return self->host->fail(self->host, FT_EUNSUP,
                                "a tensor of %d dimensions cannot be packed in rows", ndim);
    out[CODES] = (ft_part){ .suffix = "", .dtype = FT_I8, .ndim = 2, .dim = { dim[0], dim[1] } };
    out[SCALE] = (ft_part){ .suffix = "/SCB", .dtype = FT_F32, .ndim = 1, .dim = { dim[0], 1 } };
    out[FORMAT] = (ft_part){ .suffix = "/weight_format", .dtype = FT_U8, .dim = { 1, 1 } };
    return PARTS;
}

static void tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
                 void *dst, int64_t ld)
{
    for (int64_t r = 0; r < nr; r++) {
        const int8_t *q = (const int8_t *)p->part[CODES] + (r0 + r) * p->cols + c0;
        float scale = quant_f32(p->part[SCALE], r0 + r);
        for (int64_t c = 0; c < nc; c++)
            quant_store(dst, to, r * ld + c, (float)q[c] * scale * (1.0f / 127));
    }
}

static int open_parts(void *me, const int64_t *dim, int ndim, const ft_tensor part[],
                      ft_packed *out)
{
    const quant_reader *self = me;
    const ft_tensor *q = &part[CODES], *s = &part[SCALE], *f = &part[FORMAT];
    uint64_t n;
    (void)ndim;
    if (!(ck_numel(&n, dim, 2) && q->bytes == n) || q->ndim != 2 || q->dim[0] != dim[0])
        return quant_wrong(self->host, q, "",
                           "its shape is not the one that config.json gives this weight");
    if (!s->data || s->dtype != FT_F32 || s->bytes != (uint64_t)dim[0] * 4)
        return quant_wrong(self->host, q, "",
                           "its row scales (SCB) are missing or of another size than its rows");
    if (f->data && (f->bytes < 1 || *(const uint8_t *)f->data != 0))
        return quant_wrong(self->host, q, "",
                           "its weight_format is another than plain rows (0); save it with a "
                           "newer bitsandbytes");
    for (int64_t r = 0; r < dim[0]; r++) {
        if (!isfinite(quant_f32(s->data, r)))
            return quant_wrong(self->host, q, "", "a row scale is no finite number");
    }
    *out = (ft_packed){ .tile = tile, .rows = dim[0], .cols = dim[1],
                        .part = { q->data, s->data } };
    return 0;
}

static bool claims(const ft_source *s) { return quant_is_bnb(s, "load_in_8bit", NULL, NULL); }

static const ft_quantizer quantizer = {
    .size = sizeof quantizer,
    .scheme = "int8",
    .parts = parts,
    .open = open_parts,
    .skip_modules = (size_t)-1,
    .claims = claims,
};
static const ft_plugin plugin = {
    .abi = FT_ABI_INIT,
    .role = "ft.quantizer/1",
    .name = "quant-int8",
    .version = "0.1.0",
    .summary = "reads the 8-bit weights of bitsandbytes (LLM.int8)",
    .instance_size = sizeof(quant_reader),
    .open = quant_reader_open,
    .vtable = &quantizer,
};
FT_PLUGIN(plugin, "quant-int8")

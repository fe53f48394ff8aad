/* reader.c -- see reader.h. */
#include "reader.h"
#include "ft/ck.h"

int quant_reader_open(void *self, const ft_host *host, const void *config)
{
    (void)config;
    ((quant_reader *)self)->host = host;
    return 0;
}

int quant_wrong(const ft_host *h, const ft_tensor *named, const char *suffix, const char *what)
{
    return h->fail(h, FT_EFORMAT, "%s%s: %s", named->name ? named->name : "weight", suffix, what);
}

bool quant_part_is(const ft_tensor *t, ft_dtype dtype, const int64_t *dim, int ndim)
{
    uint64_t n, bytes;
    if (!t->data || t->dtype != dtype || t->scheme || t->ndim != ndim) return false;
    for (int i = 0; i < ndim; i++) {
        if (t->dim[i] != dim[i]) return false;
    }
    return ck_numel(&n, dim, ndim) && ck_mul(&bytes, n, dtype == FT_F32 ? 4 : 1) &&
           t->bytes == bytes;
}

bool quant_is_bnb(const ft_source *s, const char *bits, const char *type, const char *absent)
{
    const ft_json *q = ft_json_get(s->config, "quantization_config"), *on = ft_json_get(q, bits);
    return !strcmp(ft_json_str(q, "quant_method", ""), "bitsandbytes") && on &&
           on->type == FT_JSON_BOOL && on->truth &&
           (!type || !strcmp(ft_json_str(q, "bnb_4bit_quant_type", absent), type));
}

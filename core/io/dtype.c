/* dtype.c -- see dtype.h. */
#include "core/io/dtype.h"

/* Indexed by ft_dtype.  Names: the enum Dtype of safetensors' tensor.rs, 0.8.0.  The sub-byte
 * types are packed without padding between numbers; a tensor must fill whole bytes. */
static const struct {
    const char *name;
    unsigned bits;
} dtypes[FT_N_DTYPES] = {
    [FT_F32] = { "F32", 32 },   [FT_BF16] = { "BF16", 16 }, [FT_F16] = { "F16", 16 },
    [FT_F64] = { "F64", 64 },   [FT_I64] = { "I64", 64 },   [FT_I32] = { "I32", 32 },
    [FT_I16] = { "I16", 16 },   [FT_I8] = { "I8", 8 },      [FT_U64] = { "U64", 64 },
    [FT_U32] = { "U32", 32 },   [FT_U16] = { "U16", 16 },   [FT_U8] = { "U8", 8 },
    [FT_BOOL8] = { "BOOL", 8 }, [FT_C64] = { "C64", 64 },   [FT_F4_E2M1] = { "F4", 4 },
    [FT_F8_E4M3] = { "F8_E4M3", 8 },          [FT_F8_E5M2] = { "F8_E5M2", 8 },
    [FT_F8_E8M0] = { "F8_E8M0", 8 },          [FT_F6_E2M3] = { "F6_E2M3", 6 },
    [FT_F6_E3M2] = { "F6_E3M2", 6 },          [FT_F8_E4M3_FNUZ] = { "F8_E4M3FNUZ", 8 },
    [FT_F8_E5M2_FNUZ] = { "F8_E5M2FNUZ", 8 },
};

/* A dtype may come from a plugin: any int is looked at before it becomes an index. */
static bool known(ft_dtype d) { return (unsigned)d < FT_N_DTYPES && dtypes[d].name; }

const char *ft_dtype_name(ft_dtype d) { return known(d) ? dtypes[d].name : "?"; }
unsigned ft_dtype_bits(ft_dtype d) { return known(d) ? dtypes[d].bits : 0; }

ft_dtype ft_dtype_find(const char *name)
{
    for (unsigned i = 0; i < FT_N_DTYPES; i++) {
        if (dtypes[i].name && !strcmp(dtypes[i].name, name)) return (ft_dtype)i;
    }
    return FT_NO_DTYPE;
}

/* Why zeros count as 1: a shape [0, 2^40, 2^40] holds nothing, but code further on that
 * multiplies its dimensions in another order would overflow. */
bool ft_shape_span(uint64_t *out, bool *zero, const int64_t *dim, int ndim)
{
    uint64_t span = 1;
    *zero = false;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] == 0) *zero = true;
        else if (!ck_mul(&span, span, (uint64_t)dim[i])) return false;
    }
    *out = span;
    return true;
}

/* In bits first, so that sub-byte types need no case of their own. */
const char *ft_plain_bytes(uint64_t *bytes, ft_dtype d, const int64_t *dim, int ndim)
{
    uint64_t span, bits;
    bool zero;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 0) return "a dimension is negative";
    }
    if (!ft_shape_span(&span, &zero, dim, ndim) || !ck_mul(&bits, span, ft_dtype_bits(d)))
        return "its shape times the size of its dtype does not fit into 64 bits";
    if (zero) bits = 0;
    if (bits % 8) return "its numbers do not fill whole bytes";
    *bytes = bits / 8;
    return NULL;
}

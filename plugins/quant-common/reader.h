/* reader.h -- what quantizers share that read a format of others: bitsandbytes' and MXFP4.
 *
 * Their instance, errors about a part, numbers that lie anywhere in a mapped file, numbers stored
 * in the dtype that is asked for, and what config.json says of bitsandbytes.  Compiled into each
 * plugin. */
#ifndef QUANT_READER_H
#define QUANT_READER_H
#include <string.h>
#include "ft/half.h"
#include "ft/quant.h"
#include "ft/source.h"

/* First in the instance of such a plugin; open() fills it in. */
typedef struct { const ft_host *host; } quant_reader;
int quant_reader_open(void *self, const ft_host *, const void *config);

/* FT_EFORMAT: what is wrong with the part of this suffix; named: the part that bears the weight's
 * name. */
int quant_wrong(const ft_host *, const ft_tensor *named, const char *suffix, const char *what);
/* Whether the part is there, plain, of this dtype and shape, and as large as that says. */
bool quant_part_is(const ft_tensor *, ft_dtype dtype, const int64_t *dim, int ndim);

/* Number i of an fp32 array that may lie anywhere: parts in mapped files are not aligned. */
static inline float quant_f32(const void *p, int64_t i)
{
    float f;
    memcpy(&f, (const char *)p + 4 * i, 4);
    return f;
}

/* Number `at` of dst becomes v, rounded where that is bf16. */
static inline void quant_store(void *dst, ft_dtype to, int64_t at, float v)
{
    if (to == FT_BF16) ((uint16_t *)dst)[at] = ft_float_to_bf16(v);
    else ((float *)dst)[at] = v;
}

/* Whether bitsandbytes saved the folder: `bits` ("load_in_4bit") is true in its
 * quantization_config and, unless type is NULL, bnb_4bit_quant_type is that; absent: the type that
 * is meant where nothing is said. */
bool quant_is_bnb(const ft_source *, const char *bits, const char *type, const char *absent);
#endif

/* nf4.h -- what the files of this plugin share: the numbers of the format, the variants, and the
 * floating-point state that the format is defined in.
 *
 * The format (bitsandbytes 4-bit, quant_type nf4): a weight is read as one flat row-major run of
 * numbers, cut into blocks of 64 that cross row ends; the last may be short.  A block is its
 * largest absolute value (absmax, fp32) and 64 codes of 4 bits, two in a byte, the first in the
 * high nibble.  A number is nf4_code[code] * absmax, one fp32 product.  With double quantization
 * absmax itself is stored in 8 bits, see nest.c. */
#ifndef NF4_H
#define NF4_H
#include <fenv.h>
#include <string.h>
#include "ft/ck.h"
#include "ft/quant.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers");

enum { NF4_BLOCK = 64, NF4_NEST = 256, NF4_MAP = 256 };

/* A part's place in every array of parts. */
enum { NF4_CODES, NF4_ABSMAX, NF4_QUANT_MAP, NF4_NESTED_ABSMAX, NF4_NESTED_MAP, NF4_STATE,
       NF4_PARTS };
_Static_assert((int)NF4_PARTS <= (int)FT_MAX_PARTS, "parts of NF4");

/* ---- tables.c: the 16 levels, ascending, and the 256 of the signed dynamic map -------------- */
extern const float nf4_code[16];
void nf4_dynamic_map(float map[NF4_MAP]);
/* out[i] = (level[i] + level[i + 1]) / 2 in fp32, n - 1 of them. */
void nf4_midpoints(float *out, const float *level, int n);

/* ---- variants.c: one row an instruction set, best first, ended by a NULL name ---------------
 * All give the same bits.  Exported, so that the test can hold them against each other. */
typedef struct {
    const char *name;
    bool (*runs_here)(void);
    /* Codes (32 bytes a block) and absmax (fp32, unaligned) of n full blocks of F32, BF16 or F16
     * numbers.  Returns how many blocks were done before the first that holds a NaN or an
     * infinity. */
    int64_t (*encode)(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax);
    /* Numbers at … at + n - 1 of the flat matrix. */
    void (*to_f32)(const ft_packed *, int64_t at, int64_t n, float *dst);
    void (*to_bf16)(const ft_packed *, int64_t at, int64_t n, uint16_t *dst);
} nf4_variant;
FT_EXPORT extern const nf4_variant nf4_variants[];
const nf4_variant *nf4_best_variant(void);

/* ---- encode.c ------------------------------------------------------------------------------ */
int64_t nf4_encode_plain(const void *, ft_dtype, int64_t, uint8_t *, void *);
int64_t nf4_encode_avx2(const void *, ft_dtype, int64_t, uint8_t *, void *);
int64_t nf4_encode_avx512(const void *, ft_dtype, int64_t, uint8_t *, void *);
/* The short block at the end: n < 64 numbers.  false when one is not finite. */
bool nf4_encode_tail(const void *w, ft_dtype dtype, int n, uint8_t *codes, void *absmax);
/* n numbers widened to fp32. */
void nf4_widen(float *out, const void *w, ft_dtype dtype, int n);

/* ---- decode.c ------------------------------------------------------------------------------ */
void nf4_f32_plain(const ft_packed *, int64_t, int64_t, float *);
void nf4_f32_avx2(const ft_packed *, int64_t, int64_t, float *);
void nf4_f32_avx512(const ft_packed *, int64_t, int64_t, float *);
void nf4_bf16_plain(const ft_packed *, int64_t, int64_t, uint16_t *);
void nf4_bf16_avx2(const ft_packed *, int64_t, int64_t, uint16_t *);
void nf4_bf16_avx512(const ft_packed *, int64_t, int64_t, uint16_t *);
/* ft_packed.tile.  Of ft_packed it uses part[0] codes, part[1] absmax (fp32, or the 8-bit codes of
 * double quantization), part[2] nested absmax or NULL, part[3] nested map, number[0] nested
 * offset, info: the variant. */
void nf4_tile(const ft_packed *, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
              void *dst, int64_t ld);

/* ---- nest.c: absmax in 8 bits -------------------------------------------------------------- */
typedef struct {
    float map[NF4_MAP], midpoint[NF4_MAP - 1];
} nf4_nest_tables;
void nf4_nest_prepare(nf4_nest_tables *);
/* The offset that is subtracted first: the mean of n values; infinite when their sum is. */
float nf4_nest_offset(const float *absmax, int64_t n);
/* Codes of n <= 256 values less the offset; returns the block's nested absmax. */
float nf4_nest_block(const nf4_nest_tables *, const float *absmax, int n, float offset,
                     uint8_t *codes);

/* ---- state.c: sizes of the parts, the JSON that describes them, opening -------------------- */
/* The text of part ".quant_state.bitsandbytes__nf4"; returns its length, writes no more than n
 * bytes, zero included.  offset NULL: no double quantization. */
size_t nf4_state_text(char *out, size_t n, const int64_t *dim, int ndim, const char *dtype,
                      const char *offset);
int nf4_parts(const ft_host *, bool nested, const int64_t *dim, int ndim, ft_part out[]);
int nf4_open(const ft_host *, const int64_t *dim, int ndim, const ft_tensor part[],
             ft_packed *out);

/* ---- IEEE arithmetic with denormals, whatever the calling thread is set to ------------------
 * Kernel threads flush denormals to zero; absmax 1e-38, which the format uses, is one. */
#ifdef __x86_64__
typedef unsigned nf4_fp;
static inline nf4_fp nf4_fp_ieee(void)
{
    unsigned was = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80);
    return was;
}
static inline void nf4_fp_restore(nf4_fp was) { __builtin_ia32_ldmxcsr(was); }
#else
typedef fenv_t nf4_fp;
static inline nf4_fp nf4_fp_ieee(void)
{
    fenv_t was;
    fegetenv(&was);
    fesetenv(FE_DFL_ENV);
    return was;
}
static inline void nf4_fp_restore(nf4_fp was) { fesetenv(&was); }
#endif
#endif

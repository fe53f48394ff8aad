/* blocks.c -- see blocks.h.
 *
 * Layouts: ggml's block structs, as gguf-py (quants.py) reads them.  d, m: binary16 scales; q: the
 * element's code; nibbles go low half of the block first, then high half.
 *
 *   q4_0  d q[16]                  x = d (q - 8)          q4_1  d m q[16]        x = d q + m
 *   q5_0  d high[4] q[16]          x = d (q - 16)         q5_1  d m high[4] q[16]  x = d q + m
 *   q8_0  d q[32]                  x = d q                iq4_nl  d q[16]        x = d table[q]
 *   mxfp4 e q[16]                  x = 2^(e-128) table[q], the table being twice e2m1
 *   super-blocks of 256, with scales s (and minima s') for groups of 16 or 32:
 *   q2_k    s[16] q[64] d m              x = (d s) q - m s'
 *   q3_k    high[32] q[64] s[12] d       x = (d s) q
 *   q4_k    d m s[12] q[128]             x = (d s) q - m s'
 *   q5_k    d m s[12] high[32] q[128]    x = (d s) q - m s'
 *   q6_k    q[128] high[64] s[16] d      x = (d s) (q - 32)
 *   iq4_xs  d s[2+4] q[128]              x = (d s) table[q]
 *
 * Every product and difference is one fp32 operation in the order written, so that the results are
 * gguf-py's to the bit.  Inner loops have constant counts: compilers turn them into vectors.
 * Checked against gguf-py's output for random blocks of each format, whole and cut anywhere. */
#include "core/io/blocks.h"
#include "ft/half.h"

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return ft_half_to_float(h);
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, 4);
    return u;
}

/* ---- plain numbers ------------------------------------------------------------------------ */

static void decode_f32(float *restrict out, const uint8_t *restrict b, size_t n)
{
    memcpy(out, b, n * 4);
}

static void decode_f16(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = half_at(b + 2 * i);
}

static void decode_bf16(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, b + 2 * i, 2);
        out[i] = ft_bf16_to_float(h);
    }
}

static void decode_f64(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, b + 8 * i, 8);
        out[i] = (float)d;
    }
}

/* ---- blocks of 32 ------------------------------------------------------------------------- */

static void decode_q4_0(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 32, b += 18) {
        float d = half_at(b);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((b[2 + j] & 15) - 8);
            out[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
        }
    }
}

static void decode_q4_1(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 32, b += 20) {
        float d = half_at(b), m = half_at(b + 2);
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(b[4 + j] & 15) + m;
            out[j + 16] = d * (float)(b[4 + j] >> 4) + m;
        }
    }
}

/* The 32 five-bit codes of 16 bytes of nibbles and a word with the upper bits. */
static void codes_5bit(int *restrict q, const uint8_t *restrict nibble, uint32_t high)
{
    for (int j = 0; j < 16; j++) {
        q[j] = (nibble[j] & 15) | (int)(high >> j & 1) << 4;
        q[j + 16] = nibble[j] >> 4 | (int)(high >> (j + 16) & 1) << 4;
    }
}

static void decode_q5_0(float *restrict out, const uint8_t *restrict b, size_t n)
{
    int q[32];
    for (; n--; out += 32, b += 22) {
        float d = half_at(b);
        codes_5bit(q, b + 6, u32_at(b + 2));
        for (int j = 0; j < 32; j++) out[j] = d * (float)(q[j] - 16);
    }
}

static void decode_q5_1(float *restrict out, const uint8_t *restrict b, size_t n)
{
    int q[32];
    for (; n--; out += 32, b += 24) {
        float d = half_at(b), m = half_at(b + 2);
        codes_5bit(q, b + 8, u32_at(b + 4));
        for (int j = 0; j < 32; j++) out[j] = d * (float)q[j] + m;
    }
}

static void decode_q8_0(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 32, b += 34) {
        float d = half_at(b);
        for (int j = 0; j < 32; j++) out[j] = (float)(int8_t)b[2 + j] * d;
    }
}

/* The sixteen levels of iq4_nl and iq4_xs, and those of mxfp4. */
static const float iq4_level[16] = { -127, -104, -83, -65, -49, -35, -22, -10,
                                     1, 13, 25, 38, 53, 69, 89, 113 };
static const float mx_level[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

static void decode_iq4_nl(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 32, b += 18) {
        float d = half_at(b), level[16];
        for (int j = 0; j < 16; j++) level[j] = d * iq4_level[j];
        for (int j = 0; j < 16; j++) {
            out[j] = level[b[2 + j] & 15];
            out[j + 16] = level[b[2 + j] >> 4];
        }
    }
}

/* 2^(e-128) mx_level[].  Below e = 2 that has denormals, which the processor's flush-to-zero mode
 * would lose in a product; there the fp32 bits of the multiples 0 … 12 of 2^-128 stand here. */
static void mx_levels(float *level, unsigned e)
{
    static const uint32_t tiny[2][8] = {
        { 0, 0x200000, 0x400000, 0x600000, 0x800000, 0xc00000, 0x1000000, 0x1400000 },
        { 0, 0x400000, 0x800000, 0xc00000, 0x1000000, 0x1400000, 0x1800000, 0x1c00000 },
    };
    if (e < 2) {
        for (unsigned j = 0; j < 8; j++) {
            level[j] = ft_bits_float(tiny[e][j]);
            level[j + 8] = j ? ft_bits_float(tiny[e][j] | 0x80000000) : 0;
        }
        return;
    }
    float d = ft_bits_float((e - 1) << 23);
    for (int j = 0; j < 16; j++) level[j] = d * mx_level[j];
}

static void decode_mxfp4(float *restrict out, const uint8_t *restrict b, size_t n)
{
    float level[16];
    for (; n--; out += 32, b += 17) {
        mx_levels(level, b[0]);
        for (int j = 0; j < 16; j++) {
            out[j] = level[b[1 + j] & 15];
            out[j + 16] = level[b[1 + j] >> 4];
        }
    }
}

/* ---- super-blocks of 256 ------------------------------------------------------------------ */

/* Two-bit codes: element 128h + 32s + k is bits 2s and 2s+1 of byte 32h + k. */
static void decode_q2_k(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 84) {
        float d = half_at(b + 80), m = half_at(b + 82);
        for (int g = 0; g < 16; g++) { /* 16 elements with one scale */
            const uint8_t *q = b + 16 + 32 * (g / 8) + 16 * (g % 2);
            float scale = d * (float)(b[g] & 15), least = m * (float)(b[g] >> 4);
            int shift = g / 2 % 4 * 2;
            for (int j = 0; j < 16; j++)
                out[16 * g + j] = scale * (float)(q[j] >> shift & 3) - least;
        }
    }
}

/* As q2_k with a third bit from high[]: bit 4h + s of byte k; 0 there means 4 less. */
static void decode_q3_k(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 110) {
        const uint8_t *high = b, *s = b + 96;
        float d = half_at(b + 108);
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b + 32 + 32 * (g / 8) + 16 * (g % 2), *h = high + 16 * (g % 2);
            int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4, top = s[8 + g % 4] >> (g / 4 * 2) & 3;
            float scale = d * (float)((low | top << 4) - 32);
            int shift = g / 2 % 4 * 2, bit = g / 2;
            for (int j = 0; j < 16; j++)
                out[16 * g + j] = scale * (float)((q[j] >> shift & 3) + (h[j] >> bit & 1) * 4 - 4);
        }
    }
}

/* Scale and minimum of group g, six bits each, from the twelve bytes that q4_k and q5_k share. */
static void scale_min(int *scale, int *least, const uint8_t *s, int g)
{
    if (g < 4) {
        *scale = s[g] & 63;
        *least = s[g + 4] & 63;
    } else {
        *scale = (s[g + 4] & 15) | (s[g - 4] >> 2 & 48);
        *least = s[g + 4] >> 4 | (s[g] >> 2 & 48);
    }
}

static void decode_q4_k(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 144) {
        float d = half_at(b), m = half_at(b + 2);
        for (int g = 0; g < 8; g++) { /* 32 elements with one scale */
            const uint8_t *q = b + 16 + 32 * (g / 2);
            int s, l, shift = g % 2 * 4;
            scale_min(&s, &l, b + 4, g);
            float scale = d * (float)s, least = m * (float)l;
            for (int j = 0; j < 32; j++)
                out[32 * g + j] = scale * (float)(q[j] >> shift & 15) - least;
        }
    }
}

static void decode_q5_k(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 176) {
        const uint8_t *high = b + 16;
        float d = half_at(b), m = half_at(b + 2);
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b + 48 + 32 * (g / 2);
            int s, l, shift = g % 2 * 4;
            scale_min(&s, &l, b + 4, g);
            float scale = d * (float)s, least = m * (float)l;
            for (int j = 0; j < 32; j++)
                out[32 * g + j] =
                    scale * (float)((q[j] >> shift & 15) | (high[j] >> g & 1) << 4) - least;
        }
    }
}

/* Element 128h + 32r + k: nibble r/2 of byte 64h + 32(r%2) + k, above it bits 2r, 2r+1 of high. */
static void decode_q6_k(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 210) {
        float d = half_at(b + 208);
        for (int g = 0; g < 16; g++) {
            int h = g / 8, r = g / 2 % 4, k = g % 2 * 16;
            const uint8_t *q = b + 64 * h + 32 * (r % 2) + k, *high = b + 128 + 32 * h + k;
            float scale = d * (float)(int8_t)b[192 + g];
            int low = r / 2 * 4, top = r * 2;
            for (int j = 0; j < 16; j++) {
                int code = (q[j] >> low & 15) | (high[j] >> top & 3) << 4;
                out[16 * g + j] = scale * (float)(code - 32);
            }
        }
    }
}

static void decode_iq4_xs(float *restrict out, const uint8_t *restrict b, size_t n)
{
    for (; n--; out += 256, b += 136) {
        float d = half_at(b), level[16];
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b + 8 + 16 * g;
            int low = b[4 + g / 2] >> (g % 2 * 4) & 15, top = b[2 + g / 4] >> (g % 4 * 2) & 3;
            float scale = d * (float)((low | top << 4) - 32);
            for (int j = 0; j < 16; j++) level[j] = scale * iq4_level[j];
            for (int j = 0; j < 16; j++) {
                out[32 * g + j] = level[q[j] & 15];
                out[32 * g + j + 16] = level[q[j] >> 4];
            }
        }
    }
}

/* ---- the table: every type of ggml.h that may stand in a file -------------------------------- */
static const ft_block_format formats[] = {
    { "f32", 0, 1, 4, FT_F32, decode_f32 },        { "f16", 1, 1, 2, FT_F16, decode_f16 },
    { "bf16", 30, 1, 2, FT_BF16, decode_bf16 },    { "f64", 28, 1, 8, FT_F64, decode_f64 },
    { "i8", 24, 1, 1, FT_I8, NULL },               { "i16", 25, 1, 2, FT_I16, NULL },
    { "i32", 26, 1, 4, FT_I32, NULL },             { "i64", 27, 1, 8, FT_I64, NULL },
    { "q4_0", 2, 32, 18, 0, decode_q4_0 },         { "q4_1", 3, 32, 20, 0, decode_q4_1 },
    { "q5_0", 6, 32, 22, 0, decode_q5_0 },         { "q5_1", 7, 32, 24, 0, decode_q5_1 },
    { "q8_0", 8, 32, 34, 0, decode_q8_0 },         { "q8_1", 9, 32, 36, 0, NULL },
    { "q2_k", 10, 256, 84, 0, decode_q2_k },       { "q3_k", 11, 256, 110, 0, decode_q3_k },
    { "q4_k", 12, 256, 144, 0, decode_q4_k },      { "q5_k", 13, 256, 176, 0, decode_q5_k },
    { "q6_k", 14, 256, 210, 0, decode_q6_k },      { "q8_k", 15, 256, 292, 0, NULL },
    { "iq2_xxs", 16, 256, 66, 0, NULL },           { "iq2_xs", 17, 256, 74, 0, NULL },
    { "iq3_xxs", 18, 256, 98, 0, NULL },           { "iq1_s", 19, 256, 50, 0, NULL },
    { "iq4_nl", 20, 32, 18, 0, decode_iq4_nl },    { "iq3_s", 21, 256, 110, 0, NULL },
    { "iq2_s", 22, 256, 82, 0, NULL },             { "iq4_xs", 23, 256, 136, 0, decode_iq4_xs },
    { "iq1_m", 29, 256, 56, 0, NULL },             { "tq1_0", 34, 256, 54, 0, NULL },
    { "tq2_0", 35, 256, 66, 0, NULL },             { "mxfp4", 39, 32, 17, 0, decode_mxfp4 },
    { "nvfp4", 40, 64, 36, 0, NULL },              { "q1_0", 41, 128, 18, 0, NULL },
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const ft_block_format *ft_block_info(const char *scheme)
{
    for (int i = 0; i < N_FORMATS; i++) {
        if (!strcmp(formats[i].name, scheme)) return &formats[i];
    }
    return NULL;
}

const ft_block_format *ft_block_ggml(uint32_t type)
{
    for (int i = 0; i < N_FORMATS; i++) {
        if (formats[i].ggml == type) return &formats[i];
    }
    return NULL;
}

const ft_block_format *ft_block_of(const ft_tensor *t)
{
    if (t->scheme) return ft_block_info(t->scheme);
    for (int i = 0; i < N_FORMATS; i++) {
        if (formats[i].plain == t->dtype && t->dtype != FT_NO_DTYPE) return &formats[i];
    }
    return NULL;
}

void ft_block_decode(float *out, const ft_block_format *f, ft_block_decoder *decode,
                     const void *data, uint64_t first, uint64_t n)
{
    const uint8_t *block = (const uint8_t *)data + first / f->elements * f->bytes;
    uint64_t skip = first % f->elements;
    float whole[FT_MAX_BLOCK];
    if (skip && n) { /* the rest of a block that is begun */
        uint64_t k = f->elements - skip < n ? f->elements - skip : n;
        decode(whole, block, 1);
        memcpy(out, whole + skip, k * sizeof *out);
        block += f->bytes;
        out += k;
        n -= k;
    }
    uint64_t blocks = n / f->elements, rest = n % f->elements;
    if (blocks) decode(out, block, blocks);
    if (rest) {
        decode(whole, block + blocks * f->bytes, 1);
        memcpy(out + blocks * f->elements, whole, rest * sizeof *out);
    }
}

/* n elements from first on, at most FT_MAX_BLOCK at a time, by way of floats. */
static void decode_and_round(uint16_t *out, const ft_block_format *f, ft_block_decoder *decode,
                             const void *data, uint64_t first, uint64_t n)
{
    float part[FT_MAX_BLOCK];
    for (uint64_t k; n; n -= k, first += k, out += k) {
        k = n < FT_MAX_BLOCK ? n : FT_MAX_BLOCK;
        ft_block_decode(part, f, decode, data, first, k);
        ft_round_to_bf16(out, part, k);
    }
}

void ft_block_decode_bf16(uint16_t *out, const ft_block_format *f, ft_block_decoder *decode,
                          ft_block_rounder *round, const void *data, uint64_t first, uint64_t n)
{
    uint64_t skip = (f->elements - first % f->elements) % f->elements;
    if (!round || skip > n) skip = n;
    if (skip) decode_and_round(out, f, decode, data, first, skip);
    uint64_t blocks = (n - skip) / f->elements, whole = blocks * f->elements;
    const uint8_t *block = (const uint8_t *)data + (first + skip) / f->elements * f->bytes;
    if (blocks) round(out + skip, block, blocks);
    if (n > skip + whole)
        decode_and_round(out + skip + whole, f, decode, data, first + skip + whole,
                         n - skip - whole);
}

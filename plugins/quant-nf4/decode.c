/* decode.c -- codes to numbers, for any rectangle of the matrix: the hot function of QLoRA.
 *
 * A number is level[code] * absmax in fp32, rounded once more (to nearest, ties to even) where
 * bf16 is asked for.  So a block has 16 different results: they are computed, and rounded, once a
 * block, and the codes pick from them.  With double quantization absmax is
 * map[code] * nested_absmax + offset, two rounded operations, done when its block is reached: what
 * stays in memory is what the file holds.
 *
 * Each variant decodes a run of the flat matrix, which may start at any number, also at the low
 * nibble of a byte: that one number goes first, then pairs.  AVX-512 picks 32 bf16 or 16 fp32
 * results with one permutation; AVX2 picks bytes by pshufb, or fp32 by two permutations and the
 * code's highest bit.  Plain C is the reference, and does the ends of runs for AVX2.
 * open() has checked that every absmax is finite, so that rounding need not know NaN. */
#include "nf4.h"
#ifdef __x86_64__
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl")))
#endif

/* Number i of an fp32 array that may lie anywhere: parts in mapped files are not aligned. */
static inline float load_f32(const void *p, int64_t i)
{
    float f;
    memcpy(&f, (const char *)p + i * 4, 4);
    return f;
}

/* The scale of a block; with double quantization restored in two rounded steps, product and sum,
 * as bitsandbytes does it (a fused one would differ in the last bit). */
static inline float block_absmax(const ft_packed *p, int64_t block)
{
    if (!p->part[2]) return load_f32(p->part[1], block);
    uint8_t code = ((const uint8_t *)p->part[1])[block];
    float v = load_f32(p->part[3], code) * load_f32(p->part[2], block / NF4_NEST);
    return v + (float)p->number[0];
}

/* The code of number `at`: even ones lie in the high nibble. */
static inline unsigned code_at(const uint8_t *codes, int64_t at)
{
    return (unsigned)codes[at / 2] >> (at % 2 ? 0 : 4) & 15u;
}

/* One number alone, where a whole block's results are not worth computing. */
static inline float number_at(const ft_packed *p, int64_t at)
{
    return nf4_code[code_at(p->part[0], at)] * block_absmax(p, at / NF4_BLOCK);
}

/* Rounds to nearest, ties to even, by adding just below half of the last place kept; one more when
 * that place is odd.  A carry into the exponent is right, up to infinity. */
static inline uint16_t to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Numbers from `at` to the end of its block, or to the end of the run. */
static inline int64_t within_block(int64_t at, int64_t n)
{
    int64_t left = NF4_BLOCK - at % NF4_BLOCK;
    return n < left ? n : left;
}

/* ---- plain C: a step is what is left of a block --------------------------------------------- */
void nf4_f32_plain(const ft_packed *p, int64_t at, int64_t n, float *dst)
{
    for (int64_t m; n > 0; at += m, n -= m, dst += m) {
        float absmax = block_absmax(p, at / NF4_BLOCK), pick[16];
        m = within_block(at, n);
        for (int i = 0; i < 16; i++) pick[i] = nf4_code[i] * absmax;
        for (int64_t i = 0; i < m; i++) dst[i] = pick[code_at(p->part[0], at + i)];
    }
}

void nf4_bf16_plain(const ft_packed *p, int64_t at, int64_t n, uint16_t *dst)
{
    for (int64_t m; n > 0; at += m, n -= m, dst += m) {
        float absmax = block_absmax(p, at / NF4_BLOCK);
        uint16_t pick[16];
        m = within_block(at, n);
        for (int i = 0; i < 16; i++) pick[i] = to_bf16(nf4_code[i] * absmax);
        for (int64_t i = 0; i < m; i++) dst[i] = pick[code_at(p->part[0], at + i)];
    }
}

#ifdef __x86_64__
/* ---- AVX2 ------------------------------------------------------------------------------------ */
/* 8 products as bf16 in the low halves of 8 lanes. */
AVX2 static inline __m256i rounded8(__m256 v)
{
    __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    bits = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    return _mm256_srli_epi32(bits, 16);
}

/* 32 numbers of 16 bytes; low and high: low and high byte of each result, in both lanes. */
AVX2 static inline void pick32(uint16_t *dst, const uint8_t *codes, __m256i low, __m256i high)
{
    const __m128i nibble = _mm_set1_epi8(15);
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)codes);
    __m128i first = _mm_and_si128(_mm_srli_epi16(b, 4), nibble), second = _mm_and_si128(b, nibble);
    __m256i at = _mm256_set_m128i(_mm_unpackhi_epi8(first, second),
                                  _mm_unpacklo_epi8(first, second));
    __m256i l = _mm256_shuffle_epi8(low, at), h = _mm256_shuffle_epi8(high, at);
    __m256i a = _mm256_unpacklo_epi8(l, h), c = _mm256_unpackhi_epi8(l, h); // 0-7|16-23, 8-15|24-31
    __m256i *out = (__m256i *)(void *)dst;
    _mm256_storeu_si256(out, _mm256_permute2x128_si256(a, c, 0x20));
    _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(a, c, 0x31));
}

/* A step is the one number at an odd place, or the 32 or 64 that a block still has, or an end of
 * fewer than 32.  The 16 results become one vector of their low and one of their high bytes. */
AVX2 void nf4_bf16_avx2(const ft_packed *p, int64_t at, int64_t n, uint16_t *dst)
{
    const uint8_t *codes = p->part[0];
    for (int64_t m, i; n > 0; at += m, n -= m, dst += m) {
        m = within_block(at, n);
        if (at % 2) {
            *dst = to_bf16(number_at(p, at));
            m = 1;
            continue;
        }
        if (m < 32) {
            nf4_bf16_plain(p, at, m, dst);
            continue;
        }
        __m256 absmax = _mm256_set1_ps(block_absmax(p, at / NF4_BLOCK));
        __m256i a = rounded8(_mm256_mul_ps(_mm256_loadu_ps(nf4_code), absmax));
        __m256i b = rounded8(_mm256_mul_ps(_mm256_loadu_ps(nf4_code + 8), absmax));
        __m256i word = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        __m256i l = _mm256_and_si256(word, _mm256_set1_epi16(255)), h = _mm256_srli_epi16(word, 8);
        __m256i byte = _mm256_permute4x64_epi64(_mm256_packus_epi16(l, h), 0xd8);
        __m256i low = _mm256_permute4x64_epi64(byte, 0x44);
        __m256i high = _mm256_permute4x64_epi64(byte, 0xee);
        for (i = 0; i + 32 <= m; i += 32) pick32(dst + i, codes + (at + i) / 2, low, high);
        m = i;
    }
}

/* Steps as above, 8 at a time.  A byte b becomes two lanes, b / 16 and b: of each the permutations
 * look at bits 0 to 2, and bit 3, moved to the sign, says which of the two it is. */
AVX2 void nf4_f32_avx2(const ft_packed *p, int64_t at, int64_t n, float *dst)
{
    const uint8_t *codes = p->part[0];
    for (int64_t m, i; n > 0; at += m, n -= m, dst += m) {
        m = within_block(at, n);
        if (at % 2) {
            *dst = number_at(p, at);
            m = 1;
            continue;
        }
        if (m < 8) {
            nf4_f32_plain(p, at, m, dst);
            continue;
        }
        __m256 absmax = _mm256_set1_ps(block_absmax(p, at / NF4_BLOCK));
        __m256 low = _mm256_mul_ps(_mm256_loadu_ps(nf4_code), absmax);
        __m256 high = _mm256_mul_ps(_mm256_loadu_ps(nf4_code + 8), absmax);
        for (i = 0; i + 8 <= m; i += 8) {
            int32_t four;
            memcpy(&four, codes + (at + i) / 2, 4);
            __m256i q = _mm256_cvtepu8_epi64(_mm_cvtsi32_si128(four));
            q = _mm256_or_si256(_mm256_srli_epi64(q, 4), _mm256_slli_epi64(q, 32));
            __m256 bit3 = _mm256_castsi256_ps(_mm256_slli_epi32(q, 28));
            _mm256_storeu_ps(dst + i, _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, q),
                                                       _mm256_permutevar8x32_ps(high, q), bit3));
        }
        m = i;
    }
}

/* ---- AVX-512 --------------------------------------------------------------------------------- */
/* The 16 results of a block as bf16, twice: an index counts modulo 32, and what lies above the
 * nibble does not matter. */
AVX512 static inline __m512i results_bf16(__m512 level, float absmax)
{
    __m512i bits = _mm512_castps_si512(_mm512_mul_ps(level, _mm512_set1_ps(absmax)));
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    return _mm512_broadcast_i64x4(_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}

/* 32 numbers of 16 bytes: each byte b becomes two indices, b / 16 and b. */
AVX512 static inline __m512i pick_bf16(__m512i results, __m128i codes)
{
    __m512i d = _mm512_cvtepu8_epi32(codes);
    d = _mm512_or_si512(_mm512_srli_epi32(d, 4), _mm512_slli_epi32(d, 16));
    return _mm512_permutexvar_epi16(d, results);
}

/* A step is the one number at an odd place, or what is left of a block; an end that is not whole is
 * loaded and stored under masks, so that nothing beyond the parts is touched. */
AVX512 void nf4_bf16_avx512(const ft_packed *p, int64_t at, int64_t n, uint16_t *dst)
{
    const uint8_t *codes = p->part[0];
    const __m512 level = _mm512_loadu_ps(nf4_code);
    for (int64_t m; n > 0; at += m, n -= m, dst += m) {
        m = within_block(at, n);
        if (at % 2) {
            *dst = to_bf16(number_at(p, at));
            m = 1;
            continue;
        }
        __m512i results = results_bf16(level, block_absmax(p, at / NF4_BLOCK));
        const uint8_t *from = codes + at / 2;
        int64_t i = 0;
        for (; i + 32 <= m; i += 32) {
            __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(from + i / 2));
            _mm512_storeu_si512(dst + i, pick_bf16(results, c));
        }
        if (i == m) continue;
        uint32_t keep = (1u << (m - i)) - 1, bytes = (1u << (m - i + 1) / 2) - 1;
        __m128i c = _mm_maskz_loadu_epi8((__mmask16)bytes, from + i / 2);
        _mm512_mask_storeu_epi16(dst + i, keep, pick_bf16(results, c));
    }
}

/* 16 numbers of 8 bytes. */
AVX512 static inline __m512 pick_f32(__m512 results, __m128i codes)
{
    __m512i q = _mm512_cvtepu8_epi64(codes);
    q = _mm512_or_si512(_mm512_srli_epi64(q, 4), _mm512_slli_epi64(q, 32));
    return _mm512_permutexvar_ps(q, results);
}

/* Steps as above, 16 at a time. */
AVX512 void nf4_f32_avx512(const ft_packed *p, int64_t at, int64_t n, float *dst)
{
    const uint8_t *codes = p->part[0];
    const __m512 level = _mm512_loadu_ps(nf4_code);
    for (int64_t m; n > 0; at += m, n -= m, dst += m) {
        m = within_block(at, n);
        if (at % 2) {
            *dst = number_at(p, at);
            m = 1;
            continue;
        }
        __m512 results = _mm512_mul_ps(level, _mm512_set1_ps(block_absmax(p, at / NF4_BLOCK)));
        const uint8_t *from = codes + at / 2;
        int64_t i = 0;
        for (; i + 16 <= m; i += 16) {
            __m128i c = _mm_loadl_epi64((const __m128i *)(const void *)(from + i / 2));
            _mm512_storeu_ps(dst + i, pick_f32(results, c));
        }
        if (i == m) continue;
        uint32_t keep = (1u << (m - i)) - 1, bytes = (1u << (m - i + 1) / 2) - 1;
        __m128i c = _mm_maskz_loadu_epi8((__mmask16)bytes, from + i / 2);
        _mm512_mask_storeu_ps(dst + i, (__mmask16)keep, pick_f32(results, c));
    }
}
#endif

/* Row by row: what is a rectangle of the matrix is one run of the flat matrix a row. */
void nf4_tile(const ft_packed *p, int64_t r0, int64_t nr, int64_t c0, int64_t nc, ft_dtype to,
              void *dst, int64_t ld)
{
    const nf4_variant *v = p->info;
    nf4_fp was = nf4_fp_ieee();
    for (int64_t r = 0; r < nr; r++) {
        int64_t at = (r0 + r) * p->cols + c0;
        if (to == FT_BF16) v->to_bf16(p, at, nc, (uint16_t *)dst + r * ld);
        else v->to_f32(p, at, nc, (float *)dst + r * ld);
    }
    nf4_fp_restore(was);
}

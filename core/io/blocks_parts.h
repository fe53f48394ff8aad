/* blocks_parts.h -- what the decoders of blocks_wide.c and blocks_short.c share: a run of blocks of
 * 32 numbers, part by part, the scales of a part first.
 *
 * A block begins with one or two binary16 numbers; those of PART blocks are widened together, so
 * that each is then read as a vector of equal lanes.  Blocks AHEAD bytes on are asked for, as the
 * processor stops doing so at every page. */
#ifndef FT_CORE_BLOCKS_PARTS_H
#define FT_CORE_BLOCKS_PARTS_H
#include <immintrin.h>
#include <stdint.h>

enum { PART = 32, AHEAD = 4096 };

/* d[2 i], d[2 i + 1]: the first two binary16 numbers of block i, of which the second may be none.
 * Every block has eight bytes at least. */
__attribute__((target("f16c"))) static inline void scales_of(float *d, const uint8_t *b, size_t n,
                                                             size_t bytes)
{
    for (size_t i = 0; i < n; i++, b += bytes) {
        __builtin_prefetch(b + AHEAD);
        __m128i start = _mm_loadl_epi64((const __m128i *)(const void *)b);
        _mm_storel_pi((__m64 *)(void *)(d + 2 * i), _mm_cvtph_ps(start));
    }
}

/* scales_of, sixteen blocks at a time. */
__attribute__((target("avx512f"))) static inline void scales_wide(float *d, const uint8_t *b,
                                                                  size_t n, size_t bytes)
{
    const __m512i each = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i at = _mm512_mullo_epi32(each, _mm512_set1_epi32((int)bytes));
    for (size_t i = 0; i < n * bytes; i += 64) __builtin_prefetch(b + AHEAD + i);
    for (size_t i = 0; i < n; i += 16, b += 16 * bytes, d += 32) {
        __mmask16 there = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xFFFFu);
        __m512i x = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, at, b, 1);
        _mm512_storeu_ps(d, _mm512_cvtph_ps(_mm512_castsi512_si256(x)));
        _mm512_storeu_ps(d + 16, _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1)));
    }
}

/* What four-bit codes stand for before their scales. */
__attribute__((target("avx512f"))) static inline __m512 codes_512(void)
{
    return _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

/* A decoder of n blocks into numbers of a type: scales(d, block, blocks, bytes) as scales_of,
 * part(out, block, d, blocks); both take PART at most. */
#define DECODER(name, type, scales, part, bytes)                                \
    static void name(type *restrict out, const uint8_t *restrict b, size_t n)   \
    {                                                                           \
        float d[2 * PART];                                                      \
        for (size_t k; n; n -= k, out += k * 32, b += k * (bytes)) {            \
            k = n < PART ? n : PART;                                            \
            scales(d, b, k, bytes);                                             \
            part(out, b, d, k);                                                 \
        }                                                                       \
    }
#endif

/* blocks_short.c -- block formats straight to bf16 (see blocks.h), for processors with
 * AVX-512-BF16.
 *
 * A block of four-bit codes has sixteen numbers: they are made once, as blocks.c makes each,
 * rounded, and looked up.  The scales are binary16, so that every number is 0 or at least 2^-24:
 * rounding never meets a denormal, which the instruction would take for zero.  Reading weights is
 * most of what generation does.
 * Left out: formats whose scales are other numbers, and those that few files have.
 * Checked against blocks.c with ft_round_to_bf16: test_blocks.c. */
#include "core/io/blocks.h"
#include <string.h>

#if defined(__x86_64__)
#include "core/io/blocks_parts.h"

#define WITH_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,f16c"))) static

/* out[j] = number[low nibble of byte j], out[16 + j] = number[high nibble of byte j]. */
WITH_BF16 inline void look_up(uint16_t *out, __m512 number, const uint8_t *nibbles)
{
    const __m512i spread = _mm512_set_epi64(
        (int64_t)0xff0fff0eff0dff0c, (int64_t)0xff0bff0aff09ff08, (int64_t)0xff07ff06ff05ff04,
        (int64_t)0xff03ff02ff01ff00, (int64_t)0xff0fff0eff0dff0c, (int64_t)0xff0bff0aff09ff08,
        (int64_t)0xff07ff06ff05ff04, (int64_t)0xff03ff02ff01ff00);
    const __m512i shift = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)nibbles);
    __m512i word = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), spread);
    __m512i code = _mm512_and_si512(_mm512_srlv_epi16(word, shift), _mm512_set1_epi16(15));
    __m512i table = _mm512_castsi256_si512((__m256i)_mm512_cvtneps_pbh(number));
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(code, table));
}

WITH_BF16 void q4_0_part(uint16_t *restrict out, const uint8_t *restrict b, const float *d,
                         size_t n)
{
    __m512 level = _mm512_sub_ps(codes_512(), _mm512_set1_ps(8));
    for (size_t i = 0; i < n; i++, out += 32, b += 18)
        look_up(out, _mm512_mul_ps(_mm512_set1_ps(d[2 * i]), level), b + 2);
}

WITH_BF16 void q4_1_part(uint16_t *restrict out, const uint8_t *restrict b, const float *d,
                         size_t n)
{
    __m512 level = codes_512();
    for (size_t i = 0; i < n; i++, out += 32, b += 20) {
        __m512 x = _mm512_mul_ps(_mm512_set1_ps(d[2 * i]), level);
        look_up(out, _mm512_add_ps(x, _mm512_set1_ps(d[2 * i + 1])), b + 4);
    }
}

WITH_BF16 inline __m512 floats_of(const uint8_t *q)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)q);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

WITH_BF16 void q8_0_part(uint16_t *restrict out, const uint8_t *restrict b, const float *d,
                         size_t n)
{
    for (size_t i = 0; i < n; i++, out += 32, b += 34) {
        __m512 s = _mm512_set1_ps(d[2 * i]);
        __m512bh x = _mm512_cvtne2ps_pbh(_mm512_mul_ps(floats_of(b + 18), s),
                                         _mm512_mul_ps(floats_of(b + 2), s));
        _mm512_storeu_si512(out, (__m512i)x);
    }
}

DECODER(short_q4_0, uint16_t, scales_wide, q4_0_part, 18)
DECODER(short_q4_1, uint16_t, scales_wide, q4_1_part, 20)
DECODER(short_q8_0, uint16_t, scales_wide, q8_0_part, 34)

static const struct {
    const char *name;
    ft_block_rounder *round;
} formats[] = { { "q4_0", short_q4_0 }, { "q4_1", short_q4_1 }, { "q8_0", short_q8_0 } };

ft_block_rounder *ft_block_short(const ft_block_format *f)
{
    __builtin_cpu_init();
    bool here = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl");
    for (size_t i = 0; here && i < sizeof formats / sizeof *formats; i++) {
        if (!strcmp(formats[i].name, f->name)) return formats[i].round;
    }
    return NULL;
}

#else
ft_block_rounder *ft_block_short(const ft_block_format *f)
{
    (void)f;
    return NULL;
}
#endif

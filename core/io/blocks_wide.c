/* blocks_wide.c -- the commonest block formats in vectors of the processor at hand (see blocks.h).
 *
 * Formats and order of operations are those of blocks.c, so are the results, to the bit: codes as
 * floats are multiplied and added, each rounded by itself.  With AVX-512 that is done once for each
 * of the sixteen codes of four bits, and a block's numbers are looked up.  Compilers make poor
 * vectors of the plain loops; reading weights is most of what generation does.
 * Checked with blocks.c: test_blocks.c decodes every format both ways. */
#include "core/io/blocks.h"
#include "ft/half.h"

#if defined(__x86_64__)
#include "core/io/blocks_parts.h"

#define WITH_512 __attribute__((target("avx512f"))) static
#define WITH_256 __attribute__((target("avx2"))) static

static inline __m128i bytes_at(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
static inline __m128i low_half(__m128i q) { return _mm_and_si128(q, _mm_set1_epi8(15)); }
static inline __m128i high_half(__m128i q) { return low_half(_mm_srli_epi16(q, 4)); }

/* ---- sixteen floats at a time: AVX-512 ------------------------------------------------------ */

/* out[j] = number[low nibble of byte j], out[16 + j] = number[high nibble of byte j]: a permutation
 * looks at the lowest four bits only. */
WITH_512 inline void look_up(float *out, __m512 number, const uint8_t *nibbles)
{
    __m512i code = _mm512_cvtepu8_epi32(bytes_at(nibbles));
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(code, number));
    _mm512_storeu_ps(out + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(code, 4), number));
}

WITH_512 void q4_0_512(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    __m512 level = _mm512_sub_ps(codes_512(), _mm512_set1_ps(8));
    for (size_t i = 0; i < n; i++, out += 32, b += 18)
        look_up(out, _mm512_mul_ps(_mm512_set1_ps(d[2 * i]), level), b + 2);
}

WITH_512 void q4_1_512(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    __m512 level = codes_512();
    for (size_t i = 0; i < n; i++, out += 32, b += 20) {
        __m512 x = _mm512_mul_ps(_mm512_set1_ps(d[2 * i]), level);
        look_up(out, _mm512_add_ps(x, _mm512_set1_ps(d[2 * i + 1])), b + 4);
    }
}

WITH_512 void q8_0_512(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    for (size_t i = 0; i < n; i++, out += 32, b += 34) {
        for (int j = 0; j < 32; j += 16) {
            __m512i q = _mm512_cvtepi8_epi32(bytes_at(b + 2 + j));
            _mm512_storeu_ps(out + j,
                             _mm512_mul_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(d[2 * i])));
        }
    }
}

/* ---- eight at a time: AVX2 ------------------------------------------------------------------ */

/* 16 codes as floats. */
WITH_256 inline void floats_256(__m256 x[2], __m128i q)
{
    x[0] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(q));
    x[1] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(q, q)));
}

WITH_256 void q4_0_256(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    __m256 zero = _mm256_set1_ps(8), x[4];
    for (size_t i = 0; i < n; i++, out += 32, b += 18) {
        floats_256(x, low_half(bytes_at(b + 2)));
        floats_256(x + 2, high_half(bytes_at(b + 2)));
        for (int j = 0; j < 4; j++)
            _mm256_storeu_ps(out + 8 * j,
                             _mm256_mul_ps(_mm256_set1_ps(d[2 * i]), _mm256_sub_ps(x[j], zero)));
    }
}

WITH_256 void q4_1_256(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    __m256 x[4];
    for (size_t i = 0; i < n; i++, out += 32, b += 20) {
        floats_256(x, low_half(bytes_at(b + 4)));
        floats_256(x + 2, high_half(bytes_at(b + 4)));
        for (int j = 0; j < 4; j++)
            _mm256_storeu_ps(out + 8 * j,
                             _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(d[2 * i]), x[j]),
                                           _mm256_set1_ps(d[2 * i + 1])));
    }
}

WITH_256 void q8_0_256(float *restrict out, const uint8_t *restrict b, const float *d, size_t n)
{
    for (size_t i = 0; i < n; i++, out += 32, b += 34) {
        for (int j = 0; j < 32; j += 8) {
            __m128i q = _mm_loadl_epi64((const __m128i *)(const void *)(b + 2 + j));
            _mm256_storeu_ps(out + j, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                                                    _mm256_set1_ps(d[2 * i])));
        }
    }
}

/* Nearest bf16, ties to even, of n floats in eights (ft_float_to_bf16). */
WITH_256 void round_256(uint16_t *out, const float *in, size_t n)
{
    const __m256i most = _mm256_set1_epi32(0x7fffffff), inf = _mm256_set1_epi32(0x7f800000);
    const __m256i half = _mm256_set1_epi32(0x7fff), quiet = _mm256_set1_epi32(0x40);
    for (size_t i = 0; i < n; i += 8) {
        __m256i u = _mm256_loadu_si256((const __m256i *)(const void *)(in + i));
        __m256i top = _mm256_srli_epi32(u, 16), odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
        __m256i near = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, half), odd), 16);
        __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(u, most), inf);
        near = _mm256_blendv_epi8(near, _mm256_or_si256(top, quiet), nan);
        near = _mm256_permute4x64_epi64(_mm256_packus_epi32(near, near), 0x08);
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm256_castsi256_si128(near));
    }
}

/* ---- runs of blocks -------------------------------------------------------------------------- */

DECODER(wide_q4_0, float, scales_wide, q4_0_512, 18)
DECODER(wide_q4_1, float, scales_wide, q4_1_512, 20)
DECODER(wide_q8_0, float, scales_wide, q8_0_512, 34)
DECODER(half_wide_q4_0, float, scales_of, q4_0_256, 18)
DECODER(half_wide_q4_1, float, scales_of, q4_1_256, 20)
DECODER(half_wide_q8_0, float, scales_of, q8_0_256, 34)

/* ---- which -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    ft_block_decoder *wide[2]; /* AVX-512, AVX2 */
} formats[] = {
    { "q4_0", { wide_q4_0, half_wide_q4_0 } },
    { "q4_1", { wide_q4_1, half_wide_q4_1 } },
    { "q8_0", { wide_q8_0, half_wide_q8_0 } },
};

ft_block_decoder *ft_block_wide(const ft_block_format *f, int lanes)
{
    __builtin_cpu_init();
    bool a512 = __builtin_cpu_supports("avx512f") && lanes >= 16;
    bool a2 = __builtin_cpu_supports("avx2") && lanes >= 8; /* all that have it have F16C */
    for (size_t i = 0; a2 && i < sizeof formats / sizeof *formats; i++) {
        if (!strcmp(formats[i].name, f->name)) return formats[i].wide[a512 ? 0 : 1];
    }
    return f->decode;
}

void ft_round_to_bf16(uint16_t *out, const float *in, size_t n)
{
    size_t eights = __builtin_cpu_supports("avx2") ? n / 8 * 8 : 0;
    if (eights) round_256(out, in, eights);
    for (size_t i = eights; i < n; i++) out[i] = ft_float_to_bf16(in[i]);
}

#else
void ft_round_to_bf16(uint16_t *out, const float *in, size_t n)
{
    for (size_t i = 0; i < n; i++) out[i] = ft_float_to_bf16(in[i]);
}
ft_block_decoder *ft_block_wide(const ft_block_format *f, int lanes)
{
    (void)lanes;
    return f->decode;
}
#endif

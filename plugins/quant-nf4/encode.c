/* encode.c -- numbers to 4-bit codes, block by block.
 *
 * The written rule of bitsandbytes (its generic and CUDA code): absmax is the block's largest
 * absolute value; x = w * (1 / max(absmax, 1e-38)), a product with the fp32 reciprocal; the code is
 * the number of midpoints of neighbouring levels that lie strictly below x, so that a tie goes to
 * the lower code.  The short block at the end divides instead, and stores the clamped absmax.  The
 * rule clamps x to [-1, 1] first; that never changes a count, for all midpoints lie inside.
 *
 * One body in plain C, compiled for three instruction sets: whole blocks of 64 are what the
 * compiler turns into vectors.  Only the search for the code is written out for AVX-512, whose
 * permutation looks up 16 midpoints at once.  No variant can differ, since each operation is one
 * rounded fp32 operation.  Checked by ties, goldens and against each other. */
#include "nf4.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

/* fp16 to fp32 bits, without a branch: the exponent is rebased by a product, which makes
 * denormals right; infinities and NaN keep an exponent of all ones. */
INLINE uint32_t f16_bits(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13, out;
    uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&out, &f, 4);
    return out | special | (uint32_t)(h & 0x8000) << 16;
}

/* n numbers of the given type as fp32 bits. */
INLINE void widen(uint32_t *out, const void *w, ft_dtype dtype, int n)
{
    if (dtype == FT_F32) {
        memcpy(out, w, (size_t)n * 4);
        return;
    }
    uint16_t half[NF4_BLOCK];
    memcpy(half, w, (size_t)n * 2);
    if (dtype == FT_BF16) {
        for (int i = 0; i < n; i++) out[i] = (uint32_t)half[i] << 16;
    } else {
        for (int i = 0; i < n; i++) out[i] = f16_bits(half[i]);
    }
}

/* Bits of the largest absolute value: of finite numbers, integers order as the numbers do, and
 * infinities and NaN lie above them. */
INLINE uint32_t largest(const uint32_t *bits, int n)
{
    uint32_t top = 0;
    for (int i = 0; i < n; i++) {
        uint32_t a = bits[i] & 0x7fffffff;
        top = a > top ? a : top;
    }
    return top;
}

static const uint32_t infinity_bits = 0x7f800000;

/* What a block is divided by: absmax, but never zero. */
INLINE float clamped(uint32_t bits)
{
    float m;
    memcpy(&m, &bits, 4);
    return m > 1e-38f ? m : 1e-38f;
}

/* The codes of one full block of scaled numbers, packed: 15 comparisons a number, which is the
 * definition, and 30 instructions for a vector of them.  Then two 32-bit codes are one 64-bit
 * number, so that packing them is a shift and an or. */
INLINE void pack_block(uint8_t *codes, const float *x, const float *mid)
{
    uint32_t code[NF4_BLOCK];
    for (int i = 0; i < NF4_BLOCK; i++) {
        uint32_t c = 0;
        for (int k = 0; k < 15; k++) c += x[i] > mid[k];
        code[i] = c;
    }
    uint64_t pair[NF4_BLOCK / 2]; // low half: first of two
    memcpy(pair, code, sizeof pair);
    for (int i = 0; i < NF4_BLOCK / 2; i++) codes[i] = (uint8_t)(pair[i] << 4 | pair[i] >> 32);
}

#ifdef __x86_64__
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

/* The same by binary search: four comparisons, each with the midpoint that the last one chose. */
AVX512 static inline void pack_block_avx512(uint8_t *codes, const float *x, const float *mid)
{
    const __m512i bit3 = _mm512_set1_epi32(8), bit2 = _mm512_set1_epi32(4);
    const __m512i bit1 = _mm512_set1_epi32(2), bit0 = _mm512_set1_epi32(1);
    const __m512 m0 = _mm512_maskz_loadu_ps(0x7fff, mid);     // m0[c] = mid[c]
    const __m512 m1 = _mm512_maskz_loadu_ps(0x3fff, mid + 1); // m1[c] = mid[c + 1]
    const __m512 m3 = _mm512_maskz_loadu_ps(0x0fff, mid + 3), m7 = _mm512_set1_ps(mid[7]);
    for (int i = 0; i < NF4_BLOCK; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        __m512i c = _mm512_maskz_mov_epi32(_mm512_cmp_ps_mask(v, m7, _CMP_GT_OQ), bit3);
        __mmask16 k = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, m3), _CMP_GT_OQ);
        c = _mm512_mask_or_epi32(c, k, c, bit2);
        k = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, m1), _CMP_GT_OQ);
        c = _mm512_mask_or_epi32(c, k, c, bit1);
        k = _mm512_cmp_ps_mask(v, _mm512_permutexvar_ps(c, m0), _CMP_GT_OQ);
        c = _mm512_mask_or_epi32(c, k, c, bit0);
        __m512i pair = _mm512_or_si512(_mm512_slli_epi64(c, 4), _mm512_srli_epi64(c, 32));
        _mm_storel_epi64((__m128i *)(void *)(codes + i / 2), _mm512_cvtepi64_epi8(pair));
    }
}
#else
INLINE void pack_block_avx512(uint8_t *codes, const float *x, const float *mid)
{
    pack_block(codes, x, mid);
}
#endif

/* avx512: which of the two searches, a constant in every call. */
INLINE int64_t encode(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax,
                      bool avx512)
{
    size_t bytes = NF4_BLOCK * (dtype == FT_F32 ? 4 : 2);
    float mid[15];
    nf4_midpoints(mid, nf4_code, 16);
    for (int64_t b = 0; b < n; b++) {
        uint32_t bits[NF4_BLOCK];
        float x[NF4_BLOCK];
        widen(bits, (const char *)w + (size_t)b * bytes, dtype, NF4_BLOCK);
        uint32_t top = largest(bits, NF4_BLOCK);
        if (top >= infinity_bits) return b;
        memcpy((char *)absmax + b * 4, &top, 4);
        float scale = 1.0f / clamped(top);
        memcpy(x, bits, sizeof x);
        for (int i = 0; i < NF4_BLOCK; i++) x[i] *= scale;
        if (avx512) pack_block_avx512(codes + b * (NF4_BLOCK / 2), x, mid);
        else pack_block(codes + b * (NF4_BLOCK / 2), x, mid);
    }
    return n;
}

/* A constant dtype in each call gives each its own loop. */
INLINE int64_t encode_any(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax,
                          bool avx512)
{
    if (dtype == FT_F32) return encode(w, FT_F32, n, codes, absmax, avx512);
    if (dtype == FT_BF16) return encode(w, FT_BF16, n, codes, absmax, avx512);
    return encode(w, FT_F16, n, codes, absmax, avx512);
}

/* The three variants: contract in nf4.h. */
int64_t nf4_encode_plain(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax)
{
    return encode_any(w, dtype, n, codes, absmax, false);
}

#ifdef __x86_64__
__attribute__((target("avx2")))
int64_t nf4_encode_avx2(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax)
{
    return encode_any(w, dtype, n, codes, absmax, false);
}

AVX512
int64_t nf4_encode_avx512(const void *w, ft_dtype dtype, int64_t n, uint8_t *codes, void *absmax)
{
    return encode_any(w, dtype, n, codes, absmax, true);
}
#endif

void nf4_widen(float *out, const void *w, ft_dtype dtype, int n)
{
    uint32_t bits[NF4_BLOCK];
    widen(bits, w, dtype, n);
    memcpy(out, bits, (size_t)n * 4);
}

bool nf4_encode_tail(const void *w, ft_dtype dtype, int n, uint8_t *codes, void *absmax)
{
    float mid[15], x[NF4_BLOCK] = { 0 };
    uint32_t bits[NF4_BLOCK];
    widen(bits, w, dtype, n);
    uint32_t top = largest(bits, n);
    if (top >= infinity_bits) return false;
    float m = clamped(top);
    memcpy(absmax, &m, 4);
    memcpy(x, bits, (size_t)n * 4);
    for (int i = 0; i < n; i++) x[i] /= m;
    nf4_midpoints(mid, nf4_code, 16);
    uint8_t block[NF4_BLOCK / 2];
    pack_block(block, x, mid); // an odd last nibble is the code of 0
    memcpy(codes, block, (size_t)(n + 1) / 2);
    return true;
}

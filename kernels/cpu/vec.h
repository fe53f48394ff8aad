/* vec.h -- vectors of 16 floats, on three instruction sets with the same results to the bit.
 *
 * avx512: one register; avx2: two; plain: an array.  Only operations that IEEE 754 defines exactly
 * are used (add, mul, fma, div, sqrt, rounding), so each lane computes the same everywhere; sums
 * over lanes follow one tree.  The functions exp, log, tanh, erf are polynomials evaluated with
 * explicit fma.  Denormals are zero (backend.c sets the processor so; the plain set does not depend
 * on it).  Errors of the functions over their range, measured by tests/unit/test_vec.c: below 2 ulp
 * for exp and log, 3 ulp for tanh and erf. */
#ifndef FT_CPU_VEC_H
#define FT_CPU_VEC_H
#include "kernel.h"
#if defined(FT_ISA_avx512) || defined(FT_ISA_avx2)
#include <immintrin.h>
#endif

#if defined(FT_ISA_avx512)

typedef __m512 v16;
static inline v16 v_set(float x) { return _mm512_set1_ps(x); }
static inline v16 v_zero(void) { return _mm512_setzero_ps(); }
static inline v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
static inline __mmask16 v_mask_(int64_t n) { return (__mmask16)((1u << n) - 1u); }
/* The same for any n: all sixteen lanes from 16 on. */
static inline __mmask16 v_mask_most_(int64_t n) { return v_mask_(n < 16 ? n : 16); }
static inline v16 v_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(v_mask_(n), p);
}
static inline void v_store_n(float *p, v16 a, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_mask_(n), a);
}
static inline v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
static inline v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
static inline v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
static inline v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
static inline v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
static inline v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
static inline v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
static inline v16 v_round(v16 a) { return _mm512_roundscale_ps(a, 8); }
static inline v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
/* a < b ? x : y, lane by lane (false for NaN). */
static inline v16 v_less(v16 a, v16 b, v16 x, v16 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* |a| with the sign of s. */
static inline v16 v_sign(v16 a, v16 s)
{
    __m512i m = _mm512_set1_epi32((int)0x80000000u);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(m, _mm512_castps_si512(s),
                                                         _mm512_castps_si512(a), 0xCA));
}
/* 2^n for whole n in [-126, 127]. */
static inline v16 v_pow2(v16 n)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n),
                                                                  _mm512_set1_epi32(127)),
                                                 23));
}
/* Exponent e and mantissa m in [1, 2) of a positive normal a = m 2^e. */
static inline v16 v_split(v16 a, v16 *m)
{
    __m512i u = _mm512_castps_si512(a);
    *m = _mm512_castsi512_ps(_mm512_or_si512(_mm512_and_si512(u, _mm512_set1_epi32(0x007FFFFF)),
                                             _mm512_set1_epi32(0x3F800000)));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srli_epi32(u, 23), _mm512_set1_epi32(127)));
}
static inline v16 v_from_bf16_(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* The even and the odd ones of 32. */
static inline v16 v_load_even_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
static inline v16 v_load_odd_bf16(const uint16_t *p)
{
    const __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper));
}
static inline v16 v_load_bf16(const uint16_t *p)
{
    return v_from_bf16_(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline v16 v_load_bf16_n(const uint16_t *p, int64_t n)
{
    return v_from_bf16_(_mm256_maskz_loadu_epi16(v_mask_(n), p));
}
static inline void v_store_bf16(uint16_t *p, v16 a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(a));
}
static inline void v_store_bf16_n(uint16_t *p, v16 a, int64_t n)
{
    _mm256_mask_storeu_epi16(p, v_mask_(n), (__m256i)_mm512_cvtneps_pbh(a));
}
/* a rounded to bf16 and widened again. */
static inline v16 v_round_bf16(v16 a) { return v_from_bf16_((__m256i)_mm512_cvtneps_pbh(a)); }
/* Sum of the lanes: i with i+8, then +4, +2, +1. */
static inline float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
static inline float v_greatest(v16 a) { return _mm512_reduce_max_ps(a); }

#elif defined(FT_ISA_avx2)

typedef struct { __m256 a, b; } v16;
#define V2(op, x) ((v16){ op(x.a), op(x.b) })
#define V22(op, x, y) ((v16){ op(x.a, y.a), op(x.b, y.b) })
static inline v16 v_set(float x) { return (v16){ _mm256_set1_ps(x), _mm256_set1_ps(x) }; }
static inline v16 v_zero(void) { return v_set(0); }
static inline v16 v_load(const float *p)
{
    return (v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static inline void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline v16 v_load_n(const float *p, int64_t n)
{
    float t[16] = { 0 };
    memcpy(t, p, (size_t)n * 4);
    return v_load(t);
}
static inline void v_store_n(float *p, v16 x, int64_t n)
{
    float t[16];
    v_store(t, x);
    memcpy(p, t, (size_t)n * 4);
}
static inline v16 v_add(v16 x, v16 y) { return V22(_mm256_add_ps, x, y); }
static inline v16 v_sub(v16 x, v16 y) { return V22(_mm256_sub_ps, x, y); }
static inline v16 v_mul(v16 x, v16 y) { return V22(_mm256_mul_ps, x, y); }
static inline v16 v_div(v16 x, v16 y) { return V22(_mm256_div_ps, x, y); }
static inline v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static inline v16 v_sqrt(v16 x) { return V2(_mm256_sqrt_ps, x); }
static inline v16 v_max(v16 x, v16 y) { return V22(_mm256_max_ps, x, y); }
static inline v16 v_min(v16 x, v16 y) { return V22(_mm256_min_ps, x, y); }
static inline v16 v_round(v16 x)
{
    return (v16){ _mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8) };
}
static inline v16 v_abs(v16 x)
{
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
    return (v16){ _mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m) };
}
static inline v16 v_less(v16 a, v16 b, v16 x, v16 y)
{
    return (v16){ _mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                  _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ)) };
}
static inline v16 v_sign(v16 x, v16 s)
{
    __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32((int)0x80000000u));
    return (v16){ _mm256_or_ps(_mm256_andnot_ps(m, x.a), _mm256_and_ps(m, s.a)),
                  _mm256_or_ps(_mm256_andnot_ps(m, x.b), _mm256_and_ps(m, s.b)) };
}
static inline __m256 v_pow2_(__m256 n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n),
                                                                  _mm256_set1_epi32(127)),
                                                 23));
}
static inline v16 v_pow2(v16 n) { return V2(v_pow2_, n); }
static inline __m256 v_split_(__m256 a, __m256 *m)
{
    __m256i u = _mm256_castps_si256(a);
    *m = _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(u, _mm256_set1_epi32(0x007FFFFF)),
                                             _mm256_set1_epi32(0x3F800000)));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(u, 23), _mm256_set1_epi32(127)));
}
static inline v16 v_split(v16 x, v16 *m)
{
    return (v16){ v_split_(x.a, &m->a), v_split_(x.b, &m->b) };
}
static inline __m256i v_words_(const uint16_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static inline v16 v_load_even_bf16(const uint16_t *p)
{
    return (v16){ _mm256_castsi256_ps(_mm256_slli_epi32(v_words_(p), 16)),
                  _mm256_castsi256_ps(_mm256_slli_epi32(v_words_(p + 16), 16)) };
}
static inline v16 v_load_odd_bf16(const uint16_t *p)
{
    const __m256i upper = _mm256_set1_epi32((int)0xFFFF0000);
    return (v16){ _mm256_castsi256_ps(_mm256_and_si256(v_words_(p), upper)),
                  _mm256_castsi256_ps(_mm256_and_si256(v_words_(p + 16), upper)) };
}
static inline __m256 v_widen_(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline v16 v_load_bf16(const uint16_t *p)
{
    return (v16){ v_widen_(_mm_loadu_si128((const __m128i *)(const void *)p)),
                  v_widen_(_mm_loadu_si128((const __m128i *)(const void *)(p + 8))) };
}
static inline v16 v_load_bf16_n(const uint16_t *p, int64_t n)
{
    uint16_t t[16] = { 0 };
    memcpy(t, p, (size_t)n * 2);
    return v_load_bf16(t);
}
/* The upper 16 bits of each lane hold the rounded value, the lower are zero (see bf16_round). */
static inline __m256i v_round_bf16_(__m256 a)
{
    __m256i u = _mm256_castps_si256(a), e = _mm256_set1_epi32(0x7F800000);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256i tiny = _mm256_cmpeq_epi32(_mm256_and_si256(u, e), _mm256_setzero_si256());
    __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(u, _mm256_set1_epi32(0x7FFFFFFF)), e);
    r = _mm256_blendv_epi8(r, _mm256_and_si256(u, _mm256_set1_epi32((int)0x80000000u)), tiny);
    r = _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x00400000)), nan);
    return _mm256_and_si256(r, _mm256_set1_epi32((int)0xFFFF0000u));
}
static inline v16 v_round_bf16(v16 x)
{
    return (v16){ _mm256_castsi256_ps(v_round_bf16_(x.a)),
                  _mm256_castsi256_ps(v_round_bf16_(x.b)) };
}
static inline void v_store_bf16(uint16_t *p, v16 x)
{
    __m256i a = _mm256_srli_epi32(v_round_bf16_(x.a), 16),
            b = _mm256_srli_epi32(v_round_bf16_(x.b), 16);
    __m256i h = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xD8);
    _mm256_storeu_si256((__m256i *)(void *)p, h);
}
static inline void v_store_bf16_n(uint16_t *p, v16 x, int64_t n)
{
    uint16_t t[16];
    v_store_bf16(t, x);
    memcpy(p, t, (size_t)n * 2);
}
static inline float v_sum(v16 x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
static inline float v_greatest(v16 x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}

#else /* plain C */

typedef struct { float f[16]; } v16;
static inline uint32_t v_bits_(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float v_float_(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline v16 v_set(float x)
{
    v16 r;
    for (int i = 0; i < 16; i++) r.f[i] = x;
    return r;
}
static inline v16 v_zero(void) { return v_set(0); }
static inline v16 v_load(const float *p)
{
    v16 r;
    memcpy(r.f, p, 64);
    return r;
}
static inline void v_store(float *p, v16 a) { memcpy(p, a.f, 64); }
static inline v16 v_load_n(const float *p, int64_t n)
{
    v16 r = v_zero();
    memcpy(r.f, p, (size_t)n * 4);
    return r;
}
static inline void v_store_n(float *p, v16 a, int64_t n) { memcpy(p, a.f, (size_t)n * 4); }
#define V_EACH(expr)                                       \
    v16 r;                                                 \
    for (int i = 0; i < 16; i++) r.f[i] = (expr);          \
    return r
static inline v16 v_add(v16 a, v16 b) { V_EACH(a.f[i] + b.f[i]); }
static inline v16 v_sub(v16 a, v16 b) { V_EACH(a.f[i] - b.f[i]); }
static inline v16 v_mul(v16 a, v16 b) { V_EACH(a.f[i] * b.f[i]); }
static inline v16 v_div(v16 a, v16 b) { V_EACH(a.f[i] / b.f[i]); }
static inline v16 v_fma(v16 a, v16 b, v16 c) { V_EACH(fmaf(a.f[i], b.f[i], c.f[i])); }
static inline v16 v_sqrt(v16 a) { V_EACH(sqrtf(a.f[i])); }
static inline v16 v_max(v16 a, v16 b) { V_EACH(a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
static inline v16 v_min(v16 a, v16 b) { V_EACH(a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
static inline v16 v_round(v16 a) { V_EACH(nearbyintf(a.f[i])); }
static inline v16 v_abs(v16 a) { V_EACH(fabsf(a.f[i])); }
static inline v16 v_less(v16 a, v16 b, v16 x, v16 y) { V_EACH(a.f[i] < b.f[i] ? x.f[i] : y.f[i]); }
static inline v16 v_sign(v16 a, v16 s) { V_EACH(copysignf(a.f[i], s.f[i])); }
static inline v16 v_pow2(v16 n) { V_EACH(v_float_((uint32_t)((int32_t)n.f[i] + 127) << 23)); }
static inline v16 v_split(v16 a, v16 *m)
{
    for (int i = 0; i < 16; i++) m->f[i] = v_float_((v_bits_(a.f[i]) & 0x007FFFFFu) | 0x3F800000u);
    V_EACH((float)((int32_t)(v_bits_(a.f[i]) >> 23) - 127));
}
static inline v16 v_load_even_bf16(const uint16_t *p) { V_EACH(bf16_get(p[2 * i])); }
static inline v16 v_load_odd_bf16(const uint16_t *p) { V_EACH(bf16_get(p[2 * i + 1])); }
static inline v16 v_load_bf16(const uint16_t *p) { V_EACH(bf16_get(p[i])); }
static inline v16 v_load_bf16_n(const uint16_t *p, int64_t n)
{
    V_EACH(i < n ? bf16_get(p[i]) : 0);
}
static inline void v_store_bf16_n(uint16_t *p, v16 a, int64_t n)
{
    for (int i = 0; i < n; i++) p[i] = bf16_round(a.f[i]);
}
static inline void v_store_bf16(uint16_t *p, v16 a) { v_store_bf16_n(p, a, 16); }
static inline v16 v_round_bf16(v16 a) { V_EACH(bf16_get(bf16_round(a.f[i]))); }
static inline float v_sum(v16 a)
{
    for (int k = 8; k; k /= 2) {
        for (int i = 0; i < k; i++) a.f[i] += a.f[i + k];
    }
    return a.f[0];
}
static inline float v_greatest(v16 a)
{
    float m = a.f[0];
    for (int i = 1; i < 16; i++) m = a.f[i] > m ? a.f[i] : m;
    return m;
}
#endif

/* ---- functions, the same text for all -------------------------------------------------------- */

/* e^x: x = n ln 2 + r, e^r by a polynomial (Cephes expf).  0 below -87.33, largest at 88.37. */
static inline v16 v_exp(v16 x)
{
    v16 low = v_set(-87.3365447f);
    v16 c = v_min(v_max(x, low), v_set(88.3762626f));
    v16 n = v_round(v_mul(c, v_set(1.44269504f)));
    v16 r = v_fma(n, v_set(-0.693359375f), c);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    v16 p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_add(v_fma(v_mul(r, r), p, r), v_set(1));
    return v_less(x, low, v_zero(), v_mul(p, v_pow2(n)));
}

/* ln x for positive normal x (Cephes logf). */
static inline v16 v_log(v16 x)
{
    v16 m, e = v_split(x, &m), root = v_set(1.41421356f);
    e = v_less(root, m, v_add(e, v_set(1)), e);
    m = v_sub(v_less(root, m, v_mul(m, v_set(0.5f)), m), v_set(1));
    v16 z = v_mul(m, m), p = v_set(7.0376836292e-2f);
    p = v_fma(p, m, v_set(-1.1514610310e-1f));
    p = v_fma(p, m, v_set(1.1676998740e-1f));
    p = v_fma(p, m, v_set(-1.2420140846e-1f));
    p = v_fma(p, m, v_set(1.4249322787e-1f));
    p = v_fma(p, m, v_set(-1.6668057665e-1f));
    p = v_fma(p, m, v_set(2.0000714765e-1f));
    p = v_fma(p, m, v_set(-2.4999993993e-1f));
    p = v_fma(p, m, v_set(3.3333331174e-1f));
    v16 y = v_mul(v_mul(p, m), z);
    y = v_fma(e, v_set(-2.12194440e-4f), y);
    y = v_fma(z, v_set(-0.5f), y);
    return v_fma(e, v_set(0.693359375f), v_add(m, y));
}

static inline v16 v_sigmoid(v16 x)
{
    return v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_zero(), x))));
}

/* tanh: a polynomial below 0.625, else from e^2x (Cephes tanhf). */
static inline v16 v_tanh(v16 x)
{
    v16 a = v_abs(x), z = v_mul(x, x), p = v_set(-5.70498872745e-3f);
    p = v_fma(p, z, v_set(2.06390887954e-2f));
    p = v_fma(p, z, v_set(-5.37397155531e-2f));
    p = v_fma(p, z, v_set(1.33314422036e-1f));
    p = v_fma(p, z, v_set(-3.33332819422e-1f));
    p = v_fma(v_mul(p, z), x, x);
    v16 e = v_exp(v_add(a, a));
    v16 big = v_sub(v_set(1), v_div(v_set(2), v_add(e, v_set(1))));
    return v_less(a, v_set(0.625f), p, v_sign(big, x));
}

/* erf: its Taylor-like polynomial below 1, else 1 - e^(-x^2) P(1/x) (Cephes erff, erfcf). */
static inline v16 v_erf(v16 x)
{
    v16 a = v_abs(x), z = v_mul(x, x), p = v_set(7.853861353153693e-5f);
    p = v_fma(p, z, v_set(-8.010193625184903e-4f));
    p = v_fma(p, z, v_set(5.188327685732524e-3f));
    p = v_fma(p, z, v_set(-2.685381193529856e-2f));
    p = v_fma(p, z, v_set(1.128358514861418e-1f));
    p = v_fma(p, z, v_set(-3.761262582423300e-1f));
    p = v_fma(p, z, v_set(1.128379165726710f));
    v16 small = v_mul(x, p);
    v16 c = v_max(a, v_set(1)), q = v_div(v_set(1), c), y = v_mul(q, q);
    v16 s = v_set(2.326819970068386e-2f);
    s = v_fma(s, y, v_set(-1.387039388740657e-1f));
    s = v_fma(s, y, v_set(3.687424674597105e-1f));
    s = v_fma(s, y, v_set(-5.824733027278666e-1f));
    s = v_fma(s, y, v_set(6.210004621745983e-1f));
    s = v_fma(s, y, v_set(-4.944515323274145e-1f));
    s = v_fma(s, y, v_set(3.404879937665872e-1f));
    s = v_fma(s, y, v_set(-2.741127028184656e-1f));
    s = v_fma(s, y, v_set(5.638259427386472e-1f));
    v16 t = v_set(-1.047766399936249e1f);
    t = v_fma(t, y, v_set(1.297719955372516e1f));
    t = v_fma(t, y, v_set(-7.495518717768503f));
    t = v_fma(t, y, v_set(2.921019019210786f));
    t = v_fma(t, y, v_set(-1.015265279202700f));
    t = v_fma(t, y, v_set(4.218463358204948e-1f));
    t = v_fma(t, y, v_set(-2.820767439740514e-1f));
    t = v_fma(t, y, v_set(5.641895067754075e-1f));
    v16 tail = v_mul(v_mul(v_exp(v_sub(v_zero(), v_mul(c, c))), q), v_less(c, v_set(2), s, t));
    return v_less(a, v_set(1), small, v_sign(v_sub(v_set(1), tail), x));
}

/* 16 elements, or the n that are left, of a row whose dtype is a compile-time constant in
 * callers. */
static inline v16 v_get(const void *p, ft_dtype t, int64_t i) {
    return t == FT_BF16 ? v_load_bf16((const uint16_t *)p + i) : v_load((const float *)p + i);
}
static inline v16 v_get_n(const void *p, ft_dtype t, int64_t i, int64_t n)
{
    return t == FT_BF16 ? v_load_bf16_n((const uint16_t *)p + i, n)
                        : v_load_n((const float *)p + i, n);
}
static inline void v_put(void *p, ft_dtype t, int64_t i, v16 a)
{
    if (t == FT_BF16) v_store_bf16((uint16_t *)p + i, a);
    else v_store((float *)p + i, a);
}
static inline void v_put_n(void *p, ft_dtype t, int64_t i, v16 a, int64_t n)
{
    if (t == FT_BF16) v_store_bf16_n((uint16_t *)p + i, a, n);
    else v_store_n((float *)p + i, a, n);
}

/* a and b rounded to bf16, lane by lane side by side: a in the lower half of each word. */
static inline void v_store_pairs(uint32_t *p, v16 a, v16 b)
{
    uint16_t x[16], y[16];
    v_store_bf16(x, a);
    v_store_bf16(y, b);
    for (int i = 0; i < 16; i++) p[i] = x[i] | (uint32_t)y[i] << 16;
}

/* As many of 16 elements from i on as the row has left: m may be more. */
static inline v16 v_in(const void *p, ft_dtype t, int64_t i, int64_t m)
{
    return m >= 16 ? v_get(p, t, i) : v_get_n(p, t, i, m);
}
static inline void v_out(void *p, ft_dtype t, int64_t i, int64_t m, v16 x)
{
    if (m >= 16) v_put(p, t, i, x);
    else v_put_n(p, t, i, x, m);
}

/* Tells the processor that the thread waits for another. */
static inline void v_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
#endif

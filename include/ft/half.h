/* ft/half.h -- the two 16-bit floats and fp32: IEEE binary16 and bfloat16 (header only).
 *
 *   binary16  1 sign, 5 exponent (bias 15), 10 fraction bits     bfloat16  the upper half of fp32
 *
 * Widening is exact.  Narrowing rounds to nearest, ties to even; what is too large becomes
 * infinity.  A NaN keeps its sign and the upper bits of its payload and becomes quiet, as F16C and
 * AVX512-BF16 do it.  All four work on bits where a denormal could meet the processor's
 * flush-to-zero mode, so that they give the same result in any.  Checked: all 65536 values of both
 * kinds there and back, and every float next to and on a rounding border. */
#ifndef FT_HALF_H
#define FT_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint32_t ft_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float ft_bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline float ft_bf16_to_float(uint16_t b) { return ft_bits_float((uint32_t)b << 16); }

static inline uint16_t ft_float_to_bf16(float f)
{
    uint32_t u = ft_float_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float ft_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, fraction = h & 0x3ff, exponent = h >> 10 & 31;
    if (exponent == 31) {
        uint32_t quiet = fraction ? 0x400000 : 0;
        return ft_bits_float(sign | 0x7f800000 | quiet | fraction << 13);
    }
    if (exponent == 0) { /* a multiple of 2^-24; as a float it is normal, or zero */
        uint32_t magnitude = ft_float_bits((float)fraction * 0x1p-24f);
        return ft_bits_float(sign | magnitude);
    }
    return ft_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t ft_float_to_half(float f)
{
    uint32_t u = ft_float_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7c00);  /* 65536 and more, infinity */
    if (a >= 0x38800000) {                                  /* 2^-14 and more: normal */
        uint32_t h = (a - 0x38000000) >> 13, rest = a & 0x1fff;
        h += rest > 0x1000 || (rest == 0x1000 && (h & 1)); /* may carry up to infinity: right */
        return (uint16_t)(sign | h);
    }
    if (a <= 0x33000000) return (uint16_t)sign;             /* 2^-25 and less: rounds to zero */
    uint32_t shift = 126 - (a >> 23), m = (a & 0x7fffff) | 0x800000; /* h = m * 2^-shift */
    uint32_t h = m >> shift, rest = m & ((1u << shift) - 1), tie = 1u << (shift - 1);
    h += rest > tie || (rest == tie && (h & 1));
    return (uint16_t)(sign | h);
}
#endif

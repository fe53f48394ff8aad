/* ft/ck.h -- checked arithmetic for every number that came from a file.
 *
 * Four generations of GGUF readers broke on the same overflow (count * size, then offset + size,
 * then padding).  So: no raw * or + on a number that a file gave.  Each function returns true when
 * the exact result fits and has been stored, false (leaving *out alone) when it does not. */
#ifndef FT_CK_H
#define FT_CK_H
#include <stdbool.h>
#include <stdint.h>

static inline bool ck_add(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool ck_mul(uint64_t *out, uint64_t a, uint64_t b)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* *out = a rounded up to a multiple of `to`, a power of two. */
static inline bool ck_align(uint64_t *out, uint64_t a, uint64_t to)
{
    uint64_t r;
    if (to == 0 || (to & (to - 1)) != 0 || !ck_add(&r, a, to - 1)) return false;
    *out = r & ~(to - 1);
    return true;
}

/* *out = product of n non-negative dims; refuses a negative one, also beside a zero. */
static inline bool ck_numel(uint64_t *out, const int64_t *dim, int n)
{
    uint64_t r = 1;
    for (int i = 0; i < n; i++) {
        if (dim[i] < 0 || !ck_mul(&r, r, (uint64_t)dim[i])) return false;
    }
    *out = r;
    return true;
}
#endif

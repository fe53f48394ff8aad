/* philox.h -- Philox4x32-10, a counter-based random number generator (Salmon et al. 2011, "Parallel
 * random numbers: as easy as 1, 2, 3").  Nothing is stored: a number depends on its key and
 * counter.
 *
 * Dropout's counter: (column / 8, token in step, site key); its key: seed and optimizer step.  Each
 * block of 128 bits serves eight columns with 16 bits each. */
#ifndef FT_CPU_PHILOX_H
#define FT_CPU_PHILOX_H
#include <stdint.h>

enum { PHILOX_LANES = 16, PHILOX_COLUMNS = 8 * PHILOX_LANES };

/* 64 bits from seed and step, well mixed (the finalizer of MurmurHash3). */
static inline uint64_t philox_key(uint64_t seed, int64_t step)
{
    uint64_t h = seed * 0x9E3779B97F4A7C15u + (uint64_t)step;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

/* 16 bits for each of the 128 columns from `column` (a multiple of 8) on. */
static inline void philox_fill(uint16_t out[PHILOX_COLUMNS], uint64_t key, uint64_t site,
                               uint64_t token, uint32_t column)
{
    uint32_t c[4][PHILOX_LANES], k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (uint32_t i = 0; i < PHILOX_LANES; i++) {
        c[0][i] = column / 8 + i;
        c[1][i] = (uint32_t)token;
        c[2][i] = (uint32_t)site ^ (uint32_t)(token >> 32);
        c[3][i] = (uint32_t)(site >> 32);
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        for (int i = 0; i < PHILOX_LANES; i++) {
            uint64_t a = (uint64_t)0xD2511F53u * c[0][i], b = (uint64_t)0xCD9E8D57u * c[2][i];
            uint32_t c0 = (uint32_t)(b >> 32) ^ c[1][i] ^ k0,
                     c2 = (uint32_t)(a >> 32) ^ c[3][i] ^ k1;
            c[1][i] = (uint32_t)b;
            c[3][i] = (uint32_t)a;
            c[0][i] = c0;
            c[2][i] = c2;
        }
    }
    for (int i = 0; i < PHILOX_LANES; i++) {
        for (int w = 0; w < 4; w++) {
            out[8 * i + 2 * w] = (uint16_t)c[w][i];
            out[8 * i + 2 * w + 1] = (uint16_t)(c[w][i] >> 16);
        }
    }
}
#endif

/* random.h -- SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
 * generators"): a stream of 64-bit numbers from a counter, and a mixing function. */
#ifndef FT_CORE_RANDOM_H
#define FT_CORE_RANDOM_H
#include <stdint.h>

/* The next number; *state is the counter. */
static inline uint64_t ft_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
#endif

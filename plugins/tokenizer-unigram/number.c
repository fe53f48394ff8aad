/* number.c -- numbers of a tokenizer.json as serde_json reads them.
 *
 * HF tokenizers' JSON reader takes as many digits as fit 64 bits and multiplies or divides by a
 * power of ten once, which is off by one unit in the last place for about one number in eight.  Two
 * ways to cut a text may differ in no more than that, so the same is done here.  The text is a
 * number of JSON; what is too large becomes infinite. */
#include <math.h>
#include "unigram.h"

/* Appends the digits at *s to *mantissa while they fit; returns how many did not. */
static int64_t digits(const char **s, const char *end, uint64_t *mantissa, int64_t *taken)
{
    int64_t left = 0;
    *taken = 0;
    for (; *s < end && **s >= '0' && **s <= '9'; ++*s) {
        uint64_t next;
        if (left || !ck_mul(&next, *mantissa, 10) ||
            !ck_add(&next, next, (uint64_t)(**s - '0'))) {
            left++;
        } else {
            *mantissa = next;
            ++*taken;
        }
    }
    return left;
}

/* strtod of "1e<n>" for 0 <= n <= 308: the nearest double. */
static double power_of_ten(int64_t n)
{
    char text[8];
    snprintf(text, sizeof text, "1e%d", (int)n);
    return strtod(text, NULL);
}

double unigram_number(const char *s, size_t n)
{
    const char *end = s + n;
    bool negative = n && *s == '-';
    uint64_t mantissa = 0;
    int64_t taken, exponent;
    s += negative;
    exponent = digits(&s, end, &mantissa, &taken);
    if (s < end && *s == '.') {
        bool full = exponent > 0; /* digits are being passed over already */
        s++;
        if (!full) {
            digits(&s, end, &mantissa, &taken);
            exponent -= taken;
        }
        while (s < end && *s >= '0' && *s <= '9') s++;
    }
    if (s < end) {
        long e = strtol(s + 1, NULL, 10); /* saturates; the text ends with a zero */
        exponent += e > 100000 ? 100000 : e < -100000 ? -100000 : e;
    }
    double f = (double)mantissa;
    for (; exponent < -308 && f != 0; exponent += 308) f /= 1e308;
    if (f != 0 && exponent > 308) f = INFINITY;
    else if (f != 0) f = exponent < 0 ? f / power_of_ten(-exponent) : f * power_of_ten(exponent);
    return negative ? -f : f;
}

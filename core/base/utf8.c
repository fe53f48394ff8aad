/* utf8.c -- see utf8.h; the table of well-formed sequences is Unicode 15, table 3-7. */
#include "core/base/utf8.h"

static bool tail(unsigned char c) { return (c & 0xC0) == 0x80; }

size_t ft_utf8_length(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    if (n == 0) return 0;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2) return 0;
    if (s[0] < 0xE0) return n >= 2 && tail(s[1]) ? 2 : 0;
    if (s[0] < 0xF0) {
        if (n < 3 || !tail(s[1]) || !tail(s[2])) return 0;
        if (s[0] == 0xE0 && s[1] < 0xA0) return 0; /* overlong */
        if (s[0] == 0xED && s[1] > 0x9F) return 0; /* surrogate */
        return 3;
    }
    if (s[0] > 0xF4 || n < 4 || !tail(s[1]) || !tail(s[2]) || !tail(s[3])) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return 4;
}

uint32_t ft_utf8_decode(const char *p, size_t len)
{
    const unsigned char *s = (const unsigned char *)p;
    static const unsigned char mask[5] = { 0, 0x7F, 0x1F, 0x0F, 0x07 };
    uint32_t u = s[0] & mask[len];
    for (size_t i = 1; i < len; i++) u = u << 6 | (s[i] & 0x3Fu);
    return u;
}

size_t ft_utf8_encode(uint32_t u, char out[4])
{
    size_t n = u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    static const uint32_t lead[5] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    for (size_t i = n; i-- > 1; u >>= 6) out[i] = (char)(0x80 | (u & 0x3F));
    out[0] = (char)(lead[n] | u);
    return n;
}

bool ft_utf8_valid(const char *s, size_t n, size_t *bad)
{
    for (size_t i = 0; i < n;) {
        size_t k = ft_utf8_length(s + i, n - i);
        if (k == 0) {
            if (bad) *bad = i;
            return false;
        }
        i += k;
    }
    return true;
}

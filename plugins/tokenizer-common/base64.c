/* base64.c -- RFC 4648, section 4, as tokenizer.json carries bytes. */
#include "load.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool tok_base64(ft_buf *out, const char *s, size_t n)
{
    uint32_t bits = 0;
    if (n % 4) return false;
    for (size_t i = 0; i < n; i++) {
        const char *p = s[i] ? strchr(letters, s[i]) : NULL;
        size_t left = n - i;
        if (!p && (s[i] != '=' || left > 2 || (left == 2 && s[i + 1] != '='))) return false;
        bits = bits << 6 | (p ? (uint32_t)(p - letters) : 0);
        if (i % 4 < 3) continue;
        const char three[] = { (char)(bits >> 16), (char)(bits >> 8), (char)bits };
        ft_buf_add(out, three, s[i - 1] == '=' ? 1 : p ? 3 : 2);
    }
    return true;
}

void tok_put_base64(ft_buf *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = 0;
        size_t k = n - i < 3 ? n - i : 3;
        for (size_t j = 0; j < 3; j++)
            bits = bits << 8 | (j < k ? (uint32_t)(unsigned char)p[i + j] : 0);
        for (size_t j = 0; j < 4; j++)
            ft_buf_putc(out, j <= k ? letters[bits >> (18 - 6 * j) & 63] : '=');
    }
}

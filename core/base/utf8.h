/* utf8.h -- just enough UTF-8: strict validation, encoding, decoding (RFC 3629). */
#ifndef FT_CORE_UTF8_H
#define FT_CORE_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed sequence at s (n bytes left), or 0: overlong forms, surrogates and
 * values past U+10FFFF are not well-formed. */
size_t ft_utf8_length(const char *s, size_t n);
/* The code point of a well-formed sequence of `len` bytes. */
uint32_t ft_utf8_decode(const char *s, size_t len);
/* Writes code point u (a valid one) and returns the number of bytes, 1 to 4. */
size_t ft_utf8_encode(uint32_t u, char out[4]);
/* True when all n bytes are well-formed; else *bad is the offset of the first wrong one. */
bool ft_utf8_valid(const char *s, size_t n, size_t *bad);
#endif

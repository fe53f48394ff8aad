/* sha256.h -- SHA-256 (FIPS 180-4), the content hash of artifacts, plugins and inputs. */
#ifndef FT_CORE_SHA256_H
#define FT_CORE_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
} ft_sha256;

void ft_sha256_init(ft_sha256 *s);
void ft_sha256_add(ft_sha256 *s, const void *p, size_t n);
/* Adds a length and then the bytes, so that ("ab","c") and ("a","bc") differ. */
void ft_sha256_field(ft_sha256 *s, const void *p, size_t n);
void ft_sha256_text(ft_sha256 *s, const char *text);
void ft_sha256_done(ft_sha256 *s, unsigned char out[32]);
/* As 64 hexadecimal digits and a zero. */
void ft_sha256_hex(ft_sha256 *s, char out[65]);
#endif

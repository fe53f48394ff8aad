/* unpack.c -- the ways in which pages are packed: not at all, Snappy (by hand: its format is two
 * pages, google/snappy/format_description.txt), gzip (zlib), Zstandard (libzstd).  LZO, LZ4 and
 * Brotli are refused by name. */
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include "parquet.h"

/* ---- Snappy ---------------------------------------------------------------------------------- */

typedef struct { const uint8_t *p, *end; uint8_t *out, *at, *out_end; } snappy;

/* The length of what is unpacked, which must be n. */
static bool snappy_length(snappy *s, size_t n)
{
    uint64_t length = 0;
    for (int shift = 0; shift < 35 && s->p < s->end; shift += 7) {
        uint8_t b = *s->p++;
        length |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) return length == n;
    }
    return false;
}

/* Bytes that stand in the input; tag>>2 is their number less one, or how many bytes say it. */
static bool snappy_literal(snappy *s, uint8_t tag)
{
    size_t n = tag >> 2;
    if (n >= 60) {
        size_t k = n - 59;
        if ((size_t)(s->end - s->p) < k) return false;
        n = 0;
        for (size_t i = 0; i < k; i++) n |= (size_t)s->p[i] << 8 * i;
        s->p += k;
    }
    n++;
    if ((size_t)(s->end - s->p) < n || (size_t)(s->out_end - s->at) < n) return false;
    memcpy(s->at, s->p, n);
    s->p += n;
    s->at += n;
    return true;
}

/* Bytes that were unpacked before; they may overlap with those that are made. */
static bool snappy_copy(snappy *s, uint8_t tag)
{
    size_t k = (tag & 3) == 1 ? 1 : (tag & 3) == 2 ? 2 : 4, offset = 0, n = (tag >> 2) + 1u;
    if ((size_t)(s->end - s->p) < k) return false;
    for (size_t i = 0; i < k; i++) offset |= (size_t)s->p[i] << 8 * i;
    s->p += k;
    if (k == 1) {
        n = (tag >> 2 & 7) + 4u;
        offset |= (size_t)(tag >> 5) << 8;
    }
    if (offset == 0 || offset > (size_t)(s->at - s->out) || (size_t)(s->out_end - s->at) < n)
        return false;
    for (; n; n--, s->at++) *s->at = *(s->at - offset);
    return true;
}

static const char *unpack_snappy(uint8_t *out, size_t n, const uint8_t *in, size_t n_in)
{
    snappy s = { in, in + n_in, out, out, out + n };
    bool good = snappy_length(&s, n);
    while (good && s.p < s.end) {
        uint8_t tag = *s.p++;
        good = tag & 3 ? snappy_copy(&s, tag) : snappy_literal(&s, tag);
    }
    return good && s.at == s.out_end ? NULL : "a page's Snappy data is damaged";
}

/* ---- the others ------------------------------------------------------------------------------ */

static const char *unpack_plain(uint8_t *out, size_t n, const uint8_t *in, size_t n_in)
{
    if (n != n_in) return "a page that is not packed has two sizes";
    memcpy(out, in, n);
    return NULL;
}

static const char *unpack_gzip(uint8_t *out, size_t n, const uint8_t *in, size_t n_in)
{
    z_stream z = { .next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n_in, .next_out = out,
                   .avail_out = (uInt)n };
    if (inflateInit2(&z, 15 + 32) != Z_OK) return "out of memory while unpacking";
    int code = inflate(&z, Z_FINISH);
    bool good = code == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    return good ? NULL : "a page's gzip data is damaged";
}

static const char *unpack_zstd(uint8_t *out, size_t n, const uint8_t *in, size_t n_in)
{
    return ZSTD_decompress(out, n, in, n_in) == n ? NULL : "a page's Zstandard data is damaged";
}

const char *unpack(int64_t codec, uint8_t *out, size_t n, const uint8_t *in, size_t n_in)
{
    static const struct {
        const char *(*how)(uint8_t *, size_t, const uint8_t *, size_t);
        const char *refused;
    } codecs[] = {
        { unpack_plain, NULL },
        { unpack_snappy, NULL },
        { unpack_gzip, NULL },
        { NULL, "it is packed with LZO, which is not supported" },
        { NULL, "it is packed with Brotli, which is not supported: write it with zstd or snappy" },
        { NULL, "it is packed with LZ4, which is not supported: write it with zstd or snappy" },
        { unpack_zstd, NULL },
        { NULL, "it is packed with LZ4, which is not supported: write it with zstd or snappy" },
    };
    if (codec < 0 || codec >= (int64_t)(sizeof codecs / sizeof *codecs))
        return "it is packed in a way that is not known";
    const char *why = codecs[codec].refused;
    if (why) return why;
    return n ? codecs[codec].how(out, n, in, n_in) : NULL;
}

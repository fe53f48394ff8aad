/* bytes.c -- see bytes.h.  What packs the file is seen from its first bytes, not from its name:
 * gzip (RFC 1952, 1f 8b, members one after the other) through zlib, Zstandard (RFC 8878,
 * 28 b5 2f fd, frames one after the other) through libzstd; anything else is plain.
 *
 * Memory does not depend on the file: two blocks of 128 KiB and the unpacker's window, 32 KiB for
 * gzip and at most 32 MiB for Zstandard (levels up to 20; a frame that wants more is refused).
 * Every check sum is compared by the library, and a file that ends early is an error.  A byte order
 * mark at the start is left out. */
#include "bytes.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { BLOCK = 128 << 10, WINDOW_LOG = 25 };
typedef enum { PLAIN, GZIP, ZSTD } packing;

typedef struct {
    bytes out; /* first, so that a bytes * is a packed * */
    int fd;
    packing how;
    bool ended;       /* of the file */
    bool inside;      /* a gzip member or Zstandard frame has begun and not ended */
    char error[200];
    z_stream z;
    ZSTD_DStream *zstd;
    size_t n, at;     /* bytes of the file in `in`, and how many of them were used */
    unsigned char in[BLOCK];
    unsigned char data[BLOCK];
} packed;

static int fail(packed *f, const char *what, const char *detail)
{
    if (!*f->error) snprintf(f->error, sizeof f->error, "%s%s", what, detail);
    return -1;
}

/* Reads the file on when all of it that was read is used. */
static int fill(packed *f)
{
    if (f->at < f->n || f->ended) return 0;
    ssize_t got;
    do got = read(f->fd, f->in, sizeof f->in);
    while (got < 0 && errno == EINTR);
    if (got < 0) return fail(f, "cannot be read: ", strerror(errno));
    f->ended = got == 0;
    f->n = (size_t)got;
    f->at = 0;
    return 0;
}

/* ---- the three ways: bytes into to[room]; the number of them, or -1 -------------------------- */

static int plain_step(packed *f, unsigned char *to, size_t room, size_t *made)
{
    size_t n = f->n - f->at < room ? f->n - f->at : room;
    memcpy(to, f->in + f->at, n);
    f->at += n;
    *made = n;
    return 0;
}

static int gzip_step(packed *f, unsigned char *to, size_t room, size_t *made)
{
    if (!f->inside && f->at < f->n) inflateReset(&f->z); /* fails for no stream of its own */
    f->inside = f->inside || f->at < f->n;
    f->z.next_in = f->in + f->at;
    f->z.avail_in = (uInt)(f->n - f->at);
    f->z.next_out = to;
    f->z.avail_out = (uInt)room;
    int code = inflate(&f->z, Z_NO_FLUSH);
    f->at = f->n - f->z.avail_in;
    *made = room - f->z.avail_out;
    if (code == Z_STREAM_END) f->inside = false;
    else if (code == Z_MEM_ERROR) return fail(f, "out of memory", " while unpacking");
    else if (code != Z_OK && code != Z_BUF_ERROR)
        return fail(f, "the gzip data is damaged: ", f->z.msg ? f->z.msg : "unknown block");
    return 0;
}

static int zstd_step(packed *f, unsigned char *to, size_t room, size_t *made)
{
    ZSTD_inBuffer in = { f->in, f->n, f->at };
    ZSTD_outBuffer out = { to, room, 0 };
    size_t left = ZSTD_decompressStream(f->zstd, &out, &in);
    bool moved = in.pos > f->at || out.pos > 0;
    f->at = in.pos;
    *made = out.pos;
    if (ZSTD_isError(left)) {
        bool window = ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge;
        return fail(f, window ? "the Zstandard data wants a window above 32 MiB; pack it with "
                                "zstd -19 or below" : "the Zstandard data is damaged: ",
                    window ? "" : ZSTD_getErrorName(left));
    }
    if (moved) f->inside = left != 0;
    return 0;
}

static int step(packed *f, unsigned char *to, size_t room, size_t *made)
{
    if (f->how == GZIP) return gzip_step(f, to, room, made);
    return f->how == ZSTD ? zstd_step(f, to, room, made) : plain_step(f, to, room, made);
}

/* ---- the stream ------------------------------------------------------------------------------ */

int bytes_more(bytes *b)
{
    packed *f = (packed *)b;
    size_t n = 0;
    while (n < sizeof f->data && !*f->error) {
        size_t made = 0;
        if (fill(f)) break;
        if (f->ended && f->how == PLAIN) break;
        if (f->ended && !f->inside) break;
        if (step(f, f->data + n, sizeof f->data - n, &made)) break;
        n += made;
        if (f->ended && !made) {
            if (f->inside) fail(f, "ends in the middle of its packed data", "");
            break;
        }
    }
    f->out.p = f->data;
    f->out.end = f->data + n;
    return n ? *f->out.p++ : -1;
}

const char *bytes_error(const bytes *b)
{
    const packed *f = (const packed *)b;
    return *f->error ? f->error : NULL;
}

/* Readies the unpacker that the first bytes ask for. */
static int start(packed *f)
{
    static const unsigned char gzip[] = { 0x1F, 0x8B }, zstd[] = { 0x28, 0xB5, 0x2F, 0xFD };
    if (fill(f)) return -1;
    if (f->n >= sizeof gzip && !memcmp(f->in, gzip, sizeof gzip)) {
        if (inflateInit2(&f->z, 15 + 16) != Z_OK) return fail(f, "out of memory", "");
        f->how = GZIP;
    } else if (f->n >= sizeof zstd && !memcmp(f->in, zstd, sizeof zstd)) {
        f->zstd = ZSTD_createDStream();
        if (!f->zstd ||
            ZSTD_isError(ZSTD_DCtx_setParameter(f->zstd, ZSTD_d_windowLogMax, WINDOW_LOG)))
            return fail(f, "out of memory", "");
        f->how = ZSTD;
    }
    return 0;
}

/* Takes the byte order mark away. */
static void skip_mark(packed *f)
{
    if (bytes_more(&f->out) < 0) return;
    bytes_back(&f->out);
    if (f->out.end - f->out.p >= 3 && !memcmp(f->out.p, "\xEF\xBB\xBF", 3)) f->out.p += 3;
}

bytes *bytes_open(const char *path, char *error, size_t size)
{
    packed *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(error, size, "out of memory");
        return NULL;
    }
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) fail(f, "", strerror(errno));
    else start(f);
    if (!*f->error) skip_mark(f);
    if (!*f->error) return &f->out;
    snprintf(error, size, "%s", f->error);
    bytes_close(&f->out);
    return NULL;
}

void bytes_close(bytes *b)
{
    packed *f = (packed *)b;
    if (!f) return;
    if (f->how == GZIP) inflateEnd(&f->z);
    ZSTD_freeDStream(f->zstd);
    if (f->fd >= 0) close(f->fd);
    free(f);
}
